//! The composition root: what each subcommand puts together.

mod audit;
mod cluster;
mod config;
mod demo;
mod doctor;
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
mod sql_jobs;
mod token;
mod upkeep;
mod user;
mod worker;
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
    /// Run parts of large queries for servers that were started with --workers
    Worker(worker::Arguments),
    /// Bring rows into a table
    #[command(subcommand)]
    Ingest(ingest::Ingest),
    /// Where the streams into tables stand
    #[command(subcommand)]
    Offsets(offsets::Offsets),
    /// Print the entry of a server's configuration that lets a user in; asks for the password
    User(user::Arguments),
    /// Print a new bearer token for HTTP, and the entry of a server's configuration that lets it in
    Token(token::Arguments),
    /// Look whether a warehouse and a configuration are fit for use, and say what to do where they are not
    Doctor(doctor::Arguments),
}

/// Runs a command line to its end.
pub async fn run(cli: Cli) -> Result<()> {
    // What a script's author is told stands in its output; the log has what went wrong.
    log(if matches!(cli.command, Command::Sql(_)) { "warn" } else { "warn,toplake=info" });
    match cli.command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Worker(arguments) => worker::run(arguments).await,
        Command::Ingest(source) => ingest::run(source).await,
        Command::Offsets(what) => offsets::run(what).await,
        Command::User(arguments) => user::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Doctor(arguments) => doctor::run(arguments).await,
    }
}

/// On standard error: text for people at a terminal, JSON for programs elsewhere, or as `TOPLAKE_LOG_FORMAT` says (text, json);
/// `RUST_LOG` says how much, instead of `usual`.
fn log(usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let terminal = std::io::stderr().is_terminal();
    let json = std::env::var("TOPLAKE_LOG_FORMAT").map_or(!terminal, |format| format == "json");
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A program that embeds this may have a subscriber of its own.
    let _ = match json {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.with_ansi(terminal).try_init(),
    };
}
