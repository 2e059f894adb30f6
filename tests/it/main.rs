//! The one integration binary: every test binary links the whole engine.

// Clippy's exception for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod delta_readers;
mod harness;
mod lake;
mod protocol;
mod races;
mod s3;
mod slt;
