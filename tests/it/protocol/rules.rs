//! What has to hold at the version a commit lands on; otherwise the work is planned again.

use super::model::{CommitKind, Lake};
use super::plan::{Plan, Work};
use super::variant::Variant;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// An earlier try of this very commit went through.
    AlreadyThere,
    Conflict,
}

impl Lake {
    pub(crate) fn try_commit(&mut self, plan: &Plan) -> Outcome {
        if plan.answer_lost && self.variant != Variant::NoCommitIdLookup && self.finds_id_of(plan) {
            return Outcome::AlreadyThere;
        }
        if !self.may_commit(plan) {
            return Outcome::Conflict;
        }
        self.commit(plan.table, plan.commit.clone());
        Outcome::Committed
    }

    fn finds_id_of(&self, plan: &Plan) -> bool {
        self.table(plan.table).log[plan.planned_at..].iter().any(|commit| commit.id == plan.commit.id)
    }

    fn may_commit(&self, plan: &Plan) -> bool {
        let expire_unchecked = plan.work == Work::Expire && self.variant == Variant::ExpireUnchecked;
        let removes = self.variant == Variant::NoActiveCheck || expire_unchecked || self.removes_active(plan);
        let own = match plan.work {
            Work::Ingest => self.source_position_stands(plan),
            Work::Fold => self.variant == Variant::NoFoldPosition || self.read_position_stands(plan),
            Work::Follow => self.variant == Variant::NoFollowerPosition || self.read_position_stands(plan),
            Work::Change => self.variant == Variant::DeleteIgnoresCut || self.cut_stands(plan),
            Work::Expire => expire_unchecked || self.may_expire(plan),
            Work::Insert | Work::Compact => true,
        };
        removes && own
    }

    /// Every Remove names a file that is active now.
    fn removes_active(&self, plan: &Plan) -> bool {
        let active = &self.table(plan.table).latest().active;
        plan.commit.removed.iter().all(|file| active.contains(file))
    }

    fn source_position_stands(&self, plan: &Plan) -> bool {
        let positions = &self.table(plan.table).latest().positions;
        self.variant == Variant::NoSourcePosition
            || plan.commit.consumed.is_some_and(|batch| positions[batch.partition] == batch.from)
    }

    /// Nobody has folded (or followed) since, nor replaced buckets.
    fn read_position_stands(&self, plan: &Plan) -> bool {
        let table = self.table(plan.table);
        let replaced = |commit: &_| matches!(commit, CommitKind::Replace { .. });
        table.at(plan.planned_at).read_to == table.latest().read_to
            && !table.log[plan.planned_at..].iter().any(|commit| replaced(&commit.kind))
    }

    /// A late row that came in between the planning of an expire and its commit is still there, below the new
    /// cut: a DELETE that was planned before may have picked it, and its bucket would be clipped.
    fn cut_stands(&self, plan: &Plan) -> bool {
        let table = self.table(plan.table);
        table.at(plan.planned_at).expired_through == table.latest().expired_through
    }

    fn may_expire(&self, plan: &Plan) -> bool {
        let CommitKind::Expire { through } = plan.commit.kind else { return false };
        let table = self.table(plan.table);
        let rises = through > table.latest().expired_through || self.variant == Variant::NotMonotonic;
        let unguarded = matches!(self.variant, Variant::NoGuard | Variant::NoGuardAtCommit);
        rises && (unguarded || !self.unfolded_change_below(through, table.head()))
    }
}
