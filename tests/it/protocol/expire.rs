//! Retention: what it may cut, and what has to hold when it commits.

use rand::Rng;
use rand::rngs::StdRng;

use super::model::{CommitKind, Lake, Name, VersionId, bucket};
use super::plan::{Plan, Work};
use super::variant::Variant;

/// The least common multiple of the direct dependents' widths: no bucket of any of them is split.
const WHOLE_BUCKETS: i64 = 6;

impl Lake {
    /// How long events are kept may be altered at any time: a later plan may have a lower cut.
    pub(crate) fn plan_expire(&mut self, tick: u64, rng: &mut StdRng) -> Option<Plan> {
        let retention = rng.random_range(0..8);
        let planned_at = self.table(Name::Events).version_at(tick);
        let pinned = self.table(Name::Events).at(planned_at);
        let cut = bucket(pinned.watermark()? - retention, self.cut_unit());
        if cut <= pinned.expired_through && self.variant != Variant::NotMonotonic {
            return None;
        }
        if self.variant != Variant::NoGuard && self.unfolded_change_below(cut, planned_at) {
            return None;
        }
        let (removed, kept) = self.split(pinned.active.iter().copied(), |row| row.time < cut);
        if removed.is_empty() {
            return None;
        }
        let mut commit = self.new_commit(CommitKind::Expire { through: cut });
        commit.removed = removed;
        self.carry(&mut commit, kept);
        Some(self.plan(Work::Expire, Name::Events, planned_at, commit))
    }

    fn cut_unit(&self) -> i64 {
        if self.variant == Variant::BucketsOfOneDependent { Name::Minute.width() } else { WHOLE_BUCKETS }
    }

    /// Whether a direct dependent has yet to recompute a bucket below the cut from events that would be gone.
    ///
    /// An unfolded append below the cut is no obstacle: it is folded from the files that its own commit
    /// added, which vacuum has to keep until then. Fold positions only grow, so they may be read before the
    /// events' head is.
    pub(crate) fn unfolded_change_below(&self, cut: i64, version: VersionId) -> bool {
        let guarded = Name::direct_dependents_of_events()
            .filter(|name| *name == Name::Minute || self.variant != Variant::OneDependentGuarded);
        guarded.into_iter().any(|dependent| {
            (self.table(dependent).latest().read_to..version).any(|index| {
                let changed = self.changed_buckets(Name::Events, index, dependent.width());
                changed.first().is_some_and(|start| *start < cut)
            })
        })
    }
}
