//! `toplake worker`: a process that runs parts of large queries for servers, and keeps nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use tokio::task::JoinSet;

use super::cluster::TrustOptions;
use super::serve::{HttpAddress, listen};
use super::signal::stopping;
use super::workers::Threads;
use crate::cluster::{Trust, Worker, WorkerOptions};
use crate::error::{Error, Result};
use crate::session::default_memory_limit;
use crate::workload::Resources;
use crate::{http, metrics};

/// Arguments of `toplake worker`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where servers and other workers reach it; without a token only a loopback address is allowed
    #[arg(long, env = "TOPLAKE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
    /// Where /metrics and /health are; `off` for nowhere
    #[arg(long, env = "TOPLAKE_HTTP", value_name = "ADDRESS|off", default_value = "127.0.0.1:7481")]
    http: HttpAddress,
    #[command(flatten)]
    trust: TrustOptions,
    /// Memory that all parts of queries may take together; beyond it they spill, then fail [default: two thirds of the machine's]
    #[arg(long, env = "TOPLAKE_MEMORY", value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Where they spill [default: the system's folder for temporary files]
    #[arg(long, env = "TOPLAKE_SPILL_FOLDER", value_name = "FOLDER")]
    spill_folder: Option<PathBuf>,
    /// Bytes that they may spill together
    #[arg(long, env = "TOPLAKE_SPILL", value_name = "SIZE", default_value = "100GB")]
    spill: ByteSize,
    /// Seconds that it goes on with what it has begun once it is told to stop
    #[arg(long, env = "TOPLAKE_DRAIN", value_name = "SECONDS", default_value_t = 30.0)]
    drain: f64,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let trust = arguments.trust.trust()?;
    check(arguments.listen, &trust)?;
    let memory = arguments.memory.map_or_else(default_memory_limit, bytes);
    let resources = Resources {
        spill: arguments.spill.as_u64(),
        spill_folder: arguments.spill_folder,
        ..Resources::with_memory(memory)
    };
    let drain = Duration::try_from_secs_f64(arguments.drain)
        .map_err(|_| Error::invalid_input("drain: it is not a number of seconds"))?;
    let threads = Threads::big()?;
    let compute = threads.handle().clone();
    let worker = Worker::new(WorkerOptions { resources, trust, drain, compute })?;
    metrics::install()?;
    let listener = listen(arguments.listen).await?;
    println!("toplake worker {} on {}", worker.version(), listener.local_addr()?);
    let stopping = stopping();
    let mut web = JoinSet::new();
    if let Some(address) = arguments.http.address() {
        let listener = listen(address).await?;
        println!("metrics and health: http://{}/", listener.local_addr()?);
        web.spawn(http::serve_worker(listener, worker.clone()));
    }
    worker.serve(listener, stopping).await
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// A plan may name any file that the process can read, so nobody sends one who is not meant to.
fn check(address: SocketAddr, trust: &Trust) -> Result<()> {
    let refuse = |why: &str| Error::invalid_input(format!("cannot listen on {address}: {why}"));
    if !address.ip().is_loopback() && !trust.has_token() {
        return Err(refuse("there is no token, so anybody could read what this process can").with_hint(
            "give --cluster-token FILE (openssl rand -hex 32 makes one), or listen on a loopback address",
        ));
    }
    if !address.ip().is_loopback() && !trust.encrypts() {
        tracing::warn!(
            "connections are not encrypted: give --cluster-authority, --cluster-certificate and --cluster-key, or keep others out of this network"
        );
    }
    Ok(())
}
