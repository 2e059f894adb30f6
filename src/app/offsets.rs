//! `toplake offsets`: where the streams into a table stand, for operators.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use datafusion::arrow::util::pretty::pretty_format_batches;

use crate::catalog::offsets::{Offset, Stream};
use crate::error::{Error, Result};
use crate::session;
use crate::statement::Session;

/// What to do with positions.
#[derive(Debug, Subcommand)]
pub enum Offsets {
    /// Show how far each partition is consumed
    Show(Show),
    /// Move a position: what lies between is skipped, or consumed again. The pipeline has to be stopped
    Set(Set),
}

/// Arguments of `toplake offsets show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    /// Of this table only
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
}

/// Arguments of `toplake offsets set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    /// The table that consumes
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// What it consumes, as toplake.sources names it
    #[arg(long, value_name = "SOURCE", required_unless_present = "topic", conflicts_with = "topic")]
    source: Option<String>,
    /// The topic, if the table knows only one of this name
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Which partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    partition: i64,
    /// The next offset to consume
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Do not ask before a position is moved back
    #[arg(long)]
    yes: bool,
}

/// Runs `toplake offsets`.
pub(super) async fn run(what: Offsets) -> Result<()> {
    match what {
        Offsets::Show(arguments) => show(arguments).await,
        Offsets::Set(arguments) => set(arguments).await,
    }
}

async fn show(arguments: Show) -> Result<()> {
    let engine = session::open(&arguments.warehouse).await?;
    let mut sql = "SELECT table_name, source, partition, position, end_position, lag, committed_at
                   FROM toplake.sources WHERE partition IS NOT NULL"
        .to_owned();
    if let Some(table) = &arguments.table {
        engine.warehouse().require(table).await?;
        sql.push_str(&format!(" AND table_name = '{}'", table.replace('\'', "''")));
    }
    sql.push_str(" ORDER BY table_name, source, partition");
    let rows = Session::new(engine.context(), engine.warehouse().clone()).sql(&sql).await?;
    println!("{}", pretty_format_batches(&rows)?);
    Ok(())
}

async fn set(arguments: Set) -> Result<()> {
    let Set { table, partition, offset, .. } = &arguments;
    let engine = session::open(&arguments.warehouse).await?;
    let stream = match (&arguments.source, &arguments.topic) {
        (Some(source), _) => Stream::Source(source),
        (None, Some(topic)) => Stream::Topic(topic),
        (None, None) => return Err(Error::invalid_input("neither --source nor --topic was given")),
    };
    let found = Offset::of(engine.warehouse(), table, stream, *partition).await?;
    let place = format!("table '{table}', {}", found.partition);
    let stood = found.stands.map_or("its beginning".to_owned(), |stands| stands.to_string());
    if found.stands == Some(*offset) {
        println!("{place}: stands at {offset} already");
        return Ok(());
    }
    if let Some(stands) = found.stands.filter(|stands| stands > offset) {
        let again = format!(
            "{place}: {} offsets from {offset} on would be consumed again, and count twice",
            stands - offset
        );
        if !arguments.yes && !agreed(&again)? {
            return Err(Error::invalid_input(again).with_hint("nothing was changed; --yes moves it back"));
        }
    }
    found.move_to(*offset).await?;
    println!("{place}: moved from {stood} to {offset}");
    Ok(())
}

/// Asks at the terminal; without one nobody agrees.
fn agreed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut out = std::io::stderr();
    write!(out, "{question}. Go on? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
