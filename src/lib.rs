//! toplake: exact rollups and top-K over a data lake.
pub mod error;
pub mod pg;
