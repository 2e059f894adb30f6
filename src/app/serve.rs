//! `toplake serve`: a warehouse behind the PostgreSQL protocol, its views kept fresh.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::front::Front;
use super::{refresh, upkeep};
use crate::error::{Error, Result};
use crate::jobs::{self, Job};
use crate::pg;
use crate::session::{self, Engine};

/// Arguments of `toplake serve`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: String,
    #[command(flatten)]
    pub(super) server: Server,
}

/// What a server listens on and how often it refreshes.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// Where PostgreSQL clients connect; without users configured only a loopback address is allowed
    #[arg(long, env = "TOPLAKE_LISTEN", default_value = "127.0.0.1:7432", value_name = "ADDRESS")]
    pub(super) listen: SocketAddr,
    /// Seconds between refreshes of a materialized view that has no refresh_every of its own; 0 refreshes none
    #[arg(long, env = "TOPLAKE_REFRESH_EVERY", default_value_t = 1.0, value_name = "SECONDS")]
    pub(super) refresh_every: f64,
    /// Seconds between compactions; retention and vacuum come with some of them; 0 leaves it all to others
    #[arg(long, env = "TOPLAKE_UPKEEP_EVERY", default_value_t = 60.0, value_name = "SECONDS")]
    pub(super) upkeep_every: f64,
    /// Seconds between compactions that retention and vacuum come with
    #[arg(long, env = "TOPLAKE_RETENTION_EVERY", default_value_t = 3600.0, value_name = "SECONDS")]
    pub(super) retention_every: f64,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let engine = session::open(&arguments.warehouse).await?;
    let listener = listen(&arguments.server).await?;
    println!("toplake serves {} on {}", arguments.warehouse, listener.local_addr()?);
    serve(engine, listener, &arguments.server, vec![]).await
}

/// Opens the port.
pub(super) async fn listen(server: &Server) -> Result<TcpListener> {
    if !server.listen.ip().is_loopback() {
        return Err(Error::invalid_input(format!(
            "cannot listen on {}: there are no passwords yet",
            server.listen
        ))
        .with_hint("listen on a loopback address, and reach it through an SSH tunnel"));
    }
    TcpListener::bind(server.listen)
        .await
        .map_err(|e| Error::storage(format!("cannot listen on {}: {e}", server.listen)))
}

/// Serves until SIGINT or SIGTERM, then drains; a second signal ends the process at once.
pub(super) async fn serve(
    engine: Engine,
    listener: TcpListener,
    server: &Server,
    more: Vec<Job>,
) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut all = more;
    if server.refresh_every > 0.0 {
        all.push(refresh::job(engine.clone(), Duration::from_secs_f64(server.refresh_every)));
    }
    if server.upkeep_every > 0.0 {
        let (every, seldom) = (server.upkeep_every, server.retention_every.max(0.0));
        let job =
            upkeep::job(engine.clone(), Duration::from_secs_f64(every), Duration::from_secs_f64(seldom));
        all.push(job);
    }
    let background = tokio::spawn(jobs::run(all, stopping.clone()));
    let mut asked = stopping;
    let shutdown = async move { drop(asked.wait_for(|stop| *stop).await) };
    tokio::spawn(async move {
        signal().await;
        stop.send_replace(true);
        signal().await;
        std::process::exit(1);
    });
    pg::serve(listener, Front::new(engine), shutdown).await?;
    background.abort();
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
