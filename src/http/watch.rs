//! Looks again and again whether the server is well, remembers it for those who ask, and logs what changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use super::checks::{self, Check};
use super::status::{Counted, Status};
use super::{Host, Http, Options};
use crate::error::{Error, Result};
use crate::statement::Session;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);

/// Who asks is told what was seen so long ago at most.
const FRESH: Duration = Duration::from_secs(1);

/// How often files are counted, and how often the store is written to, to see whether that is possible.
const SELDOM: Duration = Duration::from_secs(15);

/// One look takes no longer; a store that hangs is not well either.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) checks: Vec<Check>,
    /// Room that is left, by folder, in bytes.
    pub(super) free: Vec<(String, u64)>,
    at: Option<Instant>,
}

/// What happens seldom.
#[derive(Default)]
struct Seldom {
    counted: Counted,
    store: Option<Check>,
    at: Option<Instant>,
}

/// The eye on a server.
pub(super) struct Watch {
    host: Arc<dyn Host>,
    options: Arc<Options>,
    started: Instant,
    instance: String,
    /// Nobody's limits count for what it asks.
    session: Session,
    seen: Mutex<Arc<Seen>>,
    looking: tokio::sync::Mutex<Seldom>,
}

impl Watch {
    pub(super) fn new(host: Arc<dyn Host>, options: Arc<Options>) -> Self {
        let engine = host.engine();
        let session = Session::new(engine.context(), Arc::clone(engine.warehouse()));
        Watch {
            session,
            host,
            options,
            started: Instant::now(),
            instance: uuid::Uuid::new_v4().to_string(),
            seen: Default::default(),
            looking: Default::default(),
        }
    }

    /// How long the server has been here.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks for as long as somebody polls this.
    pub(super) async fn forever(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What was seen a moment ago.
    pub(super) async fn recent(&self) -> Arc<Seen> {
        let seen = Arc::clone(&self.seen.lock());
        match seen.at {
            Some(at) if at.elapsed() < FRESH => seen,
            _ => self.look().await,
        }
    }

    /// Looks, unless somebody else has just done so.
    async fn look(&self) -> Arc<Seen> {
        let mut seldom = self.looking.lock().await;
        let before = Arc::clone(&self.seen.lock());
        if before.at.is_some_and(|at| at.elapsed() < FRESH) {
            return before;
        }
        let seen = match tokio::time::timeout(PATIENCE, self.see(&mut seldom, &before)).await {
            Ok(seen) => seen,
            Err(_) => {
                let slow = Check::fails(
                    "store",
                    format!("the warehouse was not read within {} s", PATIENCE.as_secs()),
                    "see whether the object store can be reached, and is not too slow",
                );
                Seen { checks: vec![slow], ..before.as_ref().clone() }
            }
        };
        tell(&before.checks, &seen.checks);
        let seen = Arc::new(Seen { at: Some(Instant::now()), ..seen });
        *self.seen.lock() = Arc::clone(&seen);
        seen
    }

    async fn see(&self, seldom: &mut Seldom, before: &Seen) -> Seen {
        if seldom.at.is_none_or(|at| at.elapsed() >= SELDOM)
            || seldom.store.as_ref().is_some_and(|store| !store.ok)
        {
            seldom.store = Some(Check::of("store", &self.try_store().await));
            match Counted::now(&self.session).await {
                Ok(counted) => seldom.counted = counted,
                Err(e) => tracing::debug!(error = %e, "cannot add up the ledger"),
            }
            seldom.at = Some(Instant::now());
        }
        let status = Status::now(&self.session, &seldom.counted).await;
        let catalog = Check::of("catalog", &status);
        // What cannot be seen now is as it was.
        let status = status.unwrap_or_else(|_| before.status.clone());
        let free = self.free();
        let mut all = vec![catalog];
        all.extend(seldom.store.clone());
        all.extend([
            checks::ingest(&status),
            checks::lag(&status, self.options.max_lag),
            checks::jobs(&status),
            checks::disk(&free),
        ]);
        if self.options.needs_workers {
            all.push(checks::workers(&self.host.engine().warehouse().workers()));
        }
        Seen { status, checks: all, free, at: None }
    }

    /// Whether the store takes what is written.
    async fn try_store(&self) -> Result<()> {
        let store = self.host.engine().warehouse().store();
        let path = store.path(&format!("_toplake/health/{}", self.instance));
        store.put(&path, bytes::Bytes::from_static(b"ok")).await?;
        let read = store.get(&path).await?;
        store.delete_all(vec![path]).await?;
        match read {
            Some(read) if read.as_ref() == b"ok" => Ok(()),
            _ => Err(Error::storage("what was written to the object store was not there a moment later")),
        }
    }

    fn free(&self) -> Vec<(String, u64)> {
        let warehouse = self.host.engine().warehouse().store();
        let mut folders = self.options.folders.clone();
        if warehouse.root_url().scheme() == "file" {
            folders.insert(0, PathBuf::from(format!("/{}", warehouse.prefix())));
        }
        let free = folders.iter().filter_map(|f| Some((f.display().to_string(), checks::free(f)?)));
        free.collect()
    }
}

/// Logs what has changed.
fn tell(before: &[Check], now: &[Check]) {
    for check in now {
        let was = before.iter().find(|b| b.name == check.name);
        let message = check.message.as_deref().unwrap_or_default();
        let hint = check.hint.as_deref().unwrap_or_default();
        match was.map(|was| was.ok) {
            None | Some(true) if !check.ok => {
                tracing::error!(check = check.name, hint, "not ready: {message}")
            }
            Some(false) if check.ok => tracing::info!(check = check.name, "ready again"),
            _ => {}
        }
    }
}

/// What `/health/ready` says.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    checks: Vec<Check>,
}

/// Probes have no token: without one they are told which check fails, and not why.
pub(super) async fn ready(State(http): State<Http>, headers: HeaderMap) -> Readiness {
    let seen = http.watch.recent().await;
    let mut checks = seen.checks.clone();
    if http.options.tokens.who(&headers).is_err() {
        checks = checks.into_iter().map(|check| Check { message: None, hint: None, ..check }).collect();
    }
    Readiness { ready: checks.iter().all(|check| check.ok), checks }
}

/// The process works: it has answered.
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({ "live": true }))
}
