//! Committing: exactly once, in the order of the log, under the conflict rules of DESIGN §2.
//!
//! A commit is one object, `<version>.json`, put only if it is absent. Before each attempt the log is followed to its
//! end, and at the version that the commit would build on
//!
//! 1. every position it moves must stand where the work began (a stale or zombie writer fails here),
//! 2. every file it removes must be active (two compactions, or a compaction and a DELETE, cannot both win),
//! 3. no `replace` may have come between where the work says so (folds),
//! 4. the table must still be the one that the work was planned on, with the options that it depends on,
//! 5. nobody has changed rows meanwhile that are about to expire: a rollup has to read them again first,
//! 6. no row joins that the watermark has passed, where late rows go elsewhere.
//!
//! Nothing is committed that does not account for all that it consumed ([`LedgerEntry`]).
//!
//! An attempt whose answer is lost is looked for by its id, at its version, before anything is tried again; until it is
//! known what stands at that version, no other version is tried.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::action::{
    Action, Add, CommitInfo, CommitKind, LedgerEntry, Metadata, OutboxFile, Txn, format_lines,
};
use super::event_times::{Seen, highest_of, lowest_of};
use super::log;
use super::range::TimeRanges;
use super::snapshot::{File, Snapshot};
use super::table::{Table, engine_info, now_ms};
use crate::error::{Error, Kind, Result};
use crate::metrics;

/// Attempts before a commit gives up on a log that others keep winning, or a store that keeps failing.
const ATTEMPTS: u32 = 40;

/// A checkpoint is due after this many commits.
const CHECKPOINT_EVERY: i64 = 100;

/// A position that a commit moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// Which application, source or dependent.
    pub app: String,
    /// Where the work began; `None` if it was the first.
    pub from: Option<i64>,
    /// Where it ends.
    pub to: i64,
}

/// What a commit that ends the retention of rows takes away.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// Rows before this instant, in microseconds.
    pub cut: i64,
    /// By this column.
    pub time_column: String,
}

/// The position that has the version at which another was last counted up.
pub fn counted_at(app: &str) -> String {
    format!("{app}.version")
}

/// The position that each commit with entries of the ledger counts up.
pub const LEDGER: &str = "toplake.ledger";

/// A planned commit.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it is.
    pub kind: CommitKind,
    /// Delta's name of the operation, for people who read the log.
    pub operation: &'static str,
    /// The table that it was planned on.
    pub table_id: String,
    /// The version that it was planned on.
    pub planned_at: i64,
    /// The definition and options that it was planned on.
    pub planned_on: Arc<Metadata>,
    /// Whether a `replace` commit since `planned_at` makes the plan void.
    pub refuses_replace: bool,
    /// Whether any commit at all since `planned_at` makes the plan void.
    pub refuses_all: bool,
    /// Whether any other definition or options than those of `planned_on` make the plan void.
    pub refuses_alteration: bool,
    /// Rows before this instant leave for good: a commit since `planned_at` that changed such rows makes the plan void.
    pub expires: Option<Expiry>,
    /// Whether a row that joins and that the watermark has passed makes the plan void.
    pub refuses_late: bool,
    /// Files that join.
    pub adds: Vec<Add>,
    /// Files that leave.
    pub removes: Vec<Arc<File>>,
    /// Positions that move.
    pub positions: Vec<Position>,
    /// Positions that are counted up by one, wherever they stand; each has another beside it ([`counted_at`]) that says at
    /// which version that was.
    pub counts: Vec<Cow<'static, str>>,
    /// A new schema or configuration.
    pub metadata: Option<Metadata>,
    /// The buckets that a `replace` replaces.
    pub ranges: Option<TimeRanges>,
    /// Source versions, for lineage.
    pub sources: Option<BTreeMap<String, i64>>,
    /// Side-table files that become visible.
    pub outbox: Vec<OutboxFile>,
    /// What became of the input that it consumes. Where a commit is planned again because rows are late by now, so are
    /// these.
    pub ledger: Vec<LedgerEntry>,
    /// The streams that rows come from.
    pub seen: Seen,
}

impl Change {
    /// A commit of this kind that changes nothing yet.
    pub fn new(kind: CommitKind, operation: &'static str, planned_on: &Snapshot) -> Self {
        Change {
            kind,
            operation,
            table_id: planned_on.metadata.id.clone(),
            planned_at: planned_on.version,
            planned_on: Arc::clone(&planned_on.metadata),
            refuses_replace: false,
            refuses_all: false,
            refuses_alteration: false,
            expires: None,
            refuses_late: false,
            adds: vec![],
            removes: vec![],
            positions: vec![],
            counts: vec![],
            metadata: None,
            ranges: None,
            sources: None,
            outbox: vec![],
            ledger: vec![],
            seen: Seen::default(),
        }
    }

    /// The lines of the commit that comes after `on`.
    fn actions(&self, id: &str, on: &Snapshot) -> Vec<Action> {
        let now = now_ms();
        let data_change = !matches!(self.kind, CommitKind::Rewrite);
        let info = CommitInfo {
            timestamp: now,
            operation: self.operation.to_owned(),
            engine_info: engine_info(),
            kind: Some(self.kind),
            id: Some(id.to_owned()),
            ranges: self.ranges.clone(),
            sources: self.sources.clone(),
            outbox: self.outbox.clone(),
            ledger: self.ledger.clone(),
            ..Default::default()
        };
        let mut actions = vec![Action { commit_info: Some(info), ..Default::default() }];
        actions.extend(self.metadata.clone().map(|m| Action { meta_data: Some(m), ..Default::default() }));
        let compared = self.positions.iter().map(|p| (p.app.clone(), p.to));
        let ledger = (!self.ledger.is_empty()).then_some(LEDGER);
        let counted = self.counts.iter().map(|app| app.as_ref()).chain(ledger).flat_map(|app| {
            let count = on.position(app).unwrap_or(0) + 1;
            [(app.to_owned(), count), (counted_at(app), on.version + 1)]
        });
        actions.extend(compared.chain(counted).chain(self.event_times(on)).map(|(app_id, version)| Action {
            txn: Some(Txn { app_id, version, last_updated: Some(now) }),
            ..Default::default()
        }));
        actions.extend(
            self.removes
                .iter()
                .map(|f| Action { remove: Some(f.remove(now, data_change)), ..Default::default() }),
        );
        actions.extend(
            self.adds
                .iter()
                .map(|a| Action { add: Some(Add { data_change, ..a.clone() }), ..Default::default() }),
        );
        actions
    }

    /// How far it brings event time, as positions that are never compared: the higher one stands.
    fn event_times(&self, on: &Snapshot) -> Vec<(String, i64)> {
        let metadata = self.metadata.as_ref().unwrap_or(&on.metadata);
        if metadata.id != on.metadata.id {
            return vec![];
        }
        let batch = match self.kind {
            CommitKind::Append | CommitKind::Foreign => highest_of(&self.adds, metadata, &on.schema),
            _ => None,
        };
        on.event_times.moved_by(metadata, &self.seen, batch, |app| on.position(app))
    }
}

impl Table {
    /// Commits `change` and gives the version that it became.
    ///
    /// Fails with [`Kind::Conflict`] where one of the rules forbids it at the version it would build on: nothing was
    /// written then, and the work has to be planned again. Any other error after the first attempt means that the
    /// commit may or may not have happened and could not be found out in time.
    pub async fn commit(&self, change: &Change) -> Result<i64> {
        let begun = Instant::now();
        let done = self.attempt(change).await;
        match &done {
            Ok(_) => {
                metrics::committed(self.name(), change.kind.name(), begun.elapsed());
                for entry in &change.ledger {
                    metrics::ingested(self.name(), &entry.outcomes());
                }
            }
            Err(e) if e.kind() == Kind::Conflict => metrics::commit_conflict(),
            Err(_) => {}
        }
        done
    }

    async fn attempt(&self, change: &Change) -> Result<i64> {
        if let Some(entry) = change.ledger.iter().find(|entry| !entry.balances()) {
            return Err(Error::internal(format!(
                "table '{}': the ledger does not balance, nothing is committed: {entry:?}",
                self.name()
            )));
        }
        let _one = self.committing.lock().await;
        let id = uuid::Uuid::new_v4().to_string();
        let (mut actions, mut body) = (vec![], bytes::Bytes::new());
        let mut lost = None;
        let mut trouble: Option<Error> = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(jitter(attempt)).await;
            }
            let target = match lost {
                // An attempt is out there: first find out what became of its version.
                Some(version) => match self.outcome(version, &id).await {
                    Ok(Outcome::Ours) => return self.done(version, actions).await,
                    Ok(Outcome::Theirs) => {
                        lost = None;
                        continue;
                    }
                    Ok(Outcome::Open) => version,
                    Err(e) if retryable(&e) => {
                        trouble = Some(e);
                        continue;
                    }
                    Err(e) => return Err(e),
                },
                None => match self.update().await {
                    Ok(now) => {
                        self.check(change, &now).await?;
                        actions = change.actions(&id, &now);
                        body = bytes::Bytes::from(format_lines(&actions)?);
                        now.version + 1
                    }
                    Err(e) if retryable(&e) => {
                        trouble = Some(e);
                        continue;
                    }
                    Err(e) => return Err(e),
                },
            };
            match self.store().put_if_absent(&log::commit_path(self.store(), target), body.clone()).await {
                Ok(true) => return self.done(target, actions).await,
                // Also our own earlier attempt, or one that the store's client repeated by itself, may stand there.
                Ok(false) => lost = Some(target),
                Err(e) => {
                    lost = Some(target);
                    trouble = Some(e);
                }
            }
        }
        let what = format!("table '{}': could not commit in {ATTEMPTS} attempts", self.name());
        if let Some(version) = lost {
            // The last attempt may have landed: what stands there decides whether the caller may plan again.
            match self.outcome(version, &id).await {
                Ok(Outcome::Ours) => return self.done(version, actions).await,
                Ok(Outcome::Theirs) => {}
                Ok(Outcome::Open) | Err(_) => {
                    let e = trouble.unwrap_or_else(|| Error::storage("the store does not say what it has"));
                    return Err(e.context(format!("{what}, and the last one may still land")));
                }
            }
        }
        Err(match trouble {
            Some(e) => e.context(what),
            None => Error::conflict(format!("{what}: other writers keep winning")),
        })
    }

    pub(super) async fn done(&self, version: i64, actions: Vec<Action>) -> Result<i64> {
        if !self.looked_recently() && log::read_commit(self.store(), version - 1).await?.is_none() {
            // This process stood still for so long that the log was cleaned up beyond the version that it was to commit:
            // nobody will ever read that version.
            self.store().delete_all(vec![log::commit_path(self.store(), version)]).await?;
            self.update().await?;
            return Err(Error::conflict(format!(
                "table '{}': this writer stood still for too long",
                self.name()
            )));
        }
        self.wrote(version, actions).await?;
        if version > 0 && version % CHECKPOINT_EVERY == 0 {
            self.checkpoint_beside();
        }
        Ok(version)
    }

    async fn outcome(&self, version: i64, id: &str) -> Result<Outcome> {
        Ok(match log::read_commit(self.store(), version).await? {
            None => Outcome::Open,
            Some(actions) => {
                let found = actions.into_iter().find_map(|a| a.commit_info).and_then(|info| info.id);
                if found.as_deref() == Some(id) { Outcome::Ours } else { Outcome::Theirs }
            }
        })
    }

    /// The conflict rules at `now`.
    async fn check(&self, change: &Change, now: &Snapshot) -> Result<()> {
        let conflict = |what: String| Err(Error::conflict(format!("table '{}': {what}", self.name())));
        now.protocol.check_writable(self.name())?;
        if now.metadata.id != change.table_id {
            return conflict("it was dropped and made again meanwhile".into());
        }
        for p in &change.positions {
            let stands = now.position(&p.app);
            if stands != p.from {
                let show = |v: Option<i64>| v.map_or("its beginning".to_owned(), |v| v.to_string());
                return conflict(format!(
                    "'{}' stands at {}, not at {} where this work began",
                    p.app,
                    show(stands),
                    show(p.from)
                ));
            }
        }
        for file in &change.removes {
            if !now.files.contains_key(file.add.path.as_str()) {
                return conflict(format!("file '{}' is not active any more", file.add.path));
            }
        }
        if change.refuses_late
            && let Some(watermark) = now.event_times.watermark()
            && lowest_of(&change.adds, &now.metadata, &now.schema).is_some_and(|lowest| lowest < watermark)
        {
            return conflict("the watermark has passed some of the rows meanwhile".into());
        }
        if change.planned_at == now.version {
            return Ok(());
        }
        if change.refuses_all {
            return conflict("others have written meanwhile".into());
        }
        if (change.refuses_alteration || change.metadata.is_some()) && now.metadata != change.planned_on {
            return conflict("its definition or options changed meanwhile".into());
        }
        let metadata_matters = !change.adds.is_empty() || !change.outbox.is_empty();
        let between = self.commits(change.planned_at, now.version).await?;
        if change.refuses_replace && between.iter().any(|c| c.kind == CommitKind::Replace) {
            return conflict("buckets were replaced meanwhile".into());
        }
        if let Some(Expiry { cut, time_column }) = &change.expires
            && between.iter().any(|c| {
                c.changed(&now.schema, time_column).iter().next().is_some_and(|(from, _)| from < *cut)
            })
        {
            return conflict("rows that are about to expire were changed meanwhile".into());
        }
        if metadata_matters && between.iter().any(|c| c.kind == CommitKind::Metadata) {
            return conflict("its definition or options changed meanwhile".into());
        }
        Ok(())
    }

    /// Writes a checkpoint off the commit path; one at a time, and only for economy: it may be lost with the process.
    fn checkpoint_beside(&self) {
        let Ok(guard) = Arc::clone(&self.checkpointing).try_lock_owned() else { return };
        let (snapshot, store, name) = (self.snapshot(), self.store().clone(), self.name().to_owned());
        tokio::spawn(async move {
            let _guard = guard;
            if let Err(e) = write_checkpoint(&store, snapshot).await {
                tracing::warn!(table = name, error = %e, "could not write a checkpoint; one of the next commits will");
            }
        });
    }

    /// Writes a checkpoint of the newest known version.
    pub async fn checkpoint(&self) -> Result<()> {
        let _guard = self.checkpointing.lock().await;
        write_checkpoint(self.store(), self.snapshot()).await
    }
}

async fn write_checkpoint(store: &super::store::Store, snapshot: Arc<Snapshot>) -> Result<()> {
    let version = snapshot.version;
    let encoded = tokio::task::spawn_blocking(move || super::checkpoint::write(&snapshot)).await;
    let (body, size) = encoded.map_err(|e| Error::internal(format!("checkpoint writer: {e}")))??;
    store.put(&log::checkpoint_path(store, version), body).await?;
    log::write_hint(store, version, Some(size)).await
}

/// What stands at a version.
enum Outcome {
    Ours,
    Theirs,
    Open,
}

fn retryable(e: &Error) -> bool {
    e.kind() == Kind::Storage
}

/// Between half of and the whole of an exponential delay of at most half a second.
fn jitter(attempt: u32) -> Duration {
    let full = 500.0_f64.min(2.0 * 1.5_f64.powi(attempt as i32));
    Duration::from_micros((full * 1000.0 * rand::random_range(0.5..1.0)) as u64)
}
