//! Leaves out the merge of a rollup's partial rows where the query aggregates its measures again.
//!
//! A scan of a rollup gives one row for each bucket and key, for which it merges partial rows. `sum(quantity)` over a sum
//! need not wait for that: it may as well add up the partial rows. That holds if the query merges each measure that it
//! uses by the measure's own function, and all else that it does to rows before (filters, grouping, projections, unions,
//! joins) looks at nothing but the bucket and the keys, which all partial rows of one row have in common.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, Join, JoinType, LogicalPlan, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::aggregation::is_query;
use crate::rollup::table::RollupTable;

/// The rule.
#[derive(Debug)]
pub struct DropMerge;

impl OptimizerRule for DropMerge {
    fn name(&self) -> &str {
        "drop_merge"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(mut aggregate) = plan else { return Ok(Transformed::no(plan)) };
        let input = unmerged(&aggregate.input)?;
        match input.plan {
            Some(plan) if merges_again(&aggregate, &input.columns)? => {
                aggregate.input = Arc::new(plan);
                Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
            }
            _ => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        }
    }
}

/// What a column is if the rollups below are not merged.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// Nothing of a rollup: any aggregate of it is what it was.
    Other,
    /// The same in all partial rows of one row: made from bucket and keys.
    Key,
    /// A measure, with the function that merges it.
    Measure(Arc<AggregateUDF>),
    /// Anything else.
    Mixed,
}

impl Origin {
    fn of_both(self, other: Origin) -> Origin {
        match (self, other) {
            (Origin::Other, one) | (one, Origin::Other) => one,
            (one, other) if one == other => one,
            _ => Origin::Mixed,
        }
    }
}

/// A plan with the merges below it left out, where that is possible.
struct Unmerged {
    /// `None` if there is none to leave out.
    plan: Option<LogicalPlan>,
    /// What its columns are.
    columns: Vec<Origin>,
}

impl Unmerged {
    fn as_it_is(plan: &LogicalPlan) -> Self {
        Unmerged { plan: None, columns: vec![Origin::Other; plan.schema().fields().len()] }
    }
}

fn unmerged(plan: &LogicalPlan) -> Result<Unmerged> {
    let as_it_is = || Ok(Unmerged::as_it_is(plan));
    match plan {
        LogicalPlan::TableScan(scan) => Ok(unmerged_scan(scan)?.unwrap_or_else(|| Unmerged::as_it_is(plan))),
        LogicalPlan::SubqueryAlias(alias) => {
            let Unmerged { plan: Some(input), columns } = unmerged(&alias.input)? else { return as_it_is() };
            let mut alias = alias.clone();
            alias.input = Arc::new(input);
            Ok(Unmerged { plan: Some(LogicalPlan::SubqueryAlias(alias)), columns })
        }
        LogicalPlan::Filter(filter) => {
            let Unmerged { plan: Some(input), columns } = unmerged(&filter.input)? else { return as_it_is() };
            if origin(&filter.predicate, filter.input.schema(), &columns)? != Origin::Key {
                return as_it_is();
            }
            let mut filter = filter.clone();
            filter.input = Arc::new(input);
            Ok(Unmerged { plan: Some(LogicalPlan::Filter(filter)), columns })
        }
        LogicalPlan::Projection(projection) => {
            let Unmerged { plan: Some(input), columns } = unmerged(&projection.input)? else {
                return as_it_is();
            };
            let schema = projection.input.schema();
            let each = projection.expr.iter().map(|expr| origin(expr, schema, &columns));
            let columns = each.collect::<Result<_>>()?;
            let mut projection = projection.clone();
            projection.input = Arc::new(input);
            Ok(Unmerged { plan: Some(LogicalPlan::Projection(projection)), columns })
        }
        LogicalPlan::Union(union) => {
            let mut columns = vec![Origin::Other; union.schema.fields().len()];
            let (mut inputs, mut any) = (Vec::with_capacity(union.inputs.len()), false);
            for input in &union.inputs {
                let arm = unmerged(input)?;
                columns = columns.into_iter().zip(arm.columns).map(|(a, b)| a.of_both(b)).collect();
                any |= arm.plan.is_some();
                inputs.push(arm.plan.map_or_else(|| Arc::clone(input), Arc::new));
            }
            if !any {
                return as_it_is();
            }
            let mut union = union.clone();
            union.inputs = inputs;
            Ok(Unmerged { plan: Some(LogicalPlan::Union(union)), columns })
        }
        LogicalPlan::Join(join) => Ok(unmerged_join(join)?.unwrap_or_else(|| Unmerged::as_it_is(plan))),
        _ => as_it_is(),
    }
}

/// One side of a join may be partial rows: each finds the partners that the merged row would have found. The other side's
/// rows come out once for each, so they count no more than a key does.
fn unmerged_join(join: &Join) -> Result<Option<Unmerged>> {
    let keys = |side: &LogicalPlan| vec![Origin::Key; side.schema().fields().len()];
    let (left, right) = (&join.left, &join.right);
    let by_left =
        matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
    let by_right = matches!(join.join_type, JoinType::Inner | JoinType::Right);
    let mut changed = join.clone();
    let columns = if by_left && let Unmerged { plan: Some(plan), columns } = unmerged(left)? {
        changed.left = Arc::new(plan);
        columns.into_iter().chain(keys(right)).collect::<Vec<_>>()
    } else if by_right && let Unmerged { plan: Some(plan), columns } = unmerged(right)? {
        changed.right = Arc::new(plan);
        keys(left).into_iter().chain(columns).collect()
    } else {
        return Ok(None);
    };
    let (of_left, of_right) = columns.split_at(left.schema().fields().len());
    for (one, other) in &join.on {
        let (one, other) = (origin(one, left.schema(), of_left)?, origin(other, right.schema(), of_right)?);
        if one != Origin::Key || other != Origin::Key {
            return Ok(None);
        }
    }
    if let Some(filter) = &join.filter
        && origin(filter, &left.schema().join(right.schema())?, &columns)? != Origin::Key
    {
        return Ok(None);
    }
    // A semi join shows one side only.
    let columns = columns.into_iter().take(join.schema.fields().len()).collect();
    Ok(Some(Unmerged { plan: Some(LogicalPlan::Join(changed)), columns }))
}

fn unmerged_scan(scan: &TableScan) -> Result<Option<Unmerged>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<RollupTable>() else { return Ok(None) };
    if !table.is_merged() || scan.fetch.is_some() {
        return Ok(None);
    }
    let definition = &table.rollup().definition;
    let of =
        |name: &str| definition.merge_function(name).map_or(Origin::Key, |f| Origin::Measure(Arc::clone(f)));
    let stored = DFSchema::try_from(Arc::clone(definition.schema()))?;
    let all: Vec<Origin> = definition.schema().fields().iter().map(|f| of(f.name())).collect();
    for filter in &scan.filters {
        let filter = datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone());
        if origin(&filter, &stored, &all)? != Origin::Key {
            return Ok(None);
        }
    }
    let columns = scan.projected_schema.fields().iter().map(|f| of(f.name())).collect();
    let mut scan = scan.clone();
    scan.source = provider_as_source(Arc::new(table.partial()));
    Ok(Some(Unmerged { plan: Some(LogicalPlan::TableScan(scan)), columns }))
}

/// What an expression over such columns is.
fn origin(expr: &Expr, schema: &DFSchema, columns: &[Origin]) -> Result<Origin> {
    let of = |column| Ok::<_, datafusion::common::DataFusionError>(&columns[schema.index_of_column(column)?]);
    match expr {
        Expr::Column(column) => return of(column).cloned(),
        Expr::Alias(alias) => return origin(&alias.expr, schema, columns),
        _ => {}
    }
    // A subquery may have columns that are not seen here.
    if expr.is_volatile() || expr.exists(|e| Ok(is_query(e)))? {
        return Ok(Origin::Mixed);
    }
    for column in expr.column_refs() {
        if !matches!(of(column)?, Origin::Key | Origin::Other) {
            return Ok(Origin::Mixed);
        }
    }
    Ok(Origin::Key)
}

/// Whether an aggregation gives the same over partial rows.
fn merges_again(aggregate: &Aggregate, columns: &[Origin]) -> Result<bool> {
    let schema = aggregate.input.schema();
    for group in &aggregate.group_expr {
        if origin(group, schema, columns)? != Origin::Key {
            return Ok(false);
        }
    }
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = expr.clone().unalias_nested().data else { return Ok(false) };
        let params = &call.params;
        if let Some(filter) = &params.filter
            && origin(filter, schema, columns)? != Origin::Key
        {
            return Ok(false);
        }
        let [argument] = params.args.as_slice() else { return Ok(false) };
        let merges = match origin(argument, schema, columns)? {
            Origin::Measure(merge) => call.func == merge && !params.distinct,
            // However many partial rows carry it, the extremes are the same.
            Origin::Key => matches!(call.func.name(), "min" | "max"),
            Origin::Other | Origin::Mixed => false,
        };
        if !merges || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}
