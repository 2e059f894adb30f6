//! Subqueries about the catalog that the engine cannot join: they are run for each different row of what is outside.
//!
//! The engine has a join for a correlated subquery where what it compares is equal and its answer is an aggregate. Tools
//! ask more than that: `a.attcollation <> t.typcollation` within, EXISTS as a column, a limit. Catalogs are small, so such
//! a subquery becomes a function of the columns that it takes from outside. Only where nothing but the catalog is read:
//! what users ask of their own tables is not to become slow without a word.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::expr::{Exists, InSubquery, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs,
    ScalarUDFImpl, Signature, Subquery, Volatility, lit,
};
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{AnalyzerRule, OptimizerContext, OptimizerRule};
use datafusion::prelude::SessionConfig;
use parking_lot::RwLock;

use super::{INFORMATION_SCHEMA_INSIDE, PG_CATALOG};
use crate::error::Error;

/// Puts functions in the place of such subqueries.
pub(super) struct RunCorrelated {
    /// The session that plans and runs them.
    state: Weak<RwLock<SessionState>>,
}

impl Debug for RunCorrelated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunCorrelated")
    }
}

impl RunCorrelated {
    pub(super) fn new(state: Weak<RwLock<SessionState>>) -> Self {
        RunCorrelated { state }
    }
}

impl AnalyzerRule for RunCorrelated {
    fn name(&self) -> &str {
        "run_correlated"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut correlated = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|e| {
                    correlated |= subquery_of(e).is_some_and(|s| !s.outer_ref_columns.is_empty());
                    Ok(if correlated { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })?;
            Ok(if correlated { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !correlated {
            return Ok(plan);
        }
        Ok(plan.transform_up_with_subqueries(|node| self.rewrite(node))?.data)
    }
}

impl RunCorrelated {
    fn rewrite(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Join(join) = node {
            return self.before_join(join);
        }
        if !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(node));
        }
        let input = match node.inputs().as_slice() {
            [input] => (*input).clone(),
            _ => return Ok(Transformed::no(node)),
        };
        let filters = matches!(node, LogicalPlan::Filter(_));
        let rewritten = node.map_expressions(|expr| {
            let named = expr.name_for_alias()?;
            let whole = expr.clone();
            let changed = expr.transform_down(|e| {
                let Some(subquery) = subquery_of(&e) else { return Ok(Transformed::no(e)) };
                // What it takes from further out has a value once that one is run.
                let known = |c: &Expr| match c {
                    Expr::OuterReferenceColumn(_, column) => input.schema().has_column(column),
                    _ => true,
                };
                if subquery.outer_ref_columns.is_empty()
                    || !subquery.outer_ref_columns.iter().all(known)
                    || !reads_catalog_only(&subquery.subquery)?
                {
                    return Ok(Transformed::no(e));
                }
                if is_nothing(&subquery.subquery) {
                    return Ok(Transformed::yes(of_nothing(&e)?));
                }
                if can_join(&e, &input, filters && is_conjunct(&whole, &e)) {
                    return Ok(Transformed::no(e));
                }
                Ok(Transformed::yes(self.function(e, input.schema())?))
            })?;
            let changed = match changed.transformed {
                true => Transformed::yes(changed.data.transform_up(when_asked)?.data),
                false => changed,
            };
            match changed.transformed && !filters {
                true => Ok(Transformed::yes(changed.data.alias_if_changed(named)?)),
                false => Ok(changed),
            }
        })?;
        rewritten.map_data(LogicalPlan::recompute_schema)
    }

    /// A subquery in the condition of a join that hangs on the left side only is a column of that side.
    fn before_join(&self, mut join: Join) -> Result<Transformed<LogicalPlan>> {
        let Some(filter) = join.filter.clone() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
        let left = Arc::clone(join.left.schema());
        let mut asked: Vec<Expr> = vec![];
        let filter = filter.transform_down(|e| {
            let of_left = |c: &Expr| match c {
                Expr::OuterReferenceColumn(_, column) => left.has_column(column),
                _ => true,
            };
            match subquery_of(&e) {
                Some(subquery)
                    if !subquery.outer_ref_columns.is_empty()
                        && subquery.outer_ref_columns.iter().all(of_left) =>
                {
                    let name = format!("{NAME}of_join_{}", asked.len());
                    asked.push(e.alias(&name));
                    Ok(Transformed::new(Expr::Column(Column::from_name(name)), true, TreeNodeRecursion::Jump))
                }
                _ => Ok(Transformed::no(e)),
            }
        })?;
        if asked.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let before: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
        let columns = left.columns().into_iter().map(Expr::Column).chain(asked);
        let left = LogicalPlanBuilder::from(join.left.as_ref().clone()).project(columns)?.build()?;
        join.left = Arc::new(self.rewrite(left)?.data);
        join.filter = Some(filter.data);
        let join = LogicalPlan::Join(join).recompute_schema()?;
        Ok(Transformed::yes(LogicalPlanBuilder::from(join).project(before)?.build()?))
    }

    /// The function that stands for a subquery.
    fn function(&self, expr: Expr, outside: &DFSchema) -> Result<Expr> {
        let subquery = subquery_of(&expr).cloned();
        let Some(subquery) = subquery else { return Ok(expr) };
        let mut outer: Vec<Column> = vec![];
        let mut take = |reference: &Expr| {
            if let Expr::OuterReferenceColumn(_, column) = reference
                && outside.has_column(column)
                && !outer.contains(column)
            {
                outer.push(column.clone());
            }
        };
        subquery.outer_ref_columns.iter().for_each(&mut take);
        // What only a subquery within it takes is not among them.
        subquery.subquery.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|e| {
                    take(e);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        let mut arguments: Vec<Expr> = outer.iter().cloned().map(Expr::Column).collect();
        let (kind, returns) = match &expr {
            Expr::Exists(exists) => (Kind::Exists { negated: exists.negated }, DataType::Boolean),
            Expr::InSubquery(within) => {
                arguments.push(within.expr.as_ref().clone());
                (Kind::In { negated: within.negated }, DataType::Boolean)
            }
            _ => (Kind::Value, subquery.subquery.schema().field(0).data_type().clone()),
        };
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let function = ForEachRow {
            name: format!("{NAME}{number}"),
            signature: Signature::variadic_any(Volatility::Volatile),
            arity: arguments.len(),
            plan: Arc::clone(&subquery.subquery),
            outer,
            kind,
            returns,
            state: self.state.clone(),
        };
        let function = Arc::new(AsyncScalarUDF::new(Arc::new(function)).into_scalar_udf());
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments)))
    }
}

/// A function is run for all rows, also where it stands in a branch of CASE; there it gets the branch's condition.
fn when_asked(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Case(mut case) = expr else { return Ok(Transformed::no(expr)) };
    if case.expr.is_some() {
        return Ok(Transformed::no(Expr::Case(case)));
    }
    for (when, then) in &mut case.when_then_expr {
        if when.exists(|e| Ok(is_ours(e)))? {
            continue;
        }
        let with_condition = then.as_ref().clone().transform_up(|e| match e {
            Expr::ScalarFunction(mut call) if call.func.name().starts_with(NAME) => {
                call.args.push(when.as_ref().clone());
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        **then = with_condition.data;
    }
    Ok(Transformed::yes(Expr::Case(case)))
}

fn is_ours(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name().starts_with(NAME))
}

/// What such functions are called, before a number.
const NAME: &str = "subquery_";

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

/// Whether a condition is one of those that all have to hold, and not part of another.
fn is_conjunct(whole: &Expr, part: &Expr) -> bool {
    match whole {
        Expr::BinaryExpr(both) if both.op == datafusion::logical_expr::Operator::And => {
            is_conjunct(&both.left, part) || is_conjunct(&both.right, part)
        }
        Expr::Not(inner) => inner.as_ref() == part,
        whole => whole == part,
    }
}

/// Whether the engine has a join for a subquery over these rows.
fn can_join(expr: &Expr, input: &LogicalPlan, conjunct: bool) -> bool {
    match expr {
        // Of these it has one where they are conditions, and nothing within compares more than columns.
        Expr::Exists(_) | Expr::InSubquery(_) => conjunct && correlates_in_filters(expr),
        _ => {
            let tried = LogicalPlanBuilder::from(input.clone()).project([expr.clone().alias("_")]);
            let Ok(projected) = tried.and_then(LogicalPlanBuilder::build) else { return false };
            let joined = ScalarSubqueryToJoin::new().rewrite(projected, &OptimizerContext::new());
            let Ok(joined) = joined else { return false };
            let LogicalPlan::Projection(_) = &joined.data else { return false };
            let mut left = false;
            let _ = joined.data.apply_with_subqueries(|node| {
                // A table within that takes columns from outside.
                left |= matches!(node, LogicalPlan::Subquery(_));
                node.apply_expressions(|e| {
                    left |= e.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?
                        || e.exists(|e| Ok(subquery_of(e).is_some_and(|s| !s.outer_ref_columns.is_empty())))?;
                    Ok(TreeNodeRecursion::Continue)
                })
            });
            joined.transformed && !left && is_aggregate(expr)
        }
    }
}

/// Whether a subquery gives one row at most because it is an aggregate, which the engine asks for.
fn is_aggregate(expr: &Expr) -> bool {
    let Expr::ScalarSubquery(subquery) = expr else { return false };
    let mut plan = subquery.subquery.as_ref();
    loop {
        match plan {
            LogicalPlan::Projection(p) => plan = p.input.as_ref(),
            LogicalPlan::SubqueryAlias(a) => plan = a.input.as_ref(),
            LogicalPlan::Sort(s) => plan = s.input.as_ref(),
            LogicalPlan::Aggregate(a) => return a.group_expr.is_empty(),
            _ => return false,
        }
    }
}

/// Whether a subquery takes columns from outside in its conditions only.
fn correlates_in_filters(expr: &Expr) -> bool {
    let Some(subquery) = subquery_of(expr) else { return false };
    let mut only = true;
    let _ = subquery.subquery.apply_with_subqueries(|node| {
        let filter = matches!(node, LogicalPlan::Filter(_));
        let limits =
            matches!(node, LogicalPlan::Limit(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Union(_));
        only &= !limits;
        node.apply_expressions(|e| {
            only &= filter || !e.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
            Ok(TreeNodeRecursion::Continue)
        })
    });
    only
}

/// Whether a plan reads nothing but PostgreSQL's own tables.
fn reads_catalog_only(plan: &LogicalPlan) -> Result<bool> {
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let schema = scan.table_name.schema();
            // A table function is a table without a schema.
            only &= schema.is_none_or(|s| s == PG_CATALOG || s == INFORMATION_SCHEMA_INSIDE);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(only)
}

/// Whether a plan is known to give no rows, or one of an aggregate over none.
fn is_nothing(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => {
            let plain = |e: &Expr| matches!(e.clone().unalias(), Expr::Column(_));
            match p.input.as_ref() {
                LogicalPlan::Aggregate(_) => p.expr.iter().all(plain) && is_nothing(&p.input),
                input => is_nothing(input),
            }
        }
        LogicalPlan::Filter(f) => is_nothing(&f.input),
        LogicalPlan::SubqueryAlias(a) => is_nothing(&a.input),
        LogicalPlan::Sort(s) => is_nothing(&s.input),
        LogicalPlan::Limit(l) => is_nothing(&l.input),
        LogicalPlan::Aggregate(a) => {
            let counts = |e: &Expr| matches!(e.clone().unalias(), Expr::AggregateFunction(call) if call.func.name() == "count");
            !a.aggr_expr.iter().any(counts) && is_nothing(&a.input)
        }
        LogicalPlan::Join(j) if j.join_type == JoinType::Inner => is_nothing(&j.left) || is_nothing(&j.right),
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source)
            .is_ok_and(|provider| (provider.as_ref() as &dyn std::any::Any).is::<EmptyTable>()),
        LogicalPlan::Extension(Extension { .. }) => false,
        _ => false,
    }
}

/// What a subquery gives that has no rows.
fn of_nothing(expr: &Expr) -> Result<Expr> {
    Ok(match expr {
        Expr::Exists(exists) => lit(exists.negated),
        Expr::InSubquery(within) => lit(within.negated),
        Expr::ScalarSubquery(subquery) => {
            Expr::Literal(ScalarValue::try_from(subquery.subquery.schema().field(0).data_type())?, None)
        }
        other => other.clone(),
    })
}

/// What is asked of a subquery.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Value,
    Exists { negated: bool },
    In { negated: bool },
}

/// A subquery as a function of what it takes from outside.
struct ForEachRow {
    name: String,
    signature: Signature,
    /// How many arguments it takes; those after them are conditions without which nobody asks for its value.
    arity: usize,
    plan: Arc<LogicalPlan>,
    outer: Vec<Column>,
    kind: Kind,
    returns: DataType,
    state: Weak<RwLock<SessionState>>,
}

impl Debug for ForEachRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for ForEachRow {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ForEachRow {}

impl Hash for ForEachRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ForEachRow {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::internal("a subquery is run asynchronously").into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for ForEachRow {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let state =
            self.state.upgrade().ok_or_else(|| DataFusionError::from(Error::internal("no session")))?;
        let state = state.read().clone();
        // What the statement has pinned, its subqueries have.
        let config = SessionConfig::from(args.config_options.as_ref().clone());
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
        let rows = args.number_rows;
        let arrays =
            args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let mut known: HashMap<Vec<ScalarValue>, ScalarValue> = HashMap::new();
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let given =
                arrays.iter().map(|a| ScalarValue::try_from_array(a, row)).collect::<Result<Vec<_>>>()?;
            let (given, conditions) = given.split_at(self.arity.min(given.len()));
            if !conditions.iter().all(|c| *c == ScalarValue::Boolean(Some(true))) {
                values.push(ScalarValue::try_from(&self.returns)?);
                continue;
            }
            let value = match known.get(given) {
                Some(value) => value.clone(),
                None => {
                    let value = self.run(&state, given).await?.cast_to(&self.returns)?;
                    known.insert(given.to_vec(), value.clone());
                    value
                }
            };
            values.push(value);
        }
        Ok(ColumnarValue::Array(match values.is_empty() {
            true => datafusion::arrow::array::new_empty_array(&self.returns),
            false => ScalarValue::iter_to_array(values)?,
        }))
    }
}

impl ForEachRow {
    async fn run(&self, state: &SessionState, given: &[ScalarValue]) -> Result<ScalarValue> {
        let mut plan = with_values(self.plan.as_ref().clone(), &self.outer, given)?;
        if let Kind::In { .. } = self.kind {
            let Some(sought) = given.last() else { return Ok(ScalarValue::Null) };
            if sought.is_null() {
                return Ok(ScalarValue::Null);
            }
            let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
            let same = column.eq(Expr::Literal(sought.clone(), None));
            plan = LogicalPlanBuilder::from(plan).filter(same)?.build()?;
        }
        if !matches!(self.kind, Kind::Value) {
            plan = LogicalPlanBuilder::from(plan).limit(0, Some(1))?.build()?;
        }
        let physical = state.create_physical_plan(&plan).await?;
        let batches = datafusion::physical_plan::collect(physical, state.task_ctx()).await?;
        let mut rows = batches.iter().filter(|b| b.num_rows() > 0);
        let first = rows.next();
        match self.kind {
            Kind::Exists { negated } | Kind::In { negated } => {
                Ok(ScalarValue::from(first.is_some() != negated))
            }
            Kind::Value => match first {
                None => Ok(ScalarValue::Null),
                Some(batch) if batch.num_rows() == 1 && rows.next().is_none() => {
                    ScalarValue::try_from_array(batch.column(0), 0)
                }
                Some(_) => Err(Error::invalid_input(
                    "more than one row returned by a subquery used as an expression",
                )
                .into()),
            },
        }
    }
}

/// The plan with values for the columns that it takes from outside.
fn with_values(plan: LogicalPlan, outer: &[Column], given: &[ScalarValue]) -> Result<LogicalPlan> {
    let value = |column: &Column| outer.iter().position(|o| o == column).and_then(|at| given.get(at));
    let replaced = plan.transform_up_with_subqueries(|node| {
        // A table within that took columns from outside is one like others then. (Subqueries of expressions are not.)
        let node = node.map_children(|table| {
            Ok(match table {
                LogicalPlan::Subquery(table) => Transformed::yes(Arc::unwrap_or_clone(table.subquery)),
                other => Transformed::no(other),
            })
        })?;
        let (unwrapped, node) = (node.transformed, node.data);
        let names =
            matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
        let changed = node.map_expressions(|expr| {
            let name = expr.name_for_alias()?;
            let changed = expr.transform_up(|e| match e {
                Expr::OuterReferenceColumn(field, column) => match value(&column) {
                    Some(value) => {
                        Ok(Transformed::yes(Expr::Literal(value.cast_to(field.data_type())?, None)))
                    }
                    None => Ok(Transformed::no(Expr::OuterReferenceColumn(field, column))),
                },
                Expr::ScalarSubquery(subquery) => {
                    Ok(Transformed::yes(Expr::ScalarSubquery(less(subquery, outer))))
                }
                Expr::Exists(exists) => Ok(Transformed::yes(Expr::Exists(Exists {
                    subquery: less(exists.subquery, outer),
                    negated: exists.negated,
                }))),
                Expr::InSubquery(within) => Ok(Transformed::yes(Expr::InSubquery(InSubquery {
                    subquery: less(within.subquery, outer),
                    ..within
                }))),
                other => Ok(Transformed::no(other)),
            })?;
            match changed.transformed && names {
                true => Ok(Transformed::yes(changed.data.alias_if_changed(name)?)),
                false => Ok(changed),
            }
        })?;
        match changed.transformed || unwrapped {
            true => Ok(Transformed::yes(changed.data.recompute_schema()?)),
            false => Ok(changed),
        }
    })?;
    Ok(replaced.data)
}

/// A subquery that takes no more from outside what has a value by now.
fn less(subquery: Subquery, outer: &[Column]) -> Subquery {
    let mut subquery = subquery;
    subquery
        .outer_ref_columns
        .retain(|e| !matches!(e, Expr::OuterReferenceColumn(_, c) if outer.contains(c)));
    subquery
}
