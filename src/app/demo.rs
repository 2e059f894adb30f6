//! `toplake demo`: an embedded warehouse with sample sales and ad clicks, history first and then live, and the server over it.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Mutex;

use super::front::Bounds;
use super::security;
use super::serve::{self, Door, Server, Work};
use crate::catalog::warehouse::Object;
use crate::demo::feed::Feed;
use crate::error::{Error, Result};
use crate::http;
use crate::jobs::task::Task;
use crate::lake::table::Table;
use crate::pg::Users;
use crate::session::{self, Engine};
use crate::statement::Session;

const SALES: [&str; 3] = [
    include_str!("../../sql/sales/schema.sql"),
    include_str!("../../sql/sales/rollups.sql"),
    include_str!("../../sql/sales/views.sql"),
];
const CLICKS: [&str; 3] = [
    include_str!("../../sql/ad_clicks/schema.sql"),
    include_str!("../../sql/ad_clicks/rollups.sql"),
    include_str!("../../sql/ad_clicks/views.sql"),
];

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Clicks are by the minute, of which a few hours have many.
const HOURS_OF_CLICKS: i64 = 3;

/// Of a history of sales, so much again in clicks.
const SHARE_OF_CLICKS: u64 = 10;

/// Arguments of `toplake demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the demo's warehouse lies
    #[arg(long, env = "TOPLAKE_WAREHOUSE", default_value = "./toplake-demo", value_name = "URL")]
    warehouse: String,
    /// Live sales a second, and as many clicks
    #[arg(long, default_value_t = 1_000, value_name = "EVENTS")]
    rate: u64,
    /// Sales of history that the first start makes, beside clicks of the last hours
    #[arg(long, default_value_t = 5_000_000, value_name = "EVENTS")]
    history: u64,
    /// Days of history of sales that the first start makes
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    server: Server,
}

/// Makes what is missing, then serves.
pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let server = &arguments.server;
    let options = security::options(server.listen(), &Default::default(), Users::default())?;
    let http = server.http().map(|at| {
        security::http_options(at, &Default::default(), &Users::default(), http::Tokens::default())
    });
    let door = Door::open(server, Bounds::default(), options, http.transpose()?).await?;
    if let Some((listener, _)) = &door.http {
        println!("toplake demo: the dashboard will be at {}\n", serve::address_of(listener, false)?);
    }
    let engine = session::open(&arguments.warehouse).await?;
    let sql = Session::new(engine.context(), Arc::clone(engine.warehouse()));
    sql.sql(SALES[0]).await?;
    sql.sql(CLICKS[0]).await?;
    let mut sales = Feed::sales(table(&engine, "sales").await?).await?;
    let mut clicks = Feed::clicks(table(&engine, "ad_clicks").await?).await?;
    let days = i64::from(arguments.days) * DAY;
    history(&mut sales, "sales", days, arguments.history).await?;
    history(&mut clicks, "clicks", HOURS_OF_CLICKS * HOUR, arguments.history / SHARE_OF_CLICKS).await?;
    step("building rollups: of sales by hour, day, week, month, year, of clicks by minute, hour, day");
    sql.sql(SALES[1]).await?;
    sql.sql(CLICKS[1]).await?;
    step("ranking: top_1000 products, popular_ads");
    sql.sql(SALES[2]).await?;
    sql.sql(CLICKS[2]).await?;
    ready(&door, arguments.rate)?;
    let tasks = vec![live("live sales", sales, arguments.rate), live("live clicks", clicks, arguments.rate)];
    serve::serve(engine, door, server, Work { tasks, ..Work::default() }).await
}

async fn table(engine: &Engine, name: &str) -> Result<Arc<Table>> {
    match engine.warehouse().require(name).await? {
        Object::Table(events) => Ok(Arc::clone(events.table())),
        other => Err(Error::wrong_object_type(format!("'{name}' is a {}", other.kind().sql_name()))),
    }
}

/// Says where to look.
fn ready(door: &Door, rate: u64) -> Result<()> {
    println!("\ntoplake demo is ready: {rate} new sales and {rate} new clicks a second.\n");
    if let Some((listener, _)) = &door.http {
        println!("  {}   in a browser: what leads, right now", serve::address_of(listener, false)?);
    }
    let address = door.listener.local_addr()?;
    println!(
        "  psql -h {} -p {} -U toplake -c \"SELECT * FROM top_1000 WHERE period = 'day' LIMIT 10\"\n",
        address.ip(),
        address.port()
    );
    println!("Ctrl-C stops it; started again it carries on.");
    Ok(())
}

/// The events of the past: all of them at the first start, those of the time it was off at a later one.
async fn history(feed: &mut Feed, what: &'static str, span: i64, events: u64) -> Result<()> {
    let now = now_micros();
    let begin = now - span;
    let from = feed.through().unwrap_or(begin).max(begin);
    // The share of the history that is missing; after a complete first start that is the time it was off.
    let rows = (u128::from(events) * (now - from).max(0) as u128 / span as u128) as u64;
    if rows == 0 {
        return Ok(());
    }
    let bar = bar(rows, what);
    feed.backfill(from, now, rows, |done| bar.set_position(done)).await?;
    bar.finish_and_clear();
    step(&format!("made {rows} {what} of the last {:.1} days", (now - from) as f64 / DAY as f64));
    Ok(())
}

/// One commit a second.
fn live(name: &str, feed: Feed, rate: u64) -> Task {
    let feed = Arc::new(Mutex::new(feed));
    Task {
        name: name.into(),
        pause: Duration::from_secs(1),
        run: Box::new(move || {
            let feed = Arc::clone(&feed);
            async move { feed.lock().await.live(now_micros(), rate as usize).await }.boxed()
        }),
    }
}

fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

fn step(text: &str) {
    println!("  {text}");
}

/// A bar on a terminal, nothing elsewhere.
fn bar(rows: u64, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows);
    if let Ok(style) =
        ProgressStyle::with_template("  making {prefix} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}")
    {
        bar.set_prefix(what.to_owned());
        bar.set_style(style);
    }
    bar
}
