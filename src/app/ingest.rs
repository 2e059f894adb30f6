//! `toplake ingest`: rows from elsewhere into a table.

use clap::{Args, Subcommand, ValueEnum};

use super::kafka::{self, Kafka};
use crate::catalog::late;
use crate::error::{Error, Result};
use crate::ingest::breaker::MaxErrors;
use crate::ingest::files::{Format, find};
use crate::ingest::progress::Progress;
use crate::ingest::{Options, Summary, ingest};
use crate::session;

/// Where the rows come from.
#[derive(Debug, Subcommand)]
pub enum Ingest {
    /// Ingest csv, ndjson and parquet files, each row exactly once however often it is run
    Files(Files),
    /// Consume topics of Kafka, each message exactly once; as many processes as you like share the partitions
    Kafka(Box<Kafka>),
}

/// Arguments of `toplake ingest files`.
#[derive(Debug, Args)]
pub struct Files {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    /// The table that the rows go into
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// A file with one SELECT over `input` that makes the table's rows: the file's columns, input_file and input_line;
    /// without it columns are matched by name
    #[arg(long, value_name = "FILE.sql")]
    transform: Option<String>,
    /// What the files are; without it their names say (.csv, .tsv, .ndjson, .jsonl, .json, .parquet; .gz and .zst after
    /// them)
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// What separates the fields of csv: one character, or `tab`
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Stop when more lines than N (of all files), or than P% (of a file, from its 1,000th line on), are bad. Bad lines
    /// go to toplake.dead_letters; the others are stored
    #[arg(long, value_name = "N|P%", default_value_t = MaxErrors::default())]
    max_errors: MaxErrors,
    /// Lines after which a big file is committed, so that its rows are visible and are not read again
    #[arg(long, value_name = "N", default_value_t = Options::default().commit_lines,
          value_parser = clap::value_parser!(u64).range(1..))]
    commit_lines: u64,
    /// Files, globs, folders, or addresses of them (file:///…, s3://bucket/…)
    #[arg(required = true, value_name = "PATH|GLOB|URL")]
    paths: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// A header line, then records
    Csv,
    /// A JSON object a line
    Ndjson,
    /// Parquet
    Parquet,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Csv => Format::Csv { delimiter: b',' },
            FileFormat::Ndjson => Format::Ndjson,
            FileFormat::Parquet => Format::Parquet,
        }
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("it must be one character of ASCII, not a quote or a line's end, or tab".to_owned()),
    }
}

/// Runs `toplake ingest`.
pub(super) async fn run(source: Ingest) -> Result<()> {
    match source {
        Ingest::Files(arguments) => files(arguments).await,
        Ingest::Kafka(arguments) => kafka::run(*arguments).await,
    }
}

/// Runs `toplake ingest files`.
async fn files(arguments: Files) -> Result<()> {
    let transform = arguments.transform.as_deref().map(|file| {
        std::fs::read_to_string(file).map_err(|e| Error::invalid_input(format!("cannot read '{file}': {e}")))
    });
    let options = Options {
        transform: transform.transpose()?,
        max_errors: arguments.max_errors,
        commit_lines: arguments.commit_lines,
        ..Default::default()
    };
    let files = find(&arguments.paths, arguments.format.map(Format::from), arguments.delimiter).await?;
    let engine = session::open(&arguments.warehouse).await?;
    let mut progress = Progress::stderr();
    let begun = std::time::Instant::now();
    let done = ingest(&engine, &arguments.table, &files, &options, &mut progress).await?;
    println!("{}", summary(&arguments.table, &done, begun.elapsed().as_secs_f64()));
    Ok(())
}

/// What was done, in a line.
fn summary(table: &str, done: &Summary, seconds: f64) -> String {
    let s = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let mut parts =
        vec![format!("{} ingested", s(done.files, "file")), format!("{} stored", s(done.rows, "row"))];
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
    if done.skipped > 0 {
        parts.push(format!("{} skipped (ingested before)", s(done.skipped, "file")));
    }
    let rate = done.rows as f64 / seconds.max(1e-3);
    format!("{}; {seconds:.1} s, {rate:.0} rows/s", parts.join(", "))
}
