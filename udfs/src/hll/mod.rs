//! Distinct counts that can be merged: how many different users, over any range of days.
//!
//! ```sql
//! SELECT bucket, hll_sketch_estimate(users) FROM clicks_daily;                        -- each day
//! SELECT hll_sketch_estimate(hll_union_agg(users)) FROM clicks_daily                   -- the month: not the sum
//! WHERE bucket >= '2026-11-01' AND bucket < '2026-12-01';
//! ```
//!
//! # What is returned
//!
//! `hll_sketch_estimate` is exact to within rounding while there are few items, and then off by about
//! 1.04 / √(2^lg_k) at one standard deviation: 1.6 % for the default lg_k of 12. `hll_sketch_bounds` gives the range that
//! holds with 68, 95 or 99.7 % confidence (1, 2 or 3 standard deviations).
//!
//! # How it works
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) with the estimators of Apache DataSketches, whose Rust
//! implementation this is. A sketch begins as a list of the hashes it has seen and becomes 2^lg_k registers of a byte.
//! Merging sketches of different lg_k gives one of the smallest.
//!
//! # The bytes
//!
//! `HLL_8` sketches of DataSketches. Integers, dates and the like are hashed as 8 bytes, strings as their bytes, as the Java,
//! C++ and Python libraries do, so their sketches can be merged with these. One difference: those libraries skip empty
//! strings, here an empty string is a value like any other.

pub(crate) mod distinct;
pub mod estimate;
pub mod sketch;
