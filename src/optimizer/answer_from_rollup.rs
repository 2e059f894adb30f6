//! Answers a query over raw events by a rollup that says the same (`SET toplake.rewrite = on`).
//!
//! An aggregation over an events table is taken from a rollup where
//! * its grouping and its filters can be said in the rollup's keys and buckets: a filter on the time begins and ends with a
//!   bucket, a coarser bucket is made of whole buckets of the rollup;
//! * each of its aggregates is a measure of the rollup, or an extreme of a key;
//! * what the rollup leaves out by its own WHERE, it leaves out by the same;
//! * it reads no time of which the rollup has more than the events ([`Candidate::from`]), and no measure that is not known
//!   everywhere.
//!
//! Anything else stays as it is, and so do sums of DOUBLE, which depend on an order. Sketches are what sketches are: bounds
//! hold, an estimate may differ. Of several rollups the smallest answers.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Projection, cast,
    col, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

use super::aggregation::Aggregation;
use super::candidates::{Candidate, Candidates};
use super::not_null::not_null;
use crate::rollup::definition::bucketing_of;

/// Aggregates of which a merge over nothing is what the aggregate over nothing is.
const EXACT: [&str; 9] =
    ["sum", "count", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"];

/// The rule.
#[derive(Debug)]
pub struct AnswerFromRollup;

impl OptimizerRule for AnswerFromRollup {
    fn name(&self) -> &str {
        "answer_from_rollup"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let options = config.options();
        let Some(candidates) = options.extensions.get::<Candidates>() else {
            return Ok(Transformed::no(plan));
        };
        let Some(asked) = Aggregation::of(aggregate)? else { return Ok(Transformed::no(plan)) };
        for candidate in candidates.iter().filter(|c| Arc::ptr_eq(&c.events, &asked.events)) {
            if let Some(answer) = answer(candidate, &asked, aggregate)? {
                return Ok(Transformed::yes(answer));
            }
        }
        Ok(Transformed::no(plan))
    }
}

/// The same from a rollup, if it has it.
fn answer(candidate: &Candidate, asked: &Aggregation, aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let translation = Translation::new(candidate)?;
    if !candidate.conditions.iter().all(|condition| asked.conditions.contains(condition)) {
        return Ok(None);
    }
    let since =
        asked.conditions.iter().filter_map(|e| translation.edge(e)).filter(|edge| edge.op == Operator::GtEq);
    if candidate.from.is_some_and(|from| since.map(|edge| edge.at).max().is_none_or(|since| since < from)) {
        return Ok(None);
    }
    let rest = asked.conditions.iter().filter(|condition| !candidate.conditions.contains(condition));
    let Some(filters) = rest.map(|e| translation.of(e)).collect::<Result<Option<Vec<_>>>>()? else {
        return Ok(None);
    };
    let Some(groups) = asked.groups.iter().map(|e| translation.of(e)).collect::<Result<Option<Vec<_>>>>()?
    else {
        return Ok(None);
    };
    let mut aggregates = vec![];
    for expr in &asked.aggregates {
        let Expr::AggregateFunction(call) = expr else { return Ok(None) };
        if asked.groups.is_empty() && !EXACT.contains(&call.func.name()) {
            return Ok(None);
        }
        let Some(merged) = translation.aggregate(call)? else { return Ok(None) };
        aggregates.push(merged);
    }
    let rollup = candidate.table.rollup();
    let name = TableReference::bare(rollup.table.name());
    let source = provider_as_source(Arc::clone(&candidate.table) as _);
    let mut plan = LogicalPlanBuilder::scan(name, source, None)?;
    if let Some(filter) = conjunction(filters) {
        plan = plan.filter(filter)?;
    }
    // Each has a name of its own: two columns of the query may be made from one of the rollup.
    let named = |prefix: &str, exprs: Vec<Expr>| -> Vec<Expr> {
        exprs.into_iter().enumerate().map(|(i, e)| e.alias(format!("{prefix}_{i}"))).collect()
    };
    let merged = plan.aggregate(named("group", groups), named("aggregate", aggregates))?.build()?;
    as_asked(merged, asked, aggregate)
}

/// The rows of `merged` with the names, types and NULLs of those of `aggregate`.
fn as_asked(merged: LogicalPlan, asked: &Aggregation, aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let mut columns = vec![];
    for (i, (qualifier, wanted)) in aggregate.schema.iter().enumerate() {
        let (own, found) = merged.schema().qualified_field(i);
        let mut value = Expr::Column(Column::new(own.cloned(), found.name()));
        let call = i.checked_sub(asked.groups.len()).and_then(|i| asked.aggregates.get(i));
        if matches!(call, Some(Expr::AggregateFunction(call)) if call.func.name() == "count") {
            // Counts of nothing add up to NULL.
            value = coalesce(vec![value, lit(0_i64)]);
        }
        value = match (found.data_type(), wanted.data_type()) {
            (found, wanted) if found == wanted => value,
            // A sum of sums has more digits to spare.
            (DataType::Decimal128(_, found), DataType::Decimal128(_, scale)) if found == scale => {
                cast(value, wanted.data_type().clone())
            }
            _ => return Ok(None),
        };
        if !wanted.is_nullable() && value.nullable(merged.schema())? {
            value = not_null(value);
        }
        columns.push(value.alias_qualified(qualifier.cloned(), wanted.name()));
    }
    let projection =
        Projection::try_new_with_schema(columns, Arc::new(merged), Arc::clone(&aggregate.schema))?;
    Ok(Some(LogicalPlan::Projection(projection)))
}

/// A condition `time >= at` or `time < at`.
struct Edge {
    op: Operator,
    at: i64,
    literal: ScalarValue,
}

/// From expressions over the events to expressions over a rollup.
struct Translation<'a> {
    candidate: &'a Candidate,
    events: DFSchema,
}

impl<'a> Translation<'a> {
    fn new(candidate: &'a Candidate) -> Result<Self> {
        Ok(Translation { candidate, events: DFSchema::try_from(Arc::clone(&candidate.events_schema))? })
    }

    fn bucket(&self) -> Expr {
        col(Column::new_unqualified(self.candidate.table.rollup().definition.bucket_column()))
    }

    fn is_time(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(column) if column.name == self.candidate.time_column)
    }

    /// The same for all events of a row of the rollup; `None` if it is not.
    fn of(&self, expr: &Expr) -> Result<Option<Expr>> {
        let bucketing = self.candidate.table.rollup().definition.bucketing();
        let mut said = true;
        let translated = expr.clone().transform_down(|e| {
            if let Some((_, column)) = self.candidate.keys.iter().find(|(of, _)| *of == e) {
                let column = col(Column::new_unqualified(column));
                return Ok(Transformed::new(column, true, TreeNodeRecursion::Jump));
            }
            if let Expr::ScalarFunction(call) = &e
                && call.args.get(1).is_some_and(|time| self.is_time(time))
                && let Ok(Some(coarser)) = bucketing_of(call, &self.candidate.time_column, &self.events)
                && coarser.nests_in(bucketing)
            {
                let mut call = call.clone();
                call.args[1] = self.bucket();
                return Ok(Transformed::new(Expr::ScalarFunction(call), true, TreeNodeRecursion::Jump));
            }
            if let Some(edge) = self.edge(&e)
                && bucketing.start(edge.at) == edge.at
            {
                let at = Box::new(Expr::Literal(edge.literal, None));
                let on_bucket = Expr::BinaryExpr(BinaryExpr::new(Box::new(self.bucket()), edge.op, at));
                return Ok(Transformed::new(on_bucket, true, TreeNodeRecursion::Jump));
            }
            said &= !matches!(e, Expr::Column(_));
            Ok(Transformed::no(e))
        })?;
        Ok(said.then_some(translated.data))
    }

    /// Reads a comparison of the time with an instant.
    fn edge(&self, expr: &Expr) -> Option<Edge> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
        let (op, literal) = match (left.as_ref(), right.as_ref()) {
            (time, Expr::Literal(literal, _)) if self.is_time(time) => (*op, literal),
            (Expr::Literal(literal, _), time) if self.is_time(time) => (op.swap()?, literal),
            _ => return None,
        };
        let ScalarValue::TimestampMicrosecond(Some(at), zone) = literal else { return None };
        let (op, at) = match op {
            Operator::GtEq | Operator::Lt => (op, *at),
            Operator::Gt => (Operator::GtEq, at.checked_add(1)?),
            Operator::LtEq => (Operator::Lt, at.checked_add(1)?),
            _ => return None,
        };
        Some(Edge { op, at, literal: ScalarValue::TimestampMicrosecond(Some(at), zone.clone()) })
    }

    /// The aggregate over the rollup that is this one over the events.
    fn aggregate(&self, call: &AggregateFunction) -> Result<Option<Expr>> {
        let params = &call.params;
        if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Ok(None);
        }
        if call.func.name() == "sum" && self.is_float(params.args.first())? {
            return Ok(None);
        }
        let same = |of: &AggregateFunction| of.func == call.func && of.params.args == params.args;
        let measures = || self.candidate.measures.iter().filter(|m| same(&m.of) && !m.of.params.distinct);
        if let Some(measure) = measures().find(|m| m.of.params.filter == params.filter) {
            return Ok(Some(measure.merge.call(vec![col(Column::new_unqualified(&measure.column))])));
        }
        let filter = match &params.filter {
            None => None,
            // Over nothing a sketch is not what a merge of none is.
            Some(_) if !EXACT.contains(&call.func.name()) => return Ok(None),
            Some(filter) => match self.of(filter)? {
                Some(filter) => Some(Box::new(filter)),
                None => return Ok(None),
            },
        };
        let mut merged = match measures().find(|m| m.of.params.filter.is_none()) {
            Some(measure) => AggregateFunction::new_udf(
                Arc::clone(&measure.merge),
                vec![col(Column::new_unqualified(&measure.column))],
                false,
                None,
                vec![],
                None,
            ),
            // However many events carry it, the extremes are the same.
            None if matches!(call.func.name(), "min" | "max") => {
                let [argument] = params.args.as_slice() else { return Ok(None) };
                let Some(argument) = self.of(argument)? else { return Ok(None) };
                let mut call = call.clone();
                call.params.args = vec![argument];
                call
            }
            None => return Ok(None),
        };
        merged.params.filter = filter;
        Ok(Some(Expr::AggregateFunction(merged)))
    }

    fn is_float(&self, argument: Option<&Expr>) -> Result<bool> {
        let of = argument.map(|expr| expr.get_type(&self.events)).transpose()?;
        Ok(of.is_some_and(|t| t.is_floating()))
    }
}
