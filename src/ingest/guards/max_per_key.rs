//! How many events a key had in a bucket of event time, such as the clicks of a user on an ad in a minute.
//!
//! Counts are kept for the bucket of the highest time and the one before it. An event of an older bucket passes: there is
//! nothing left to judge it by.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::key_map::KeyMap;
use crate::error::Result;

/// The counts, by bucket.
#[derive(Debug)]
pub(super) struct Counts {
    per: i64,
    /// A count ends here.
    limit: i64,
    buckets: BTreeMap<i64, KeyMap>,
    hasher: DefaultHashBuilder,
    /// The number of the first bucket that is kept.
    oldest: i64,
}

impl Counts {
    /// Nothing yet.
    pub(super) fn new(per: i64, limit: u64) -> Self {
        Counts {
            per,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            buckets: BTreeMap::new(),
            hasher: DefaultHashBuilder::default(),
            oldest: i64::MIN,
        }
    }

    /// Forgets buckets that began before the one before the highest time's.
    pub(super) fn forget(&mut self, highest: i64) {
        let oldest = highest.div_euclid(self.per).saturating_sub(1);
        if oldest > self.oldest {
            self.oldest = oldest;
            self.buckets = self.buckets.split_off(&oldest);
        }
    }

    /// Counts an event, and says whether its key has had as many as it may.
    pub(super) fn is_suspect(&mut self, key: &[u8], time: i64) -> Result<bool> {
        let bucket = time.div_euclid(self.per);
        if bucket < self.oldest {
            return Ok(false);
        }
        let hash = self.hasher.hash_one(key);
        let map = self.buckets.entry(bucket).or_insert_with(|| KeyMap::new(&self.hasher));
        let at = match map.find(hash, key) {
            Some(at) if map.number(at) >= self.limit => return Ok(true),
            Some(at) => {
                map.set(at, map.number(at) + 1);
                at
            }
            None => map.insert(hash, key, 1)?,
        };
        map.note(at);
        Ok(false)
    }

    /// Takes in a count that was read from the warehouse; the highest one of a key in a bucket is the last.
    pub(super) fn remember(&mut self, key: &[u8], begin: i64, count: i64) -> Result<()> {
        let bucket = begin.div_euclid(self.per);
        if bucket < self.oldest {
            return Ok(());
        }
        let hash = self.hasher.hash_one(key);
        let map = self.buckets.entry(bucket).or_insert_with(|| KeyMap::new(&self.hasher));
        match map.find(hash, key) {
            Some(at) => map.set(at, map.number(at).max(count)),
            None => drop(map.insert(hash, key, count)?),
        }
        Ok(())
    }

    /// Keys, the beginning of their bucket, and counts, as far as they were not told before.
    pub(super) fn each_new(&mut self, mut tell: impl FnMut(&[u8], i64, i64)) {
        for (bucket, map) in &mut self.buckets {
            for at in map.take_changed() {
                tell(map.key(at), bucket.saturating_mul(self.per), map.number(at));
            }
        }
    }

    /// Bytes.
    pub(super) fn memory(&self) -> usize {
        self.buckets.values().map(KeyMap::memory).sum()
    }
}
