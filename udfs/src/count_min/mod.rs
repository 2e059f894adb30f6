//! Count-min: how often any item came, also the rare ones.
//!
//! ```sql
//! SELECT count_min_estimate(count_min_sketch(user_id, 0.001, 0.99), 42) FROM clicks;
//! ```
//!
//! # What is returned
//!
//! An estimate that is never below the truth where no weight is negative, and above it by at most
//! `eps · total weight` ([`count_min_error`](error)) with the given confidence, for each item asked for.
//!
//! # How it works
//!
//! *d* rows of *w* counters. An item adds its weight to one counter of each row, chosen by that row's hash; the smallest of its
//! counters is the estimate. *w* = ⌈e / eps⌉ and *d* = ⌈ln(1 / (1 − confidence))⌉. From Cormode, Muthukrishnan: *An Improved
//! Data Stream Summary: The Count-Min Sketch and its Applications* (2005). With refunds, what was added and what was taken off
//! are a table each, whose estimates are subtracted: the error of either side is bounded by its own total.
//!
//! # Memory
//!
//! 8 · *w* · *d* bytes, as stored: 109 KB for eps 0.001 and confidence 0.99. While it is aggregated, a group that has touched
//! few counters keeps just those.
//!
//! # The bytes
//!
//! Those of DataSketches' C++ `count_min_sketch<int64_t>` as built with libstdc++, whose generator makes the rows' hashes of the
//! seed (9001 if not given); an item is hashed as the 8 bytes of an integer or the bytes of a string. Python's library
//! keeps counters as doubles: the layout and the places are the same, the 8 bytes of each counter are not. The `datasketches`
//! crate is not used here because it puts items into other places.

pub mod error;
pub mod estimate;
mod hash;
pub mod sketch;
mod table;
mod weighted;
