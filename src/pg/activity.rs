//! What the connections of this process are doing, for `pg_stat_activity`.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pgwire::messages::response::TransactionStatus;

use super::{Client, Settings};
use crate::catalog::privileges::Role;

/// No more of a statement's text is kept.
const MAX_QUERY: usize = 1_023;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) role: Role,
    pub(super) address: SocketAddr,
    pub(super) settings: Arc<Settings>,
    /// When it began; all instants are microseconds since 1970.
    pub(super) since: i64,
    now: Mutex<Now>,
}

/// What it does at the moment, or did last.
#[derive(Debug, Clone)]
pub(super) struct Now {
    pub(super) active: bool,
    pub(super) transaction: TransactionStatus,
    pub(super) query: String,
    pub(super) query_start: Option<i64>,
    pub(super) transaction_start: Option<i64>,
    pub(super) changed: i64,
}

impl Activity {
    pub(super) fn of(client: &Client) -> Self {
        let since = microseconds();
        Activity {
            pid: client.pid,
            user: client.user.clone(),
            role: client.role,
            address: client.address,
            settings: Arc::clone(&client.settings),
            since,
            now: Mutex::new(Now {
                active: false,
                transaction: TransactionStatus::Idle,
                query: String::new(),
                query_start: None,
                transaction_start: None,
                changed: since,
            }),
        }
    }

    pub(super) fn now(&self) -> Now {
        self.now.lock().clone()
    }

    /// Work begins, on a statement of this text if there is one.
    pub(super) fn begins(&self, query: Option<&str>) {
        let at = microseconds();
        let mut now = self.now.lock();
        if let Some(query) = query {
            let mut end = query.len().min(MAX_QUERY);
            while !query.is_char_boundary(end) {
                end -= 1;
            }
            now.query.clear();
            now.query.push_str(&query[..end]);
            now.query_start = Some(at);
        }
        now.transaction_start.get_or_insert(at);
        if !std::mem::replace(&mut now.active, true) {
            now.changed = at;
        }
    }

    /// The next message may come.
    pub(super) fn is_ready(&self, transaction: TransactionStatus) {
        let mut now = self.now.lock();
        (now.active, now.changed, now.transaction) = (false, microseconds(), transaction);
        if transaction == TransactionStatus::Idle {
            now.transaction_start = None;
        }
    }
}

impl Now {
    /// As `pg_stat_activity` calls it.
    pub(super) fn state(&self) -> &'static str {
        match self.transaction {
            _ if self.active => "active",
            TransactionStatus::Idle => "idle",
            TransactionStatus::Transaction => "idle in transaction",
            TransactionStatus::Error => "idle in transaction (aborted)",
        }
    }
}

/// The clock.
fn microseconds() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
