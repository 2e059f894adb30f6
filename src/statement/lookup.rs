//! Statements that filter, sort, cut or project one leaderboard, computed on its rows in memory.
//!
//! What the engine would put together for such a statement each time (a plan, its operators, their streams) takes several
//! times as long as the few thousand rows do. Here the optimised plan is taken apart once; a run puts the values of the
//! parameters in and evaluates one step after the other on the whole batch.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::kernels::cmp;
use datafusion::arrow::compute::{
    SortColumn, SortOptions, filter_record_batch, lexsort_to_indices, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, SortExpr, TableScan, lit};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use datafusion::sql::parser::Statement as EngineStatement;

use super::output_names::named;
use crate::catalog::leaderboard::{InMemory, LeaderboardTable};
use crate::catalog::row_index::RowIndex;
use crate::error::Result;
use crate::lake::snapshot::Snapshot;

/// All of a statement that does not hang on the values of its parameters.
pub(super) struct Lookup {
    /// The types of its parameters.
    pub(super) parameters: Vec<DataType>,
    schema: SchemaRef,
    board: Arc<dyn TableProvider>,
    columns: Option<Vec<usize>>,
    /// In the order in which they are done.
    steps: Vec<Step>,
}

enum Step {
    Filter(Vec<Condition>),
    Project(Vec<Expression>, SchemaRef),
    Sort(Vec<(Expression, SortOptions)>, Option<usize>),
    /// How many rows to leave out, and how many to give then.
    Cut(Option<Expr>, Option<Expr>),
}

/// One of several that all have to hold, over the columns of the step before.
enum Condition {
    /// A column, by its number, compared with a value of its own type.
    Compare(usize, Operator, Operand),
    Other(Expression),
}

/// A value that is known, or that of `$n`.
enum Operand {
    Known(ScalarValue),
    Parameter(Placeholder),
}

/// An expression over the columns of the step before.
enum Expression {
    Ready(Arc<dyn PhysicalExpr>),
    /// One with parameters in it.
    Open(Expr, DFSchemaRef),
}

impl Lookup {
    /// Takes a plan apart; none if there is more to it.
    pub(super) fn of(
        logical: &LogicalPlan,
        statement: &EngineStatement,
        state: &SessionState,
    ) -> Option<Lookup> {
        let types = logical.get_parameter_types().ok()?;
        let parameters = (1..=types.len()).map(|n| types.get(&format!("${n}")).cloned().flatten());
        let parameters = parameters.collect::<Option<Vec<_>>>()?;
        let plan = state.optimize(logical).ok()?;
        let schema = named(statement, plan.schema().inner());
        let mut steps = vec![];
        let scan = take_apart(&plan, state, &mut steps)?;
        if let Some(most) = scan.fetch {
            steps.push(Step::Cut(None, Some(lit(i64::try_from(most).ok()?))));
        }
        steps.reverse();
        let board = source_as_provider(&scan.source).ok()?;
        (board.as_ref() as &dyn Any).downcast_ref::<LeaderboardTable>()?;
        Some(Lookup { parameters, schema, board, columns: scan.projection.clone(), steps })
    }

    /// The name of the leaderboard.
    pub(super) fn name(&self) -> &str {
        self.table().map_or("", |board| board.table().name())
    }

    fn table(&self) -> Option<&LeaderboardTable> {
        (self.board.as_ref() as &dyn Any).downcast_ref()
    }

    /// The columns of what it gives.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Runs it on the rows of this version; none where these are not in memory, or a value is not of a kind that a step
    /// can take.
    pub(super) fn run(
        &self,
        snapshot: &Snapshot,
        values: &[ScalarValue],
        state: &SessionState,
    ) -> Result<Option<RecordBatch>> {
        let known = self.table().and_then(|board| board.in_memory(snapshot));
        let Some(known) = known else { return Ok(None) };
        let (mut rows, found) = match self.by_index(&known, values)? {
            Some(rows) => (rows, true),
            None => (known.rows().clone(), false),
        };
        if let Some(columns) = &self.columns {
            rows = rows.project(columns)?;
        }
        for (i, step) in self.steps.iter().enumerate() {
            rows = match step {
                Step::Filter(conditions) => {
                    for condition in conditions {
                        // What the index has looked for holds.
                        if found && i == 0 && condition.is_equality() {
                            continue;
                        }
                        let keep = condition.on(&rows, values, state)?;
                        let Some(keep) = keep.as_ref().and_then(|keep| keep.as_boolean_opt()) else {
                            return Ok(None);
                        };
                        rows = filter_record_batch(&rows, keep)?;
                    }
                    rows
                }
                Step::Project(columns, schema) => {
                    let columns = columns.iter().map(|column| column.on(&rows, values, state));
                    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                    let columns = columns.collect::<Result<Vec<_>>>()?;
                    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?
                }
                Step::Sort(keys, most) => {
                    let keys = keys.iter().map(|(key, options)| {
                        Ok(SortColumn { values: key.on(&rows, values, state)?, options: Some(*options) })
                    });
                    let order = lexsort_to_indices(&keys.collect::<Result<Vec<_>>>()?, *most)?;
                    take_record_batch(&rows, &order)?
                }
                Step::Cut(skip, fetch) => {
                    let count = |expr: &Option<Expr>, nothing| match expr {
                        Some(expr) => number(expr, values),
                        None => Some(nothing),
                    };
                    let (Some(skip), Some(fetch)) = (count(skip, 0), count(fetch, usize::MAX)) else {
                        return Ok(None);
                    };
                    let skip = skip.min(rows.num_rows());
                    rows.slice(skip, fetch.min(rows.num_rows() - skip))
                }
            };
        }
        Ok(Some(rows))
    }
}

impl Lookup {
    /// The rows that have the values which the first step wants columns to be equal to; none where it wants that of none.
    fn by_index(&self, known: &InMemory, values: &[ScalarValue]) -> Result<Option<RecordBatch>> {
        let Some(Step::Filter(conditions)) = self.steps.first() else { return Ok(None) };
        let (mut columns, mut wanted) = (vec![], vec![]);
        for condition in conditions {
            if let Condition::Compare(column, Operator::Eq, operand) = condition {
                let Some(value) = operand.value(values) else { return Ok(None) };
                if value.is_null() {
                    // Nothing is equal to NULL.
                    return Ok(Some(known.rows().slice(0, 0)));
                }
                columns.push(self.columns.as_ref().map_or(*column, |all| all[*column]));
                wanted.push(value.to_array()?);
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let Some(index) = known.index(&columns)? else { return Ok(None) };
        Ok(Some(match index.find(&wanted)? {
            Some(places) => take_record_batch(known.rows(), places)?,
            None => known.rows().slice(0, 0),
        }))
    }
}

impl Operand {
    fn of(expr: &Expr) -> Option<Operand> {
        match expr {
            Expr::Literal(value, _) => Some(Operand::Known(value.clone())),
            Expr::Placeholder(placeholder) => Some(Operand::Parameter(placeholder.clone())),
            _ => None,
        }
    }

    fn value<'a>(&'a self, values: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
        match self {
            Operand::Known(known) => Some(known),
            Operand::Parameter(placeholder) => value(placeholder, values),
        }
    }
}

impl Condition {
    /// Those that a predicate consists of; comparisons come first, as they cost least.
    fn all(predicate: &Expr, input: &LogicalPlan, state: &SessionState) -> Option<Vec<Condition>> {
        let parts = split_conjunction(predicate).into_iter().map(|part| match Self::compare(part, input) {
            Some(compare) => Some(compare),
            None => Expression::of(part, input, state).map(Condition::Other),
        });
        let mut all = parts.collect::<Option<Vec<_>>>()?;
        all.sort_by_key(|condition| !matches!(condition, Condition::Compare(..)));
        Some(all)
    }

    fn compare(expr: &Expr, input: &LogicalPlan) -> Option<Condition> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
        let (column, op, operand) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), operand) => (column, *op, operand),
            (operand, Expr::Column(column)) => (column, op.swap()?, operand),
            _ => return None,
        };
        let ordered =
            [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];
        let operand = Operand::of(operand)?;
        let place = input.schema().index_of_column(column).ok()?;
        let wanted = input.schema().field(place).data_type();
        let same = match &operand {
            Operand::Known(value) => value.data_type() == *wanted,
            Operand::Parameter(placeholder) => {
                placeholder.field.as_ref().is_some_and(|field| field.data_type() == wanted)
            }
        };
        (same && ordered.contains(&op) && RowIndex::takes(wanted))
            .then_some(Condition::Compare(place, op, operand))
    }

    fn is_equality(&self) -> bool {
        matches!(self, Condition::Compare(_, Operator::Eq, _))
    }

    /// Whether it holds, for each row; none where a value is missing.
    fn on(
        &self,
        rows: &RecordBatch,
        values: &[ScalarValue],
        state: &SessionState,
    ) -> Result<Option<ArrayRef>> {
        let (column, op, operand) = match self {
            Condition::Compare(column, op, operand) => (rows.column(*column), op, operand),
            Condition::Other(expression) => return expression.on(rows, values, state).map(Some),
        };
        let Some(value) = operand.value(values) else { return Ok(None) };
        let value = value.to_scalar()?;
        let holds = match op {
            Operator::Eq => cmp::eq(column, &value)?,
            Operator::NotEq => cmp::neq(column, &value)?,
            Operator::Lt => cmp::lt(column, &value)?,
            Operator::LtEq => cmp::lt_eq(column, &value)?,
            Operator::Gt => cmp::gt(column, &value)?,
            _ => cmp::gt_eq(column, &value)?,
        };
        Ok(Some(Arc::new(holds)))
    }
}

/// Puts the steps of a plan down, the last one first, and gives the scan under them.
fn take_apart<'a>(
    plan: &'a LogicalPlan,
    state: &SessionState,
    steps: &mut Vec<Step>,
) -> Option<&'a TableScan> {
    let input = match plan {
        LogicalPlan::TableScan(scan) => return scan.filters.is_empty().then_some(scan),
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        LogicalPlan::Filter(filter) => {
            steps.push(Step::Filter(Condition::all(&filter.predicate, &filter.input, state)?));
            &filter.input
        }
        LogicalPlan::Projection(project) => {
            let columns = project.expr.iter().map(|e| Expression::of(e, &project.input, state));
            let schema = Arc::clone(project.schema.inner());
            steps.push(Step::Project(columns.collect::<Option<_>>()?, schema));
            &project.input
        }
        LogicalPlan::Sort(sort) => {
            let keys = sort.expr.iter().map(|SortExpr { expr, asc, nulls_first }| {
                let options = SortOptions { descending: !asc, nulls_first: *nulls_first };
                Some((Expression::of(expr, &sort.input, state)?, options))
            });
            steps.push(Step::Sort(keys.collect::<Option<_>>()?, sort.fetch));
            &sort.input
        }
        LogicalPlan::Limit(limit) => {
            let expr = |e: &Option<Box<Expr>>| e.as_ref().map(|e| e.as_ref().clone());
            steps.push(Step::Cut(expr(&limit.skip), expr(&limit.fetch)));
            &limit.input
        }
        _ => return None,
    };
    take_apart(input, state, steps)
}

impl Expression {
    fn of(expr: &Expr, input: &LogicalPlan, state: &SessionState) -> Option<Expression> {
        let nested = |e: &Expr| {
            matches!(
                e,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::OuterReferenceColumn(..)
            )
        };
        if expr.exists(|e| Ok(nested(e))).ok()? {
            return None;
        }
        match expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).ok()? {
            true => Some(Expression::Open(expr.clone(), Arc::clone(input.schema()))),
            false => physical(expr, input.schema(), state).ok().map(Expression::Ready),
        }
    }

    fn on(&self, rows: &RecordBatch, values: &[ScalarValue], state: &SessionState) -> Result<ArrayRef> {
        let value = match self {
            Expression::Ready(expr) => expr.evaluate(rows)?,
            Expression::Open(expr, schema) => {
                physical(&with_values(expr, values)?, schema, state)?.evaluate(rows)?
            }
        };
        Ok(value.into_array(rows.num_rows())?)
    }
}

fn physical(expr: &Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(create_physical_expr(expr, schema, state.execution_props(), &PhysicalPlanningContext::default())?)
}

/// The value of `$n`.
fn value<'a>(placeholder: &Placeholder, values: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
    let number: usize = placeholder.id.strip_prefix('$')?.parse().ok()?;
    values.get(number.checked_sub(1)?)
}

fn with_values(expr: &Expr, values: &[ScalarValue]) -> Result<Expr> {
    let with = expr.clone().transform_up(|e| match &e {
        Expr::Placeholder(placeholder) => Ok(match value(placeholder, values) {
            Some(value) => Transformed::yes(Expr::Literal(value.clone(), None)),
            None => Transformed::no(e),
        }),
        _ => Ok(Transformed::no(e)),
    });
    Ok(with.data()?)
}

/// A number of rows.
fn number(expr: &Expr, values: &[ScalarValue]) -> Option<usize> {
    let known = match expr {
        Expr::Literal(known, _) => known,
        Expr::Placeholder(placeholder) => value(placeholder, values)?,
        _ => return None,
    };
    match known {
        ScalarValue::Int64(Some(n)) => usize::try_from(*n).ok(),
        _ => None,
    }
}
