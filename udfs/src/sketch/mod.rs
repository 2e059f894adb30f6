//! What all sketches share.
//!
//! A sketch is a small summary of many rows that can be merged with others of its kind, in any order and grouping, and still
//! answers within known bounds. Each kind has a module with its manual: [`frequent_items`](crate::frequent_items),
//! [`count_min`](crate::count_min), [`hll`](crate::hll).
//!
//! # The SQL type
//!
//! A sketch is a column of type `STRUCT<sketch BINARY, item T>`, or `STRUCT<sketch BINARY, item T, weight W>` where items have
//! weights. `sketch` has the bytes; `item` and `weight` are always NULL and carry the types, so that it is known when a query
//! is planned what comes out of a sketch, also after it was kept in a Parquet or Delta table.
//!
//! # The bytes
//!
//! Sketches in the serialisation of Apache DataSketches, in a small envelope with a version; `sketch_bytes` takes it off. See
//! `envelope.rs` for the layout. Bytes that are cut short, changed or of another library are an error that says so.
//!
//! # Items and weights
//!
//! Items may be integers of every width, booleans, dates, timestamps, decimals, strings and binary, also by dictionary. They
//! are 64-bit integers to a sketch, or strings of bytes (strings, binary and decimals of more than 18 digits). Weights are
//! integers or decimals; the digits of a decimal are added as an integer, so money is exact. Rows in which the item or the
//! weight is NULL are left out. Sums beyond 63 bits are an error.
//!
//! # State between partitions
//!
//! The intermediate state of an aggregate is the rows as they came or a finished sketch, side by side in nullable columns. A
//! partial aggregation that finds it does not reduce its input hands rows on, and no sketch is made for a single row.

pub(crate) mod accumulator;
pub(crate) mod aggregate;
pub(crate) mod bytes;
pub(crate) mod envelope;
pub(crate) mod groups;
pub(crate) mod item;
pub mod sketch_bytes;
pub(crate) mod state_type;
pub(crate) mod summary;
pub(crate) mod weight;
