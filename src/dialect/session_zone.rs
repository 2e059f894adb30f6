//! What day or time an instant is, the session's clock says: a cast of a TIMESTAMPTZ to DATE, TIMESTAMP, TIME
//! or text.
//!
//! The engine goes by the zone in the column's type, which is UTC for every table.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub(super) struct SessionZone;

impl AnalyzerRule for SessionZone {
    fn name(&self) -> &str {
        "session_zone"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let Some(zone) = config.execution.time_zone.as_deref() else { return Ok(plan) };
        if is_utc(zone) {
            return Ok(plan);
        }
        let changed = plan.transform_up_with_subqueries(|node| {
            let inputs = node.inputs();
            let mut schema = merge_schema(&inputs);
            if inputs.is_empty() {
                schema = DFSchema::clone(node.schema());
            }
            node.map_expressions(|expr| expr.transform_up(|e| by_clock(e, zone, &schema)))
        })?;
        Ok(changed.data)
    }
}

fn by_clock(expr: Expr, zone: &str, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = expr else { return Ok(Transformed::no(expr)) };
    let shown = matches!(
        field.data_type(),
        DataType::Date32
            | DataType::Date64
            | DataType::Timestamp(_, None)
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
    );
    match inner.get_type(schema) {
        Ok(DataType::Timestamp(unit, Some(other))) if shown && *other != *zone => {
            let there = cast(*inner, DataType::Timestamp(unit, Some(zone.into())));
            Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(there), field })))
        }
        _ => Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field }))),
    }
}

fn is_utc(zone: &str) -> bool {
    ["utc", "etc/utc", "+00:00", "gmt", "z"].iter().any(|z| zone.eq_ignore_ascii_case(z))
}
