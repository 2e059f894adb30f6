//! Top items: the most frequent ones, and those with the highest sums.
//!
//! ```sql
//! SELECT approx_top_k(product_id, 10) FROM sales;                      -- at once
//! SELECT approx_top_sum(product_id, quantity, 10) FROM sales;          -- by sum, refunds netted
//! SELECT approx_top_sum_estimate(approx_top_sum_combine(sketch), 10)   -- from sketches that were kept
//! FROM daily WHERE bucket >= '2026-11-01';
//! ```
//!
//! # What is returned
//!
//! A list of `item, count, lower, upper` (`sum` instead of `count` for sums), best first, ties by item. The true value always
//! lies between `lower` and `upper`; an item that is not in the list has at most the smallest `upper` of the last one and the
//! sketch's error. The estimate of an item that was there from early on is exact or nearly so.
//!
//! # How it works
//!
//! A table of counters. When three quarters of the capacity are taken, the median of a sample of the counters is taken off
//! all of them, and those that reach zero go: at least the smaller half. What all purges took off together is the *offset*,
//! the greatest error of any item. This is the frequent-items sketch of Apache DataSketches, after Anderson, Bevin, Lang,
//! Liberty, Rhodes, Thaler: *A High-Performance Algorithm for Identifying Frequent Items in Data Streams* (IMC 2017), and its
//! error model: over a total weight *N* and a capacity *c*, the offset is at most 3.5 *N* / *c*, and on skewed data far less.
//!
//! # Capacity and memory
//!
//! A counter takes 16 bytes for items that are integers and 24 for strings (and the string, if it is longer than 12 bytes). A
//! sketch grows with what it holds: 50 items of a small group take about a kilobyte, whatever the capacity. If a call does not
//! name the capacity it is 64 times the items asked for, rounded up to a power of two, and at least 4,096. A sketch ranks up
//! to three quarters of its capacity; asking for more is an error that says which capacity would do.
//!
//! Merging sketches of different capacity gives one of the largest, unless `_combine` names another; the bounds of what goes
//! in add up, so the sketch with the smallest capacity decides how good the result is.
//!
//! # Refunds
//!
//! A weight below zero is what is taken off again. Added and taken weights are kept in a sketch each, because a sketch of
//! differences could not keep its bounds; an item's `sum` is the difference of the two estimates (`added`, `taken`), and
//! `lower` and `upper` hold for the net.

pub(crate) mod agree;
pub mod approx_top_k;
pub mod approx_top_sum;
mod counters;
pub mod estimate;
mod functions;
mod key;
mod signed;
mod sketch;
mod top_items;
