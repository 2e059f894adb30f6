//! Counters by key, and what a purge does to them.
//!
//! The counters stand side by side in a list. A few are looked through; for more there is an index: a hash table with linear
//! probing, at most half full, whose places have the counter's number and a few bits of the hash. So a new item, the common
//! case in a long tail, is known to be new by one look at a small table, and a purge walks a list. (Apache DataSketches keeps
//! keys, counts and drifts in three tables that are three quarters full, and looks at eight places for a new item.)

use std::ops::Range;

use super::key::Key;

/// Up to this many counters need no index.
const LIST: usize = 64;

/// Room for the first counters.
const FEW: usize = 16;

/// A purge looks at this many counters to find the median (as DataSketches does).
const SAMPLE: usize = 1024;

/// Rows that are looked up together, so that the memory's delays overlap.
const BATCH: usize = 32;

/// A place of the index is a counter's number plus one, below bits of its hash; 0 is free.
const NUMBER_BITS: u32 = 27;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// One counter.
#[derive(Debug, Clone, Copy, Default)]
struct Counter<K> {
    key: K,
    count: u64,
}

/// Counts of keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters<K> {
    counters: Vec<Counter<K>>,
    /// Empty while there is no need for it; else its length is a power of two.
    index: Vec<u32>,
    arena: Vec<u8>,
}

/// What a place of the index has for this counter.
#[inline]
fn entry(number: usize, hash: u64) -> u32 {
    ((hash >> 32) as u32 & !NUMBER) | (number as u32 + 1)
}

impl<K: Key> Counters<K> {
    pub(crate) fn len(&self) -> usize {
        self.counters.len()
    }

    /// Bytes on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        self.counters.capacity() * size_of::<Counter<K>>()
            + self.index.capacity() * size_of::<u32>()
            + self.arena.capacity()
    }

    /// Items and their counts, in the order in which they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K::Item<'_>, u64)> {
        self.counters.iter().map(|counter| (counter.key.item(&self.arena), counter.count))
    }

    /// The count of an item, or 0.
    pub(crate) fn get(&self, item: K::Item<'_>) -> u64 {
        let found = match self.index.is_empty() {
            true => self.scan(item),
            false => self.probe(item, K::hash(item)).ok(),
        };
        found.map_or(0, |number| self.counters[number].count)
    }

    /// Adds to the count of an item; `count` is not 0.
    #[inline]
    pub(crate) fn add(&mut self, item: K::Item<'_>, count: u64) {
        if self.index.is_empty() {
            match self.scan(item) {
                Some(number) => self.counters[number].count += count,
                None => self.push(item, count),
            }
        } else {
            self.add_hashed(item, K::hash(item), count);
        }
    }

    /// Adds `count(row)` for the item of each row, and stops behind a row that brought the number of counters above
    /// `limit`; gives the number of rows done.
    pub(crate) fn add_rows(
        &mut self,
        column: &K::Column,
        rows: Range<usize>,
        limit: usize,
        count: impl Fn(usize) -> u64,
    ) -> usize {
        let mut row = rows.start;
        while row < rows.end {
            if self.index.is_empty() {
                let n = count(row);
                if n > 0 {
                    self.add(K::get(column, row), n);
                }
                row += 1;
                if self.len() > limit {
                    break;
                }
                continue;
            }
            let end = rows.end.min(row + BATCH);
            let mut hashes = [0; BATCH];
            let (mut touched, mask) = (0, self.index.len() - 1);
            for (hash, row) in hashes.iter_mut().zip(row..end) {
                *hash = K::hash(K::get(column, row));
                let place = self.index[*hash as usize & mask];
                touched |= self.counters.get((place & NUMBER) as usize).map_or(0, |c| c.count);
            }
            // Without this the loads above would be left out, and each row would wait for its own.
            std::hint::black_box(touched);
            for hash in &hashes[..end - row] {
                let (item, n) = (K::get(column, row), count(row));
                row += 1;
                if n > 0 && self.add_hashed(item, *hash, n) && self.len() > limit {
                    return row - rows.start;
                }
            }
        }
        row - rows.start
    }

    /// Adds to the count of an item by the index; says whether it is new.
    #[inline]
    fn add_hashed(&mut self, item: K::Item<'_>, hash: u64, count: u64) -> bool {
        match self.probe(item, hash) {
            Ok(number) => {
                self.counters[number].count += count;
                false
            }
            Err(place) => {
                self.index[place] = entry(self.counters.len(), hash);
                self.push(item, count);
                true
            }
        }
    }

    fn scan(&self, item: K::Item<'_>) -> Option<usize> {
        self.counters.iter().position(|counter| counter.key.is(item, &self.arena))
    }

    /// The counter of an item, or the free place of the index where it would go.
    #[inline]
    fn probe(&self, item: K::Item<'_>, hash: u64) -> Result<usize, usize> {
        // Half of the places are free, so the search ends.
        let mask = self.index.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let found = self.index[place];
            if found == 0 {
                return Err(place);
            }
            let number = (found & NUMBER) as usize - 1;
            if (found ^ (hash >> 32) as u32) & !NUMBER == 0 && self.counters[number].key.is(item, &self.arena)
            {
                return Ok(number);
            }
            place = (place + 1) & mask;
        }
    }

    #[inline]
    fn push(&mut self, item: K::Item<'_>, count: u64) {
        if self.counters.len() == self.counters.capacity() && self.counters.len() <= LIST {
            // Two steps: of a million groups that grow alike, what each leaves behind as it grows is of no use to the others.
            let room = if self.counters.is_empty() { FEW } else { LIST + 1 };
            self.counters.reserve_exact(room - self.counters.len());
        }
        self.counters.push(Counter { key: K::intern(item, &mut self.arena), count });
        if self.counters.len() > LIST && self.counters.len() * 2 > self.index.len() {
            let places = (self.counters.len() * 4).next_power_of_two();
            self.index = vec![0; places];
            self.reindex();
        }
    }

    /// Fills the index, which has free places only.
    fn reindex(&mut self) {
        let mask = self.index.len() - 1;
        for (number, counter) in self.counters.iter().enumerate() {
            let hash = K::hash(counter.key.item(&self.arena));
            let mut place = hash as usize & mask;
            while self.index[place] != 0 {
                place = (place + 1) & mask;
            }
            self.index[place] = entry(number, hash);
        }
    }

    /// Takes the median of a sample of the counts off every count, drops those that reach 0, and gives the median. About half
    /// of the counters go, and at least one.
    pub(crate) fn purge(&mut self) -> u64 {
        // Spread over the list, as what came first tends to be what comes often.
        let step = self.counters.len().div_ceil(SAMPLE).max(1);
        let mut sample: Vec<u64> = self.counters.iter().step_by(step).map(|c| c.count).collect();
        if sample.is_empty() {
            return 0;
        }
        let middle = sample.len() / 2;
        let median = *sample.select_nth_unstable(middle).1;
        self.counters.retain_mut(|counter| {
            counter.count = counter.count.saturating_sub(median);
            counter.count > 0
        });
        self.tidy_arena();
        if !self.index.is_empty() {
            self.index.fill(0);
            self.reindex();
        }
        median
    }

    /// Drops the strings that no key names any more, once they are half of the arena.
    fn tidy_arena(&mut self) {
        if self.arena.is_empty() {
            return;
        }
        let used: usize = self.counters.iter().map(|c| c.key.arena_bytes()).sum();
        if used * 2 > self.arena.len() {
            return;
        }
        let old = std::mem::replace(&mut self.arena, Vec::with_capacity(used));
        for counter in &mut self.counters {
            counter.key = K::intern(counter.key.item(&old), &mut self.arena);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::frequent_items::key::{Text, TextItem};

    #[test]
    fn counts_like_a_map_while_it_grows() {
        let mut counters = Counters::<i64>::default();
        let mut expected = HashMap::new();
        for i in 0..20_000_i64 {
            let item = i * i % 7919 - 3000;
            counters.add(item, 1 + i as u64 % 3);
            *expected.entry(item).or_insert(0) += 1 + i as u64 % 3;
        }
        assert_eq!(counters.len(), expected.len());
        assert_eq!(counters.iter().collect::<HashMap<_, _>>(), expected);
        assert!(expected.iter().all(|(item, count)| counters.get(*item) == *count));
        assert_eq!(counters.get(10_000), 0);
    }

    #[test]
    fn a_purge_takes_off_one_amount_and_keeps_what_is_larger() {
        for items in [40, 5000] {
            let mut counters = Counters::<Text>::default();
            let names: Vec<String> = (0..items).map(|i| format!("{}{i}", "x".repeat(i % 30))).collect();
            for (i, name) in names.iter().enumerate() {
                counters.add(TextItem::new(name.as_bytes()), 1 + i as u64);
            }
            let before = counters.heap_size();
            let median = counters.purge();
            assert!((1..items as u64).contains(&median));
            for (i, name) in names.iter().enumerate() {
                let left = (1 + i as u64).saturating_sub(median);
                assert_eq!(counters.get(TextItem::new(name.as_bytes())), left, "{name}");
            }
            assert_eq!(counters.len() as u64, items as u64 - median);
            assert!(counters.heap_size() <= before);
            counters.add(TextItem::new(b"a new one, after the purge"), 7);
            assert_eq!(counters.get(TextItem::new(b"a new one, after the purge")), 7);
        }
    }
}
