//! `hll_sketch_agg` and `hll_union_agg` as DataFusion functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{AggregateUDF, Documentation};

use super::distinct::{DistinctItems, MAX_LG_K};
use crate::sketch::aggregate::{Arguments, Build, SketchFunction, aggregate};
use crate::sketch::item::{ItemType, plain_item};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::StateType;
use crate::sketch::summary::Input;
use crate::sketch::weight::WeightType;

/// The registers of a sketch where a call does not say, as a power of two; as in Spark.
const DEFAULT_LG_K: i64 = 12;

/// The aggregate `hll_sketch_agg`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HllSketchAgg;

impl SketchFunction for HllSketchAgg {
    const NAME: &'static str = "hll_sketch_agg";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [item, rest @ ..] if rest.len() <= 1 => {
                ItemType::try_new(item, Self::NAME)?;
                Ok(std::iter::once(plain_item(item)).chain(rest.iter().map(|_| DataType::Int64)).collect())
            }
            _ => {
                plan_err!("{} takes an item, and optionally lg_k, not {} arguments", Self::NAME, types.len())
            }
        }
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(StateType::new(&types[0], WeightType::One).data_type())
    }

    fn input(types: &[DataType]) -> Result<Input> {
        Ok(Input::Rows(vec![(0, types[0].clone())]))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        let lg_k = match arguments.integer(1, Self::NAME)?.unwrap_or(DEFAULT_LG_K) {
            lg_k @ 4..=21 => lg_k as u8,
            lg_k => return plan_err!("lg_k of {} is between 4 and {MAX_LG_K}, not {lg_k}", Self::NAME),
        };
        let state = StateType::new(&arguments.types[0], WeightType::One);
        let item = ItemType::try_new(&state.item, Self::NAME)?;
        builder.with(DistinctItems { item, state, lg_k }, Self::input(&arguments.types)?)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns a HyperLogLog sketch of how many different items there are, to be kept and merged.",
                "hll_sketch_agg(item[, lg_k])",
            )
            .with_sql_example("```sql\nSELECT hll_sketch_estimate(hll_sketch_agg(user_id)) FROM clicks;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument(
                "lg_k",
                "Registers as a power of two, 4 to 21; 12 if not given: an error of 1.6 % in 4 KiB.",
            )
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `hll_sketch_agg`.
pub fn hll_sketch_agg_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<HllSketchAgg>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `hll_union_agg`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HllUnionAgg;

fn of_sketch(types: &[DataType]) -> Result<StateType> {
    match types {
        [sketch] => match StateType::of(sketch, HllUnionAgg::NAME)? {
            StateType { weight: WeightType::One, item } => Ok(StateType::new(&item, WeightType::One)),
            _ => plan_err!("{} takes a sketch of hll_sketch_agg, not one with weights", HllUnionAgg::NAME),
        },
        _ => plan_err!("{} takes a sketch, not {} arguments", HllUnionAgg::NAME, types.len()),
    }
}

impl SketchFunction for HllUnionAgg {
    const NAME: &'static str = "hll_union_agg";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        of_sketch(types).map(|_| types.to_vec())
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(of_sketch(types)?.data_type())
    }

    fn input(_: &[DataType]) -> Result<Input> {
        Ok(Input::Sketches)
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        let state = of_sketch(&arguments.types)?;
        let item = ItemType::try_new(&state.item, Self::NAME)?;
        builder.with(DistinctItems { item, state, lg_k: MAX_LG_K }, Input::Sketches)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Merges sketches of hll_sketch_agg: the number of different items in all of them together. Of sketches of \
                 different lg_k, the smallest holds.",
                "hll_union_agg(sketch)",
            )
            .with_sql_example("```sql\nSELECT hll_sketch_estimate(hll_union_agg(users)) FROM daily;\n```")
            .with_argument("sketch", "A sketch.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `hll_union_agg`.
pub fn hll_union_agg_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<HllUnionAgg>);
    Arc::clone(&INSTANCE)
}
