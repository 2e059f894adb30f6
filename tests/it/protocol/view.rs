//! The one formula: what a rollup and a side table are worth at pinned versions.

use std::collections::BTreeSet;

use super::model::{CommitKind, FileId, Lake, Name, Row, SideRow, Tag, VersionId, bucket};
use super::variant::Variant;

/// What happened to a source between two of its versions, as a rollup of some width has to take it in.
pub(crate) struct Window {
    pub(crate) dirty: BTreeSet<i64>,
    pub(crate) tail: Vec<FileId>,
}

/// A bucket that this reader has to recompute has expired since: by the guard of `expire` every dependent has
/// taken the change in before, so a rollup pinned now has it.
#[derive(Debug)]
pub(crate) struct PinAgain;

/// When a reader pins its tables, the rollup first.
pub(crate) type Ticks = [u64; 3];

/// A table at its pinned version together with what lies below it.
struct View {
    /// Rows the table holds, outside of dirty buckets.
    stored: Vec<Row>,
    /// Rows not folded yet, outside of dirty buckets.
    tail: Vec<Row>,
    /// Rows of dirty buckets, from the source's view.
    recomputed: Vec<Row>,
    dirty: BTreeSet<i64>,
}

impl Lake {
    /// The buckets that commit `index` of a source changed other than by adding rows.
    ///
    /// Clipped by the cut that held when it was made: it may carry rows below it from file to file, but
    /// cannot have changed them.
    pub(crate) fn changed_buckets(&self, source: Name, index: usize, width: i64) -> BTreeSet<i64> {
        let commit = &self.table(source).log[index];
        match &commit.kind {
            CommitKind::Append | CommitKind::Rewrite | CommitKind::Expire { .. } => BTreeSet::new(),
            CommitKind::Replace { buckets } => buckets.iter().map(|start| bucket(*start, width)).collect(),
            CommitKind::Foreign if self.only_adds(source, index) => BTreeSet::new(),
            CommitKind::Foreign => {
                let added = commit.added.iter().map(|(file, _)| file);
                let touched = self.rows(commit.removed.iter().chain(added)).map(|row| row.bucket(width));
                let cut = self.table(source).at(index).expired_through;
                touched.filter(|start| *start >= cut || self.variant == Variant::NoClipping).collect()
            }
        }
    }

    /// A commit of an unknown writer that removes nothing is an INSERT, and so an append: were it to make its
    /// buckets dirty, a row below the cut would be clipped and lost.
    fn only_adds(&self, source: Name, index: usize) -> bool {
        self.table(source).log[index].removed.is_empty() && self.variant != Variant::ForeignInsertIsDirty
    }

    /// Reads the commits `(read_to, pinned]` of a source for a dependent of this width.
    pub(crate) fn window(
        &self,
        source: Name,
        read_to: VersionId,
        pinned: VersionId,
        width: i64,
    ) -> Result<Window, PinAgain> {
        let mut window = Window { dirty: BTreeSet::new(), tail: vec![] };
        for index in read_to..pinned {
            let commit = &self.table(source).log[index];
            let added = |wanted: fn(Tag) -> bool| {
                commit.added.iter().filter(move |(_, tag)| wanted(*tag)).map(|(file, _)| *file)
            };
            if self.variant == Variant::FoldIgnoresKinds {
                if !matches!(commit.kind, CommitKind::Rewrite | CommitKind::Expire { .. }) {
                    window.tail.extend(added(|_| true));
                }
                continue;
            }
            window.dirty.extend(self.changed_buckets(source, index, width));
            match &commit.kind {
                CommitKind::Append => window.tail.extend(added(|_| true)),
                CommitKind::Foreign if self.only_adds(source, index) => window.tail.extend(added(|_| true)),
                CommitKind::Replace { .. } if self.variant == Variant::NoTags => {
                    window.tail.extend(added(|_| true));
                }
                CommitKind::Replace { .. } => window.tail.extend(added(|tag| tag == Tag::New)),
                CommitKind::Rewrite | CommitKind::Expire { .. } | CommitKind::Foreign => {}
            }
        }
        let cut = self.table(source).at(pinned).expired_through;
        match self.variant {
            Variant::NoClipping => {}
            Variant::NoPinningAgain => window.dirty.retain(|start| *start >= cut),
            _ if window.dirty.iter().any(|start| *start < cut) => return Err(PinAgain),
            _ => {}
        }
        Ok(window)
    }

    /// What a query over a rollup gets, and the version of the events it is true for.
    pub(crate) fn query(&self, rollup: Name, ticks: Ticks) -> Result<(Vec<Row>, VersionId), PinAgain> {
        let mut chain = vec![rollup];
        while let Some(source) = chain.last().and_then(|table| table.source()) {
            chain.push(source);
        }
        let mut ticks = ticks[..chain.len()].to_vec();
        if self.variant == Variant::SourcePinnedFirst {
            ticks.reverse();
        }
        let pins: Vec<_> = chain
            .iter()
            .zip(&ticks)
            .map(|(name, tick)| (*name, self.table(*name).version_at(*tick)))
            .collect();
        let view = self.view(&pins)?;
        let rows = [view.stored, view.tail, view.recomputed].concat();
        Ok((rows, pins[pins.len() - 1].1))
    }

    fn view(&self, pins: &[(Name, VersionId)]) -> Result<View, PinAgain> {
        let (name, version) = pins[0];
        let pinned = self.table(name).at(version);
        let stored: Vec<_> = self.rows(&pinned.active).collect();
        let below = &pins[1..];
        let Some((source, source_version)) = below.first().copied() else {
            return Ok(View { stored, tail: vec![], recomputed: vec![], dirty: BTreeSet::new() });
        };
        let inner = self.view(below)?;
        let width = name.width();
        let Window { mut dirty, tail } = self.window(source, pinned.read_to, source_version, width)?;
        if self.variant != Variant::NoWidening {
            dirty.extend(inner.dirty.iter().map(|start| bucket(*start, width)));
        }
        let is_dirty = |row: &Row| dirty.contains(&row.bucket(width));
        let tail = self.rows(&tail).chain(inner.tail.iter().copied()).filter(|row| !is_dirty(row)).collect();
        let stored = stored.into_iter().filter(|row| !is_dirty(row)).collect();
        let all = [inner.stored, inner.tail, inner.recomputed].concat();
        let recomputed = all.into_iter().filter(|row| is_dirty(row)).collect();
        Ok(View { stored, tail, recomputed, dirty })
    }

    /// What a reader of a side table gets, and the version of the events it is true for.
    pub(crate) fn side_query(&self, side: Name, ticks: Ticks) -> (Vec<SideRow>, VersionId) {
        let table = self.table(side);
        let pinned = table.at(table.version_at(ticks[0]));
        let events = self.table(Name::Events).version_at(ticks[1]);
        let mut rows: Vec<_> = self.side_rows(&pinned.active).collect();
        if self.variant != Variant::OutboxNotRead {
            rows.extend(self.side_rows(&self.outbox(side, pinned.read_to, events)));
        }
        (rows, events)
    }

    /// The files of a side table that the events commits `(read_to, pinned]` name.
    pub(crate) fn outbox(&self, side: Name, read_to: VersionId, pinned: VersionId) -> Vec<FileId> {
        let named = (read_to..pinned).flat_map(|index| &self.table(Name::Events).log[index].outbox);
        named.filter(|(table, _)| *table == side).map(|(_, file)| *file).collect()
    }
}
