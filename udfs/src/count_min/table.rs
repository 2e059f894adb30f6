//! The counters of one sketch.

use std::collections::HashMap;

use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;

use super::hash::{murmur3, row_seeds, seed_hash};
use crate::sketch::bytes::Reader;
use crate::sketch::weight::overflow;

/// The seed of DataSketches' sketches.
pub(crate) const DEFAULT_SEED: u64 = 9001;

/// More counters than this (1 GiB) are taken for a mistake.
const MOST_COUNTERS: u64 = 1 << 27;

/// Preamble of DataSketches' format.
const PREAMBLE: u8 = 2;
const SERIAL_VERSION: u8 = 1;
const FAMILY: u8 = 18;
const EMPTY_FLAG: u8 = 1;

/// The parameters of a sketch; those of one shape can be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Counters in a row.
    pub(crate) width: u32,
    pub(crate) seed: u64,
    row_seeds: Vec<u64>,
}

impl Shape {
    /// The shape for a relative error and the confidence that it holds.
    pub(crate) fn try_new(eps: f64, confidence: f64, seed: u64, call: &str) -> Result<Self> {
        if !(eps > 0.0 && eps < 1.0) {
            return plan_err!(
                "eps of {call} is between 0 and 1 (0.001 is a thousandth of the total), not {eps}"
            );
        }
        if !(confidence > 0.0 && confidence < 1.0) {
            return plan_err!("confidence of {call} is between 0 and 1, not {confidence}");
        }
        let width = (std::f64::consts::E / eps).ceil().max(3.0);
        let depth = (1.0 / (1.0 - confidence)).ln().ceil().clamp(1.0, 127.0);
        if width * depth > MOST_COUNTERS as f64 {
            return plan_err!(
                "{call} would need {} counters, at most {MOST_COUNTERS} are allowed: use a larger eps",
                width * depth
            );
        }
        if seed_hash(seed) == 0 {
            return plan_err!("the seed {seed} of {call} cannot be used: choose another");
        }
        Ok(Shape { width: width as u32, seed, row_seeds: row_seeds(seed, depth as u8) })
    }

    pub(crate) fn depth(&self) -> usize {
        self.row_seeds.len()
    }

    fn counters(&self) -> usize {
        self.width as usize * self.depth()
    }

    /// The relative error of this width.
    pub(crate) fn eps(&self) -> f64 {
        std::f64::consts::E / f64::from(self.width)
    }

    /// The counters of an item, one in each row.
    fn places(&self, item: &[u8]) -> impl Iterator<Item = usize> {
        let width = u64::from(self.width);
        self.row_seeds
            .iter()
            .enumerate()
            .map(move |(row, seed)| row * width as usize + (murmur3(item, *seed) % width) as usize)
    }
}

/// Counters of weights that are not negative.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    counters: Counters,
    /// The sum of all weights, at most `i64::MAX`.
    pub(crate) weight: u64,
}

#[derive(Debug, Clone)]
enum Counters {
    /// Those that are not 0, by place.
    Few(HashMap<u32, u64>),
    All(Vec<u64>),
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { counters: Counters::Few(HashMap::new()), weight: 0 }
    }

    pub(crate) fn heap_size(&self) -> usize {
        match &self.counters {
            // Buckets of 16 bytes and a byte of control, seven eighths full.
            Counters::Few(few) => few.capacity() * 8 / 7 * 17,
            Counters::All(all) => all.capacity() * 8,
        }
    }

    /// Adds a weight to an item.
    pub(crate) fn add(&mut self, shape: &Shape, item: &[u8], weight: u64) -> Result<()> {
        self.add_weight(weight)?;
        // No counter is more than the total, so none overflows.
        match &mut self.counters {
            Counters::All(all) => shape.places(item).for_each(|place| all[place] += weight),
            Counters::Few(few) => {
                shape.places(item).for_each(|place| *few.entry(place as u32).or_default() += weight);
                self.widen(shape);
            }
        }
        Ok(())
    }

    fn add_weight(&mut self, weight: u64) -> Result<()> {
        let sum = self.weight.checked_add(weight).filter(|sum| *sum <= i64::MAX as u64);
        self.weight = sum.ok_or_else(overflow)?;
        Ok(())
    }

    /// Keeps all counters once the few take more room.
    fn widen(&mut self, shape: &Shape) {
        if let Counters::Few(few) = &self.counters
            && few.len() * 4 > shape.counters()
        {
            let mut all = vec![0; shape.counters()];
            few.iter().for_each(|(place, count)| all[*place as usize] = *count);
            self.counters = Counters::All(all);
        }
    }

    /// Writes the sketch as DataSketches does.
    pub(crate) fn write(&self, shape: &Shape, out: &mut Vec<u8>) {
        let flags = if self.weight == 0 { EMPTY_FLAG } else { 0 };
        out.extend([PREAMBLE, SERIAL_VERSION, FAMILY, flags, 0, 0, 0, 0]);
        out.extend(shape.width.to_le_bytes());
        out.push(shape.depth() as u8);
        out.extend(seed_hash(shape.seed).to_le_bytes());
        out.push(0);
        if self.weight == 0 {
            return;
        }
        out.extend(self.weight.to_le_bytes());
        match &self.counters {
            Counters::All(all) => all.iter().for_each(|count| out.extend(count.to_le_bytes())),
            Counters::Few(few) => {
                let at = out.len();
                out.resize(at + shape.counters() * 8, 0);
                for (place, count) in few {
                    let at = at + *place as usize * 8;
                    out[at..at + 8].copy_from_slice(&count.to_le_bytes());
                }
            }
        }
    }
}

/// A sketch in DataSketches' format, checked.
pub(crate) struct Stored<'a> {
    pub(crate) shape: Shape,
    pub(crate) weight: u64,
    counters: &'a [[u8; 8]],
}

impl<'a> Stored<'a> {
    /// Reads a sketch that was made with `seed`; `like` is a shape that it may well have.
    pub(crate) fn read(bytes: &'a [u8], seed: u64, like: Option<&Shape>) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (preamble, version) = (reader.u8("the preamble")?, reader.u8("the serial version")?);
        let (family, flags) = (reader.u8("the family")?, reader.u8("the flags")?);
        reader.u32("padding")?;
        let (width, depth) = (reader.u32("the width")?, reader.u8("the depth")?);
        let hash = reader.u16("the seed's hash")?;
        reader.u8("padding")?;
        if (preamble, version, family) != (PREAMBLE, SERIAL_VERSION, FAMILY) {
            return exec_err!("not a count-min sketch: family {family}, serial version {version}");
        }
        if width < 3 || depth == 0 || u64::from(width) * u64::from(depth) > MOST_COUNTERS {
            return exec_err!("the sketch is corrupt: it has {depth} rows of {width} counters");
        }
        if hash != seed_hash(seed) {
            return exec_err!("the sketch was not made with the seed {seed}");
        }
        let shape = match like.filter(|s| (s.width, s.seed, s.depth()) == (width, seed, usize::from(depth))) {
            Some(shape) => shape.clone(),
            None => Shape { width, seed, row_seeds: row_seeds(seed, depth) },
        };
        if flags & EMPTY_FLAG != 0 {
            return Ok(Stored { shape, weight: 0, counters: &[] });
        }
        let weight = reader.quantity("the total weight")?;
        let (counters, _) = reader.take(shape.counters() * 8, "the counters")?.as_chunks::<8>();
        // Each weight went into one counter of each row.
        let sums = counters
            .chunks(shape.width as usize)
            .map(|row| row.iter().map(|c| u128::from(u64::from_le_bytes(*c))).sum());
        if reader.remaining() > 0 || sums.into_iter().any(|sum: u128| sum != u128::from(weight)) {
            return exec_err!("the sketch is corrupt: its counters do not agree with its total weight");
        }
        Ok(Stored { shape, weight, counters })
    }

    /// Adds the sketch to a table of the same shape.
    pub(crate) fn merge_into(&self, table: &mut Table) -> Result<()> {
        table.add_weight(self.weight)?;
        if self.counters.is_empty() {
            return Ok(());
        }
        if let Counters::Few(few) = &table.counters {
            let mut all = vec![0; self.counters.len()];
            few.iter().for_each(|(place, count)| all[*place as usize] = *count);
            table.counters = Counters::All(all);
        }
        if let Counters::All(all) = &mut table.counters {
            all.iter_mut().zip(self.counters).for_each(|(sum, count)| *sum += u64::from_le_bytes(*count));
        }
        Ok(())
    }

    /// The smallest of the item's counters.
    pub(crate) fn estimate(&self, item: &[u8]) -> u64 {
        let counts = self.shape.places(item).map(|place| self.counters.get(place));
        counts.map(|count| count.map_or(0, |c| u64::from_le_bytes(*c))).min().unwrap_or_default()
    }
}
