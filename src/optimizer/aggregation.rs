//! An aggregation over an events table, in terms of the table's own columns.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use crate::catalog::events::EventsTable;
use crate::lake::table::Table;

/// `SELECT groups, aggregates FROM events WHERE conditions GROUP BY groups`, without names.
#[derive(Debug)]
pub struct Aggregation {
    /// The events table.
    pub events: Arc<Table>,
    /// What it groups by.
    pub groups: Vec<Expr>,
    /// What it computes.
    pub aggregates: Vec<Expr>,
    /// All of these hold.
    pub conditions: Vec<Expr>,
}

impl Aggregation {
    /// Reads a node of an optimised plan; `None` if it is none over the rows of one events table, or depends on more than
    /// these rows.
    pub fn of(aggregate: &Aggregate) -> Result<Option<Self>> {
        let mut outputs: Vec<Expr> =
            aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let mut conditions: Vec<Expr> = vec![];
        let mut below = aggregate.input.as_ref();
        let events = loop {
            match below {
                LogicalPlan::Filter(filter) => {
                    conditions.extend(split_conjunction_owned(filter.predicate.clone()));
                    below = filter.input.as_ref();
                }
                LogicalPlan::Projection(projection) => {
                    let schema = projection.schema.as_ref();
                    let of = |i: usize| projection.expr[i].clone();
                    replace_columns(&mut outputs, schema, &of)?;
                    replace_columns(&mut conditions, schema, &of)?;
                    below = projection.input.as_ref();
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let inner = alias.input.schema();
                    let of = |i: usize| Expr::Column(Column::from(inner.qualified_field(i)));
                    replace_columns(&mut outputs, &alias.schema, &of)?;
                    replace_columns(&mut conditions, &alias.schema, &of)?;
                    below = alias.input.as_ref();
                }
                LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                    let provider = source_as_provider(&scan.source)?;
                    let Some(events) = (provider.as_ref() as &dyn Any).downcast_ref::<EventsTable>() else {
                        return Ok(None);
                    };
                    // The newest rows of a late table stand in the commits of another, and no rollup reads them there.
                    if events.late_of().is_some() {
                        return Ok(None);
                    }
                    conditions.extend(scan.filters.iter().cloned().flat_map(split_conjunction_owned));
                    break Arc::clone(events.table());
                }
                _ => return Ok(None),
            }
        };
        let aggregates = outputs.split_off(aggregate.group_expr.len());
        let read = |expr: Expr| -> Result<Option<Expr>> {
            let expr = expr.transform_up(|e| match e {
                Expr::Column(column) => {
                    Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name))))
                }
                other => Ok(Transformed::no(other)),
            })?;
            let expr = expr.data.unalias_nested().data;
            let plain = !expr.is_volatile() && !expr.exists(|e| Ok(is_more_than_a_row(e)))?;
            Ok(plain.then_some(expr))
        };
        let read = |exprs: Vec<Expr>| exprs.into_iter().map(read).collect::<Result<Option<Vec<Expr>>>>();
        let (Some(groups), Some(aggregates), Some(all)) =
            (read(outputs)?, read(aggregates)?, read(conditions)?)
        else {
            return Ok(None);
        };
        // The scan has the same filters as the node above it.
        let mut conditions: Vec<Expr> = vec![];
        for condition in all {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        Ok(Some(Aggregation { events, groups, aggregates, conditions }))
    }
}

fn replace_columns(exprs: &mut [Expr], schema: &DFSchema, of: &dyn Fn(usize) -> Expr) -> Result<()> {
    for expr in exprs {
        let replaced = std::mem::take(expr).transform_up(|e| match &e {
            Expr::Column(column) => Ok(Transformed::yes(of(schema.index_of_column(column)?))),
            _ => Ok(Transformed::no(e)),
        })?;
        *expr = replaced.data;
    }
    Ok(())
}

/// What depends on other rows or queries, or groups in several ways at once.
fn is_more_than_a_row(expr: &Expr) -> bool {
    is_query(expr) || matches!(expr, Expr::GroupingSet(_))
}

/// What depends on another query.
pub(super) fn is_query(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(_, _)
    )
}
