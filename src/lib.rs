//! toplake: exact rollups and top-K over a data lake.
//!
//! # Layout
//!
//! A module may use only what stands above it.
//!
//! | module | what |
//! | --- | --- |
//! | [`error`] | what can go wrong, in one table |
//! | [`certificate`] | the server's certificate and key |
//! | [`metrics`] | what a process tells of itself in numbers |
//! | [`lake`] | Delta tables on an object store |
//! | [`rollup`] | incremental views: the formula |
//! | [`catalog`] | what a warehouse holds, as catalogs of the engine |
//! | [`optimizer`] | rules of our own for the engine's planner |
//! | [`workload`] | how queries share the machine |
//! | [`session`] | the one place that makes a session of the engine |
//! | [`leaderboard`] | refreshing snapshot views |
//! | [`ingest`] | files into events tables, each once |
//! | [`maintain`] | the upkeep of tables |
//! | [`jobs`] | a timer that runs jobs and knows nothing of what they do |
//! | [`statement`] | statements: parse, plan, run |
//! | [`cluster`] | queries and folds on many machines |
//! | [`pg`] | the PostgreSQL front end |
//! | [`http`] | the dashboard, the two questions as an API, health and metrics |
//! | [`demo`] | sample sales |
//! | [`app`] | what each subcommand puts together |
pub mod app;
pub mod catalog;
pub mod certificate;
pub mod cluster;
pub mod demo;
pub mod dialect;
pub mod error;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod lake;
pub mod leaderboard;
pub mod maintain;
pub mod metrics;
pub mod optimizer;
pub mod pg;
pub mod rollup;
pub mod session;
pub mod statement;
pub mod workload;
