//! Where a partition begins.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{ANSWER, Group, bounds, failed, same_name};
use super::options::{From, Options};
use crate::error::{Error, Kind, Result};
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
}

/// Finds out where `partition` begins: where the table stands, else as `--from` says.
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
    let stands = table.position(&partition.consumed_app(&table.metadata.id));
    if let Some(offset) = stands {
        return resume(offset, (low, high), options.accept_gap)
            .map_err(|e| e.context(format!("topic '{topic}', partition {number}")));
    }
    // Partitions that came later to a topic which is consumed already, and a topic that was made again, have nothing that anybody
    // meant to leave out.
    let known = table.txns.keys().any(|app| {
        let source = Partition::of_consumed_app(app, &table.metadata.id);
        source.is_some_and(|known| same_name(&known.source, &partition.source))
    });
    let offset = match options.from {
        From::Earliest => low,
        _ if known => low,
        From::Latest => high,
        From::Time(time) => at_time(consumer, topic, number, time)?.unwrap_or(high),
    };
    Ok(Start { stands, offset, gap: 0 })
}

/// Goes on at `offset`, if the broker has it.
fn resume(offset: i64, (low, high): (i64, i64), accept_gap: bool) -> Result<Start> {
    let stands = Some(offset);
    if (low..=high).contains(&offset) {
        return Ok(Start { stands, offset, gap: 0 });
    }
    let there = if offset < low { low } else { high };
    if accept_gap {
        return Ok(Start { stands, offset: there, gap: low.saturating_sub(offset).max(0) as u64 });
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
                Start { stands: Some(offset), offset, gap: 0 }
            );
        }
    }

    #[test]
    fn a_gap_is_named_and_passed_over_only_when_told() {
        let e = resume(5, (8, 9), false).unwrap_err();
        assert!(e.kind() == Kind::Gap && e.message().contains("offsets 5 to 7"), "{}", e.message());
        assert_eq!(resume(5, (8, 9), true).unwrap(), Start { stands: Some(5), offset: 8, gap: 3 });
        let e = resume(12, (8, 9), false).unwrap_err();
        assert!(e.message().contains("offset 12") && e.message().contains("ends at 9"), "{}", e.message());
        assert_eq!(resume(12, (8, 9), true).unwrap(), Start { stands: Some(12), offset: 9, gap: 0 });
    }
}
