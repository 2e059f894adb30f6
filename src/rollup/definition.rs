//! What a rollup is: the one SQL definition that serves fold, query, recompute and audit.
//!
//! A definition is a query `SELECT bucket, keys…, mergeable aggregates… FROM one source WHERE … GROUP BY …`. It is kept
//! as a logical plan with a hole where the source is scanned; [`Definition::over`] fills the hole with any rows of the
//! source, [`Definition::merge`] makes one row of several partial rows of one bucket and key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, Volatility,
    cast, col,
};
use toplake_udfs::time_bucket::{BucketWidth, Bucketing};

use crate::error::{Error, Result};
use crate::lake::range::TimeRanges;
use crate::lake::schema::{distinct_names, storable};

/// Aggregates that a rollup may have, each with the function that merges its results.
const MERGES: &[(&str, &str)] = &[
    ("sum", "sum"),
    ("count", "sum"),
    ("min", "min"),
    ("max", "max"),
    ("bool_and", "bool_and"),
    ("bool_or", "bool_or"),
    ("bit_and", "bit_and"),
    ("bit_or", "bit_or"),
    ("bit_xor", "bit_xor"),
    ("approx_top_k_accumulate", "approx_top_k_combine"),
    ("approx_top_k_combine", "approx_top_k_combine"),
    ("approx_top_sum_accumulate", "approx_top_sum_combine"),
    ("approx_top_sum_combine", "approx_top_sum_combine"),
    ("count_min_sketch", "count_min_combine"),
    ("count_min_combine", "count_min_combine"),
    ("hll_sketch_agg", "hll_union_agg"),
    ("hll_union_agg", "hll_union_agg"),
];

/// What a rollup is made from.
#[derive(Debug, Clone, Copy)]
pub enum SourceKind<'a> {
    /// An events table with this time column.
    Events {
        /// The column that says when an event counts.
        time_column: &'a str,
    },
    /// A finer rollup.
    Rollup(&'a Definition),
}

/// One aggregate of a rollup.
#[derive(Debug, Clone)]
struct Measure {
    index: usize,
    merge: Arc<AggregateUDF>,
}

/// A definition that has been found to be one of a rollup.
#[derive(Debug, Clone)]
pub struct Definition {
    template: LogicalPlan,
    schema: SchemaRef,
    bucket: usize,
    bucketing: Bucketing,
    keys: Vec<usize>,
    measures: Vec<Measure>,
    source_time: String,
}

impl Definition {
    /// Reads a definition out of the unoptimised plan of its query. Fails with an error that names the clause at fault
    /// where the query is not that of a rollup.
    pub fn try_new(
        plan: LogicalPlan,
        source: SourceKind<'_>,
        functions: &dyn FunctionRegistry,
    ) -> Result<Self> {
        no_volatile(&plan)?;
        let parts = Parts::of(&plan)?;
        let time = match source {
            SourceKind::Events { time_column } => time_column.to_owned(),
            SourceKind::Rollup(finer) => finer.schema.field(finer.bucket).name().clone(),
        };
        if let (SourceKind::Rollup(finer), Some(filter)) = (source, parts.filter) {
            finer.only_bucket_and_keys(filter, "WHERE")?;
        }
        let group = &parts.aggregate.group_expr;
        if let SourceKind::Rollup(finer) = source {
            group.iter().try_for_each(|expr| finer.only_bucket_and_keys(expr, "GROUP BY"))?;
        }
        let outputs = parts.outputs()?;
        let (bucket_group, bucketing) = find_bucket(group, &time, parts.aggregate.input.schema())?;
        let mut bucket = None;
        let (mut keys, mut measures, mut fields) = (vec![], vec![], vec![]);
        for (index, (name, output)) in outputs.iter().enumerate() {
            let field = parts.aggregate.schema.field(*output);
            let stored = storable(field.data_type(), name)?;
            fields.push(Field::new(name, stored, true));
            if *output == bucket_group && bucket.is_none() {
                bucket = Some(index);
            } else if *output < group.len() {
                keys.push(index);
            } else {
                let aggregate = aggregate_of(&parts.aggregate.aggr_expr[*output - group.len()], name)?;
                let merge = merge_function(aggregate, name, source)?;
                measures.push(Measure { index, merge: functions.udaf(merge)? });
            }
        }
        distinct_names(&fields)?;
        let bucket =
            bucket.ok_or_else(|| not_a_rollup("the time bucket of GROUP BY is not in the SELECT list"))?;
        for (i, expr) in group.iter().enumerate() {
            if !outputs.iter().any(|(_, output)| *output == i) {
                return Err(not_a_rollup(&format!("GROUP BY {} is not in the SELECT list", shown(expr))));
            }
        }
        if measures.is_empty() {
            return Err(not_a_rollup("the SELECT list has no aggregate"));
        }
        if let SourceKind::Rollup(finer) = source
            && !bucketing.nests_in(&finer.bucketing)
        {
            return Err(not_a_rollup("its buckets are not made of whole buckets of the source")
                .with_hint("use a coarser bucket, the same time zone, or a finer source"));
        }
        Ok(Definition {
            template: plan.clone(),
            schema: Arc::new(Schema::new(fields)),
            bucket,
            bucketing,
            keys,
            measures,
            source_time: time,
        })
    }

    /// The rows of the rollup, as they are stored and shown.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The name of the bucket column.
    pub fn bucket_column(&self) -> &str {
        self.schema.field(self.bucket).name()
    }

    /// Whether the bucket column is a TIMESTAMPTZ.
    pub fn has_zone(&self) -> bool {
        matches!(self.schema.field(self.bucket).data_type(), DataType::Timestamp(_, Some(_)))
    }

    /// The names of the keys.
    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|i| self.schema.field(*i).name().as_str())
    }

    /// The names of the measures.
    pub fn measure_columns(&self) -> impl Iterator<Item = &str> {
        self.measures.iter().map(|m| self.schema.field(m.index).name().as_str())
    }

    /// The function that merges a column, if it is a measure.
    pub fn merge_function(&self, column: &str) -> Option<&Arc<AggregateUDF>> {
        let index = self.schema.index_of(column).ok()?;
        self.measures.iter().find(|m| m.index == index).map(|m| &m.merge)
    }

    /// What each column is, over the columns of the source.
    pub fn expressions(&self) -> Result<Vec<Expr>> {
        let parts = Parts::of(&self.template)?;
        let all: Vec<&Expr> = parts.aggregate.group_expr.iter().chain(&parts.aggregate.aggr_expr).collect();
        let outputs = parts.outputs()?.into_iter();
        Ok(outputs.map(|(_, output)| all[output].clone().unalias_nested().data).collect())
    }

    /// Which rows of the source count.
    pub fn filter(&self) -> Result<Option<Expr>> {
        Ok(Parts::of(&self.template)?.filter.cloned())
    }

    /// Whether another definition over the same source has the same buckets and keys, of the same rows.
    pub fn same_rows(&self, other: &Definition) -> Result<bool> {
        let of = |definition: &Definition| -> Result<_> {
            let parts = Parts::of(&definition.template)?;
            let outputs = parts.outputs()?;
            let keys = definition.keys.iter().map(|i| {
                let (name, output) = &outputs[*i];
                let t = definition.schema.field(*i).data_type().clone();
                (name.clone(), parts.aggregate.group_expr[*output].to_string(), t)
            });
            let mut keys: Vec<_> = keys.collect();
            keys.sort_by(|a, b| a.0.cmp(&b.0));
            let bucket = definition.schema.field(definition.bucket).as_ref().clone();
            Ok((bucket, definition.bucketing, keys, parts.filter.map(ToString::to_string)))
        };
        Ok(of(self)? == of(other)?)
    }

    /// What each measure is, by name: its aggregate and type as text.
    pub fn aggregates(&self) -> Result<BTreeMap<String, String>> {
        self.per_measure(|field, aggregate| format!("{aggregate} {}", field.data_type()))
    }

    /// The columns of the source that each measure is made from.
    pub fn inputs(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        self.per_measure(|_, aggregate| aggregate.column_refs().iter().map(|c| c.name().to_owned()).collect())
    }

    fn per_measure<T>(&self, of: impl Fn(&Field, &Expr) -> T) -> Result<BTreeMap<String, T>> {
        let parts = Parts::of(&self.template)?;
        let (outputs, groups) = (parts.outputs()?, parts.aggregate.group_expr.len());
        let each = self.measures.iter().map(|measure| {
            let (name, output) = &outputs[measure.index];
            let aggregate = &parts.aggregate.aggr_expr[*output - groups];
            (name.clone(), of(self.schema.field(measure.index), aggregate))
        });
        Ok(each.collect())
    }

    /// How time is cut into buckets.
    pub fn bucketing(&self) -> &Bucketing {
        &self.bucketing
    }

    /// The source's time column, or its bucket column.
    pub fn source_time(&self) -> &str {
        &self.source_time
    }

    /// Ranges of time, widened to whole buckets.
    pub fn widen(&self, ranges: &TimeRanges) -> TimeRanges {
        ranges.widen(|t| self.bucketing.start(t), |t| self.bucketing.end(t))
    }

    /// The definition over these rows of the source: partial rows of the rollup.
    pub fn over(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        let filled = self.template.clone().transform_down(|node| match node {
            LogicalPlan::TableScan(scan) => {
                let rows = LogicalPlanBuilder::from(rows.clone()).alias(scan.table_name.clone())?.build()?;
                Ok(Transformed::new(rows, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        self.as_stored(filled.data)
    }

    /// Like [`over`](Self::over), of rows that all lie in the bucket which begins at `bucket` (microseconds): it need not
    /// be computed, nor be part of what groups are found by, nor of what they are sorted by.
    pub fn over_bucket(&self, rows: LogicalPlan, bucket: i64) -> Result<LogicalPlan> {
        let known = |aggregate: Aggregate| -> Result<Aggregate> {
            let schema = aggregate.input.schema();
            let (index, _) = find_bucket(&aggregate.group_expr, &self.source_time, schema)?;
            let mut group = aggregate.group_expr.clone();
            if let DataType::Timestamp(TimeUnit::Microsecond, zone) = group[index].get_type(schema)? {
                let start = ScalarValue::TimestampMicrosecond(Some(bucket), zone);
                let name = group[index].schema_name().to_string();
                group[index] = Expr::Literal(start, None).alias(name);
            }
            Ok(Aggregate::try_new(aggregate.input, group, aggregate.aggr_expr)?)
        };
        let plan = self.over(rows)?.transform_up(|node| match node {
            LogicalPlan::Aggregate(aggregate) => {
                Ok(Transformed::yes(LogicalPlan::Aggregate(known(aggregate)?)))
            }
            other => Ok(Transformed::yes(other.recompute_schema()?)),
        })?;
        Ok(plan.data)
    }

    /// One row for each bucket and key, of partial rows.
    pub fn merge(&self, partial: LogicalPlan) -> Result<LogicalPlan> {
        let column = |i: usize| col(Column::new_unqualified(self.schema.field(i).name()));
        let partial = LogicalPlanBuilder::from(partial).alias(TableReference::bare("partial"))?;
        let group = std::iter::once(&self.bucket).chain(&self.keys).map(|i| column(*i));
        let merged = self
            .measures
            .iter()
            .map(|m| m.merge.call(vec![column(m.index)]).alias(self.schema.field(m.index).name()));
        let merged = partial.aggregate(group.collect::<Vec<_>>(), merged.collect::<Vec<_>>())?;
        let names = self.schema.fields().iter().map(|f| col(Column::new_unqualified(f.name())));
        self.as_stored(merged.project(names.collect::<Vec<_>>())?.build()?)
    }

    /// The columns that rows are sorted by where they are written: bucket and keys.
    pub fn order(&self) -> Vec<usize> {
        std::iter::once(self.bucket).chain(self.keys.iter().copied()).collect()
    }

    /// Orders rows by bucket and key, as they are written.
    pub fn sorted(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        let order = self.order().into_iter();
        let order =
            order.map(|i| col(Column::new_unqualified(self.schema.field(i).name())).sort(true, false));
        Ok(LogicalPlanBuilder::from(rows).sort(order.collect::<Vec<_>>())?.build()?)
    }

    /// Casts to the stored types and drops qualifiers; names come from the schema.
    fn as_stored(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let given: Vec<(Column, DataType)> = plan
            .schema()
            .iter()
            .map(|(q, f)| (Column::new(q.cloned(), f.name()), f.data_type().clone()))
            .collect();
        let exprs = given.into_iter().zip(self.schema.fields()).map(|((column, given), wanted)| {
            let expr = Expr::Column(column);
            let expr =
                if given == *wanted.data_type() { expr } else { cast(expr, wanted.data_type().clone()) };
            expr.alias(wanted.name())
        });
        Ok(LogicalPlanBuilder::from(plan).project(exprs.collect::<Vec<_>>())?.build()?)
    }

    /// A rollup over this one may use only its bucket and keys in `clause`.
    fn only_bucket_and_keys(&self, expr: &Expr, clause: &str) -> Result<()> {
        for column in expr.column_refs() {
            let known = self.schema.index_of(column.name()).ok();
            if known.is_some_and(|i| self.measures.iter().any(|m| m.index == i)) {
                return Err(not_a_rollup(&format!(
                    "{clause} uses '{}', which is a measure of the source",
                    column.name()
                ))
                .with_hint("use only the bucket and the keys of a source rollup"));
            }
        }
        Ok(())
    }
}

/// A filter on a time column: in these ranges, or not in them.
pub fn within(time: &str, schema: &SchemaRef, ranges: &TimeRanges, inside: bool) -> Result<Expr> {
    let zone = match schema.field_with_name(time)?.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(Error::internal(format!("time column '{time}' has type {other}"))),
    };
    let at = |micros: i64| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()), None);
    let column = || col(Column::new_unqualified(time));
    let each = ranges.iter().map(|(from, to)| column().gt_eq(at(from)).and(column().lt(at(to))));
    // A balanced tree: a chain of a thousand would be a thousand deep.
    let mut level: Vec<Expr> = each.collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => a.clone().or(b.clone()),
                one => one[0].clone(),
            })
            .collect();
    }
    let any = level.pop().unwrap_or_else(|| Expr::Literal(ScalarValue::Boolean(Some(false)), None));
    Ok(if inside { any } else { Expr::Not(Box::new(any)) })
}

/// The nodes of a rollup's query.
struct Parts<'a> {
    projection: Option<&'a Projection>,
    aggregate: &'a Aggregate,
    filter: Option<&'a Expr>,
}

impl<'a> Parts<'a> {
    fn of(plan: &'a LogicalPlan) -> Result<Self> {
        let (projection, below) = match plan {
            LogicalPlan::Projection(p) => (Some(p), p.input.as_ref()),
            other => (None, other),
        };
        let aggregate = match below {
            LogicalPlan::Aggregate(a) => a,
            LogicalPlan::Filter(f) if matches!(f.input.as_ref(), LogicalPlan::Aggregate(_)) => {
                return Err(not_a_rollup("it has HAVING").with_hint("filter the rollup when it is queried"));
            }
            other => return Err(not_a_rollup(&clause_of(other))),
        };
        let mut below = aggregate.input.as_ref();
        let mut filter = None;
        loop {
            match below {
                LogicalPlan::TableScan(_) => return Ok(Parts { projection, aggregate, filter }),
                LogicalPlan::SubqueryAlias(alias) => below = alias.input.as_ref(),
                LogicalPlan::Filter(f) if filter.is_none() => {
                    no_subquery(&f.predicate)?;
                    filter = Some(&f.predicate);
                    below = f.input.as_ref();
                }
                other => return Err(not_a_rollup(&clause_of(other))),
            }
        }
    }

    /// Name of each output column, and which column of the aggregate it is.
    fn outputs(&self) -> Result<Vec<(String, usize)>> {
        let schema = &self.aggregate.schema;
        let Some(projection) = self.projection else {
            return Ok(schema.fields().iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect());
        };
        let named = projection.expr.iter().zip(projection.schema.fields());
        named
            .map(|(expr, field)| {
                let name = field.name().clone();
                let Expr::Column(column) = expr.clone().unalias_nested().data else {
                    return Err(not_a_rollup(&format!("'{name}' is computed from aggregates"))
                        .with_hint("keep the aggregates, and compute with them in a view over the rollup"));
                };
                Ok((name, schema.index_of_column(&column)?))
            })
            .collect()
    }
}

/// Finds the one time bucket among the grouping expressions.
fn find_bucket(group: &[Expr], time: &str, schema: &DFSchema) -> Result<(usize, Bucketing)> {
    for (i, expr) in group.iter().enumerate() {
        let Expr::ScalarFunction(call) = expr.clone().unalias_nested().data else { continue };
        if let Some(bucketing) = bucketing_of(&call, time, schema)? {
            return Ok((i, bucketing));
        }
    }
    Err(not_a_rollup(&format!("GROUP BY has no time bucket of '{time}'"))
        .with_hint(format!("group by time_bucket(INTERVAL '1 hour', {time})")))
}

/// The bucketing of `time_bucket(width, time, …)` or `date_trunc(unit, time)`; `None` for other calls.
pub fn bucketing_of(call: &ScalarFunction, time: &str, schema: &DFSchema) -> Result<Option<Bucketing>> {
    let is_time = |e: &Expr| matches!(e, Expr::Column(c) if c.name() == time);
    let literal = |e: &Expr| match e {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    let (Some(first), Some(second)) = (call.args.first(), call.args.get(1)) else { return Ok(None) };
    if !is_time(second) {
        return Ok(None);
    }
    match call.func.name() {
        "time_bucket" => {
            let others = call.args.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, e)| literal(e));
            let Some(args) = others.collect::<Option<Vec<_>>>() else {
                return Err(not_a_rollup("the arguments of time_bucket are not literals"));
            };
            Ok(Some(Bucketing::from_args(&args, &second.get_type(schema)?)?))
        }
        "date_trunc" if call.args.len() == 2 => {
            let unit = literal(first).and_then(|v| v.try_as_str().flatten().map(str::to_lowercase));
            Ok(unit
                .and_then(|unit| BucketWidth::date_trunc_equivalent(&unit))
                .map(|width| Bucketing::new(width, None, None)))
        }
        _ => Ok(None),
    }
}

fn aggregate_of<'a>(expr: &'a Expr, name: &str) -> Result<&'a AggregateFunction> {
    match expr {
        Expr::AggregateFunction(f) => Ok(f),
        Expr::Alias(alias) => aggregate_of(&alias.expr, name),
        _ => Err(not_a_rollup(&format!("'{name}' is not an aggregate"))),
    }
}

/// The name of the function that merges this aggregate's results, or why there is none.
fn merge_function(aggregate: &AggregateFunction, name: &str, source: SourceKind<'_>) -> Result<&'static str> {
    let function = aggregate.func.name();
    let params = &aggregate.params;
    if params.distinct {
        return Err(not_a_rollup(&format!("'{name}' counts DISTINCT values, which cannot be merged"))
            .with_hint("use a distinct sketch (hll_sketch_agg), or refresh_mode = 'snapshot'"));
    }
    if !params.order_by.is_empty() {
        return Err(not_a_rollup(&format!("'{name}' depends on an order")));
    }
    let Some((_, merge)) = MERGES.iter().find(|(f, _)| *f == function) else {
        let hint = match function {
            "avg" => "keep sum and count, and divide them in a view over the rollup",
            _ => "use sum, count, min, max or a sketch, or refresh_mode = 'snapshot'",
        };
        return Err(not_a_rollup(&format!("'{name}' uses {function}, whose results cannot be merged"))
            .with_hint(hint));
    };
    let SourceKind::Rollup(finer) = source else { return Ok(merge) };
    if let Some(filter) = &params.filter {
        finer.only_bucket_and_keys(filter, "FILTER")?;
    }
    let refused = |why: String| Err(not_a_rollup(&format!("'{name}' {why}")));
    let [Expr::Column(column)] = params.args.as_slice() else {
        return refused(format!(
            "has to be an aggregate of one column of the source rollup, as in sum({name})"
        ));
    };
    let index = finer.schema.index_of(column.name())?;
    match finer.measures.iter().find(|m| m.index == index) {
        Some(measure) if measure.merge.name() == function => Ok(merge),
        Some(measure) => {
            refused(format!("must use {}({}), which merges that column", measure.merge.name(), column.name()))
        }
        // The extremes of a key or bucket do not depend on how many partial rows carry it.
        None if function == "min" || function == "max" => Ok(merge),
        None => refused(format!("aggregates '{}', which is not a measure of the source", column.name())),
    }
}

fn no_volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply(|node| {
        for expr in node.expressions() {
            expr.apply(|e| {
                if varies(e) {
                    found = Some(shown(e));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        Some(call) => Err(not_a_rollup(&format!("{call} gives another result each time"))),
        None => Ok(()),
    }
}

/// Whether a function may give another result at another time: by chance, by the clock, or by what a table has.
fn varies(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        Expr::AggregateFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        _ => false,
    }
}

fn no_subquery(expr: &Expr) -> Result<()> {
    let found =
        expr.exists(|e| Ok(matches!(e, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_))))?;
    if found { Err(not_a_rollup("WHERE has a subquery")) } else { Ok(()) }
}

/// How a user calls the part of the query that is at fault.
fn clause_of(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Sort(_) => "it has ORDER BY".into(),
        LogicalPlan::Limit(_) => "it has LIMIT".into(),
        LogicalPlan::Distinct(_) => "it has DISTINCT".into(),
        LogicalPlan::Join(_) => "it has a JOIN".into(),
        LogicalPlan::Union(_) => "it has a UNION".into(),
        LogicalPlan::Window(_) => "it has a window function".into(),
        LogicalPlan::Subquery(_) | LogicalPlan::Projection(_) => "its FROM has a subquery or a view".into(),
        LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => "it has no GROUP BY".into(),
        LogicalPlan::Filter(_) => "it has no GROUP BY".into(),
        LogicalPlan::Aggregate(_) => "it aggregates twice".into(),
        other => format!("it has {}", other.display()),
    }
}

fn shown(expr: &Expr) -> String {
    expr.schema_name().to_string()
}

fn not_a_rollup(why: &str) -> Error {
    Error::not_supported(format!("the query is not that of an incremental view: {why}"))
}
