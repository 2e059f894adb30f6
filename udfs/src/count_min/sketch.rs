//! `count_min_sketch` and `count_min_combine` as DataFusion functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{AggregateUDF, Documentation};

use super::table::{DEFAULT_SEED, Shape};
use super::weighted::CountMin;
use crate::sketch::aggregate::{Arguments, Build, SketchFunction, aggregate};
use crate::sketch::item::{ItemType, plain_item};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::StateType;
use crate::sketch::summary::Input;
use crate::sketch::weight::WeightType;

/// The places of the arguments of `count_min_sketch`.
const EPS: usize = 1;
const CONFIDENCE: usize = 2;
const SEED: usize = 3;
const WEIGHT: usize = 4;

/// The aggregate `count_min_sketch`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountMinSketch;

fn state(types: &[DataType], name: &str) -> Result<StateType> {
    let weight = types.get(WEIGHT).map_or(Ok(WeightType::One), |t| WeightType::try_new(t, name))?;
    Ok(StateType::new(&types[0], weight))
}

impl SketchFunction for CountMinSketch {
    const NAME: &'static str = "count_min_sketch";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        if !(3..=5).contains(&types.len()) {
            return plan_err!(
                "{} takes an item, eps, confidence, and optionally a seed and a weight, not {} arguments",
                Self::NAME,
                types.len()
            );
        }
        ItemType::try_new(&types[0], Self::NAME)?;
        let mut coerced = vec![plain_item(&types[0]), DataType::Float64, DataType::Float64];
        coerced.extend(types.get(SEED).map(|_| DataType::Int64));
        if let Some(weight) = types.get(WEIGHT) {
            coerced.push(WeightType::try_new(weight, Self::NAME)?.column_type());
        }
        Ok(coerced)
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(state(types, Self::NAME)?.data_type())
    }

    fn input(types: &[DataType]) -> Result<Input> {
        let columns = [0, WEIGHT].into_iter().filter(|i| *i < types.len());
        Ok(Input::Rows(columns.map(|i| (i, types[i].clone())).collect()))
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        let number = |i| match arguments.number(i, Self::NAME)? {
            Some(number) => Ok(number),
            None => plan_err!("{} needs eps and confidence", Self::NAME),
        };
        let seed = arguments.integer(SEED, Self::NAME)?.map_or(DEFAULT_SEED, |seed| seed as u64);
        let shape = Shape::try_new(number(EPS)?, number(CONFIDENCE)?, seed, Self::NAME)?;
        let state = state(&arguments.types, Self::NAME)?;
        let item = ItemType::try_new(&state.item, Self::NAME)?;
        let summary = CountMin { item, state, shape: Some(Arc::new(shape)) };
        builder.with(summary, Self::input(&arguments.types)?)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns a count-min sketch: with it `count_min_estimate` says how often any item came, at most \
                 `eps` · total weight too high with the given confidence, and never too low if no weight is below zero.",
                "count_min_sketch(item, eps, confidence[, seed[, weight]])",
            )
            .with_sql_example("```sql\nSELECT count_min_estimate(count_min_sketch(user_id, 0.001, 0.99), 42) FROM clicks;\n```")
            .with_argument("item", "What is counted. NULL is left out.")
            .with_argument("eps", "The error as a fraction of the total weight, such as 0.001.")
            .with_argument("confidence", "How sure the error bound is, such as 0.99.")
            .with_argument("seed", "Of the hashes; 9001 if not given. Only sketches of one seed can be merged.")
            .with_argument("weight", "Integer or DECIMAL; below zero it is taken off again. NULL is left out.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `count_min_sketch`.
pub fn count_min_sketch_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<CountMinSketch>);
    Arc::clone(&INSTANCE)
}

/// The aggregate `count_min_combine`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountMinCombine;

impl SketchFunction for CountMinCombine {
    const NAME: &'static str = "count_min_combine";

    fn coerce(types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch] => StateType::of(sketch, Self::NAME).map(|_| types.to_vec()),
            _ => plan_err!("{} takes a sketch, not {} arguments", Self::NAME, types.len()),
        }
    }

    fn return_type(types: &[DataType]) -> Result<DataType> {
        Ok(StateType::of(&types[0], Self::NAME)?.data_type())
    }

    fn input(_: &[DataType]) -> Result<Input> {
        Ok(Input::Sketches)
    }

    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out> {
        let state = StateType::of(&arguments.types[0], Self::NAME)?;
        let item = ItemType::try_new(&state.item, Self::NAME)?;
        builder.with(CountMin { item, state, shape: None }, Input::Sketches)
    }

    fn documentation() -> &'static Documentation {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Merges sketches of count_min_sketch of the same eps, confidence and seed. NULL if there are none.",
                "count_min_combine(sketch)",
            )
            .with_sql_example("```sql\nSELECT count_min_estimate(count_min_combine(sketch), 42) FROM sketches;\n```")
            .with_argument("sketch", "A sketch.")
            .build()
        });
        &DOCUMENTATION
    }
}

/// The function `count_min_combine`.
pub fn count_min_combine_udaf() -> Arc<AggregateUDF> {
    static INSTANCE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(aggregate::<CountMinCombine>);
    Arc::clone(&INSTANCE)
}
