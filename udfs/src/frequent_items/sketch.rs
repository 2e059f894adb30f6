//! The sketch: counters that are purged when they become too many, and how much was purged.

use std::ops::Range;

use datafusion::common::exec_err;
use datafusion::error::Result;

use super::counters::Counters;
use super::key::Key;
use crate::sketch::bytes::Reader;
use crate::sketch::weight::overflow;

/// Capacities are powers of two from 2^3 to 2^26.
pub(crate) const MIN_LG_CAPACITY: u8 = 3;
pub(crate) const MAX_LG_CAPACITY: u8 = 26;

/// How many items a sketch of a capacity holds, and so can rank: three quarters of it.
pub(crate) fn ranks(lg_capacity: u8) -> usize {
    (1 << lg_capacity) / 4 * 3
}

/// Preamble of DataSketches' format.
const PREAMBLE_EMPTY: u8 = 1;
const PREAMBLE: u8 = 4;
const SERIAL_VERSION: u8 = 1;
const FAMILY: u8 = 10;
/// Two bits, because implementations disagree on which one it is.
const EMPTY_FLAGS: u8 = 5;

/// Frequent items of weights that are not negative.
#[derive(Debug, Clone, Default)]
pub(crate) struct FrequentItems<K> {
    counters: Counters<K>,
    /// The sum of what all purges took off each counter: no item counts more than its counter and this.
    offset: u64,
    /// The sum of all weights, at most `i64::MAX`.
    weight: u64,
}

/// What is known of the weight of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) estimate: u64,
    pub(crate) lower: u64,
    pub(crate) upper: u64,
}

impl<K: Key> FrequentItems<K> {
    pub(crate) fn is_empty(&self) -> bool {
        self.weight == 0
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.offset == 0
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.counters.heap_size()
    }

    /// Adds rows of a column; `total` is the sum of their weights.
    pub(crate) fn add_rows(
        &mut self,
        lg_capacity: u8,
        column: &K::Column,
        rows: Range<usize>,
        total: u64,
        weight: impl Fn(usize) -> u64,
    ) -> Result<()> {
        self.add_weight(total)?;
        let limit = ranks(lg_capacity);
        let mut from = rows.start;
        while from < rows.end {
            from += self.counters.add_rows(column, from..rows.end, limit, &weight);
            self.purge(limit);
        }
        Ok(())
    }

    /// Adds what another sketch has counted.
    pub(crate) fn merge<'a>(
        &mut self,
        lg_capacity: u8,
        items: impl Iterator<Item = (K::Item<'a>, u64)>,
        offset: u64,
        weight: u64,
    ) -> Result<()> {
        self.add_weight(weight)?;
        let limit = ranks(lg_capacity);
        for (item, count) in items {
            self.counters.add(item, count);
            self.purge(limit);
        }
        self.offset += offset;
        Ok(())
    }

    fn add_weight(&mut self, weight: u64) -> Result<()> {
        let sum = self.weight.checked_add(weight).filter(|sum| *sum <= i64::MAX as u64);
        self.weight = sum.ok_or_else(overflow)?;
        Ok(())
    }

    fn purge(&mut self, limit: usize) {
        if self.counters.len() > limit {
            self.offset += self.counters.purge();
        }
    }

    /// Every item that has a counter.
    pub(crate) fn items(&self) -> impl Iterator<Item = K::Item<'_>> {
        self.counters.iter().map(|(item, _)| item)
    }

    /// The weight of an item. One without a counter is estimated as 0 and weighs at most the offset.
    pub(crate) fn bounds(&self, item: K::Item<'_>) -> Bounds {
        let lower = self.counters.get(item);
        let upper = (lower + self.offset).min(self.weight);
        Bounds { estimate: if lower > 0 { upper } else { 0 }, lower, upper }
    }

    /// Writes the sketch as DataSketches does.
    pub(crate) fn write(&self, lg_capacity: u8, out: &mut Vec<u8>) {
        let lg_table = (MIN_LG_CAPACITY..lg_capacity).find(|lg| ranks(*lg) >= self.counters.len());
        let lg_table = lg_table.unwrap_or(lg_capacity);
        let empty = self.is_empty();
        let (preamble, flags) = if empty { (PREAMBLE_EMPTY, EMPTY_FLAGS) } else { (PREAMBLE, 0) };
        out.extend([preamble, SERIAL_VERSION, FAMILY, lg_capacity, lg_table, flags, 0, 0]);
        if empty {
            return;
        }
        out.extend((self.counters.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.weight.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        self.counters.iter().for_each(|(_, count)| out.extend(count.to_le_bytes()));
        self.counters.iter().for_each(|(item, _)| K::write(item, out));
    }
}

/// A sketch in DataSketches' format, checked as far as its items.
pub(crate) struct Stored<'a> {
    pub(crate) lg_capacity: u8,
    offset: u64,
    weight: u64,
    counts: &'a [[u8; 8]],
    items: Reader<'a>,
}

impl<'a> Stored<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let preamble = reader.u8("the preamble")? & 0x3F;
        let (version, family) = (reader.u8("the serial version")?, reader.u8("the family")?);
        let (lg_capacity, lg_table) = (reader.u8("the capacity")?, reader.u8("the table size")?);
        let flags = reader.u8("the flags")?;
        reader.u16("padding")?;
        if family != FAMILY || version != SERIAL_VERSION {
            return exec_err!("not a frequent-items sketch: family {family}, serial version {version}");
        }
        if !(MIN_LG_CAPACITY..=MAX_LG_CAPACITY).contains(&lg_capacity) || lg_table > lg_capacity {
            return exec_err!("the sketch is corrupt: capacity 2^{lg_capacity}, table 2^{lg_table}");
        }
        let empty = flags & EMPTY_FLAGS != 0;
        match (preamble, empty) {
            (PREAMBLE_EMPTY, true) => {
                return Ok(Stored {
                    lg_capacity,
                    offset: 0,
                    weight: 0,
                    counts: &[],
                    items: Reader::new(&[]),
                });
            }
            (PREAMBLE, false) => {}
            _ => return exec_err!("the sketch is corrupt: preamble {preamble}, flags {flags}"),
        }
        let active = reader.u32("the number of items")? as usize;
        reader.u32("padding")?;
        let (weight, offset) = (reader.quantity("the total weight")?, reader.quantity("the offset")?);
        if active > ranks(lg_capacity) {
            return exec_err!(
                "the sketch is corrupt: {active} items do not fit its capacity of 2^{lg_capacity}"
            );
        }
        let (counts, _) = reader.take(active * 8, "the counts")?.as_chunks::<8>();
        let sum: u128 = counts.iter().map(|c| u128::from(u64::from_le_bytes(*c))).sum();
        if sum > u128::from(weight) || counts.contains(&[0; 8]) || offset > weight {
            return exec_err!(
                "the sketch is corrupt: its counts or its offset do not agree with its total weight"
            );
        }
        Ok(Stored { lg_capacity, offset, weight, counts, items: reader })
    }

    /// Adds the sketch to another one.
    pub(crate) fn merge_into<K: Key>(mut self, sketch: &mut FrequentItems<K>, lg_capacity: u8) -> Result<()> {
        let mut items = Vec::with_capacity(self.counts.len());
        for count in self.counts {
            items.push((K::read(&mut self.items)?, u64::from_le_bytes(*count)));
        }
        if self.items.remaining() > 0 {
            return exec_err!("the sketch is corrupt: {} bytes follow its items", self.items.remaining());
        }
        sketch.merge(lg_capacity, items.into_iter(), self.offset, self.weight)
    }
}
