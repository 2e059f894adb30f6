//! What the functions of frequent items have in common: their arguments.

use std::marker::PhantomData;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::key::Text;
use super::top_items::{Output, TopItems, k_of, lg_capacity, result_type};
use crate::sketch::aggregate::{Arguments, Build};
use crate::sketch::item::{Form, ItemType, plain_item};
use crate::sketch::state_type::StateType;
use crate::sketch::summary::Input;
use crate::sketch::weight::WeightType;

/// Whether items have weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// `approx_top_k`.
    No,
    /// `approx_top_sum`.
    Yes,
}

impl Weights {
    /// How many arguments are columns.
    fn columns(self) -> usize {
        match self {
            Weights::No => 1,
            Weights::Yes => 2,
        }
    }

    /// The first arguments of a call.
    fn named(self) -> &'static str {
        match self {
            Weights::No => "an item",
            Weights::Yes => "an item, a weight",
        }
    }

    /// The types of the arguments of a call over rows, with up to `constants` whole numbers behind the columns.
    pub(super) fn coerce(self, types: &[DataType], constants: &[&str], name: &str) -> Result<Vec<DataType>> {
        let columns = self.columns();
        if !(columns..=columns + constants.len()).contains(&types.len()) {
            let optional = constants.join(", ");
            return plan_err!(
                "{name} takes {}, and optionally {optional}, not {} arguments",
                self.named(),
                types.len()
            );
        }
        ItemType::try_new(&types[0], name)?;
        let mut coerced = vec![plain_item(&types[0])];
        if self == Weights::Yes {
            coerced.push(WeightType::try_new(&types[1], name)?.column_type());
        }
        coerced.extend(vec![DataType::Int64; types.len() - columns]);
        Ok(coerced)
    }

    /// The type of the sketch of such rows.
    pub(super) fn state(self, types: &[DataType], name: &str) -> Result<StateType> {
        let weight = match self {
            Weights::No => WeightType::One,
            Weights::Yes => WeightType::try_new(&types[1], name)?,
        };
        Ok(StateType::new(&types[0], weight))
    }

    pub(super) fn input(self, types: &[DataType]) -> Input {
        Input::Rows(types[..self.columns()].iter().cloned().enumerate().collect())
    }

    /// The sketch that a call over sketches takes; `constants` as above.
    pub(super) fn of_sketch(self, types: &[DataType], constants: usize, name: &str) -> Result<StateType> {
        if types.is_empty() || types.len() > 1 + constants {
            return plan_err!(
                "{name} takes a sketch, and optionally one whole number, not {} arguments",
                types.len()
            );
        }
        let state = StateType::of(&types[0], name)?;
        match (self, state.weight) {
            (Weights::No, WeightType::One) => Ok(state),
            (Weights::Yes, WeightType::Integer | WeightType::Decimal { .. }) => Ok(state),
            (Weights::No, _) => plan_err!("{name} takes a sketch of approx_top_k, not one of approx_top_sum"),
            (Weights::Yes, _) => {
                plan_err!("{name} takes a sketch of approx_top_sum, not one of approx_top_k")
            }
        }
    }

    pub(super) fn coerce_sketch(self, types: &[DataType], name: &str) -> Result<Vec<DataType>> {
        self.of_sketch(types, 1, name)?;
        Ok(types.iter().take(1).cloned().chain(types.iter().skip(1).map(|_| DataType::Int64)).collect())
    }

    /// `approx_top_…(columns… [, k [, capacity]])`
    pub(super) fn top<B: Build>(self, arguments: &Arguments, name: &str, builder: B) -> Result<B::Out> {
        let at = self.columns();
        let k = k_of(arguments.integer(at, name)?, name)?;
        let lg = lg_capacity(arguments.integer(at + 1, name)?, Some(k), name)?;
        let state = self.state(&arguments.types, name)?;
        let input = self.input(&arguments.types);
        build(state, Some(lg), Output::Top(k), input, name, builder)
    }

    /// `approx_top_…_accumulate(columns… [, capacity])`
    pub(super) fn accumulate<B: Build>(
        self,
        arguments: &Arguments,
        name: &str,
        builder: B,
    ) -> Result<B::Out> {
        let lg = lg_capacity(arguments.integer(self.columns(), name)?, None, name)?;
        let state = self.state(&arguments.types, name)?;
        build(state, Some(lg), Output::Sketch, self.input(&arguments.types), name, builder)
    }

    /// `approx_top_…_combine(sketch [, capacity])`
    pub(super) fn combine<B: Build>(self, arguments: &Arguments, name: &str, builder: B) -> Result<B::Out> {
        let lg = match arguments.integer(1, name)? {
            None => None,
            capacity => Some(lg_capacity(capacity, None, name)?),
        };
        let state = self.of_sketch(&arguments.types, 1, name)?;
        build(state, lg, Output::Sketch, Input::Sketches, name, builder)
    }

    /// The type of the list that a call over rows returns.
    pub(super) fn list_type(self, types: &[DataType], name: &str) -> Result<DataType> {
        Ok(result_type(&self.state(types, name)?))
    }
}

fn build<B: Build>(
    state: StateType,
    lg_capacity: Option<u8>,
    output: Output,
    input: Input,
    name: &str,
    builder: B,
) -> Result<B::Out> {
    let item = ItemType::try_new(&state.item, name)?;
    match item.form() {
        Form::Long => {
            builder.with(TopItems::<i64> { item, state, lg_capacity, output, key: PhantomData }, input)
        }
        Form::Bytes => {
            builder.with(TopItems::<Text> { item, state, lg_capacity, output, key: PhantomData }, input)
        }
    }
}
