//! The truth, kept apart from the protocol, and the comparison of every answer with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{Lake, Message, Name, PARTITIONS, Row, SideRow, aggregate};
use super::plan::Effect;
use super::view::Ticks;

/// What has happened by one version of the events: each message and each statement counted once.
#[derive(Clone, Default)]
struct Known {
    consumed: [usize; PARTITIONS],
    statements: BTreeSet<u64>,
    /// All events ever, less those deleted. Retention takes nothing away from what was counted.
    events: Vec<Row>,
}

pub(crate) struct Truth {
    versions: Vec<Known>,
}

type Answer = BTreeMap<(i64, u8), (i64, i64, i64)>;

pub(crate) struct Difference {
    what: String,
    rows: Vec<String>,
}

impl Difference {
    pub(crate) fn stuck(rollup: Name) -> Self {
        Self { what: format!("{rollup:?}: no versions it could be read or folded at"), rows: vec![] }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.what)?;
        self.rows.iter().try_for_each(|row| writeln!(out, "  {row}"))
    }
}

impl Truth {
    pub(crate) fn new() -> Self {
        Self { versions: vec![Known::default()] }
    }

    /// To be called for every commit of the events.
    pub(crate) fn record(&mut self, effect: &Effect, topics: &[Vec<Message>; PARTITIONS]) {
        let mut known = self.versions[self.versions.len() - 1].clone();
        match effect {
            Effect::None => {}
            Effect::Consume { partition, to } => {
                let from = known.consumed[*partition];
                for message in topics[*partition].get(from..*to).unwrap_or_default() {
                    if let Message::Good(row) = message {
                        known.events.push(*row);
                    }
                }
                known.consumed[*partition] = from.max(*to);
            }
            Effect::Insert { statement, rows } => {
                if known.statements.insert(*statement) {
                    known.events.extend(rows);
                }
            }
            Effect::Change { gone, born } => {
                for row in gone {
                    if let Some(index) = known.events.iter().position(|event| event == row) {
                        known.events.swap_remove(index);
                    }
                }
                known.events.extend(born);
            }
        }
        self.versions.push(known);
    }

    /// Compares a query over a rollup with the definition over the truth, at the version the query pinned.
    ///
    /// A reader that has to pin again does so at once; being sent back again from there would be for ever.
    pub(crate) fn check_rollup(&self, lake: &Lake, rollup: Name, ticks: Ticks) -> Result<(), Difference> {
        let answer = lake.query(rollup, ticks).or_else(|_| lake.query(rollup, [lake.now; 3]));
        let Ok((rows, version)) = answer else {
            return Err(Difference::stuck(rollup));
        };
        let got = answer_of(rows, rollup);
        let want = answer_of(self.versions[version].events.clone(), rollup);
        if got == want {
            return Ok(());
        }
        let keys: BTreeSet<_> = got.keys().chain(want.keys()).collect();
        let differing = keys.into_iter().filter(|key| got.get(key) != want.get(key));
        let show = |value: Option<&(i64, i64, i64)>| match value {
            Some((sum, max, count)) => format!("sum {sum} max {max} count {count}"),
            None => "nothing".to_owned(),
        };
        let rows = differing
            .map(|key| {
                format!(
                    "bucket {} key {}: got {}, want {}",
                    key.0,
                    key.1,
                    show(got.get(key)),
                    show(want.get(key))
                )
            })
            .collect();
        Err(Difference { what: format!("{rollup:?} at events version {version}"), rows })
    }

    /// A side table shows the side rows of all ingest commits up to the version read, each once, and no
    /// others.
    pub(crate) fn check_side(&self, lake: &Lake, side: Name, ticks: Ticks) -> Result<(), Difference> {
        let (mut got, version) = lake.side_query(side, ticks);
        got.sort_unstable();
        let known = &self.versions[version];
        let what = format!("{side:?} at events version {version}");
        if side == Name::Ledger {
            return ledger_differences(&got, lake, known).map_err(|rows| Difference { what, rows });
        }
        let want = side_rows(lake, known, side);
        if got == want {
            return Ok(());
        }
        Err(Difference { what, rows: vec![format!("got  {got:?}"), format!("want {want:?}")] })
    }
}

fn answer_of(rows: Vec<Row>, rollup: Name) -> Answer {
    let merged = aggregate(rows, rollup.width());
    merged.into_iter().map(|row| ((row.time, row.key), (row.sum, row.max, row.count))).collect()
}

fn side_rows(lake: &Lake, known: &Known, side: Name) -> Vec<SideRow> {
    let mut rows = vec![];
    for (partition, topic) in lake.topics.iter().enumerate() {
        for (offset, message) in topic[..known.consumed[partition]].iter().enumerate() {
            match (message, side) {
                (Message::Bad, Name::DeadLetters) => rows.push(SideRow::DeadLetter { partition, offset }),
                (Message::Diverted, Name::LateRows) => rows.push(SideRow::Late { partition, offset }),
                _ => {}
            }
        }
    }
    rows.sort_unstable();
    rows
}

/// The entries (sorted) cover what was consumed without gap or overlap, and each counts its own messages.
fn ledger_differences(entries: &[SideRow], lake: &Lake, known: &Known) -> Result<(), Vec<String>> {
    let mut wrong = vec![];
    let mut reached = [0; PARTITIONS];
    for entry in entries {
        let SideRow::Ledger { partition, from, to, stored, dead, late } = *entry else { continue };
        let messages = &lake.topics[partition][from..to];
        let count = |wanted: fn(&&Message) -> bool| messages.iter().filter(wanted).count();
        let balances = stored == count(|message| matches!(message, Message::Good(_)))
            && dead == count(|message| matches!(message, Message::Bad))
            && late == count(|message| matches!(message, Message::Diverted));
        if from != reached[partition] || !balances {
            wrong.push(format!("{entry:?} does not follow on offset {}", reached[partition]));
        }
        reached[partition] = to;
    }
    if reached != known.consumed {
        wrong.push(format!("entries reach {reached:?}, consumed is {:?}", known.consumed));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
