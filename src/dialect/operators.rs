//! Operators whose meaning hangs on the types beside them.

use datafusion::arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{DFSchema, Result};
use datafusion::functions::regex::regexp_match;
use datafusion::functions_nested::extract::array_element_udf;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::functions::interval::times_interval;

/// Plans what the engine does not.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    /// An interval times a number, and divided by one.
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_interval = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(_)));
        let is_number = |e: &Expr| match e {
            Expr::Placeholder(p) => p.field.as_ref().is_none_or(|f| f.data_type().is_numeric()),
            e => e.get_type(schema).is_ok_and(|t| t.is_numeric()),
        };
        let (interval, number) = match expr.op {
            BinaryOperator::Multiply if is_interval(&expr.left) && is_number(&expr.right) => {
                (expr.left, cast(expr.right, DataType::Float64))
            }
            BinaryOperator::Multiply if is_number(&expr.left) && is_interval(&expr.right) => {
                (expr.right, cast(expr.left, DataType::Float64))
            }
            BinaryOperator::Divide if is_interval(&expr.left) && is_number(&expr.right) => {
                let one = Expr::Literal(ScalarValue::Float64(Some(1.0)), None);
                (expr.left, one / cast(expr.right, DataType::Float64))
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let interval = cast(interval, DataType::Interval(IntervalUnit::MonthDayNano));
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(
            times_interval(),
            vec![interval, number],
        ))))
    }

    /// `extract(part FROM time)`, by our own `date_part`.
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let call = ScalarFunction::new_udf(super::functions::date_part(), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    /// `substring(text FROM pattern)`: what the pattern finds, or its first group if it has one.
    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let by_pattern =
            matches!(args.as_slice(), [_, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_), _)]);
        if !by_pattern {
            return Ok(PlannerResult::Original(args));
        }
        let found = Expr::ScalarFunction(ScalarFunction::new_udf(regexp_match(), args));
        let first = Expr::Literal(ScalarValue::Int64(Some(1)), None);
        let first = ScalarFunction::new_udf(array_element_udf(), vec![found, first]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(first)))
    }
}
