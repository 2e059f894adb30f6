//! What commits of one table say for another (DESIGN §2, invariant 1): names of files, and entries of the ledger.
//!
//! Files are written first, into the folder of the table that they are for. A commit of the table that they come from
//! names them, together with what else it changes, and by that commit alone they become visible. A follower adds them to
//! their table later, each once: it moves a position there from the version it began at, so of two followers one loses.
//! Readers of that table see what it has and what is named but not added yet. An entry of the ledger goes the same way,
//! only that it stands in the commit itself and it is the follower who writes it into a file.

use std::borrow::Cow;
use std::sync::Arc;

use uuid::Uuid;

use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind, OutboxFile};
use crate::lake::committer::{Change, LEDGER, Position, counted_at};
use crate::lake::snapshot::{Commit, Snapshot};
use crate::lake::table::Table;
use crate::lake::writer::discard;

/// Times that a follower begins again after losing to another.
const TRIES: usize = 40;

/// Commits that are read at once, and taken in by one commit.
const AT_ONCE: i64 = 1000;

/// A way from table to table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// From an events table into `toplake.dead_letters`.
    DeadLetters,
    /// From an events table into its late table.
    Late,
    /// From a late table back into its events table.
    Accepted,
    /// From a table with entries of the ledger into `toplake.ledger`.
    Ledger,
    /// From an events table into `toplake.recent_keys`.
    RecentKeys,
    /// From `toplake.dead_letters` into the table of this id, which they were meant for.
    Replayed(Uuid),
}

impl Route {
    /// The way of dead letters that are sent again into a table as it is now.
    pub fn replayed(into: &Snapshot) -> Result<Self> {
        let id = &into.metadata.id;
        let id = Uuid::parse_str(id)
            .map_err(|e| Error::not_supported(format!("the table's id '{id}' is not a UUID: {e}")))?;
        Ok(Route::Replayed(id))
    }

    /// How a commit names what goes this way.
    fn name(self) -> Cow<'static, str> {
        let name = match self {
            Route::DeadLetters => "dead_letters",
            Route::Late => "late",
            Route::Accepted => "accepted",
            Route::Ledger => "ledger",
            Route::RecentKeys => "recent_keys",
            Route::Replayed(id) => return format!("replayed:{id}").into(),
        };
        name.into()
    }

    /// The position that the table they come from counts up with each commit that has some.
    fn mark(self) -> Cow<'static, str> {
        let mark = match self {
            Route::DeadLetters => "toplake.outbox",
            Route::Late => "toplake.outbox.late",
            Route::Accepted => "toplake.outbox.accepted",
            Route::Ledger => LEDGER,
            Route::RecentKeys => "toplake.outbox.recent_keys",
            // Several tables share the dead letters.
            Route::Replayed(id) => return format!("toplake.outbox.replayed:{id}").into(),
        };
        mark.into()
    }

    /// Has a commit name files, if there are any.
    pub fn name_in(self, change: &mut Change, adds: &[Add]) {
        change.outbox.retain(|file| file.table != self.name());
        change.counts.retain(|mark| *mark != self.mark());
        if adds.is_empty() {
            return;
        }
        let named = adds.iter().map(|add| OutboxFile { table: self.name().into_owned(), add: add.clone() });
        change.outbox.extend(named);
        change.counts.push(self.mark());
    }

    /// Whether a table ever had something that goes this way.
    pub fn begins_at(self, table: &Snapshot) -> bool {
        table.position(&self.mark()).is_some()
    }

    /// Whether a commit has something that goes this way.
    fn is_in(self, commit: &Commit) -> bool {
        match self {
            Route::Ledger => !commit.ledger.is_empty(),
            _ => commit.outbox.iter().any(|file| file.table == self.name()),
        }
    }

    /// Takes into a table what the commits of `from` have had for it since the last time. Any number of followers may run
    /// at the same time.
    pub async fn follow(self, from: &Table, into: &Table) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.follow_once(from, into).await {
                Ok(true) => tries = 0,
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => tries += 1,
                done => return done.map(|_| ()),
            }
        }
    }

    /// Says whether there is more.
    async fn follow_once(self, from: &Table, into: &Table) -> Result<bool> {
        // The table first: what a follower adds after that still stands in the commits read below.
        let mine = into.update().await?;
        let theirs = from.update().await?;
        let mut unread = self.unread(&mine, from, &theirs);
        let Some(commits) = unread.next().await? else { return Ok(false) };
        let mut change = Change::new(CommitKind::Append, "OUTBOX", &mine);
        change.positions = unread.positions(&mine);
        change.adds = match self {
            Route::Ledger => super::ledger::write(into, from.name(), &commits).await?,
            _ => self.files(&commits),
        };
        match into.commit(&change).await {
            Ok(_) => Ok(!unread.is_done()),
            Err(e) => {
                // Files that a commit names stay: whoever won has added them.
                if self == Route::Ledger && e.kind() == Kind::Conflict {
                    discard(into.store(), &change.adds).await;
                }
                Err(e)
            }
        }
    }

    /// Files that commits of `from` name, up to the version `theirs`, and a table at the version `mine` does not have.
    pub async fn pending(self, mine: &Snapshot, from: &Table, theirs: &Snapshot) -> Result<Vec<Add>> {
        let (mut files, mut unread) = (vec![], self.unread(mine, from, theirs));
        while let Some(commits) = unread.next().await? {
            files.extend(self.files(&commits));
        }
        Ok(files)
    }

    /// Commits of `from`, up to the version `theirs`, that a table at the version `mine` has not taken in.
    pub fn unread<'a>(self, mine: &Snapshot, from: &'a Table, theirs: &'a Snapshot) -> Unread<'a> {
        let (mark, version) = apps(self, from);
        Unread {
            route: self,
            from,
            theirs,
            marked: mine.position(&mark).unwrap_or(0),
            version: mine.position(&version).unwrap_or(-1),
        }
    }

    /// The files that commits name.
    pub(super) fn files(self, commits: &[Arc<Commit>]) -> Vec<Add> {
        let named = commits.iter().flat_map(|commit| &commit.outbox);
        named.filter(|file| file.table == self.name()).map(|file| file.add.clone()).collect()
    }

    /// The version of `from` whose commits a follower has yet to read from; `None` if it has read all that name a file. A
    /// commit that names some from now on is newer than any version known before.
    pub async fn followed(self, from: &Table, into: &Table) -> Result<Option<i64>> {
        let theirs = from.update().await?;
        let Some(marked) = theirs.position(&self.mark()) else { return Ok(None) };
        let mine = into.update().await?;
        let (mark, version) = apps(self, from);
        let behind = mine.position(&mark) != Some(marked);
        Ok(behind.then(|| mine.position(&version).unwrap_or(-1)))
    }
}

/// Commits that a table has not taken in yet.
///
/// Those that have nothing for it are no concern of a follower, so where it came to may be cleaned up. One that has something
/// stays in the log until it is followed; that as many are found as the marks say shows that none is missing.
pub struct Unread<'a> {
    route: Route,
    from: &'a Table,
    theirs: &'a Snapshot,
    /// How many commits with something were read, from the beginning of the log.
    marked: i64,
    /// Through which version.
    version: i64,
}

impl Unread<'_> {
    fn left(&self) -> i64 {
        self.theirs.position(&self.route.mark()).unwrap_or(0) - self.marked
    }

    pub(super) fn is_done(&self) -> bool {
        self.left() <= 0
    }

    /// The next of them that have something, a bounded number. Fails with a conflict where one is missing: the table's
    /// version is so old that it was followed and cleaned up since.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Commit>>>> {
        while !self.is_done() {
            let newest = self.theirs.position(&counted_at(&self.route.mark())).unwrap_or(self.theirs.version);
            // However long nothing was on its way, the log before the only one is not read.
            let after = if self.left() == 1 { newest - 1 } else { self.version };
            let read = self.from.commits_left(after, newest, AT_ONCE).await?;
            self.version = read.last().map_or(newest, |commit| commit.version);
            let commits: Vec<Arc<Commit>> = read.into_iter().filter(|c| self.route.is_in(c)).collect();
            self.marked += commits.len() as i64;
            if self.left() < 0 || (self.version >= newest && self.left() > 0) {
                return Err(Error::conflict(format!(
                    "table '{}': {} commits with something for its {} are not in the log any more",
                    self.from.name(),
                    self.left(),
                    self.route.name()
                )));
            }
            if !commits.is_empty() {
                return Ok(Some(commits));
            }
        }
        Ok(None)
    }

    /// What a table at the version `mine` moves that takes in all that was read.
    pub(super) fn positions(&self, mine: &Snapshot) -> Vec<Position> {
        let (mark, version) = apps(self.route, self.from);
        let through = if self.is_done() { self.theirs.version } else { self.version };
        vec![
            Position { from: mine.position(&mark), to: self.marked, app: mark },
            Position { from: mine.position(&version), to: through, app: version },
        ]
    }
}

/// The names of the two positions that a follower moves: how many commits had named files, and at which version. They
/// belong to the log that is followed, which goes on when the table is dropped and made again; what is replayed into a table
/// does not outlive it.
fn apps(route: Route, from: &Table) -> (String, String) {
    let of = match route {
        Route::Replayed(id) => format!("{}:{id}", from.name()),
        _ => from.name().to_owned(),
    };
    (format!("toplake.outbox.mark:{of}"), format!("toplake.outbox.version:{of}"))
}

impl Warehouse {
    /// The ways on which commits of a table ever had something, and the tables that it goes into.
    pub async fn routes_from(self: &Arc<Self>, table: &Table) -> Result<Vec<(Route, Arc<Table>)>> {
        let on = table.snapshot();
        let mut routes = vec![];
        for side in self.side_tables() {
            if let Some(route) = side.route().filter(|route| route.begins_at(&on)) {
                routes.push((route, Arc::clone(side.table().await?)));
            }
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
        if self.is_dead_letters(table) {
            for into in self.tables().await? {
                let route = Route::replayed(&into.snapshot());
                routes.extend(route.ok().filter(|route| route.begins_at(&on)).map(|route| (route, into)));
            }
        }
        Ok(routes)
    }

    fn is_dead_letters(&self, table: &Table) -> bool {
        self.dead_letters().store().prefix() == table.store().prefix()
    }

    /// Takes into a table what the commits of another have for it.
    async fn follow_route(self: &Arc<Self>, route: Route, from: &Table, into: &Table) -> Result<()> {
        match route {
            Route::Replayed(_) => self.follow_replayed(route, from, into).await,
            _ => route.follow(from, into).await,
        }
    }

    /// The tables whose commits may have something for this one.
    pub async fn routes_into(self: &Arc<Self>, table: &Table) -> Result<Vec<(Route, Arc<Table>)>> {
        let mut from = vec![];
        let sides = self.side_tables();
        if let Some(side) = sides.iter().find(|side| side.store().prefix() == table.store().prefix()) {
            if let Some(route) = side.route() {
                from.extend(self.tables().await?.into_iter().map(|events| (route, events)));
            }
            return Ok(from);
        }
        if let Some(events) = super::late::events_of(&table.snapshot()) {
            from.extend(self.table(events).await?.map(|events| (Route::Late, events)));
        }
        let late = self.table(&super::late::name_of(table.name())).await?;
        let own = late.filter(|late| super::late::events_of(&late.snapshot()) == Some(table.name()));
        from.extend(own.map(|late| (Route::Accepted, late)));
        if let (Ok(route), Some(letters)) =
            (Route::replayed(&table.snapshot()), self.dead_letters().existing().await?)
        {
            from.push((route, Arc::clone(letters)));
        }
        Ok(from)
    }

    /// Takes into other tables what the commits of this one have for them. It is there to be read before that: now and then
    /// is often enough, and makes fewer files.
    pub async fn follow(self: &Arc<Self>, table: &Table) -> Result<()> {
        for (route, into) in self.routes_from(table).await? {
            Box::pin(self.follow_route(route, table, &into)).await?;
        }
        Ok(())
    }

    /// Takes into a table what others' commits have for it.
    pub async fn catch_up(self: &Arc<Self>, table: &Table) -> Result<()> {
        for (route, from) in self.routes_into(table).await? {
            Box::pin(self.follow_route(route, &from, table)).await?;
        }
        Ok(())
    }
}
