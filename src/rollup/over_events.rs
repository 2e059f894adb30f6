//! A rollup in terms of the raw events, at the end of whatever cascade it stands on.
//!
//! A sum of sums of a column is a sum of that column, and a key of a key is an expression of the events: put together, a
//! definition over a rollup reads like one over the events. [`crate::optimizer`] finds by it what a rollup can answer.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result as EngineResult};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;

use super::view::{Rollup, Source};
use crate::error::Result;

/// What a rollup's columns are made of, over the columns of the events table.
#[derive(Debug, Clone)]
pub struct OverEvents {
    /// Of each column in the order of the rollup's schema; `None` where it cannot be said in one expression.
    pub columns: Vec<Option<Expr>>,
    /// Which events count: all of these hold.
    pub conditions: Vec<Expr>,
}

impl Rollup {
    /// The rollup over the raw events.
    pub fn over_events(&self) -> Result<OverEvents> {
        let definition = &self.definition;
        let own = definition.expressions()?;
        let filter = definition.filter()?;
        let Source::Rollup(finer) = &self.source else {
            let columns = own.into_iter().map(|expr| Ok(Some(unqualified(expr)?)));
            let conditions = filter.map(unqualified).transpose()?;
            return Ok(OverEvents {
                columns: columns.collect::<Result<_>>()?,
                conditions: conditions.into_iter().collect(),
            });
        };
        let below = finer.over_events()?;
        let schema = finer.definition.schema();
        let of = |column: &Column| {
            schema.index_of(column.name()).ok().and_then(|i| below.columns.get(i).cloned().flatten())
        };
        let columns = own.into_iter().map(|expr| match &expr {
            Expr::AggregateFunction(call) => {
                let [Expr::Column(column)] = call.params.args.as_slice() else { return Ok(None) };
                if call.params.filter.is_some() {
                    return Ok(None);
                }
                Ok(match (finer.definition.merge_function(column.name()), of(column)) {
                    // A rollup merges a measure by its own function and no other.
                    (Some(_), raw) => raw,
                    (None, Some(key)) => Some(over_key(call, key)),
                    (None, None) => None,
                })
            }
            _ => substituted(expr, &of),
        });
        let columns = columns.collect::<Result<_>>()?;
        let mut conditions = below.conditions.clone();
        if let Some(filter) = filter {
            // It uses nothing but bucket and keys, each of which is an expression of the events.
            let filter = substituted(filter, &of)?.ok_or_else(|| {
                crate::error::Error::internal("a filter over a rollup uses more than its bucket and keys")
            })?;
            conditions.push(filter);
        }
        Ok(OverEvents { columns, conditions })
    }
}

/// The same aggregate of another expression.
fn over_key(call: &AggregateFunction, key: Expr) -> Expr {
    let mut call = call.clone();
    call.params.args = vec![key];
    Expr::AggregateFunction(call)
}

/// An expression with others in the place of its columns; `None` if one has none.
fn substituted(expr: Expr, of: &impl Fn(&Column) -> Option<Expr>) -> Result<Option<Expr>> {
    let mut all = true;
    let expr = expr.transform_up(|e| {
        let Expr::Column(column) = &e else { return Ok(Transformed::no(e)) };
        match of(column) {
            Some(other) => Ok(Transformed::yes(other)),
            None => {
                all = false;
                Ok(Transformed::no(e))
            }
        }
    })?;
    Ok(all.then_some(expr.data))
}

/// An expression whose columns do not say which table they are of: there is only one.
fn unqualified(expr: Expr) -> EngineResult<Expr> {
    let expr = expr.transform_up(|e| match e {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(expr.data)
}
