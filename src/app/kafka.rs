//! `toplake ingest kafka`: messages of Kafka into a table.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::signal::stopping;
use crate::catalog::late;
use crate::error::{Error, Result};
use crate::ingest::error_rate::{ErrorRate, Percent};
use crate::ingest::kafka::options::{Format, From, MaxPerKeyOption, Options, UnknownFields, parse_duration};
use crate::ingest::kafka::{Summary, run as consume};
use crate::session;

/// Arguments of `toplake ingest kafka`.
#[derive(Debug, Args)]
pub struct Kafka {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    /// The table that the rows go into
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// Where the cluster is
    #[arg(long, env = "TOPLAKE_BROKERS", value_name = "HOST:PORT,…")]
    brokers: String,
    /// The topic; may be given more than once
    #[arg(long = "topic", required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The consumer group, whose members share the partitions; toplake-<table> if nothing else is said
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// What it is called in the log and for CALL resume; the table's name if nothing else is said
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What a message is
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// What separates the fields of csv
    #[arg(long, value_name = "CHAR", default_value_t = ',')]
    delimiter: char,
    /// Fields of a message and their types, as in CREATE TABLE: 'ts BIGINT, country VARCHAR'. Without it fields have the type that
    /// the table has for a column of their name, and are text elsewhere; for csv it says their order
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<String>,
    /// A file with one SELECT over `input` that makes the table's rows: the message's fields, and key, value, topic, partition,
    /// offset, timestamp, headers; without it fields are matched by name
    #[arg(long, value_name = "FILE.sql")]
    transform: Option<String>,
    /// What happens to a message with a field that the table has not, where there is no transform
    #[arg(long, value_enum, default_value_t = UnknownFields::Ignore)]
    unknown_fields: UnknownFields,
    /// Where a topic begins of which the table has consumed nothing yet: earliest, latest, or a time such as
    /// 2026-11-21T12:00:00Z
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: From,
    /// Go on behind offsets that the broker does not have any more; the ledger says how many
    #[arg(long)]
    accept_gap: bool,
    /// Rows wait at most so long for their commit
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    commit_interval: Duration,
    /// Messages after which a commit does not wait any longer
    #[arg(long, value_name = "N", default_value_t = Options::default().commit_rows,
          value_parser = clap::value_parser!(u64).range(1..))]
    commit_rows: u64,
    /// Bytes of messages after which a commit does not wait any longer
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().commit_bytes)]
    commit_bytes: ByteSize,
    /// Bytes of messages that may be on their way, beside what a commit collects
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().memory)]
    memory: ByteSize,
    /// A partition that is read to its end and gives nothing for so long does not hold the watermark back
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    idle_after: Duration,
    /// A column of the table that says when a row was ingested
    #[arg(long, value_name = "COLUMN")]
    processing_time: Option<String>,
    /// Leave rollups made from the table to others
    #[arg(long)]
    no_fold: bool,
    /// Say so when more messages than this are bad
    #[arg(long, value_name = "P%", default_value = "1%")]
    warn_errors: Percent,
    /// Stop consuming when more messages than this are bad, of at least 1,000 within a minute. CALL resume goes on
    #[arg(long, value_name = "P%", default_value = "5%")]
    max_errors: Percent,
    /// Go on by itself so long after such a stop
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    retry_after: Option<Duration>,
    /// Columns of the table that say which event it is: of those with equal values only the first is stored, of one partition and
    /// within --dedup-window
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    dedup_key: Vec<String>,
    /// How far apart the event times of two may be that are one
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    dedup_window: Duration,
    /// How many events of one partition a key may have in a bucket of event time; those beyond go to the dead letters.
    /// 10/1m/user_id,ad_id is ten a minute
    #[arg(long, value_name = "LIMIT/DURATION/COLUMN,…")]
    max_per_key: Option<MaxPerKeyOption>,
    /// Bytes that what is remembered of one partition for these two may take
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().guard_memory)]
    guard_memory: ByteSize,
    /// A property of librdkafka, such as security.protocol=SASL_SSL; may be given more than once
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// End when what was there at the start is consumed
    #[arg(long)]
    until_end: bool,
}

fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "it is not KEY=VALUE".to_owned())
}

/// Runs `toplake ingest kafka`.
pub(super) async fn run(arguments: Kafka) -> Result<()> {
    let transform = arguments.transform.as_deref().map(|file| {
        std::fs::read_to_string(file).map_err(|e| Error::invalid_input(format!("cannot read '{file}': {e}")))
    });
    let options = Options {
        name: arguments.name,
        table: arguments.table,
        brokers: arguments.brokers,
        topics: arguments.topics,
        group: arguments.group,
        format: arguments.format,
        delimiter: arguments.delimiter,
        columns: arguments.columns,
        transform: transform.transpose()?,
        unknown_fields: arguments.unknown_fields,
        from: arguments.from,
        accept_gap: arguments.accept_gap,
        commit_interval: arguments.commit_interval,
        commit_rows: arguments.commit_rows,
        commit_bytes: arguments.commit_bytes,
        memory: arguments.memory,
        idle_after: arguments.idle_after,
        processing_time: arguments.processing_time,
        fold: !arguments.no_fold,
        errors: ErrorRate {
            warn: Percent(arguments.warn_errors.0.min(arguments.max_errors.0)),
            critical: arguments.max_errors,
            retry_after: arguments.retry_after,
            ..Default::default()
        },
        dedup_key: arguments.dedup_key,
        dedup_window: arguments.dedup_window,
        max_per_key: arguments.max_per_key,
        guard_memory: arguments.guard_memory,
        properties: arguments.properties.into_iter().collect(),
        until_end: arguments.until_end,
    };
    let table = options.table.clone();
    let engine = session::open(&arguments.warehouse).await?;
    let begun = std::time::Instant::now();
    let done = consume(&engine, options, stopping()).await?;
    println!("{}", summary(&table, &done, begun.elapsed().as_secs_f64()));
    Ok(())
}

/// What was done, in a line.
fn summary(table: &str, done: &Summary, seconds: f64) -> String {
    let s = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let mut parts = vec![s(done.messages, "message"), format!("{} stored", s(done.stored, "row"))];
    if done.late > 0 {
        parts.push(format!("{} late (see {})", s(done.late, "row"), late::name_of(table)));
    }
    if done.filtered > 0 {
        parts.push(format!("{} left out by the transform", done.filtered));
    }
    parts.push(match done.dead {
        0 => "0 dead letters".to_owned(),
        n => format!("{} (see toplake.dead_letters)", s(n, "dead letter")),
    });
    parts.push(s(done.commits, "commit"));
    let rate = done.messages as f64 / seconds.max(1e-3);
    format!("{}; {seconds:.1} s, {rate:.0} messages/s", parts.join(", "))
}
