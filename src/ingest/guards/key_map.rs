//! A number for each key, compact: keys lie one after the other in an arena, and a hash table has where each begins.
//!
//! Keys are compared whole, so two that share a hash are two. A map is dropped as a whole, and grows a part at a time: its
//! table is cut into shards, and of the arena nothing is ever moved but the first chunk.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::error::{Error, Kind, Result};

/// Bytes of a chunk of the arena; a record lies in one chunk.
const CHUNK: usize = 1 << 20;

/// An address is 32 bits: the chunk, then the place in it.
const MOST_CHUNKS: usize = (1 << 32) / CHUNK;

/// Parts of the hash table, each of which grows by itself.
const SHARDS: usize = 16;

/// Bytes of a number.
const NUMBER: usize = 8;

/// In the place of a length that does not fit into one byte.
const LONG: u8 = u8::MAX;

/// Where a record begins.
pub(super) type Address = u32;

/// The map.
#[derive(Debug)]
pub(super) struct KeyMap {
    hasher: DefaultHashBuilder,
    shards: [HashTable<Address>; SHARDS],
    arena: Arena,
    /// What was added or changed since it was last asked.
    changed: Vec<Address>,
}

impl KeyMap {
    /// An empty map; `hasher` makes the hashes that it is asked with.
    pub(super) fn new(hasher: &DefaultHashBuilder) -> Self {
        KeyMap {
            hasher: hasher.clone(),
            shards: [const { HashTable::new() }; SHARDS],
            arena: Arena::default(),
            changed: vec![],
        }
    }

    /// Where a key is.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Address> {
        let arena = &self.arena;
        self.shards[shard_of(hash)].find(hash, |at| arena.key(*at) == key).copied()
    }

    /// The number of a key.
    pub(super) fn number(&self, at: Address) -> i64 {
        self.arena.number(at)
    }

    /// The key.
    pub(super) fn key(&self, at: Address) -> &[u8] {
        self.arena.key(at)
    }

    /// Gives a key that is there another number.
    pub(super) fn set(&mut self, at: Address, number: i64) {
        self.arena.set(at, number);
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], number: i64) -> Result<Address> {
        let at = self.arena.append(key, number)?;
        let (arena, hasher) = (&self.arena, &self.hasher);
        self.shards[shard_of(hash)].insert_unique(hash, at, |at| hasher.hash_one(arena.key(*at)));
        Ok(at)
    }

    /// Has a key be one of the next [`Self::take_changed`].
    pub(super) fn note(&mut self, at: Address) {
        self.changed.push(at);
    }

    /// What was noted since the last time, each once.
    pub(super) fn take_changed(&mut self) -> Vec<Address> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Bytes that it has taken from the machine.
    pub(super) fn memory(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        tables + self.arena.memory() + self.changed.capacity() * size_of::<Address>()
    }
}

/// By bits of the hash that the table of a shard does not use.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

/// Records one after the other: the number, the key's length, the key.
#[derive(Debug, Default)]
struct Arena {
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    fn append(&mut self, key: &[u8], number: i64) -> Result<Address> {
        let length = match u8::try_from(key.len()) {
            Ok(short) if short < LONG => 1,
            _ => 1 + size_of::<u32>(),
        };
        let record = NUMBER + length + key.len();
        if self.chunks.last().is_none_or(|chunk| !chunk.is_empty() && chunk.len() + record > CHUNK) {
            if self.chunks.len() == MOST_CHUNKS {
                return Err(Error::new(
                    Kind::ResourcesExhausted,
                    "the keys of a part of the window take more than 4 GB",
                )
                .with_hint("shorten the window, or spread the keys over more partitions"));
            }
            // A partition with few keys takes little.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK.max(record) };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let at = (index * CHUNK + chunk.len()) as Address;
        chunk.extend_from_slice(&number.to_le_bytes());
        match length {
            1 => chunk.push(key.len() as u8),
            _ => {
                chunk.push(LONG);
                chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
            }
        }
        chunk.extend_from_slice(key);
        Ok(at)
    }

    fn record(&self, at: Address) -> &[u8] {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK..]
    }

    fn number(&self, at: Address) -> i64 {
        let mut bytes = [0; NUMBER];
        bytes.copy_from_slice(&self.record(at)[..NUMBER]);
        i64::from_le_bytes(bytes)
    }

    fn set(&mut self, at: Address, number: i64) {
        let from = at as usize % CHUNK;
        self.chunks[at as usize / CHUNK][from..from + NUMBER].copy_from_slice(&number.to_le_bytes());
    }

    fn key(&self, at: Address) -> &[u8] {
        let record = &self.record(at)[NUMBER..];
        match record[0] {
            LONG => {
                let mut length = [0; size_of::<u32>()];
                length.copy_from_slice(&record[1..=size_of::<u32>()]);
                &record[1 + size_of::<u32>()..][..u32::from_le_bytes(length) as usize]
            }
            short => &record[1..][..usize::from(short)],
        }
    }

    fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Vec::capacity).sum();
        chunks + self.chunks.capacity() * size_of::<Vec<u8>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn map() -> KeyMap {
        KeyMap::new(&DefaultHashBuilder::default())
    }

    impl KeyMap {
        fn hash(&self, key: &[u8]) -> u64 {
            self.hasher.hash_one(key)
        }
    }

    #[test]
    fn keys_of_any_length_are_found_with_their_numbers() {
        let mut map = map();
        let mut model = HashMap::new();
        for i in 0..100_000_i64 {
            // Some are longer than a length in one byte, a few longer than a chunk.
            let length = if i % 20_000 == 7 { CHUNK + 5 } else { (i * 7919 % 300) as usize };
            let mut key = i.to_be_bytes().to_vec();
            key.resize(8 + length, b'x');
            let at = map.insert(map.hash(&key), &key, i).unwrap();
            if i % 3 == 0 {
                map.set(at, -i);
            }
            model.insert(key, if i % 3 == 0 { -i } else { i });
        }
        assert_eq!(map.len(), model.len());
        for (key, number) in &model {
            let at = map.find(map.hash(key), key).unwrap();
            assert_eq!((map.key(at), map.number(at)), (key.as_slice(), *number));
        }
        assert_eq!(map.find(map.hash(b"none"), b"none"), None);
        assert_eq!(map.find(map.hash(b""), b""), None);
    }

    #[test]
    fn keys_that_share_a_hash_are_two() {
        let mut map = map();
        map.insert(42, b"a", 1).unwrap();
        assert_eq!(map.find(42, b"b"), None);
        let b = map.insert(42, b"b", 2).unwrap();
        assert_eq!((map.find(42, b"b"), map.find(42, b"a").map(|at| map.number(at))), (Some(b), Some(1)));
    }

    #[test]
    fn what_changed_is_told_once() {
        let mut map = map();
        let (a, b) = (map.insert(1, b"a", 1).unwrap(), map.insert(2, b"b", 1).unwrap());
        for at in [b, a, b] {
            map.note(at);
        }
        assert_eq!((map.take_changed(), map.take_changed()), (vec![a, b], vec![]));
    }

    #[test]
    fn memory_is_what_keys_take_and_little_more() {
        let few = {
            let mut map = map();
            map.insert(1, b"a", 1).unwrap();
            map.memory()
        };
        assert!(few < 1000, "{few}");
        let mut map = map();
        let keys = 300_000;
        for i in 0..keys {
            let key = format!("{i:036}");
            map.insert(map.hash(key.as_bytes()), key.as_bytes(), 0).unwrap();
        }
        let each = map.memory() as f64 / f64::from(keys);
        assert!((36.0..=36.0 + 24.0).contains(&each), "{each} bytes a key");
    }
}
