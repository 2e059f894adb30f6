//! `CALL recompute` and `CALL repair`: ranges of a rollup computed anew, and the rollups above it after it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use futures::TryStreamExt;

use super::call::Arguments;
use super::run::Session;
use crate::catalog::jobs::RECOMPUTE;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::range::TimeRanges;
use crate::lake::schema::timestamp;
use crate::rollup::audit::{Basis, key};
use crate::rollup::fold::fold;
use crate::rollup::recompute::{Origin, request};
use crate::rollup::view::{Rollup, Source};

/// Where a rollup was computed anew.
struct Recomputed {
    rollup: String,
    ranges: i64,
    units: i64,
    rows: i64,
}

fn columns(done: &[Recomputed]) -> Vec<ArrayRef> {
    let number = |value: fn(&Recomputed) -> i64| {
        Arc::new(Int64Array::from_iter_values(done.iter().map(value))) as ArrayRef
    };
    vec![
        Arc::new(StringViewArray::from_iter_values(done.iter().map(|d| d.rollup.as_str()))),
        number(|d| d.ranges),
        number(|d| d.units),
        number(|d| d.rows),
    ]
}

impl Session {
    /// `CALL recompute(rollup, from, to [, 'archive'])`: from the raw events, so it is the rollup over the events that is computed anew;
    /// those between it and this one follow.
    pub(super) async fn recompute(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let rollup = self.warehouse.rollup(arguments.text(0)?).await?;
        let asked = asked(&rollup, arguments)?;
        let mut base = Arc::clone(&rollup);
        while let Source::Rollup(finer) = &base.source {
            base = Arc::clone(finer);
        }
        let origin = match arguments.optional_text(3) {
            None => Origin::Events,
            Some(text) if text.eq_ignore_ascii_case("archive") => Origin::Archive,
            Some(other) => {
                return Err(Error::invalid_input(format!("recompute: argument 4 (origin) is '{other}'"))
                    .with_hint("it may be 'archive', for events that are past their retention"));
            }
        };
        let ranges = request(&base, &rollup.definition.widen(&asked), origin).await?;
        Ok(columns(&[self.work_off(&base, &ranges).await?]))
    }

    /// `CALL repair(rollup, from, to)`: at each level, finest first, what differs from its source is computed anew.
    pub(super) async fn repair(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let rollup = self.warehouse.rollup(arguments.text(0)?).await?;
        let asked = rollup.definition.widen(&asked(&rollup, arguments)?);
        let mut levels = vec![Arc::clone(&rollup)];
        while let Some(Source::Rollup(finer)) = levels.last().map(|level| &level.source) {
            levels.push(Arc::clone(finer));
        }
        let mut done = vec![];
        for level in levels.iter().rev() {
            let differ = self.differing(level, &asked).await?;
            if !differ.is_empty() {
                let ranges = request(level, &differ, Origin::Events).await?;
                done.push(self.work_off(level, &ranges).await?);
            }
        }
        Ok(columns(&done))
    }

    /// The buckets in which a rollup differs from what it is made from.
    async fn differing(&self, rollup: &Arc<Rollup>, ranges: &TimeRanges) -> Result<TimeRanges> {
        let mut state = self.ctx.state();
        let pins = Pins::install(state.config_mut());
        let pinned = rollup.pin(&pins).await?;
        pinned.refuse_expired(ranges)?;
        let plan = pinned.differences(ranges, Basis::Source).await?;
        let plan = state.create_physical_plan(&plan).await?;
        let mut rows = datafusion::physical_plan::execute_stream(plan, state.task_ctx())?;
        let mut buckets = TimeRanges::default();
        while let Some(batch) = rows.try_next().await? {
            buckets = buckets.union(&rollup.definition.widen(&instants(&batch)?)).coarsened();
        }
        Ok(buckets)
    }

    /// Works off what is pending of a rollup, and has the rollups above it follow each unit.
    async fn work_off(&self, rollup: &Arc<Rollup>, ranges: &TimeRanges) -> Result<Recomputed> {
        let name = rollup.table.name();
        let mut done =
            Recomputed { rollup: name.to_owned(), ranges: ranges.iter().count() as i64, units: 0, rows: 0 };
        if ranges.is_empty() {
            return Ok(done);
        }
        let job = self.warehouse.jobs().begin(RECOMPUTE, name);
        let above = self.rollups_above(name).await?;
        let worked = async {
            loop {
                let folded = fold(rollup, &self.ctx.state()).await?;
                for above in &above {
                    let context =
                        |e: crate::error::Error| e.context(format!("'{}' above", above.table.name()));
                    fold(above, &self.ctx.state()).await.map_err(context)?;
                }
                job.unit(folded.rows);
                done.units += 1;
                done.rows += folded.rows as i64;
                if folded.pending.is_empty() {
                    return Ok(());
                }
            }
        };
        let worked = worked.await;
        job.end(worked).map_err(|e: crate::error::Error| e.context(format!("'{name}'")))?;
        Ok(done)
    }

    /// The rollups over this one, directly or through others, finest first.
    async fn rollups_above(&self, name: &str) -> Result<Vec<Arc<Rollup>>> {
        let mut above = vec![];
        for other in self.warehouse.list().await? {
            // One that cannot be opened is none that could follow; its own folds say why.
            if let Ok(Some(Object::Rollup(table))) = self.warehouse.get(&other).await
                && table.rollup().is_above(name)
            {
                above.push(Arc::clone(table.rollup()));
            }
        }
        above.sort_by_key(|rollup| rollup.level());
        Ok(above)
    }
}

/// The range that a call names.
fn asked(rollup: &Rollup, arguments: &Arguments) -> Result<TimeRanges> {
    let zoned = rollup.definition.has_zone();
    Ok([(arguments.instant(1, zoned)?, arguments.instant(2, zoned)?)].into_iter().collect())
}

/// The buckets of rows that differ.
fn instants(rows: &RecordBatch) -> Result<TimeRanges> {
    let Some(buckets) = rows.column_by_name(&key(0)) else { return Ok(TimeRanges::default()) };
    let buckets = cast(buckets, &timestamp(true))?;
    Ok(buckets.as_primitive::<TimestampMicrosecondType>().iter().flatten().map(|t| (t, t + 1)).collect())
}
