//! SQL functions for time series and leaderboards, for any Apache DataFusion program.
//!
//! ```
//! use datafusion::prelude::SessionContext;
//!
//! # #[tokio::main]
//! # async fn main() -> datafusion::error::Result<()> {
//! let ctx = SessionContext::new();
//! toplake_udfs::register_all(&ctx)?;
//!
//! let sql = "SELECT time_bucket(INTERVAL '1 hour', TIMESTAMP '2024-05-15 10:42:00') AS bucket";
//! ctx.sql(sql).await?.show().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! One folder per family of functions; its `mod.rs` is the manual.
//!
//! - [`time_bucket`]: the start of the bucket that a timestamp falls into, by the clock or by the calendar of
//!   a time zone
//! - [`frequent_items`]: top items by count or sum, approximately, with bounds
//! - [`count_min`]: how often any item came
//! - [`hll`]: how many different items there are
//! - [`sketches_agree`]: whether two sketches may be of the same rows
//! - [`sketch`]: what the sketches share: their SQL type, their bytes, their accumulators

#![deny(missing_docs)]

pub mod count_min;
pub mod frequent_items;
pub mod hll;
pub mod sketch;
pub mod sketches_agree;
pub mod time_bucket;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

pub use time_bucket::{BucketWidth, Bucketing, Zone};

/// Makes every function of this crate known to `ctx`; a function of the same name is replaced.
pub fn register_all(ctx: &SessionContext) -> Result<()> {
    register_in(&mut *ctx.state_ref().write())
}

/// Makes every function of this crate known to `registry`, such as a
/// [`SessionState`](datafusion::execution::SessionState) that is still being built.
pub fn register_in(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in all_scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in all_aggregate_functions() {
        registry.register_udaf(function)?;
    }
    Ok(())
}

/// The scalar functions of this crate, for a session that looks functions up by name.
pub fn all_scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        time_bucket::time_bucket_udf(),
        frequent_items::estimate::approx_top_k_estimate_udf(),
        frequent_items::estimate::approx_top_sum_estimate_udf(),
        count_min::estimate::count_min_estimate_udf(),
        count_min::error::count_min_error_udf(),
        hll::estimate::hll_sketch_estimate_udf(),
        hll::estimate::hll_sketch_bounds_udf(),
        sketch::sketch_bytes::sketch_bytes_udf(),
        sketches_agree::sketches_agree_udf(),
    ]
}

/// The aggregate functions of this crate, for a session that looks functions up by name.
pub fn all_aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        frequent_items::approx_top_k::approx_top_k_udaf(),
        frequent_items::approx_top_k::approx_top_k_accumulate_udaf(),
        frequent_items::approx_top_k::approx_top_k_combine_udaf(),
        frequent_items::approx_top_sum::approx_top_sum_udaf(),
        frequent_items::approx_top_sum::approx_top_sum_accumulate_udaf(),
        frequent_items::approx_top_sum::approx_top_sum_combine_udaf(),
        count_min::sketch::count_min_sketch_udaf(),
        count_min::sketch::count_min_combine_udaf(),
        hll::sketch::hll_sketch_agg_udaf(),
        hll::sketch::hll_union_agg_udaf(),
    ]
}
