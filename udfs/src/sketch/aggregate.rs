//! A sketch aggregate as a DataFusion function.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, Expr, GroupsAccumulator,
    Signature, Volatility,
};

use super::accumulator::SketchAccumulator;
use super::groups::SketchGroups;
use super::summary::{Input, Summary};

/// The arguments of a call: types, and values where they are constants.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) types: Vec<DataType>,
    constants: Vec<Option<ScalarValue>>,
}

impl Arguments {
    fn of(args: &AccumulatorArgs<'_>) -> Self {
        let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let constant = |expr: &Arc<dyn datafusion::physical_plan::PhysicalExpr>| match expr.evaluate(&nothing)
        {
            Ok(ColumnarValue::Scalar(value)) => Some(value),
            _ => None,
        };
        Arguments {
            types: args.expr_fields.iter().map(|f| f.data_type().clone()).collect(),
            constants: args.exprs.iter().map(constant).collect(),
        }
    }

    /// A constant argument, or nothing where it is not given; `call` is for the message.
    pub(crate) fn constant(&self, i: usize, call: &str) -> Result<Option<&ScalarValue>> {
        match self.constants.get(i) {
            None => Ok(None),
            Some(Some(value)) if !value.is_null() => Ok(Some(value)),
            Some(_) => plan_err!("argument {} of {call} has to be a constant", i + 1),
        }
    }

    /// A whole number.
    pub(crate) fn integer(&self, i: usize, call: &str) -> Result<Option<i64>> {
        match self.constant(i, call)? {
            None => Ok(None),
            Some(ScalarValue::Int64(Some(value))) => Ok(Some(*value)),
            Some(other) => plan_err!("argument {} of {call} has to be a whole number, not {other}", i + 1),
        }
    }

    /// A number.
    pub(crate) fn number(&self, i: usize, call: &str) -> Result<Option<f64>> {
        match self.constant(i, call)? {
            None => Ok(None),
            Some(ScalarValue::Float64(Some(value))) => Ok(Some(*value)),
            Some(other) => plan_err!("argument {} of {call} has to be a number, not {other}", i + 1),
        }
    }
}

/// What is made of a summary once its type is known.
pub(crate) trait Build {
    type Out;
    fn with<S: Summary>(self, summary: S, input: Input) -> Result<Self::Out>;
}

struct Ungrouped;

impl Build for Ungrouped {
    type Out = Box<dyn Accumulator>;

    fn with<S: Summary>(self, summary: S, input: Input) -> Result<Self::Out> {
        Ok(Box::new(SketchAccumulator::try_new(summary, input)?))
    }
}

struct Grouped;

impl Build for Grouped {
    type Out = Box<dyn GroupsAccumulator>;

    fn with<S: Summary>(self, summary: S, input: Input) -> Result<Self::Out> {
        Ok(Box::new(SketchGroups::new(summary, input)))
    }
}

/// A SQL aggregate that makes, merges or reads sketches.
pub(crate) trait SketchFunction: Debug + Send + Sync + Eq + Hash + 'static {
    const NAME: &'static str;

    /// The types that arguments are cast to.
    fn coerce(types: &[DataType]) -> Result<Vec<DataType>>;
    fn return_type(types: &[DataType]) -> Result<DataType>;
    fn input(types: &[DataType]) -> Result<Input>;
    /// Makes the summary of a call and hands it on.
    fn build<B: Build>(arguments: &Arguments, builder: B) -> Result<B::Out>;
    fn documentation() -> &'static Documentation;
}

/// The DataFusion function of a [`SketchFunction`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SketchAggregate<F> {
    signature: Signature,
    function: PhantomData<F>,
}

/// The DataFusion function of a [`SketchFunction`].
pub(crate) fn aggregate<F: SketchFunction>() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(SketchAggregate::<F> {
        signature: Signature::user_defined(Volatility::Immutable),
        function: PhantomData,
    }))
}

fn plain_call(distinct: bool, ordered: bool, name: &str) -> Result<()> {
    if distinct {
        return plan_err!("{name} does not take DISTINCT: use SELECT DISTINCT in a subquery");
    }
    if ordered {
        return plan_err!("{name} does not depend on an order: leave ORDER BY out of the call");
    }
    Ok(())
}

impl<F: SketchFunction> AggregateUDFImpl for SketchAggregate<F> {
    fn name(&self) -> &str {
        F::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        F::coerce(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        F::return_type(types)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let types: Vec<DataType> = args.input_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(F::input(&types)?.state_fields(args.name))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        plain_call(args.is_distinct, !args.order_bys.is_empty(), F::NAME)?;
        F::build(&Arguments::of(&args), Ungrouped)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        // What is refused is refused by `accumulator`, which can say why.
        plain_call(args.is_distinct, !args.order_bys.is_empty(), F::NAME).is_ok()
    }

    /// Refuses DISTINCT before another rule makes a GROUP BY of it.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(Box::new(|call, _| {
            plain_call(call.params.distinct, !call.params.order_by.is_empty(), F::NAME)?;
            Ok(Expr::AggregateFunction(call))
        }))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        F::build(&Arguments::of(&args), Grouped)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(F::documentation())
    }
}
