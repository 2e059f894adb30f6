//! The one integration binary: every test binary links the whole engine.

// Clippy's exception for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod count_min;
mod distinct;
mod harness;
mod partial_reduce;
mod stored;
mod time_bucket_properties;
mod time_bucket_sql;
mod top_items;
mod top_items_properties;
