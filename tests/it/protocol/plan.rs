//! Work on rollups and files, as planned at a version: fold, recompute, compaction, DELETE and UPDATE.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};

use super::model::{Commit, CommitKind, FileId, Lake, Name, Row, Tag, VersionId, aggregate, bucket};
use super::variant::Variant;
use super::view::Ticks;

/// A commit that may be tried later, and again.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    pub(crate) table: Name,
    /// The version of `table` that the plan was made at.
    pub(crate) planned_at: VersionId,
    pub(crate) commit: Commit,
    pub(crate) effect: Effect,
    /// It was tried, and nobody knows what came of it.
    pub(crate) answer_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Ingest,
    Insert,
    Fold,
    Follow,
    Compact,
    Change,
    Expire,
}

/// What a commit means for the truth. The protocol never looks at it.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    None,
    Consume {
        partition: usize,
        to: usize,
    },
    /// A statement of a client, applied once however often it is tried.
    Insert {
        statement: u64,
        rows: Vec<Row>,
    },
    Change {
        gone: Vec<Row>,
        born: Vec<Row>,
    },
}

impl Lake {
    pub(crate) fn plan(&self, work: Work, table: Name, planned_at: VersionId, commit: Commit) -> Plan {
        Plan { work, table, planned_at, commit, effect: Effect::None, answer_lost: false }
    }

    /// Folds what is new, and recomputes `extra` buckets on the way: a recompute and a repair are a fold.
    pub(crate) fn plan_fold(&mut self, rollup: Name, ticks: Ticks, extra: &[i64]) -> Option<Plan> {
        let source = rollup.source()?;
        let width = rollup.width();
        let planned_at = self.table(rollup).version_at(ticks[0]);
        let read_to = self.table(source).version_at(ticks[1]);
        let (before, pinned) = (self.table(rollup).at(planned_at), self.table(source).at(read_to));

        let window = self.window(source, before.read_to, read_to, width).ok()?;
        let mut dirty = window.dirty;
        let held =
            |start: &&i64| **start >= pinned.expired_through || self.variant == Variant::RecomputeBelowCut;
        dirty.extend(extra.iter().filter(held));
        if before.read_to == read_to && dirty.is_empty() {
            return None;
        }

        let is_dirty = |row: &Row| dirty.contains(&row.bucket(width));
        let new = aggregate(self.rows(&window.tail).filter(|row| !is_dirty(row)), width);
        let replaced = aggregate(self.rows(&pinned.active).filter(is_dirty), width);
        let (removed, carried) = self.split(before.active.iter().copied(), is_dirty);

        let kind = if dirty.is_empty() {
            CommitKind::Append
        } else {
            CommitKind::Replace { buckets: dirty.clone() }
        };
        let mut commit = self.new_commit(kind);
        commit.read_to = Some(read_to);
        commit.removed = removed;
        for (rows, tag) in [(new, Tag::New), (replaced, Tag::Replaced)] {
            if !rows.is_empty() {
                commit.added.push((self.write(rows), tag));
            }
        }
        self.carry(&mut commit, carried);
        Some(self.plan(Work::Fold, rollup, planned_at, commit))
    }

    pub(crate) fn plan_compact(&mut self, name: Name, tick: u64, rng: &mut StdRng) -> Option<Plan> {
        let planned_at = self.table(name).version_at(tick);
        let removed = self.table(name).at(planned_at).active.iter().copied().choose_multiple(rng, 2);
        if removed.len() < 2 {
            return None;
        }
        let file = if name.is_side_table() {
            let rows = self.side_rows(&removed).collect();
            self.write_side(rows)
        } else if name == Name::Events {
            let rows = self.rows(&removed).collect();
            self.write(rows)
        } else {
            let rows = aggregate(self.rows(&removed), name.width());
            self.write(rows)
        };
        let mut commit = self.new_commit(CommitKind::Rewrite);
        commit.removed = removed;
        commit.added = vec![(file, Tag::Carried)];
        Some(self.plan(Work::Compact, name, planned_at, commit))
    }

    /// DELETE or UPDATE of one key, everywhere or at one time, above the cut.
    pub(crate) fn plan_change(&mut self, tick: u64, rng: &mut StdRng) -> Option<Plan> {
        let planned_at = self.table(Name::Events).version_at(tick);
        let pinned = self.table(Name::Events).at(planned_at);
        let cut = pinned.expired_through;
        let may_change = |row: &Row| row.time >= cut || self.variant == Variant::DeleteBelowCut;
        let candidates: Vec<_> = self.rows(&pinned.active).filter(may_change).collect();
        let victim = *candidates.choose(rng)?;
        let everywhere = rng.random_bool(0.3);
        let update = rng.random_bool(0.3);
        let hit =
            |row: &Row| may_change(row) && row.key == victim.key && (everywhere || row.time == victim.time);

        let gone: Vec<_> = candidates.into_iter().filter(hit).collect();
        let born: Vec<_> = match update {
            true => gone.iter().map(|row| Row::event(row.time, row.key, row.sum + 1)).collect(),
            false => vec![],
        };
        let (removed, mut kept) = self.split(pinned.active.iter().copied(), hit);
        kept.push(born.clone());
        let mut commit = self.new_commit(CommitKind::Foreign);
        commit.removed = removed;
        self.carry(&mut commit, kept);
        let plan = self.plan(Work::Change, Name::Events, planned_at, commit);
        Some(Plan { effect: Effect::Change { gone, born }, ..plan })
    }

    /// The files that hold rows of this kind, and of each the rows that stay.
    pub(crate) fn split(
        &self,
        files: impl Iterator<Item = FileId>,
        goes: impl Fn(&Row) -> bool,
    ) -> (Vec<FileId>, Vec<Vec<Row>>) {
        files
            .filter(|file| self.rows([file]).any(|row| goes(&row)))
            .map(|file| (file, self.rows([&file]).filter(|row| !goes(row)).collect()))
            .unzip()
    }

    pub(crate) fn carry(&mut self, commit: &mut Commit, files: Vec<Vec<Row>>) {
        for rows in files.into_iter().filter(|rows| !rows.is_empty()) {
            commit.added.push((self.write(rows), Tag::Carried));
        }
    }

    /// Every rollup bucket that holds one of these times.
    pub(crate) fn buckets_of(rollup: Name, times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let starts: BTreeSet<_> = times.into_iter().map(|time| bucket(time, rollup.width())).collect();
        starts.into_iter().collect()
    }
}
