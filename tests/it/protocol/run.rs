//! One run: everything that happens to a lake in random order, planning and committing apart in time.

use rand::distr::weighted::WeightedIndex;
use rand::prelude::Distribution;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::model::{Lake, Name};
use super::oracle::{Difference, Truth};
use super::plan::Plan;
use super::rules::Outcome;
use super::variant::Variant;
use super::view::Ticks;

const STEPS: i64 = 60;
/// The time at the first step.
const START: i64 = 18;
const ALL_COMPACTED: [Name; 7] =
    [Name::Events, Name::Minute, Name::Shift, Name::Hour, Name::DeadLetters, Name::LateRows, Name::Ledger];

#[derive(Clone, Copy)]
enum Step {
    Ingest,
    Insert,
    Fold(Name),
    Recompute,
    Compact,
    Change,
    Expire,
    Follow,
    Commit,
    Crash,
    Query,
}

const STEP_WEIGHTS: [(Step, u32); 13] = [
    (Step::Ingest, 14),
    (Step::Insert, 4),
    (Step::Fold(Name::Minute), 5),
    (Step::Fold(Name::Shift), 3),
    (Step::Fold(Name::Hour), 4),
    (Step::Recompute, 3),
    (Step::Compact, 7),
    (Step::Change, 5),
    (Step::Expire, 7),
    (Step::Follow, 4),
    (Step::Commit, 18),
    (Step::Crash, 1),
    (Step::Query, 8),
];

struct Run {
    rng: StdRng,
    lake: Lake,
    truth: Truth,
    plans: Vec<Plan>,
    /// How many plans are committed at once.
    haste: f64,
}

/// Runs one seed; the error names the seed, the step and what differs.
pub(crate) fn run(seed: u64, variant: Variant) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    // Runs differ in what is frequent: some interleavings need much of one thing and little of another.
    let weights = STEP_WEIGHTS.map(|(_, weight)| weight * [1, 2, 3, 8][rng.random_range(0..4)]);
    let steps = WeightedIndex::new(weights).map_err(|error| error.to_string())?;
    let haste = [0.1, 0.4, 0.7][rng.random_range(0..3)];
    let mut run = Run { haste, rng, lake: Lake::new(variant), truth: Truth::new(), plans: vec![] };
    run.begin_with_history();
    for number in 0..STEPS {
        let (step, _) = STEP_WEIGHTS[steps.sample(&mut run.rng)];
        run.take(step, START + number / 2)
            .map_err(|difference| format!("{variant:?}, seed {seed}, step {number}: {difference}"))?;
    }
    run.check_all().map_err(|difference| format!("{variant:?}, seed {seed}, at the end: {difference}"))?;
    run.settle()
        .and_then(|()| run.check_all())
        .map_err(|difference| format!("{variant:?}, seed {seed}, settled: {difference}"))
}

impl Run {
    /// Old events, so that retention has something to cut from the start.
    fn begin_with_history(&mut self) {
        for age in (0..6).rev() {
            self.lake.produce(START - 3 * age, &mut self.rng);
            let plan = self.lake.plan_ingest(self.lake.now, &mut self.rng);
            plan.into_iter().for_each(|plan| self.try_commit(plan));
        }
    }

    fn take(&mut self, step: Step, clock: i64) -> Result<(), Difference> {
        let ticks = self.ticks();
        match step {
            Step::Ingest => {
                self.lake.produce(clock, &mut self.rng);
                let plan = self.lake.plan_ingest(ticks[0], &mut self.rng);
                self.soon(plan);
            }
            Step::Insert => {
                let plan = self.lake.plan_insert(clock, &mut self.rng);
                self.soon(Some(plan));
            }
            Step::Fold(rollup) => {
                let plan = self.lake.plan_fold(rollup, ticks, &[]);
                self.soon(plan);
            }
            Step::Recompute => {
                let rollup = self.any_of(&Name::ROLLUPS);
                let from = self.rng.random_range(0..=clock);
                let extra = Lake::buckets_of(rollup, [from, from + rollup.width()]);
                let plan = self.lake.plan_fold(rollup, ticks, &extra);
                self.soon(plan);
            }
            Step::Compact => {
                let splintered = |name: &Name| self.lake.table(*name).latest().active.len() > 1;
                let names: Vec<_> = ALL_COMPACTED.into_iter().filter(splintered).collect();
                let name = self.any_of(&names);
                let plan = self.lake.plan_compact(name, ticks[0], &mut self.rng);
                self.soon(plan);
            }
            Step::Change => {
                let plan = self.lake.plan_change(ticks[0], &mut self.rng);
                self.soon(plan);
            }
            Step::Expire => {
                let plan = self.lake.plan_expire(ticks[0], &mut self.rng);
                self.soon(plan);
            }
            Step::Follow => {
                let side = self.any_of(&Name::SIDE_TABLES);
                let plan = self.lake.plan_follow(side, ticks);
                self.soon(plan);
            }
            Step::Commit => {
                if let Some(plan) = self.take_plan() {
                    self.try_commit(plan);
                }
            }
            // What the plan wrote stays behind as files that no commit names.
            Step::Crash => drop(self.take_plan()),
            Step::Query if self.rng.random_bool(0.3) => {
                let side = self.any_of(&Name::SIDE_TABLES);
                self.truth.check_side(&self.lake, side, ticks)?;
            }
            Step::Query => {
                let rollup = self.any_of(&Name::ROLLUPS);
                self.truth.check_rollup(&self.lake, rollup, ticks)?;
            }
        }
        Ok(())
    }

    /// Someone who pins tables one after the other is slow half of the time: the first pin may be some
    /// commits old.
    fn ticks(&mut self) -> Ticks {
        let now = self.lake.now;
        if self.rng.random_bool(0.5) {
            return [now; 3];
        }
        let first = now.saturating_sub(self.rng.random_range(0..12));
        let second = self.rng.random_range(first..=now);
        [first, second, self.rng.random_range(second..=now)]
    }

    fn any_of(&mut self, names: &[Name]) -> Name {
        *names.choose(&mut self.rng).unwrap_or(&Name::Events)
    }

    /// Some plans are committed as soon as they are made; the others are those of slow workers and zombies.
    fn soon(&mut self, plan: Option<Plan>) {
        match plan {
            Some(plan) if self.rng.random_bool(self.haste) => self.try_commit(plan),
            plan => self.plans.extend(plan),
        }
    }

    fn take_plan(&mut self) -> Option<Plan> {
        let index = (0..self.plans.len()).collect::<Vec<_>>().choose(&mut self.rng).copied()?;
        Some(self.plans.swap_remove(index))
    }

    fn try_commit(&mut self, plan: Plan) {
        if self.lake.try_commit(&plan) != Outcome::Committed {
            return;
        }
        if plan.table == Name::Events {
            self.truth.record(&plan.effect, &self.lake.topics);
        }
        if self.rng.random_bool(0.15) {
            self.plans.push(Plan { answer_lost: true, ..plan });
        }
    }

    fn check_all(&self) -> Result<(), Difference> {
        let now = [self.lake.now; 3];
        Name::ROLLUPS.iter().try_for_each(|rollup| self.truth.check_rollup(&self.lake, *rollup, now))?;
        Name::SIDE_TABLES.iter().try_for_each(|side| self.truth.check_side(&self.lake, *side, now))
    }

    /// Folds and follows all there is, so that the tables alone give the answer.
    fn settle(&mut self) -> Result<(), Difference> {
        for rollup in Name::ROLLUPS {
            let plan = self.lake.plan_fold(rollup, [self.lake.now; 3], &[]);
            plan.into_iter().for_each(|plan| self.try_commit(plan));
            let head = rollup.source().map(|source| self.lake.table(source).head());
            if head != Some(self.lake.table(rollup).latest().read_to) {
                return Err(Difference::stuck(rollup));
            }
        }
        for side in Name::SIDE_TABLES {
            let plan = self.lake.plan_follow(side, [self.lake.now; 3]);
            plan.into_iter().for_each(|plan| self.try_commit(plan));
        }
        Ok(())
    }
}
