//! toplake: exact rollups and top-K over a data lake.
pub mod catalog;
pub mod error;
pub mod lake;
pub mod rollup;
