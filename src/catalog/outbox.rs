//! Files on their way from one table's log into another table (DESIGN §2, invariant 1).
//!
//! The files are written first, into the folder of the table that they are for. A commit of the table that they come from
//! names them, together with what else it changes, and by that commit alone they become visible. A follower adds them to
//! their table later, each once: it moves a position there from the version it began at, so of two followers one loses.
//! Readers of that table see what it has and what is named but not added yet.

use std::sync::Arc;

use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind, OutboxFile};
use crate::lake::committer::{Change, Position, counted_at};
use crate::lake::snapshot::{Commit, Snapshot};
use crate::lake::table::Table;

/// Times that a follower begins again after losing to another.
const TRIES: usize = 40;

/// A way that files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// From an events table into `toplake.dead_letters`.
    DeadLetters,
    /// From an events table into its late table.
    Late,
    /// From a late table back into its events table.
    Accepted,
}

impl Route {
    /// How a commit names the files.
    fn name(self) -> &'static str {
        match self {
            Route::DeadLetters => "dead_letters",
            Route::Late => "late",
            Route::Accepted => "accepted",
        }
    }

    /// The position that the table they come from counts up with each commit that names some.
    fn mark(self) -> &'static str {
        match self {
            Route::DeadLetters => "toplake.outbox",
            Route::Late => "toplake.outbox.late",
            Route::Accepted => "toplake.outbox.accepted",
        }
    }

    /// Has a commit name files, if there are any.
    pub fn name_in(self, change: &mut Change, adds: &[Add]) {
        change.outbox.retain(|file| file.table != self.name());
        change.counts.retain(|mark| *mark != self.mark());
        if adds.is_empty() {
            return;
        }
        let named = adds.iter().map(|add| OutboxFile { table: self.name().to_owned(), add: add.clone() });
        change.outbox.extend(named);
        change.counts.push(self.mark());
    }

    /// Whether a table ever named files that go this way.
    pub fn begins_at(self, table: &Snapshot) -> bool {
        table.position(self.mark()).is_some()
    }

    /// Adds to a table what the commits of `from` have named since the last time. Any number of followers may run at the
    /// same time.
    pub async fn follow(self, from: &Table, into: &Table) -> Result<()> {
        let mut lost = None;
        for _ in 0..TRIES {
            match self.follow_once(from, into).await {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                done => return done,
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }

    async fn follow_once(self, from: &Table, into: &Table) -> Result<()> {
        // The table first: what a follower adds after that is still named by the commits read below.
        let mine = into.update().await?;
        let theirs = from.update().await?;
        let pending = self.pending(&mine, from, &theirs).await?;
        if pending.is_empty() {
            return Ok(());
        }
        let mut change = Change::new(CommitKind::Append, "OUTBOX", &mine);
        change.positions = self.positions(&mine, from, &theirs);
        change.adds = pending;
        into.commit(&change).await.map(|_| ())
    }

    /// Files that commits of `from` name, up to the version `theirs`, and a table at the version `mine` does not have.
    ///
    /// Commits that name none are no concern of a follower, so where it came to may be cleaned up. One that names some stays
    /// in the log until it is followed; that as many are found as the marks say shows that none is missing. Fails with a
    /// conflict where one is: `mine` is so old that it was followed and cleaned up since.
    pub async fn pending(self, mine: &Snapshot, from: &Table, theirs: &Snapshot) -> Result<Vec<Add>> {
        let (mark, version) = apps(from);
        let marks = |at: Option<i64>| at.unwrap_or(0);
        let expected = marks(theirs.position(self.mark())) - marks(mine.position(&mark));
        if expected <= 0 {
            return Ok(vec![]);
        }
        let (begun, newest) =
            (mine.position(&version).unwrap_or(-1), theirs.position(&counted_at(self.mark())));
        let commits = match newest {
            // However long nothing was on its way, the log before it is not read.
            Some(newest) if expected == 1 => from.commits_left(newest - 1, newest).await?,
            newest => from.commits_left(begun, newest.unwrap_or(theirs.version)).await?,
        };
        let named = |commit: &Commit| -> Vec<Add> {
            let files = commit.outbox.iter().filter(|file| file.table == self.name());
            files.map(|file| file.add.clone()).collect()
        };
        let named: Vec<Vec<Add>> = commits.iter().map(|c| named(c)).filter(|adds| !adds.is_empty()).collect();
        if named.len() as i64 != expected {
            return Err(Error::conflict(format!(
                "table '{}': {expected} commits name files of its {} since version {}, and the log has {} of them",
                from.name(),
                self.name(),
                begun,
                named.len()
            )));
        }
        Ok(named.into_iter().flatten().collect())
    }

    /// The version of `from` whose commits a follower has yet to read from; `None` if it has read all that name a file. A
    /// commit that names some from now on is newer than any version known before.
    pub async fn followed(self, from: &Table, into: &Table) -> Result<Option<i64>> {
        let theirs = from.update().await?;
        let Some(marked) = theirs.position(self.mark()) else { return Ok(None) };
        let mine = into.update().await?;
        let (mark, version) = apps(from);
        let behind = mine.position(&mark) != Some(marked);
        Ok(behind.then(|| mine.position(&version).unwrap_or(-1)))
    }

    fn positions(self, mine: &Snapshot, from: &Table, theirs: &Snapshot) -> Vec<Position> {
        let (mark, version) = apps(from);
        let marked = theirs.position(self.mark()).unwrap_or_default();
        vec![
            Position { from: mine.position(&mark), to: marked, app: mark },
            Position { from: mine.position(&version), to: theirs.version, app: version },
        ]
    }
}

/// The names of the two positions that a follower moves: how many commits had named files, and at which version. They
/// belong to the log that is followed, which goes on when the table is dropped and made again.
fn apps(from: &Table) -> (String, String) {
    let name = from.name();
    (format!("toplake.outbox.mark:{name}"), format!("toplake.outbox.version:{name}"))
}

impl Warehouse {
    /// The ways on which commits of a table ever named files, and the tables that they go into.
    pub async fn routes_from(self: &Arc<Self>, table: &Table) -> Result<Vec<(Route, Arc<Table>)>> {
        let on = table.snapshot();
        let mut routes = vec![];
        if Route::DeadLetters.begins_at(&on) {
            routes.push((Route::DeadLetters, Arc::clone(self.dead_letters().table().await?)));
        }
        if Route::Late.begins_at(&on) {
            let late = self.table(&super::late::name_of(table.name())).await?;
            routes.extend(late.map(|late| (Route::Late, late)));
        }
        if Route::Accepted.begins_at(&on)
            && let Some(events) = super::late::events_of(&on)
        {
            routes.extend(self.table(events).await?.map(|events| (Route::Accepted, events)));
        }
        Ok(routes)
    }

    /// The tables whose commits may name files for this one.
    pub async fn routes_into(self: &Arc<Self>, table: &Table) -> Result<Vec<(Route, Arc<Table>)>> {
        let mut from = vec![];
        if table.store().prefix() == self.dead_letters().store().prefix() {
            for events in self.tables().await? {
                from.push((Route::DeadLetters, events));
            }
            return Ok(from);
        }
        if let Some(events) = super::late::events_of(&table.snapshot()) {
            from.extend(self.table(events).await?.map(|events| (Route::Late, events)));
        }
        let late = self.table(&super::late::name_of(table.name())).await?;
        let own = late.filter(|late| super::late::events_of(&late.snapshot()) == Some(table.name()));
        from.extend(own.map(|late| (Route::Accepted, late)));
        Ok(from)
    }

    /// Adds to other tables what the commits of this one name for them.
    pub async fn follow(self: &Arc<Self>, table: &Table) -> Result<()> {
        for (route, into) in self.routes_from(table).await? {
            route.follow(table, &into).await?;
        }
        Ok(())
    }

    /// Adds to a table what others' commits name for it.
    pub async fn catch_up(self: &Arc<Self>, table: &Table) -> Result<()> {
        for (route, from) in self.routes_into(table).await? {
            route.follow(&from, table).await?;
        }
        Ok(())
    }
}
