//! `approx_top_sum` and its parts as DataFusion functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{AggregateUDF, Documentation};

use super::functions::Weights;
use crate::sketch::aggregate::{Arguments, Build, SketchFunction, aggregate};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::summary::Input;

/// The aggregate `approx_top_sum`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopSum;

impl SketchFunction for ApproxTopSum {
    const NAME: &'static str = "approx_top_sum";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::Yes.coerce(types, &["k", "a capacity"], Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Weights::Yes.list_type(types, Self::NAME)
    }

    fn input(types: &[DataType]) -> Result<Input> {
        Ok(Weights::Yes.input(types))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::Yes.top(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns the items with the highest sums, best first, with bounds that always hold. A weight below zero, such as a refund, is netted; `added` and `taken` are the two sums that `sum` is the difference of.",
                "approx_top_sum(item, weight[, k[, capacity]])",
            )
            .with_sql_example("```sql\nSELECT approx_top_sum(product_id, quantity, 3) FROM sales;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument("weight", "Integer or DECIMAL; below zero it is taken off again. NULL is left out.")
            .with_argument("k", "How many items to return; 10 if not given.")
            .with_argument("capacity", "Counters of the sketch, rounded up to a power of two. If not given, at least 64 for each item returned.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_sum`.
pub fn approx_top_sum_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopSum>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `approx_top_sum_accumulate`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopSumAccumulate;

impl SketchFunction for ApproxTopSumAccumulate {
    const NAME: &'static str = "approx_top_sum_accumulate";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::Yes.coerce(types, &["a capacity"], Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(Weights::Yes.state(types, Self::NAME)?.data_type())
    }

    fn input(types: &[DataType]) -> Result<Input> {
        Ok(Weights::Yes.input(types))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::Yes.accumulate(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns a sketch of the items with the highest sums, to be kept and merged.",
                "approx_top_sum_accumulate(item, weight[, capacity])",
            )
            .with_sql_example("```sql\nSELECT country, approx_top_sum_accumulate(product_id, quantity) FROM sales GROUP BY country;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument("weight", "Integer or DECIMAL; below zero it is taken off again. NULL is left out.")
            .with_argument("capacity", "Counters of the sketch, rounded up to a power of two; 4096 if not given. It ranks up to three quarters as many items.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_sum_accumulate`.
pub fn approx_top_sum_accumulate_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopSumAccumulate>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `approx_top_sum_combine`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopSumCombine;

impl SketchFunction for ApproxTopSumCombine {
    const NAME: &'static str = "approx_top_sum_combine";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::Yes.coerce_sketch(types, Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(Weights::Yes.of_sketch(types, 1, Self::NAME)?.data_type())
    }

    fn input(_types: &[DataType]) -> Result<Input> {
        Ok(Input::Sketches)
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::Yes.combine(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Merges sketches of approx_top_sum_accumulate.",
                "approx_top_sum_combine(sketch[, capacity])",
            )
            .with_sql_example("```sql\nSELECT approx_top_sum_estimate(approx_top_sum_combine(sketch), 3) FROM sketches;\n```")
            .with_argument("sketch", "A sketch.")
            .with_argument("capacity", "Counters of the merged sketch; if not given, those of the largest that goes in.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_sum_combine`.
pub fn approx_top_sum_combine_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopSumCombine>);
    Arc::clone(&INSTANCE)
}
