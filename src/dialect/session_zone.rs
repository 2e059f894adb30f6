//! What day or time an instant is, the session's clock says: `date_trunc`, `extract`, `to_char`, and casts of a TIMESTAMPTZ to
//! DATE, TIMESTAMP, TIME or text.
//!
//! The engine goes by the zone in a column's type, which is UTC for every table. So the zone is put into the plan as soon as
//! there is one: it is the session's for a statement, and that of whoever made it for a view, so that a rollup gives the
//! same to everybody and always.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::scalar::ScalarValue;

use super::functions;

/// Functions of an instant that look at a clock.
const BY_CLOCK: &[&str] = &["date_trunc", "date_part", "to_char", "age"];

/// The plan, by the clock of a zone.
pub(super) fn by_clock_of(zone: Option<&str>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let Some(zone) = zone.filter(|zone| !is_utc(zone)) else { return Ok(plan) };
    let changed = plan.transform_up_with_subqueries(|node| {
        let inputs = node.inputs();
        let schema = match inputs.is_empty() {
            true => DFSchema::clone(node.schema()),
            false => merge_schema(&inputs),
        };
        node.map_expressions(|expr| expr.transform_up(|e| by_clock(e, zone, &schema)))
    })?;
    Ok(changed.data)
}

fn by_clock(expr: Expr, zone: &str, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let elsewhere = |e: &Expr| match e.get_type(schema) {
        Ok(DataType::Timestamp(unit, Some(other))) if *other != *zone => {
            Some(DataType::Timestamp(unit, Some(zone.into())))
        }
        _ => None,
    };
    match expr {
        Expr::Cast(Cast { expr: inner, field }) => {
            let text = matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
            let shown = matches!(
                field.data_type(),
                DataType::Date32
                    | DataType::Date64
                    | DataType::Timestamp(_, None)
                    | DataType::Time32(_)
                    | DataType::Time64(_)
            );
            let inner = match elsewhere(&inner) {
                Some(there) if text => cast(*inner, there),
                Some(_) if shown => at_zone(zone, *inner),
                _ => return Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field }))),
            };
            Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(inner), field })))
        }
        Expr::ScalarFunction(call) if reads_a_clock(&call, schema) => {
            let shown = cast(Expr::ScalarFunction(call), DataType::Timestamp(TimeUnit::Microsecond, None));
            Ok(Transformed::yes(at_zone(zone, shown)))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if BY_CLOCK.contains(&func.name()) => {
            let truncates = func.name() == "date_trunc";
            // One with a zone of its own needs no other.
            let own = truncates && args.len() > 2;
            let instant = args.iter().find_map(&elsewhere).filter(|_| !own);
            if instant.is_none() {
                return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
            }
            let before = args.get(1).map(|time| time.get_type(schema)).transpose()?;
            let there = args.into_iter().map(|arg| match elsewhere(&arg) {
                Some(there) => cast(arg, there),
                None => arg,
            });
            let call = Expr::ScalarFunction(ScalarFunction { args: there.collect(), func });
            Ok(Transformed::yes(match before {
                Some(before) if truncates => cast(call, before),
                _ => call,
            }))
        }
        expr => Ok(Transformed::no(expr)),
    }
}

/// What the clock of a zone shows at an instant; the instant at which it shows a timestamp.
fn at_zone(zone: &str, time: Expr) -> Expr {
    let zone = Expr::Literal(ScalarValue::from(zone), None);
    Expr::ScalarFunction(ScalarFunction { func: functions::timezone(), args: vec![zone, time] })
}

/// Whether it is `to_timestamp` of a text that says nothing of a zone, by one of PostgreSQL's patterns.
fn reads_a_clock(call: &ScalarFunction, schema: &DFSchema) -> bool {
    let [text, Expr::Literal(pattern, _)] = call.args.as_slice() else { return false };
    let pattern = pattern.try_as_str().flatten().unwrap_or_default();
    call.func.name() == "to_timestamp"
        && text.get_type(schema).is_ok_and(|t| t.is_string())
        && !pattern.contains('%')
        && !["TZ", "OF"].iter().any(|zone| pattern.to_uppercase().contains(zone))
}

fn is_utc(zone: &str) -> bool {
    ["utc", "etc/utc", "+00:00", "gmt", "z"].iter().any(|z| zone.eq_ignore_ascii_case(z))
}
