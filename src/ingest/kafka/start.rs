//! Where a partition begins.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ANSWER, Group, bounds, failed, partitions, same_name};
use super::options::{From, Options};
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// What the table says; `None` if it has consumed nothing of it.
    pub(super) stands: Option<i64>,
    /// The offset to begin at.
    pub(super) offset: i64,
    /// Offsets that the broker does not have any more and that are passed over.
    pub(super) gap: u64,
    /// Whether the watermark does not wait for it, though it has something.
    pub(super) wakes: bool,
}

/// Finds out where `partition` begins: where the table stands; a partition that came later to a topic which is consumed already
/// begins with all that it has.
///
/// Fails where the broker does not have the offset that the table stands at, unless that is accepted.
pub(super) fn start(
    consumer: &BaseConsumer<Group>,
    options: &Options,
    table: &Snapshot,
    topic: &str,
    partition: &Partition,
) -> Result<Start> {
    let number = partition.number as i32;
    let (low, high) = bounds(consumer, topic, number)?;
    let idle = table.event_times.streams().any(|(known, reached)| known == partition && reached.idle);
    match table.position(&partition.consumed_app(&table.metadata.id)) {
        Some(offset) => resume(offset, (low, high), options.accept_gap)
            .map(|start| Start { wakes: idle && start.offset < high, ..start })
            .map_err(|e| e.context(format!("topic '{topic}', partition {number}"))),
        None => Ok(Start { stands: None, offset: low, gap: 0, wakes: false }),
    }
}

/// A commit that says where each partition begins of topics that the table has consumed nothing of, and that the watermark waits for
/// all of them from then on; `None` if there is no such topic. It comes before the first of their rows, so that `latest`, or a time, is decided once
/// and for all partitions, whoever consumes them.
pub(super) fn first_positions(
    consumer: &BaseConsumer<Group>,
    options: &Options,
    sources: &HashMap<String, String>,
    table: &Arc<Snapshot>,
) -> Result<Option<Change>> {
    let mut change = Change::new(CommitKind::Append, "INGEST", table);
    for (topic, source) in sources {
        let known = |which: &dyn Fn(&str) -> bool| consumed(table).any(|partition| which(&partition.source));
        if known(&|other| other == source) {
            continue;
        }
        // Nobody meant to leave out anything of a topic that was made again.
        let from = if known(&|other| same_name(other, source)) { From::Earliest } else { options.from };
        for number in partitions(consumer, topic)? {
            let (low, high) = bounds(consumer, topic, number)?;
            let to = match from {
                From::Earliest => low,
                From::Latest => high,
                From::Time(time) => at_time(consumer, topic, number, time)?.unwrap_or(high),
            };
            let partition = Partition { source: source.clone(), number: i64::from(number) };
            let app = partition.consumed_app(&table.metadata.id);
            change.positions.push(Position { app, from: None, to });
            change.seen.active.insert(partition, None);
        }
        // What had that name before gives nothing any more.
        let before = table.event_times.streams().filter(|(known, reached)| {
            !reached.idle && known.source != *source && same_name(&known.source, source)
        });
        change.seen.idle.extend(before.map(|(partition, _)| partition.clone()));
    }
    Ok((!change.positions.is_empty()).then_some(change))
}

/// The partitions that a table has a position of.
pub(super) fn consumed(table: &Snapshot) -> impl Iterator<Item = Partition> {
    table.txns.keys().filter_map(|app| Partition::of_consumed_app(app, &table.metadata.id))
}

/// Goes on at `offset`, if the broker has it.
fn resume(offset: i64, (low, high): (i64, i64), accept_gap: bool) -> Result<Start> {
    let stands = Some(offset);
    if (low..=high).contains(&offset) {
        return Ok(Start { stands, offset, gap: 0, wakes: false });
    }
    let there = if offset < low { low } else { high };
    if accept_gap {
        return Ok(Start {
            stands,
            offset: there,
            gap: low.saturating_sub(offset).max(0) as u64,
            wakes: false,
        });
    }
    Err(if offset < low {
        Error::new(
            Kind::Gap,
            format!(
                "offsets {offset} to {} were not consumed, and the broker does not have them any more",
                low - 1
            ),
        )
        .with_hint("bring them in from elsewhere; --accept-gap goes on behind them, and the ledger says so")
    } else {
        Error::new(
            Kind::Gap,
            format!("offset {offset} is consumed up to, and the broker ends at {high}: it has lost messages, or is another one"),
        )
        .with_hint("--accept-gap goes on at its end; toplake offsets set moves to another offset")
    })
}

/// The first offset of this time or later; `None` if there is none yet.
fn at_time(consumer: &BaseConsumer<Group>, topic: &str, partition: i32, millis: i64) -> Result<Option<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(millis)).map_err(failed)?;
    let found = consumer.offsets_for_times(asked, ANSWER).map_err(failed)?;
    Ok(match found.find_partition(topic, partition).map(|found| found.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_the_table_stands() {
        for offset in [5, 7, 9] {
            assert_eq!(
                resume(offset, (5, 9), false).unwrap(),
                Start { stands: Some(offset), offset, gap: 0, wakes: false }
            );
        }
    }

    #[test]
    fn a_gap_is_named_and_passed_over_only_when_told() {
        let e = resume(5, (8, 9), false).unwrap_err();
        assert!(e.kind() == Kind::Gap && e.message().contains("offsets 5 to 7"), "{}", e.message());
        assert_eq!(
            resume(5, (8, 9), true).unwrap(),
            Start { stands: Some(5), offset: 8, gap: 3, wakes: false }
        );
        let e = resume(12, (8, 9), false).unwrap_err();
        assert!(e.message().contains("offset 12") && e.message().contains("ends at 9"), "{}", e.message());
        assert_eq!(
            resume(12, (8, 9), true).unwrap(),
            Start { stands: Some(12), offset: 9, gap: 0, wakes: false }
        );
    }
}
