//! `toplake serve`: a warehouse behind the PostgreSQL protocol and HTTP, its views kept fresh, its jobs run, its tables fed.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use futures::FutureExt;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::{self, ClusterOptions};
use super::config::Config;
use super::front::{Bounds, Front};
use super::security::{self, TlsOptions};
use super::signal::stopping;
use super::workers::Workers;
use super::{audit, refresh, token, upkeep};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::ingest::kafka::{self, options::Options};
use crate::jobs::scheduler::{self, Job};
use crate::jobs::task::{self, Task};
use crate::session::Engine;
use crate::{http, metrics, pg};

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
    #[command(flatten)]
    cluster: ClusterOptions,
}

/// What a server listens on and how often it refreshes.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// Where PostgreSQL clients connect; without users configured only a loopback address is allowed [default: 127.0.0.1:7432]
    #[arg(long, env = "TOPLAKE_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the dashboard, the HTTP API, /metrics and /health are; `off` for nowhere. Without tokens configured only a loopback
    /// address is allowed [default: 127.0.0.1:7480]
    #[arg(long, env = "TOPLAKE_HTTP", value_name = "ADDRESS|off")]
    http: Option<HttpAddress>,
    /// Seconds between refreshes of a materialized view that has no refresh_every of its own; 0 refreshes none [default: 1]
    #[arg(long, env = "TOPLAKE_REFRESH_EVERY", value_name = "SECONDS")]
    refresh_every: Option<f64>,
    /// Seconds between compactions; 0 leaves these, retention and vacuum to others [default: 60]
    #[arg(long, env = "TOPLAKE_UPKEEP_EVERY", value_name = "SECONDS")]
    upkeep_every: Option<f64>,
    /// Seconds between applications of retention and vacuum [default: 3600]
    #[arg(long, env = "TOPLAKE_RETENTION_EVERY", value_name = "SECONDS")]
    retention_every: Option<f64>,
    /// Seconds between audits of what has become complete since; 0 audits nothing [default: 86400]
    #[arg(long, env = "TOPLAKE_AUDIT_EVERY", value_name = "SECONDS")]
    audit_every: Option<f64>,
}

impl Server {
    /// The same, with what it leaves open as a file says.
    fn or(self, config: &Config) -> Self {
        Server {
            listen: self.listen.or(config.listen),
            http: self.http.or(config.http),
            refresh_every: self.refresh_every.or(config.refresh_every),
            upkeep_every: self.upkeep_every.or(config.upkeep_every),
            retention_every: self.retention_every.or(config.retention_every),
            audit_every: self.audit_every.or(config.audit_every),
        }
    }

    /// Where it listens for HTTP, if it does.
    pub(super) fn http(&self) -> Option<SocketAddr> {
        match self.http {
            None => Some(SocketAddr::from(([127, 0, 0, 1], 7480))),
            Some(http) => http.address(),
        }
    }

    /// Where it listens.
    pub(super) fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7432)))
    }
}

/// An address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct HttpAddress(Option<SocketAddr>);

impl HttpAddress {
    /// The address, unless it is off.
    pub(super) fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(HttpAddress(None)),
            text => match text.parse() {
                Ok(address) => Ok(HttpAddress(Some(address))),
                Err(_) => Err(format!("'{text}' is no address like 127.0.0.1:7480, and not off")),
            },
        }
    }
}

impl TryFrom<String> for HttpAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let config = arguments.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let warehouse = arguments.warehouse.or_else(|| config.warehouse.clone()).ok_or_else(|| {
        Error::invalid_input("no warehouse")
            .with_hint("give --warehouse, TOPLAKE_WAREHOUSE, or warehouse in --config")
    })?;
    let server = arguments.server.or(&config);
    let tls = arguments.tls.or(&config.tls);
    let users = security::users(&config.users)?;
    let locations = security::locations(config.allowed_locations.as_deref(), &users)?;
    let tokens = token::tokens(&config.tokens)?;
    let http =
        server.http().map(|address| security::http_options(address, &tls, &users, tokens)).transpose()?;
    let mut options = security::options(server.listen(), &tls, users)?;
    config.limits.apply(&mut options);
    let resources = config.limits.resources();
    let cluster = arguments.cluster.or(&config.cluster).cluster()?;
    let http = http.map(|http| http::Options {
        max_lag: config.max_lag.map_or(http.max_lag, Duration::from_secs_f64),
        folders: resources.spill_folder.clone().into_iter().collect(),
        needs_workers: cluster.as_ref().is_some_and(|cluster| cluster.is_needed()),
        ..http
    });
    let engine = cluster::open(&warehouse, &resources, cluster.as_ref()).await?;
    let jobs = config.jobs.iter().map(|job| job.job(&engine)).collect::<Result<Vec<_>>>()?;
    let bounds = Bounds { locations, rates: config.limits.rates() };
    let door = Door::open(&server, bounds, options, http).await?;
    println!("toplake serves {warehouse} on {}", door.listener.local_addr()?);
    if let Some((listener, _)) = &door.http {
        println!("dashboard, API and metrics: {}", address_of(listener, door.is_encrypted())?);
    }
    serve(engine, door, &server, Work { tasks: vec![], jobs, pipelines: config.ingest, cluster }).await
}

/// Where clients come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) http: Option<(TcpListener, http::Options)>,
    bounds: Bounds,
    options: pg::Options,
}

impl Door {
    /// Opens the ports.
    pub(super) async fn open(
        server: &Server,
        bounds: Bounds,
        options: pg::Options,
        http: Option<http::Options>,
    ) -> Result<Self> {
        let listener = listen(server.listen()).await?;
        let http = match server.http().zip(http) {
            Some((address, options)) => Some((listen(address).await?, options)),
            None => None,
        };
        Ok(Door { listener, http, bounds, options })
    }

    fn is_encrypted(&self) -> bool {
        self.http.as_ref().is_some_and(|(_, options)| options.certificate.is_some())
    }
}

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::storage(format!("cannot listen on {address}: {e}"))
            .with_hint("another server may be there: --listen and --http say where else")
    })
}

/// The address that a browser is given.
pub(super) fn address_of(listener: &TcpListener, encrypted: bool) -> Result<String> {
    let scheme = if encrypted { "https" } else { "http" };
    Ok(format!("{scheme}://{}/", listener.local_addr()?))
}

/// What a server does beside answering.
#[derive(Default)]
pub(super) struct Work {
    /// For itself.
    pub(super) tasks: Vec<Task>,
    /// In turn with others, beside what every server does.
    pub(super) jobs: Vec<Job>,
    /// What it consumes.
    pub(super) pipelines: Vec<Options>,
    /// The workers that it watches over.
    pub(super) cluster: Option<Arc<Cluster>>,
}

/// Serves, and does `work`, until SIGINT or SIGTERM, then drains; a second signal ends the process at once.
pub(super) async fn serve(engine: Engine, door: Door, server: &Server, work: Work) -> Result<()> {
    let Work { mut tasks, mut jobs, pipelines, cluster } = work;
    let refresh_every = server.refresh_every.unwrap_or(1.0);
    if refresh_every > 0.0 {
        tasks.push(refresh::task(engine.clone(), Duration::from_secs_f64(refresh_every)));
    }
    let upkeep_every = server.upkeep_every.unwrap_or(60.0);
    if upkeep_every > 0.0 {
        jobs.push(upkeep::compaction(engine.clone(), Duration::from_secs_f64(upkeep_every))?);
        let seldom = server.retention_every.unwrap_or(3600.0).max(upkeep_every);
        jobs.push(upkeep::retention(engine.clone(), Duration::from_secs_f64(seldom))?);
    }
    let audit_every = server.audit_every.unwrap_or(86_400.0);
    if audit_every > 0.0 {
        jobs.push(audit::job(engine.clone(), Duration::from_secs_f64(audit_every))?);
    }
    scheduler::check(&jobs)?;
    tasks.push(recording(&engine));
    metrics::install()?;
    let stopping = stopping();
    let workers = Workers::start()?;
    let mut background = JoinSet::new();
    background.spawn_on(task::run(tasks, stopping.clone()), workers.background());
    let warehouse = Arc::clone(engine.warehouse());
    background.spawn_on(scheduler::run(jobs, Arc::clone(&warehouse), stopping.clone()), workers.background());
    if let Some(cluster) = cluster {
        // Beside the sockets: who is there has to be known however busy the others are.
        background.spawn(cluster.watch_over(Arc::clone(&warehouse), stopping.clone()));
    }
    let mut consuming = JoinSet::new();
    for options in pipelines {
        consuming.spawn_on(consume(engine.clone(), options, stopping.clone()), workers.background());
    }
    let stop = |mut asked: watch::Receiver<bool>| async move { drop(asked.wait_for(|stop| *stop).await) };
    let Door { listener, http, bounds, options } = door;
    let front = Front::with_workers(engine, bounds, workers.clone(), options.sessions.clone());
    let mut web = JoinSet::new();
    if let Some((listener, options)) = http {
        let host: Arc<dyn http::Host> = Arc::clone(&front) as _;
        web.spawn(http::serve(listener, host, options, stop(stopping.clone())));
    }
    pg::serve_with(listener, front, options, stop(stopping)).await?;
    while consuming.join_next().await.is_some() {}
    let over = async {
        while background.join_next().await.is_some() {}
        warehouse.record_job_runs(&warehouse.leases().server(), true).await
    };
    if let Ok(Err(e)) = tokio::time::timeout(LAST_WORDS, over).await {
        tracing::warn!(error = %e, "the last runs of jobs were not written down");
    }
    web.shutdown().await;
    Ok(())
}

/// Writes down what jobs have done.
fn recording(engine: &Engine) -> Task {
    let warehouse = Arc::clone(engine.warehouse());
    let run = move || {
        let warehouse = Arc::clone(&warehouse);
        async move { warehouse.record_job_runs(&warehouse.leases().server(), false).await }.boxed()
    };
    Task { name: "record job runs".into(), pause: RECORD, run: Box::new(run) }
}

/// How often that is written down.
const RECORD: Duration = Duration::from_secs(20);

/// What a server has to say at its end takes no longer.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
