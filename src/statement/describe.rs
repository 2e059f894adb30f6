//! What a logical plan says of a statement before it runs: its parameters and its columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, expr::Placeholder};

use super::Description;
use crate::error::Result;

/// The result columns and parameters of a plan. A parameter's type is what the plan wants there, else what it is cast
/// to. Where the plan says nothing of it, the client's hint tells what type results have that hang on it.
pub fn describe_plan(plan: &LogicalPlan, hints: &[Option<DataType>]) -> Result<Description> {
    let found = parameters(plan)?;
    let count = found.keys().last().copied().unwrap_or(0);
    let parameters: Vec<Option<DataType>> = (1..=count).map(|n| found.get(&n).cloned().flatten()).collect();
    let fields = match plan {
        LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => None,
        // The types of results may hang on those of parameters.
        plan if found.values().any(Option::is_none) => {
            let hinted = |(i, known): (usize, &Option<DataType>)| {
                known.clone().or_else(|| hints.get(i).cloned().flatten())
            };
            let types: Vec<_> = parameters.iter().enumerate().map(hinted).collect();
            let typed = with_types(plan.clone(), &types)?;
            Some(Arc::clone(typed.schema().inner()))
        }
        plan => Some(Arc::clone(plan.schema().inner())),
    };
    Ok(Description { fields, parameters })
}

/// The types of `$1`, `$2`, … by number.
fn parameters(plan: &LogicalPlan) -> Result<BTreeMap<usize, Option<DataType>>> {
    let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        let counts = matches!(node, LogicalPlan::Limit(_));
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let (placeholder, cast_to) = match expr {
                    Expr::Placeholder(p) => (p, counts.then_some(DataType::Int64)),
                    Expr::Cast(cast) => match cast.expr.as_ref() {
                        Expr::Placeholder(p) => (p, Some(cast.field.data_type().clone())),
                        _ => return Ok(TreeNodeRecursion::Continue),
                    },
                    // `x = ANY ($1)`
                    Expr::ScalarFunction(function) if function.name() == "array_has" => {
                        match function.args.as_slice() {
                            [Expr::Placeholder(p), item] => {
                                (p, item.get_type(&schema).ok().map(|t| DataType::new_list(t, true)))
                            }
                            _ => return Ok(TreeNodeRecursion::Continue),
                        }
                    }
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                if let Some(number) = number(placeholder) {
                    let known = found.entry(number).or_default();
                    let wanted = placeholder.field.as_ref().map(|f| f.data_type().clone()).or(cast_to);
                    // Where it is used twice, the first use with a type counts.
                    if known.is_none() {
                        *known = wanted.filter(|t| *t != DataType::Null);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn number(placeholder: &Placeholder) -> Option<usize> {
    // The protocol has no more than 65,535.
    placeholder.id.strip_prefix('$')?.parse().ok().filter(|n| (1..=65_535).contains(n))
}

fn with_types(plan: LogicalPlan, types: &[Option<DataType>]) -> Result<LogicalPlan> {
    let typed = plan.transform_up_with_subqueries(|node| {
        let changed = node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::Placeholder(Placeholder { id, field: None }) => {
                    let placeholder = Placeholder { id, field: None };
                    let known = number(&placeholder).and_then(|n| types.get(n - 1).cloned().flatten());
                    let field = Some(Arc::new(Field::new("", known.unwrap_or(DataType::Utf8), true)));
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { field, ..placeholder })))
                }
                expr => Ok(Transformed::no(expr)),
            })
        })?;
        changed.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(typed.data)
}
