//! Weights of both signs: what was added and what was taken off again, each in a sketch of its own.

use std::ops::Range;

use datafusion::error::Result;

use super::key::Key;
use super::sketch::{FrequentItems, Stored};
use crate::sketch::envelope::{self, Envelope, Header};
use crate::sketch::weight::overflow;

/// Frequent items of a difference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signed<K> {
    added: FrequentItems<K>,
    /// Made when the first negative weight comes.
    taken: Option<Box<FrequentItems<K>>>,
    lg_capacity: u8,
}

/// One item's net weight, and what it is the net of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked<I> {
    pub(crate) item: I,
    pub(crate) estimate: i64,
    pub(crate) lower: i64,
    pub(crate) upper: i64,
    /// Estimate of what was added.
    pub(crate) added: i64,
    /// Estimate of what was taken off.
    pub(crate) taken: i64,
}

impl<K: Key> Signed<K> {
    pub(crate) fn new(lg_capacity: u8) -> Self {
        Signed { added: FrequentItems::default(), taken: None, lg_capacity }
    }

    pub(crate) fn lg_capacity(&self) -> u8 {
        self.lg_capacity
    }

    /// Whether every item has a counter, and every count is exact.
    pub(crate) fn is_exact(&self) -> bool {
        self.added.is_exact() && self.taken.as_ref().is_none_or(|taken| taken.is_exact())
    }

    pub(crate) fn heap_size(&self) -> usize {
        let taken = self.taken.as_ref().map(|t| size_of::<FrequentItems<K>>() + t.heap_size());
        self.added.heap_size() + taken.unwrap_or_default()
    }

    /// Adds rows that weigh 1 each.
    pub(crate) fn count_rows(&mut self, column: &K::Column, rows: Range<usize>) -> Result<()> {
        let total = rows.len() as u64;
        self.added.add_rows(self.lg_capacity, column, rows, total, |_| 1)
    }

    /// Adds rows with their weights.
    pub(crate) fn add_rows(&mut self, column: &K::Column, weights: &[i64], rows: Range<usize>) -> Result<()> {
        let of_rows = &weights[rows.clone()];
        let bits = of_rows.iter().fold(0, |bits, weight| bits | weight);
        let negative = bits < 0;
        // No weight is above the bits of all of them, so the sum is small enough to be added fast nearly always.
        let added = match u64::try_from(bits).ok().and_then(|bits| bits.checked_mul(of_rows.len() as u64)) {
            Some(_) => of_rows.iter().map(|weight| *weight as u64).sum(),
            None => total(of_rows.iter().map(|weight| (*weight).max(0)))?,
        };
        let lg = self.lg_capacity;
        self.added.add_rows(lg, column, rows.clone(), added, |row| weights[row].max(0) as u64)?;
        if negative {
            let below = total(of_rows.iter().map(|weight| weight.saturating_neg().max(0)))?;
            let taken = self.taken.get_or_insert_default();
            taken.add_rows(lg, column, rows, below, |row| weights[row].min(0).unsigned_abs())?;
        }
        Ok(())
    }

    /// Adds a stored sketch. The capacity becomes the larger of the two, unless it is `fixed`.
    pub(crate) fn merge(&mut self, envelope: &Envelope<'_>, fixed: bool) -> Result<()> {
        let added = Stored::read(envelope.added)?;
        if !fixed {
            self.lg_capacity = self.lg_capacity.max(added.lg_capacity);
        }
        added.merge_into(&mut self.added, self.lg_capacity)?;
        if let Some(taken) = envelope.taken {
            let taken = Stored::read(taken)?;
            taken.merge_into(self.taken.get_or_insert_default(), self.lg_capacity)?;
        }
        Ok(())
    }

    pub(crate) fn write(&self, header: &Header, out: &mut Vec<u8>) -> Result<()> {
        let lg = self.lg_capacity;
        let taken = self.taken.as_ref().filter(|t| !t.is_empty());
        let taken = taken.map(|t| move |out: &mut Vec<u8>| t.write(lg, out));
        envelope::write(header, out, |out| self.added.write(lg, out), taken)
    }

    /// Every item that is known, with its net weight.
    pub(crate) fn ranked(&self) -> Vec<Ranked<K::Item<'_>>> {
        let Some(taken) = &self.taken else {
            return self.added.items().map(|item| self.rank(item)).collect();
        };
        let only_taken = taken.items().filter(|item| self.added.bounds(*item).lower == 0);
        self.added.items().chain(only_taken).map(|item| self.rank(item)).collect()
    }

    fn rank<'a>(&self, item: K::Item<'a>) -> Ranked<K::Item<'a>> {
        // Sums of weights fit 63 bits, so differences fit an i64.
        let added = self.added.bounds(item);
        let [estimate, lower, upper] = [added.estimate, added.lower, added.upper].map(|v| v as i64);
        match &self.taken {
            None => Ranked { item, estimate, lower, upper, added: estimate, taken: 0 },
            Some(taken) => {
                let taken = taken.bounds(item);
                Ranked {
                    item,
                    estimate: estimate - taken.estimate as i64,
                    lower: lower - taken.upper as i64,
                    upper: upper - taken.lower as i64,
                    added: estimate,
                    taken: taken.estimate as i64,
                }
            }
        }
    }
}

fn total(weights: impl Iterator<Item = i64>) -> Result<u64> {
    u64::try_from(weights.map(i128::from).sum::<i128>()).map_err(|_| overflow())
}
