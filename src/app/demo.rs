//! `toplake demo`: an embedded warehouse with sample sales, history first and then live, and the server over it.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Mutex;

use super::front::Bounds;
use super::security;
use super::serve::{self, Door, Server};
use crate::catalog::warehouse::Object;
use crate::demo::feed::Feed;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::pg::Users;
use crate::session;
use crate::statement::Session;

const SCHEMA: &str = include_str!("../../sql/sales/schema.sql");
const ROLLUPS: &str = include_str!("../../sql/sales/rollups.sql");
const VIEWS: &str = include_str!("../../sql/sales/views.sql");

const DAY: i64 = 86_400_000_000;

/// Arguments of `toplake demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the demo's warehouse lies
    #[arg(long, env = "TOPLAKE_WAREHOUSE", default_value = "./toplake-demo", value_name = "URL")]
    warehouse: String,
    /// Live events a second
    #[arg(long, default_value_t = 1_000, value_name = "EVENTS")]
    rate: u64,
    /// Events of history that the first start makes
    #[arg(long, default_value_t = 5_000_000, value_name = "EVENTS")]
    history: u64,
    /// Days of history that the first start makes
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    server: Server,
}

/// Makes what is missing, then serves.
pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let options = security::options(arguments.server.listen(), &Default::default(), Users::default())?;
    let engine = session::open(&arguments.warehouse).await?;
    let listener = serve::listen(&arguments.server).await?;
    let sql = Session::new(engine.context(), Arc::clone(engine.warehouse()));
    sql.sql(SCHEMA).await?;
    let table = match engine.warehouse().require("sales").await? {
        Object::Table(events) => Arc::clone(events.table()),
        other => return Err(Error::wrong_object_type(format!("'sales' is a {}", other.kind().sql_name()))),
    };
    let mut feed = Feed::start(table).await?;
    history(&mut feed, &arguments).await?;
    step("building rollups: hour, day, week, month, year");
    sql.sql(ROLLUPS).await?;
    step("ranking products: top_1000");
    sql.sql(VIEWS).await?;
    let address = listener.local_addr()?;
    println!("\ntoplake demo is ready: {} new sales a second. Ask it:\n", arguments.rate);
    println!(
        "  psql -h {} -p {} -U toplake -c \"SELECT * FROM top_1000 WHERE period = 'day' LIMIT 10\"\n",
        address.ip(),
        address.port()
    );
    println!("Ctrl-C stops it; started again it carries on.");
    let live = live(Arc::new(Mutex::new(feed)), arguments.rate);
    let door = Door { listener, bounds: Bounds::default(), options };
    serve::serve(engine, door, &arguments.server, vec![live], vec![]).await
}

/// The events of the past: all of them at the first start, those of the time it was off at a later one.
async fn history(feed: &mut Feed, arguments: &Arguments) -> Result<()> {
    let now = now_micros();
    let span = i64::from(arguments.days) * DAY;
    let begin = now - span;
    let from = feed.through().unwrap_or(begin).max(begin);
    // The share of the history that is missing; after a complete first start that is the time it was off.
    let rows = (u128::from(arguments.history) * (now - from).max(0) as u128 / span as u128) as u64;
    if rows == 0 {
        return Ok(());
    }
    let bar = bar(rows);
    feed.backfill(from, now, rows, |done| bar.set_position(done)).await?;
    bar.finish_and_clear();
    step(&format!("made {rows} sales of the last {:.1} days", (now - from) as f64 / DAY as f64));
    Ok(())
}

/// One commit a second.
fn live(feed: Arc<Mutex<Feed>>, rate: u64) -> Job {
    Job {
        name: "live sales".into(),
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
fn bar(rows: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows);
    if let Ok(style) =
        ProgressStyle::with_template("  making sales {wide_bar} {human_pos}/{human_len} {per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar
}
