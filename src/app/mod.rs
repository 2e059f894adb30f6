//! The composition root: what each subcommand puts together.

mod config;
mod demo;
mod front;
mod ingest;
mod inventory;
mod kafka;
mod limits;
mod offsets;
mod rate;
mod refresh;
mod security;
mod serve;
mod signal;
mod sql;
mod upkeep;
mod user;
mod workers;

use std::io::IsTerminal;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::Result;

pub use front::{Bounds, Front};
pub use rate::Rates;

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
    /// Try it: sample sales, history and live, in a warehouse of their own, and the server over it
    Demo(demo::Arguments),
    /// Run SQL against a warehouse, without a server
    Sql(sql::Arguments),
    /// Serve a warehouse to PostgreSQL clients, and keep its views fresh
    Serve(serve::Arguments),
    /// Bring rows into a table
    #[command(subcommand)]
    Ingest(ingest::Ingest),
    /// Where the streams into tables stand
    #[command(subcommand)]
    Offsets(offsets::Offsets),
    /// Print the entry of a server's configuration that lets a user in; asks for the password
    User(user::Arguments),
}

/// Runs a command line to its end.
pub async fn run(cli: Cli) -> Result<()> {
    log();
    match cli.command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Ingest(source) => ingest::run(source).await,
        Command::Offsets(what) => offsets::run(what).await,
        Command::User(arguments) => user::run(&arguments),
    }
}

/// Text on standard error; `RUST_LOG` says how much.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,toplake=info"));
    // A program that embeds this may have a subscriber of its own.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
