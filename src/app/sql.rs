//! `toplake sql`: statements against a warehouse, without a server.

use std::io::Write;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::watch;

use super::cluster::{self, ClusterOptions};
use super::workers::Threads;
use crate::error::{Error, Result};
use crate::session::default_memory_limit;
use crate::statement::run::needs_client;
use crate::statement::variables::substitute;
use crate::statement::{Outcome, Session, parse};
use crate::workload::Resources;

/// Arguments of `toplake sql`.
#[derive(Debug, Args)]
#[group(id = "input", required = true, multiple = true, args = ["command", "file"])]
pub struct Arguments {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    /// Statements to run, separated by semicolons; may be given several times
    #[arg(short, long, value_name = "SQL")]
    command: Vec<String>,
    /// Files of statements to run, after the commands; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    /// The value of a variable, as in psql: the statements write it as :'NAME'; may be given several times
    #[arg(short = 'v', long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    cluster: ClusterOptions,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print rows only, not what each command did
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// Comma-separated values with a header
    Csv,
    /// An object a line
    Json,
}

/// Runs the statements in order; stops at the first that fails.
pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let sockets = Threads::sockets()?;
    let cluster = {
        let _on = sockets.handle().enter();
        arguments.cluster.cluster()?
    };
    let resources = Resources::with_memory(default_memory_limit());
    let engine = cluster::open(&arguments.warehouse, &resources, cluster.as_ref()).await?;
    let (_stop, stopping) = watch::channel(false);
    if let Some(cluster) = cluster {
        let watched = Arc::clone(&cluster).watch_over(Arc::clone(engine.warehouse()), stopping);
        sockets.handle().spawn(watched);
        cluster.have_been_asked().await;
    }
    let session = Session::new(engine.context(), engine.warehouse().clone());
    let variables = arguments.set.iter().cloned().collect();
    let commands = arguments.command.iter().map(|sql| (None, sql));
    for (file, text) in commands.chain(arguments.file.iter().map(|file| (Some(file.as_str()), file))) {
        let text = if file.is_some() { read(text)? } else { text.clone() };
        let run = async {
            let sql = substitute(&text, &variables)?;
            run_text(&session, &sql, &arguments).await
        };
        run.await.map_err(|e| match (file, e.position()) {
            (Some(file), Some(position)) => {
                let line = text.chars().take(position).filter(|c| *c == '\n').count() + 1;
                e.context(format!("{file}:{line}"))
            }
            (Some(file), None) => e.context(file),
            (None, _) => e,
        })?;
    }
    Ok(())
}

/// `name=value`
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

fn read(file: &str) -> Result<String> {
    let text =
        if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    text.map_err(|e| Error::invalid_input(format!("cannot read '{file}': {e}")))
}

fn tell(notice: Option<String>, arguments: &Arguments) {
    if let Some(notice) = notice.filter(|_| !arguments.quiet) {
        eprintln!("notice: {notice}");
    }
}

async fn run_text(session: &Session, sql: &str, arguments: &Arguments) -> Result<()> {
    for statement in parse(sql)? {
        // A statement's place is worth more than its error's kind in a script of many.
        let located = |e: Error| {
            let position = e.position().unwrap_or(1);
            e.with_position(statement.offset + position)
        };
        match session.execute(&statement, &[]).await.map_err(located)? {
            Outcome::Rows { stream, notice, .. } => {
                tell(notice, arguments);
                let schema = stream.schema();
                let mut stream = stream.map(|batch| batch.map_err(Error::from)).boxed();
                let mut out = std::io::stdout().lock();
                match arguments.format {
                    Format::Table => {
                        let rows: Vec<RecordBatch> = stream.try_collect().await.map_err(located)?;
                        writeln!(out, "{}", pretty_format_batches_with_schema(schema, &rows)?)?;
                    }
                    Format::Csv => {
                        let mut writer = WriterBuilder::new().with_header(true).build(&mut out);
                        writer.write(&RecordBatch::new_empty(schema))?;
                        while let Some(batch) = stream.try_next().await.map_err(located)? {
                            writer.write(&batch)?;
                        }
                    }
                    Format::Json => {
                        let mut writer = LineDelimitedWriter::new(&mut out);
                        while let Some(batch) = stream.try_next().await.map_err(located)? {
                            writer.write(&batch)?;
                        }
                        writer.finish()?;
                    }
                }
            }
            Outcome::Done { tag, rows, notice } if !arguments.quiet => {
                match rows {
                    Some(rows) => println!("{tag} {rows}"),
                    None => println!("{tag}"),
                }
                tell(notice, arguments);
            }
            Outcome::Done { .. } => {}
            Outcome::CopyIn(copy) => {
                copy.abandon().await;
                return Err(located(needs_client()));
            }
            Outcome::CopyOut { .. } => return Err(located(needs_client())),
        }
    }
    Ok(())
}
