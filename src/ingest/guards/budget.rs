//! Whether what guards remember fits into memory: refused at the start where it cannot, and before it grows beyond.

use std::collections::BTreeSet;

use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use crate::error::{Error, Kind, Result};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;

/// The part of a window that events have to lie in to say how many the rest will have.
const TELLING: f64 = 0.1;

const HINT: &str = "allow more memory, shorten the window, or have more partitions";

const MIB: f64 = (1 << 20) as f64;

/// Keys that a window of a partition holds, by the rows that the table got in its last one: those that its files count,
/// divided by the partitions of the stream. `None` where nothing says.
pub(super) fn keys_of_window(
    table: &Snapshot,
    partition: &Partition,
    time: &str,
    window: i64,
) -> Option<f64> {
    let highest = table.event_times.highest()?;
    let begin = highest.saturating_sub(window);
    let (mut rows, mut earliest) = (0.0, highest);
    for file in table.files.values() {
        let stats = file.stats(&table.schema);
        let (Some((low, high)), Some(count)) = (stats.time_bounds(time), stats.rows) else { continue };
        let (from, to) = (low.max(begin), high.min(highest));
        if from > to {
            continue;
        }
        rows += count as f64 * length(from, to) / length(low, high);
        earliest = earliest.min(from);
    }
    let covered = length(earliest, highest) / length(begin, highest);
    let whole = if covered >= TELLING { rows / covered } else { rows };
    let mut partitions: BTreeSet<&Partition> = table.event_times.streams().map(|(p, _)| p).collect();
    partitions.insert(partition);
    let of_stream = partitions.iter().filter(|p| p.source == partition.source).count();
    Some(whole / of_stream as f64)
}

/// Instants from one to another, both among them.
fn length(from: i64, to: i64) -> f64 {
    to as f64 - from as f64 + 1.0
}

/// Refuses a window whose keys would take more than is allowed.
pub(super) fn check(keys: Option<f64>, of_key: usize, allowed: usize, pool: &dyn MemoryPool) -> Result<()> {
    let allowed = match pool.memory_limit() {
        MemoryLimit::Finite(limit) => allowed.min(limit),
        _ => allowed,
    };
    let Some(keys) = keys else { return Ok(()) };
    let needed = keys * of_key as f64;
    if needed <= allowed as f64 {
        return Ok(());
    }
    Err(Error::new(Kind::ResourcesExhausted, format!(
        "dedup_window does not fit into memory: at the table's rate it holds about {keys:.0} keys in this partition, \
         which take {:.0} MiB, and {:.0} MiB are allowed",
        needed / MIB,
        allowed as f64 / MIB
    ))
    .with_hint(HINT))
}

/// Has the pool know of what is taken; refuses more than is allowed.
pub(super) fn reserve(reservation: &MemoryReservation, bytes: usize, allowed: usize) -> Result<()> {
    if bytes > allowed {
        return Err(Error::new(
            Kind::ResourcesExhausted,
            format!(
                "what is remembered takes {:.1} MiB, and {:.1} MiB are allowed",
                bytes as f64 / MIB,
                allowed as f64 / MIB
            ),
        )
        .with_hint(HINT));
    }
    reservation.try_resize(bytes).map_err(|e| Error::from(e).with_hint(HINT))
}
