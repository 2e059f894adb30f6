//! `approx_top_k` and its parts as DataFusion functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{AggregateUDF, Documentation};

use super::functions::Weights;
use crate::sketch::aggregate::{Arguments, Build, SketchFunction, aggregate};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::summary::Input;

/// The aggregate `approx_top_k`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopK;

impl SketchFunction for ApproxTopK {
    const NAME: &'static str = "approx_top_k";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::No.coerce(types, &["k", "a capacity"], Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Weights::No.list_type(types, Self::NAME)
    }

    fn input(types: &[DataType]) -> Result<Input> {
        Ok(Weights::No.input(types))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::No.top(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns the most frequent items, best first, with their counts and bounds that always hold.",
                "approx_top_k(item[, k[, capacity]])",
            )
            .with_sql_example("```sql\nSELECT approx_top_k(product_id, 3) FROM sales;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument("k", "How many items to return; 10 if not given.")
            .with_argument("capacity", "Counters of the sketch, rounded up to a power of two. If not given, at least 64 for each item returned.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_k`.
pub fn approx_top_k_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopK>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `approx_top_k_accumulate`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopKAccumulate;

impl SketchFunction for ApproxTopKAccumulate {
    const NAME: &'static str = "approx_top_k_accumulate";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::No.coerce(types, &["a capacity"], Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(Weights::No.state(types, Self::NAME)?.data_type())
    }

    fn input(types: &[DataType]) -> Result<Input> {
        Ok(Weights::No.input(types))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::No.accumulate(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns a sketch of the most frequent items, to be kept and merged.",
                "approx_top_k_accumulate(item[, capacity])",
            )
            .with_sql_example("```sql\nSELECT country, approx_top_k_accumulate(product_id) FROM sales GROUP BY country;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument("capacity", "Counters of the sketch, rounded up to a power of two; 4096 if not given. It ranks up to three quarters as many items.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_k_accumulate`.
pub fn approx_top_k_accumulate_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopKAccumulate>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `approx_top_k_combine`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxTopKCombine;

impl SketchFunction for ApproxTopKCombine {
    const NAME: &'static str = "approx_top_k_combine";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        Weights::No.coerce_sketch(types, Self::NAME)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(Weights::No.of_sketch(types, 1, Self::NAME)?.data_type())
    }

    fn input(_types: &[DataType]) -> Result<Input> {
        Ok(Input::Sketches)
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        Weights::No.combine(arguments, Self::NAME, builder)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Merges sketches of approx_top_k_accumulate.",
                "approx_top_k_combine(sketch[, capacity])",
            )
            .with_sql_example(
                "```sql\nSELECT approx_top_k_estimate(approx_top_k_combine(sketch), 3) FROM sketches;\n```",
            )
            .with_argument("sketch", "A sketch.")
            .with_argument(
                "capacity",
                "Counters of the merged sketch; if not given, those of the largest that goes in.",
            )
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `approx_top_k_combine`.
pub fn approx_top_k_combine_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<ApproxTopKCombine>);
    Arc::clone(&INSTANCE)
}
