//! The one integration binary: every test binary links the whole engine.

// Clippy's exception for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ad_clicks_pack;
mod answers;
mod audit;
mod bi;
mod building;
mod catalog;
mod clients;
mod cluster;
mod copy;
mod corruption;
mod delta_readers;
mod errors;
mod evolution;
mod formula;
mod function_reference;
mod guards;
mod harness;
mod http;
mod ingest;
mod jobs;
mod kafka;
mod lake;
mod lanes;
mod late;
mod ledger;
mod long_log;
mod online_retail;
mod optimizer;
mod outbox;
mod pg;
mod pipelines;
mod protocol;
mod races;
mod recompute;
mod refunds;
mod replay;
mod s3;
mod sales_pack;
mod security;
mod sketch_rollups;
mod slices;
mod slt;
mod transactions;
mod upkeep;
mod watermark;
mod weather;
mod wire;
