//! The composition root: what each subcommand puts together.

mod ingest;
mod sql;

use clap::{Parser, Subcommand};

use crate::error::Result;

/// Exact rollups and top-K over a data lake.
#[derive(Debug, Parser)]
#[command(name = "toplake", version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run SQL against a warehouse, without a server
    Sql(sql::Arguments),
    /// Bring rows into a table
    #[command(subcommand)]
    Ingest(ingest::Ingest),
}

/// Runs a command line to its end.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::Ingest(source) => ingest::run(source).await,
    }
}
