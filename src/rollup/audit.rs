//! Audit: where a rollup's view differs from its definition over the raw events, at one pinned version.
//!
//! Both are brought side by side by grouping their union, which takes NULL keys for equal and spills to disk. What is
//! audited is the view, because that is what users see; stored rows that are wrong show in it.

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::core::expr_fn::{coalesce, greatest};
use datafusion::functions::math::expr_fn::abs;
use datafusion::functions_aggregate::expr_fn::{max, sum};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr, col, lit};
use futures::FutureExt;
use futures::future::BoxFuture;
use toplake_udfs::sketch::sketch_bytes::sketch_bytes_udf;
use toplake_udfs::sketches_agree::sketches_agree_udf;

use super::definition::within;
use super::view::{PinnedRollup, PinnedSource, Reach};
use crate::error::{Error, Result};
use crate::lake::range::TimeRanges;

/// How far two DOUBLE values may lie apart, as a part of the greater one (of 1, if both are small): a sum of doubles
/// depends on the order of its rows.
pub const TOLERANCE: f64 = 1e-9;

/// What a rollup is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The definition over the raw events, through all rollups in between.
    #[default]
    Events,
    /// The definition over the view of its immediate source.
    Source,
}

/// The column of [`PinnedRollup::differences`] that says how many rows of a bucket and key were expected: none or one.
pub const IN_EXPECTED: &str = "in_expected";
/// As [`IN_EXPECTED`], for those that were found.
pub const IN_FOUND: &str = "in_found";

/// The columns that a measure has in [`PinnedRollup::differences`].
pub fn sides(measure: usize) -> (String, String) {
    (format!("expected_{measure}"), format!("found_{measure}"))
}

/// The column of [`PinnedRollup::differences`] that says whether a measure differs.
pub fn different(measure: usize) -> String {
    format!("different_{measure}")
}

/// Whether the two values of a measure count as different.
fn differs(measure: usize, t: &DataType) -> Expr {
    let (expected, found) = sides(measure);
    let (expected, found) = (col(expected), col(found));
    if is_sketch(t) {
        return sketches_agree_udf().call(vec![expected, found]).is_not_true();
    }
    let distinct = binary_expr(expected.clone(), Operator::IsDistinctFrom, found.clone());
    if !t.is_floating() {
        return distinct;
    }
    let bound = lit(TOLERANCE) * greatest(vec![abs(expected.clone()), abs(found.clone()), lit(1.0)]);
    // NULL on one side makes the comparison NULL, and the two different.
    distinct.and(coalesce(vec![abs(expected - found).gt(bound), lit(true)]))
}

/// Sketches are compared by what they say: their bytes depend on how rows were grouped.
fn is_sketch(t: &DataType) -> bool {
    matches!(t, DataType::Struct(fields) if fields.first().is_some_and(|f| f.name() == "sketch"))
}

impl PinnedRollup {
    /// The rows of bucket and key that differ in these ranges (widened to whole buckets): bucket, keys, and of each
    /// measure what was expected and what was found. Fails where the events of that time are gone.
    pub async fn differences(&self, ranges: &TimeRanges, basis: Basis) -> Result<LogicalPlan> {
        let definition = &self.rollup.definition;
        let ranges = definition.widen(ranges);
        if basis == Basis::Events {
            self.refuse_expired(&ranges)?;
        }
        let inside = within(definition.bucket_column(), definition.schema(), &ranges, true)?;
        let found = LogicalPlanBuilder::from(self.view().await?).filter(inside)?.build()?;
        let expected = self.masked(self.expected(&ranges, basis).await?)?;
        let keys: Vec<&str> =
            std::iter::once(definition.bucket_column()).chain(definition.key_columns()).collect();
        let measures: Vec<&str> = definition.measure_columns().collect();
        let found = self.side(found, &keys, &measures, false)?.build()?;
        let both = self.side(expected, &keys, &measures, true)?.union(found)?;
        let mut values = vec![];
        for i in 0..measures.len() {
            let (expected, found) = sides(i);
            values.push(max(col(&expected)).alias(expected));
            values.push(max(col(&found)).alias(found));
        }
        values.extend([IN_EXPECTED, IN_FOUND].map(|name| sum(col(name)).alias(name)));
        let group = (0..keys.len()).map(|i| col(key(i)));
        let both = both.aggregate(group.collect::<Vec<_>>(), values)?;
        let mut columns: Vec<Expr> = both.schema().columns().into_iter().map(Expr::Column).collect();
        let mut any = col(IN_EXPECTED).not_eq(col(IN_FOUND));
        for (i, name) in measures.iter().enumerate() {
            columns
                .push(differs(i, definition.schema().field_with_name(name)?.data_type()).alias(different(i)));
            any = any.or(col(different(i)));
        }
        Ok(both.project(columns)?.filter(any)?.build()?)
    }

    /// What the view has to show.
    fn expected<'a>(&'a self, ranges: &'a TimeRanges, basis: Basis) -> BoxFuture<'a, Result<LogicalPlan>> {
        async move {
            match &self.source {
                PinnedSource::Rollup(finer) if basis == Basis::Events => {
                    // Whole buckets of this rollup are whole buckets of the finer one.
                    self.rollup.definition.over(finer.expected(ranges, basis).await?)
                }
                _ => self.recomputed(ranges, Reach::Live).await,
            }
        }
        .boxed()
    }

    /// One side of the comparison: its own measures, and NULL for those of the other.
    fn side(
        &self,
        rows: LogicalPlan,
        keys: &[&str],
        measures: &[&str],
        expected: bool,
    ) -> Result<LogicalPlanBuilder> {
        let column = |name: &str| col(datafusion::common::Column::new_unqualified(name));
        let mut columns: Vec<Expr> = keys.iter().enumerate().map(|(i, k)| column(k).alias(key(i))).collect();
        for (i, name) in measures.iter().enumerate() {
            let (of_expected, of_found) = sides(i);
            let (mine, other) = if expected { (of_expected, of_found) } else { (of_found, of_expected) };
            let t = self.rollup.definition.schema().field_with_name(name)?.data_type();
            // Of a sketch, its bytes: the rest of it is its type.
            let (t, value) = match is_sketch(t) {
                true => (&DataType::Binary, sketch_bytes_udf().call(vec![column(name), lit("stored")])),
                false => (t, column(name)),
            };
            let null = datafusion::common::ScalarValue::try_from(t).map_err(Error::from)?;
            let (mine, other) = (value.alias(mine), Expr::Literal(null, None).alias(other));
            columns.extend(if expected { [mine, other] } else { [other, mine] });
        }
        columns.push(lit(i64::from(expected)).alias(IN_EXPECTED));
        columns.push(lit(i64::from(!expected)).alias(IN_FOUND));
        Ok(LogicalPlanBuilder::from(rows).project(columns)?)
    }
}

/// The name of the bucket (0) or of a key in [`PinnedRollup::differences`].
pub fn key(place: usize) -> String {
    format!("key_{place}")
}
