//! `[limits]`: what a server's clients may take of it.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::rate::Rates;
use crate::catalog::privileges::Role;
use crate::error::{Error, Result};
use crate::pg;
use crate::session::default_memory_limit;
use crate::workload::{Lane, Lanes, Resources};

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitOptions {
    connections: Option<usize>,
    reserved_connections: Option<usize>,
    memory: Option<ByteSize>,
    memory_per_query: Option<ByteSize>,
    memory_of_jobs: Option<ByteSize>,
    spill_folder: Option<PathBuf>,
    spill: Option<ByteSize>,
    reader: RoleLimits,
    writer: RoleLimits,
    admin: RoleLimits,
}

/// `[limits.reader]` and so on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoleLimits {
    heavy_queries: Option<usize>,
    queue: Option<usize>,
    queue_timeout: Option<f64>,
    statements_per_second: Option<f64>,
}

impl RoleLimits {
    fn lane(&self) -> Lane {
        let default = Lane::default();
        Lane {
            queries: self.heavy_queries.unwrap_or(default.queries),
            queue: self.queue.unwrap_or(default.queue),
            wait: self.queue_timeout.map_or(default.wait, Duration::from_secs_f64),
        }
    }
}

impl LimitOptions {
    /// Refuses what would let nothing happen.
    pub(super) fn check(&self) -> Result<()> {
        let zero = |what: &str| Error::invalid_input(format!("limits: {what} has to be above 0"));
        for role in [&self.reader, &self.writer, &self.admin] {
            if role.heavy_queries == Some(0) {
                return Err(zero("heavy_queries"));
            }
            if role.statements_per_second.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
                return Err(zero("statements_per_second"));
            }
            if role.queue_timeout.is_some_and(|wait| Duration::try_from_secs_f64(wait).is_err()) {
                return Err(Error::invalid_input("limits: queue_timeout is not a number of seconds"));
            }
        }
        if self.connections == Some(0)
            || self.memory == Some(ByteSize(0))
            || self.memory_per_query == Some(ByteSize(0))
            || self.memory_of_jobs == Some(ByteSize(0))
        {
            return Err(zero("a number of connections or bytes"));
        }
        Ok(())
    }

    /// What queries may take.
    pub(super) fn resources(&self) -> Resources {
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let mut resources = Resources::with_memory(self.memory.map_or_else(default_memory_limit, bytes));
        if let Some(share) = self.memory_per_query {
            resources.memory_per_query = bytes(share);
        }
        if let Some(share) = self.memory_of_jobs {
            resources.memory_of_jobs = bytes(share);
        }
        if let Some(spill) = self.spill {
            resources.spill = spill.as_u64();
        }
        resources.spill_folder = self.spill_folder.clone();
        resources.lanes =
            Lanes { reader: self.reader.lane(), writer: self.writer.lane(), admin: self.admin.lane() };
        resources
    }

    /// How many statements a second each role may start.
    pub(super) fn rates(&self) -> Rates {
        let of = |role, limits: &RoleLimits| Some((role, limits.statements_per_second?));
        let all =
            [of(Role::Reader, &self.reader), of(Role::Writer, &self.writer), of(Role::Admin, &self.admin)];
        Rates::new(all.into_iter().flatten())
    }

    /// Puts the limits of connections into the front end's options.
    pub(super) fn apply(&self, options: &mut pg::Options) {
        options.max_connections = self.connections.unwrap_or(options.max_connections);
        options.reserved_connections = self.reserved_connections.unwrap_or(options.reserved_connections);
    }
}
