//! Which events came before: a key and the time of its event, for a window of event time.
//!
//! An event that lies at or after the *horizon*, the highest time less the window, is remembered. Of each key no more than one
//! time at or after the horizon is, since the next event with it is a duplicate as long as it is; so one number for each key is
//! enough. Keys are kept by the part of the window that their time is in, and forgotten a part at a time.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::key_map::{Address, KeyMap};
use crate::error::Result;

/// Parts of a window: more of them keep less of what is past the window, and are more to look into.
const PARTS: i64 = 4;

/// What is remembered.
#[derive(Debug)]
pub(super) struct RecentEvents {
    window: i64,
    /// How long a part is.
    part: i64,
    parts: BTreeMap<i64, KeyMap>,
    hasher: DefaultHashBuilder,
    /// The number of the part that the horizon is in.
    oldest: i64,
}

impl RecentEvents {
    /// Nothing yet.
    pub(super) fn new(window: i64) -> Self {
        RecentEvents {
            window,
            part: window / PARTS + 1,
            parts: BTreeMap::new(),
            hasher: DefaultHashBuilder::default(),
            oldest: i64::MIN,
        }
    }

    /// No event before this is remembered.
    fn horizon(&self, highest: i64) -> i64 {
        highest.saturating_sub(self.window)
    }

    /// Forgets what has left the window.
    pub(super) fn forget(&mut self, highest: i64) {
        let oldest = self.horizon(highest).div_euclid(self.part);
        if oldest > self.oldest {
            self.oldest = oldest;
            self.parts = self.parts.split_off(&oldest);
        }
    }

    /// Whether an event is one that came before. If not, it is remembered. `highest` is no lower than its time.
    pub(super) fn is_duplicate(&mut self, key: &[u8], time: i64, highest: i64) -> Result<bool> {
        let (hash, horizon) = (self.hasher.hash_one(key), self.horizon(highest));
        // The next one of the same event is likely to come soon.
        for map in self.parts.values().rev() {
            if let Some(at) = map.find(hash, key)
                && map.number(at) >= horizon
            {
                // The other way round they are within the window, as neither lies after `highest`.
                return Ok(map.number(at).saturating_sub(self.window) <= time);
            }
        }
        if time >= horizon {
            let (map, at) = self.put(hash, key, time)?;
            map.note(at);
        }
        Ok(false)
    }

    /// Remembers what was read from the warehouse.
    pub(super) fn remember(&mut self, key: &[u8], time: i64) -> Result<()> {
        if time.div_euclid(self.part) < self.oldest {
            return Ok(());
        }
        self.put(self.hasher.hash_one(key), key, time).map(|_| ())
    }

    /// Of two times of a key the later one counts: the other is before the horizon.
    fn put(&mut self, hash: u64, key: &[u8], time: i64) -> Result<(&mut KeyMap, Address)> {
        let map = self.parts.entry(time.div_euclid(self.part)).or_insert_with(|| KeyMap::new(&self.hasher));
        let at = match map.find(hash, key) {
            Some(at) => {
                map.set(at, map.number(at).max(time));
                at
            }
            None => map.insert(hash, key, time)?,
        };
        Ok((map, at))
    }

    /// Keys and times that were not told before.
    pub(super) fn each_new(&mut self, mut tell: impl FnMut(&[u8], i64)) {
        for map in self.parts.values_mut() {
            for at in map.take_changed() {
                tell(map.key(at), map.number(at));
            }
        }
    }

    /// Keys that are remembered.
    pub(super) fn len(&self) -> usize {
        self.parts.values().map(KeyMap::len).sum()
    }

    /// Bytes.
    pub(super) fn memory(&self) -> usize {
        self.parts.values().map(KeyMap::memory).sum()
    }
}
