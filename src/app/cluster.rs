//! `[cluster]`: the workers of a server, and who may talk to whom.

use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use serde::Deserialize;

use crate::cluster::{Cluster, Fallback, Options, Trust, TrustFiles};
use crate::error::{Error, Result};
use crate::session::{self, Engine};
use crate::workload::Resources;

/// What a server and its workers have to know of each other; both take it in the same way.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrustOptions {
    /// A file with the token that a server shows to its workers, and workers to each other
    #[arg(id = "cluster_token", long = "cluster-token", env = "TOPLAKE_CLUSTER_TOKEN", value_name = "FILE")]
    token: Option<PathBuf>,
    /// The authority that has signed the certificates of servers and workers, PEM: with it, both sides show theirs
    #[arg(
        id = "cluster_authority",
        long = "cluster-authority",
        env = "TOPLAKE_CLUSTER_AUTHORITY",
        value_name = "FILE"
    )]
    authority: Option<PathBuf>,
    /// This process's certificate among them, PEM
    #[arg(
        id = "cluster_certificate",
        long = "cluster-certificate",
        env = "TOPLAKE_CLUSTER_CERTIFICATE",
        value_name = "FILE"
    )]
    certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(id = "cluster_key", long = "cluster-key", env = "TOPLAKE_CLUSTER_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// The name that the certificates of workers bear, where it is not the host in their address (with `dns:` that is a number)
    #[arg(id = "cluster_name", long = "cluster-name", env = "TOPLAKE_CLUSTER_NAME", value_name = "NAME")]
    name: Option<String>,
}

impl TrustOptions {
    /// Reads the files.
    pub(super) fn trust(&self) -> Result<Trust> {
        Trust::read(&TrustFiles {
            token: self.token.clone(),
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            name: self.name.clone(),
        })
    }

    fn or(self, config: &TrustOptions) -> Self {
        TrustOptions {
            token: self.token.or_else(|| config.token.clone()),
            authority: self.authority.or_else(|| config.authority.clone()),
            certificate: self.certificate.or_else(|| config.certificate.clone()),
            key: self.key.or_else(|| config.key.clone()),
            name: self.name.or_else(|| config.name.clone()),
        }
    }
}

/// An engine whose sessions plan for the workers, if there are any.
pub(super) async fn open(
    warehouse: &str,
    resources: &Resources,
    workers: Option<&Arc<Cluster>>,
) -> Result<Engine> {
    session::open_extended(warehouse, resources, |sessions| match workers {
        Some(cluster) => cluster.plug(sessions),
        None => Ok(sessions),
    })
    .await
}

/// `[cluster]`, and the flags that win over it.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClusterOptions {
    /// Where `toplake worker` processes are, to spread large queries over: host:port,… or file:PATH or dns:name:port
    #[arg(long, env = "TOPLAKE_WORKERS", value_name = "ADDRESSES")]
    workers: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    trust: TrustOptions,
    /// What becomes of a large query while there are not two workers [default: local]
    #[arg(
        id = "cluster_fallback",
        long = "cluster-fallback",
        env = "TOPLAKE_CLUSTER_FALLBACK",
        value_enum,
        value_name = "WHAT"
    )]
    fallback: Option<Fallback>,
    /// Bytes of columns for each worker's part of a query; what reads less is not spread [default: 64MiB]
    #[arg(
        id = "cluster_bytes_per_task",
        long = "cluster-bytes-per-task",
        env = "TOPLAKE_CLUSTER_BYTES_PER_TASK",
        value_name = "SIZE"
    )]
    bytes_per_task: Option<ByteSize>,
}

impl ClusterOptions {
    /// The same, with what it leaves open as a file says.
    pub(super) fn or(self, config: &ClusterOptions) -> Self {
        ClusterOptions {
            workers: self.workers.or_else(|| config.workers.clone()),
            trust: self.trust.or(&config.trust),
            fallback: self.fallback.or(config.fallback),
            bytes_per_task: self.bytes_per_task.or(config.bytes_per_task),
        }
    }

    /// The workers, if there are to be any.
    pub(super) fn cluster(&self) -> Result<Option<Arc<Cluster>>> {
        let Some(workers) = &self.workers else { return Ok(None) };
        if self.bytes_per_task == Some(ByteSize(0)) {
            return Err(Error::invalid_input("cluster: bytes_per_task has to be above 0"));
        }
        let options = Options {
            workers: workers.parse()?,
            trust: self.trust.trust()?,
            fallback: self.fallback.unwrap_or_default(),
            bytes_per_task: self.bytes_per_task.map_or(Options::BYTES_PER_TASK, |size| size.as_u64()),
        };
        Cluster::new(options).map(Some)
    }
}
