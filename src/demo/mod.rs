//! The demo: sample events that look like a shop's.

pub mod feed;
pub mod generator;
mod random;
