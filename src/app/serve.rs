//! `toplake serve`: a warehouse behind the PostgreSQL protocol, its views kept fresh, its tables fed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::config::Config;
use super::front::{Bounds, Front};
use super::security::{self, TlsOptions};
use super::signal::stopping;
use super::workers::Workers;
use super::{refresh, upkeep};
use crate::error::{Error, Result};
use crate::ingest::kafka::{self, options::Options};
use crate::jobs::{self, Job};
use crate::pg;
use crate::session::{self, Engine};

/// Arguments of `toplake serve`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: Option<String>,
    /// A file that says the same, who may connect: [[users]], and what to consume from Kafka: [[ingest]]
    #[arg(long, env = "TOPLAKE_CONFIG", value_name = "toplake.toml")]
    config: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    server: Server,
}

/// What a server listens on and how often it refreshes.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// Where PostgreSQL clients connect; without users configured only a loopback address is allowed [default: 127.0.0.1:7432]
    #[arg(long, env = "TOPLAKE_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Seconds between refreshes of a materialized view that has no refresh_every of its own; 0 refreshes none [default: 1]
    #[arg(long, env = "TOPLAKE_REFRESH_EVERY", value_name = "SECONDS")]
    refresh_every: Option<f64>,
    /// Seconds between compactions; retention and vacuum come with some of them; 0 leaves it all to others [default: 60]
    #[arg(long, env = "TOPLAKE_UPKEEP_EVERY", value_name = "SECONDS")]
    upkeep_every: Option<f64>,
    /// Seconds between compactions that retention and vacuum come with [default: 3600]
    #[arg(long, env = "TOPLAKE_RETENTION_EVERY", value_name = "SECONDS")]
    retention_every: Option<f64>,
}

impl Server {
    /// The same, with what it leaves open as a file says.
    fn or(self, config: &Config) -> Self {
        Server {
            listen: self.listen.or(config.listen),
            refresh_every: self.refresh_every.or(config.refresh_every),
            upkeep_every: self.upkeep_every.or(config.upkeep_every),
            retention_every: self.retention_every.or(config.retention_every),
        }
    }

    /// Where it listens.
    pub(super) fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7432)))
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let config = arguments.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let warehouse = arguments.warehouse.or_else(|| config.warehouse.clone()).ok_or_else(|| {
        Error::invalid_input("no warehouse")
            .with_hint("give --warehouse, TOPLAKE_WAREHOUSE, or warehouse in --config")
    })?;
    let server = arguments.server.or(&config);
    let users = security::users(&config.users)?;
    let locations = security::locations(config.allowed_locations.as_deref(), &users)?;
    let mut options = security::options(server.listen(), &arguments.tls.or(&config.tls), users)?;
    config.limits.apply(&mut options);
    let engine = session::open_within(&warehouse, &config.limits.resources()).await?;
    let bounds = Bounds { locations, rates: config.limits.rates() };
    let listener = listen(&server).await?;
    println!("toplake serves {warehouse} on {}", listener.local_addr()?);
    serve(engine, Door { listener, bounds, options }, &server, vec![], config.ingest).await
}

/// Where clients come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) bounds: Bounds,
    pub(super) options: pg::Options,
}

/// Opens the port.
pub(super) async fn listen(server: &Server) -> Result<TcpListener> {
    let address = server.listen();
    TcpListener::bind(address).await.map_err(|e| Error::storage(format!("cannot listen on {address}: {e}")))
}

/// Serves, and consumes what `pipelines` say, until SIGINT or SIGTERM, then drains; a second signal ends the process at once.
pub(super) async fn serve(
    engine: Engine,
    door: Door,
    server: &Server,
    more: Vec<Job>,
    pipelines: Vec<Options>,
) -> Result<()> {
    let mut all = more;
    let refresh_every = server.refresh_every.unwrap_or(1.0);
    if refresh_every > 0.0 {
        all.push(refresh::job(engine.clone(), Duration::from_secs_f64(refresh_every)));
    }
    let upkeep_every = server.upkeep_every.unwrap_or(60.0);
    if upkeep_every > 0.0 {
        let seldom = Duration::from_secs_f64(server.retention_every.unwrap_or(3600.0).max(0.0));
        all.push(upkeep::job(engine.clone(), Duration::from_secs_f64(upkeep_every), seldom));
    }
    let stopping = stopping();
    let workers = Workers::start()?;
    let background = workers.background().spawn(jobs::run(all, stopping.clone()));
    let mut consuming = JoinSet::new();
    for options in pipelines {
        consuming.spawn_on(consume(engine.clone(), options, stopping.clone()), workers.background());
    }
    let mut asked = stopping;
    let shutdown = async move { drop(asked.wait_for(|stop| *stop).await) };
    let front = Front::with_workers(engine, door.bounds, workers.clone());
    pg::serve_with(door.listener, front, door.options, shutdown).await?;
    while consuming.join_next().await.is_some() {}
    background.abort();
    Ok(())
}

/// Consumes until it is told to stop. What fails is begun again, later each time it fails in a row.
async fn consume(engine: Engine, options: Options, mut stopping: watch::Receiver<bool>) {
    let mut pause = LEAST_PAUSE;
    while !*stopping.borrow() {
        let begun = Instant::now();
        let Err(e) = kafka::run(&engine, options.clone(), stopping.clone()).await else { continue };
        if begun.elapsed() > MOST_PAUSE {
            pause = LEAST_PAUSE;
        }
        let hint = e.hint().unwrap_or_default().to_owned();
        tracing::error!(ingest = options.name(), error = %e, hint, "stopped; it begins again in {pause:?}");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(MOST_PAUSE);
    }
}

/// Pauses before a pipeline that failed begins again.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);
