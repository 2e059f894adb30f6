//! The way in: batches of a source partition, INSERT, and the followers that add what the outbox names.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use super::model::{CommitKind, Consumed, KEYS, Lake, Message, Name, PARTITIONS, Row, SideRow, Tag};
use super::plan::{Effect, Plan, Work};
use super::variant::Variant;
use super::view::Ticks;

impl Lake {
    /// What sources send. Time goes on with `clock`.
    pub(crate) fn produce(&mut self, clock: i64, rng: &mut StdRng) {
        let near = near(clock, rng);
        let topic = &mut self.topics[rng.random_range(0..PARTITIONS)];
        for _ in 0..rng.random_range(1..4) {
            topic.push(match rng.random_range(0..8) {
                0 => Message::Bad,
                1 => Message::Diverted,
                _ => Message::Good(event(near, rng)),
            });
        }
    }

    /// A batch of whatever a partition holds beyond the position stored at that moment.
    pub(crate) fn plan_ingest(&mut self, tick: u64, rng: &mut StdRng) -> Option<Plan> {
        let planned_at = self.table(Name::Events).version_at(tick);
        let positions = self.table(Name::Events).at(planned_at).positions;
        let waiting =
            (0..PARTITIONS).filter(|partition| positions[*partition] < self.topics[*partition].len());
        let partition = waiting.choose(rng)?;
        let from = positions[partition];
        let end = self.topics[partition].len();
        let to = if rng.random_bool(0.8) { end } else { rng.random_range(from + 1..=end) };

        let (mut stored, mut dead, mut late) = (vec![], vec![], vec![]);
        for offset in from..to {
            match self.topics[partition][offset] {
                Message::Good(row) => stored.push(row),
                Message::Bad => dead.push(SideRow::DeadLetter { partition, offset }),
                Message::Diverted => late.push(SideRow::Late { partition, offset }),
            }
        }
        let entry =
            SideRow::Ledger { partition, from, to, stored: stored.len(), dead: dead.len(), late: late.len() };

        let mut commit = self.new_commit(CommitKind::Append);
        commit.consumed = Some(Consumed { partition, from, to });
        commit.highest_time = stored.iter().map(|row| row.time).max();
        if !stored.is_empty() {
            commit.added.push((self.write(stored), Tag::New));
        }
        for (side, rows) in [(Name::DeadLetters, dead), (Name::LateRows, late), (Name::Ledger, vec![entry])] {
            if rows.is_empty() {
                continue;
            }
            let file = self.write_side(rows);
            if self.variant == Variant::SideRowsFirst {
                let mut first = self.new_commit(CommitKind::Append);
                first.added.push((file, Tag::New));
                self.commit(side, first);
            } else {
                commit.outbox.push((side, file));
            }
        }
        let plan = self.plan(Work::Ingest, Name::Events, planned_at, commit);
        Some(Plan { effect: Effect::Consume { partition, to }, ..plan })
    }

    /// INSERT and COPY have no source position: only the commit's id tells whether it is there.
    pub(crate) fn plan_insert(&mut self, clock: i64, rng: &mut StdRng) -> Plan {
        let near = near(clock, rng);
        let rows: Vec<_> = (0..rng.random_range(1..4)).map(|_| event(near, rng)).collect();
        let kind = if rng.random_bool(0.3) { CommitKind::Foreign } else { CommitKind::Append };
        let mut commit = self.new_commit(kind);
        commit.added.push((self.write(rows.clone()), Tag::New));
        let effect = Effect::Insert { statement: commit.id, rows };
        let planned_at = self.table(Name::Events).head();
        Plan { effect, ..self.plan(Work::Insert, Name::Events, planned_at, commit) }
    }

    /// Adds to a side table what the events commits since its position name.
    pub(crate) fn plan_follow(&mut self, side: Name, ticks: Ticks) -> Option<Plan> {
        let planned_at = self.table(side).version_at(ticks[0]);
        let read_to = self.table(Name::Events).version_at(ticks[1]);
        let files = self.outbox(side, self.table(side).at(planned_at).read_to, read_to);
        if files.is_empty() {
            return None;
        }
        let mut commit = self.new_commit(CommitKind::Append);
        commit.read_to = Some(read_to);
        commit.added = files.into_iter().map(|file| (file, Tag::New)).collect();
        Some(self.plan(Work::Follow, side, planned_at, commit))
    }
}

/// Rows that arrive together are near each other in time: one batch in three is late, by any amount.
fn near(clock: i64, rng: &mut StdRng) -> i64 {
    if rng.random_bool(0.33) { rng.random_range(0..=clock) } else { clock + rng.random_range(0..5) }
}

fn event(near: i64, rng: &mut StdRng) -> Row {
    let quantities = [-2, 1, 2, 3];
    let quantity = quantities[rng.random_range(0..quantities.len())];
    Row::event(near + rng.random_range(0..3), rng.random_range(0..KEYS), quantity)
}
