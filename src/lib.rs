//! toplake: exact rollups and top-K over a data lake.
pub mod app;
pub mod catalog;
pub mod error;
pub mod ingest;
pub mod lake;
pub mod leaderboard;
pub mod rollup;
pub mod session;
pub mod statement;
