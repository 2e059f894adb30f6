//! `VACUUM t`: removes files that have left the table, and then the part of the log that nobody reads any more.
//!
//! Which files have left stands in the log, so nothing is listed: the commits since the last vacuum are read, up to the
//! first that is younger than the horizon or that a dependent has yet to read. A file that was added after what every
//! dependent has read is needed for its tail, though compaction may have replaced it long ago; such a file was also removed
//! after that, so stopping there keeps it. `VACUUM FULL t` lists the folder too, for files of work that died.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::needed::{files_named_for, needed_from};
use super::target::Target;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::log::{self, LEAST_AGE};
use crate::lake::scan::locate;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::table::now_ms;

/// The position through which the removed files of a table are gone.
const VACUUMED: &str = "toplake.vacuum";

/// Commits that are read at once.
const CHUNK: i64 = 1000;

/// Commits after which it is noted how far a vacuum came although it removed nothing.
const NOTE_AFTER: i64 = 100;

/// Option of a Delta table: how long removed files are kept.
const RETENTION: &str = "delta.deletedFileRetentionDuration";

/// How long running queries, and work that has not committed yet, may need what is not part of the table any more.
#[derive(Debug, Clone, Copy)]
pub struct Horizon(pub Duration);

impl Horizon {
    /// That of a table's options; at least an hour.
    pub fn of(snapshot: &Snapshot) -> Self {
        let text = snapshot.option(RETENTION).map(|text| text.trim_start_matches("interval ").trim());
        let parse = datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
        let day = 86_400_000_000_000;
        let nanos = text
            .and_then(|text| parse(text).ok())
            .map_or(day, |i| (i64::from(i.months) * 31 + i64::from(i.days)) * day + i.nanoseconds);
        Horizon(Duration::from_nanos(nanos.max(0) as u64).max(LEAST_AGE))
    }
}

/// What a vacuum has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Data files.
    pub files: usize,
    /// Commits and checkpoints.
    pub log: usize,
}

/// Vacuums every table of a warehouse. One that fails does not keep the others waiting; the first error is given at the end.
pub async fn vacuum_all(warehouse: &Arc<Warehouse>, full: bool) -> Result<Vacuumed> {
    let (mut all, mut failed) = (Vacuumed::default(), None);
    for target in Target::all(warehouse).await? {
        let done = match target {
            Ok(target) => vacuum(warehouse, &target, full, None).await,
            Err(e) => Err(e),
        };
        match done {
            Ok(one) => (all.files, all.log) = (all.files + one.files, all.log + one.log),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    failed.map_or(Ok(all), Err)
}

/// Vacuums a table; `horizon` stands for that of its options.
pub async fn vacuum(
    warehouse: &Arc<Warehouse>,
    target: &Target,
    full: bool,
    horizon: Option<Horizon>,
) -> Result<Vacuumed> {
    let table = target.table();
    let context = |e: Error| e.context(format!("table '{}'", table.name()));
    // What is followed need not be kept.
    warehouse.follow(table).await.map_err(context)?;
    let work = Work { warehouse, target, horizon: horizon.unwrap_or_else(|| Horizon::of(&table.snapshot())) };
    work.run(full).await.map_err(context)
}

struct Work<'a> {
    warehouse: &'a Arc<Warehouse>,
    target: &'a Target,
    horizon: Horizon,
}

impl Work<'_> {
    async fn run(&self, full: bool) -> Result<Vacuumed> {
        let table = self.target.table();
        // What is listed before the newest version is looked for is committed there, or is not young any more.
        let listed = if full { self.list().await? } else { vec![] };
        // The names before the newest version, too: what a follower adds in between is active there.
        let named = if full { files_named_for(self.warehouse, table).await? } else { HashSet::new() };
        let needed = needed_from(self.warehouse, self.target).await?;
        let now = table.update().await?;
        let mut done = Vacuumed::default();
        let (through, mut gone) = self.removed(&now, needed).await?;
        done.files = gone.len();
        if full {
            gone.extend(named);
            done.files += self.orphans(&now, through, gone, listed).await?;
        }
        done.log = log::clean_up(table.store(), needed.min(through), self.horizon.0).await?;
        Ok(done)
    }

    /// Removes what left by the log; gives the version through which that is done for good, and what it was.
    async fn removed(&self, now: &Snapshot, needed: i64) -> Result<(i64, HashSet<Path>)> {
        let table = self.target.table();
        let begun = now.position(VACUUMED);
        let oldest = now_ms() - self.horizon.0.as_millis() as i64;
        let last = needed.min(now.version);
        // Nobody but a foreign writer gives a file that had left another time a place.
        let unread = table.commits(last, now.version).await?;
        let again: HashSet<&str> = unread.iter().flat_map(|c| &c.adds).map(|f| f.add.path.as_str()).collect();
        let stays = |file: &File| {
            now.files.contains_key(file.add.path.as_str()) || again.contains(file.add.path.as_str())
        };
        let mut through = begun.unwrap_or(-1);
        let (mut gone, mut young) = (HashSet::new(), false);
        while through < last && !young {
            let commits = table.commits(through, last.min(through + CHUNK)).await?;
            let mut dead = vec![];
            for commit in commits {
                young = commit.timestamp > oldest;
                if young {
                    break;
                }
                through = commit.version;
                for file in commit.removes.iter().filter(|file| !stays(file)) {
                    dead.push(locate(table.store(), &file.add.path)?);
                }
            }
            gone.extend(dead.iter().cloned());
            table.store().delete_all(dead).await?;
        }
        // A table in which nothing happens gets no commit from being vacuumed.
        let noted = !gone.is_empty() || through - begun.unwrap_or(-1) >= NOTE_AFTER;
        if noted {
            let mut change = Change::new(CommitKind::Rewrite, "VACUUM END", now);
            change.positions = vec![Position { app: VACUUMED.to_owned(), from: begun, to: through }];
            match table.commit(&change).await {
                // Another vacuum has noted how far it came.
                Err(e) if e.kind() == Kind::Conflict => {}
                noted => drop(noted?),
            }
        }
        Ok((if noted { through } else { begun.unwrap_or(-1) }, gone))
    }

    /// The objects of the table's folder that might be files of dead work.
    async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let store = self.target.table().store();
        let listed: Vec<ObjectMeta> = store.object_store().list(Some(store.prefix())).try_collect().await?;
        let old = chrono::Utc::now() - self.horizon.0;
        let is_data = |path: &Path| {
            path.prefix_match(store.prefix())
                .is_some_and(|mut parts| parts.all(|p| !p.as_ref().starts_with(['_', '.'])))
        };
        let listed = listed.into_iter().filter(|meta| meta.last_modified <= old && is_data(&meta.location));
        Ok(listed.collect())
    }

    /// Removes listed objects that are not among those known already, and that no commit which may still be read names.
    async fn orphans(
        &self,
        now: &Snapshot,
        vacuumed: i64,
        mut known: HashSet<Path>,
        listed: Vec<ObjectMeta>,
    ) -> Result<usize> {
        let table = self.target.table();
        for file in now.files.values() {
            known.insert(locate(table.store(), &file.add.path)?);
        }
        for commit in table.commits(vacuumed, now.version).await? {
            for file in commit.adds.iter().chain(&commit.removes) {
                known.insert(locate(table.store(), &file.add.path)?);
            }
        }
        let dead: Vec<Path> =
            listed.into_iter().map(|meta| meta.location).filter(|path| !known.contains(path)).collect();
        let count = dead.len();
        table.store().delete_all(dead).await?;
        Ok(count)
    }
}
