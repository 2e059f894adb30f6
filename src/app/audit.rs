//! The job that compares rollups with what they are made from, each bucket once after it is complete.
//!
//! A rollup over events is compared with the events, one over another rollup with that: together they are the whole way
//! from events to years, and nothing is read more than once for each rollup over it. Where a difference was found only the buckets
//! that differ are looked at again, until they are right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::{max, min};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::util::display::array_value_to_string;
use futures::{FutureExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::catalog::jobs::AUDIT;
use crate::catalog::warehouse::Object;
use crate::catalog::watermark;
use crate::error::{Error, Result};
use crate::jobs::scheduler::{Job, Run};
use crate::lake::instant::shown;
use crate::rollup::view::{Rollup, Source};
use crate::session::Engine;
use crate::statement::{Outcome, Session, parse};

/// A job that audits what has become complete since its last run; at the first, in the last `every`.
pub(super) fn job(engine: Engine, every: Duration) -> Result<Job> {
    let audits = Arc::new(Audits { engine, every: every.as_micros() as i64 });
    let run: Run = Box::new(move || {
        let audits = Arc::clone(&audits);
        async move { audits.run().await }.boxed()
    });
    Job::new(AUDIT, Some(&format!("every {}", humantime::format_duration(every))), None, run)
}

struct Audits {
    engine: Engine,
    /// In microseconds.
    every: i64,
}

/// What is known of a rollup, kept in the warehouse by the id of its table. Instants are in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Audited {
    /// Until when it was looked at.
    through: i64,
    /// From the first bucket that differed to the end of the last one.
    differing: Option<(i64, i64)>,
}

impl Audits {
    /// One rollup that differs does not keep the others waiting; the first error is given at the end.
    async fn run(&self) -> Result<u64> {
        let warehouse = self.engine.warehouse();
        let mut failed: Option<Error> = None;
        let mut rollups = vec![];
        for name in warehouse.list().await? {
            match warehouse.get(&name).await {
                Ok(Some(Object::Rollup(table))) => rollups.push(Arc::clone(table.rollup())),
                Ok(_) => {}
                Err(e) => failed = failed.or(Some(e.context(format!("'{name}'")))),
            }
        }
        // What is wrong in a finer one shows in those over it too.
        rollups.sort_by_key(|rollup| rollup.level());
        let mut known: BTreeMap<String, Audited> = warehouse.kept_by_job(AUDIT).await?.unwrap_or_default();
        for rollup in &rollups {
            if let Err(e) = self.audit(rollup, &mut known).await {
                let hint = e.hint().unwrap_or_default();
                tracing::error!(rollup = rollup.table.name(), error = %e, hint, "the audit did not end well");
                failed = failed.or(Some(e));
            }
        }
        known.retain(|id, _| rollups.iter().any(|rollup| rollup.table.snapshot().metadata.id == *id));
        warehouse.keep_for_job(AUDIT, &known).await?;
        failed.map_or(Ok(0), Err)
    }

    async fn audit(&self, rollup: &Arc<Rollup>, audited: &mut BTreeMap<String, Audited>) -> Result<()> {
        let (events, snapshot) = (rollup.events().update().await?, rollup.table.update().await?);
        // What is not built yet is computed from the events by the view itself.
        if snapshot.position(&Rollup::fold_app(&snapshot)).is_none() {
            return Ok(());
        }
        let Some(watermark) = watermark::of(rollup.events().name(), &events)? else { return Ok(()) };
        let bucketing = rollup.definition.bucketing();
        let to = bucketing.start(watermark);
        let (basis, kept) = match (&rollup.source, events.expired_through()) {
            (Source::Events { .. }, Some(cut)) => ("events", bucketing.end(cut - 1)),
            (Source::Events { .. }, None) => ("events", i64::MIN),
            (Source::Rollup(_), _) => ("source", i64::MIN),
        };
        let (id, name) = (&snapshot.metadata.id, rollup.table.name());
        let first = bucketing.start(watermark.saturating_sub(self.every));
        let known = audited.get(id).copied().unwrap_or(Audited { through: first, differing: None });
        let again = known.differing.map(|(from, to)| (from.max(kept), to));
        let next = (known.through.max(kept), to);
        for (from, to) in again.into_iter().chain([next]).filter(|(from, to)| from < to) {
            let found = self.compare(name, from, to, basis).await?;
            let through = known.through.max(to);
            let differing = found.as_ref().map(|found| (found.first, bucketing.end(found.last)));
            audited.insert(id.clone(), Audited { through, differing });
            if let Some(found) = found {
                let (range, lines, line) = (found.range, found.lines, found.line);
                let message =
                    format!("'{name}' differs from its {basis} in {lines} values, the first is {line}");
                return Err(Error::corrupt(message).with_hint(format!(
                    "SELECT * FROM audit({range}, '{basis}') shows them, CALL repair({range}) mends them"
                )));
            }
        }
        Ok(())
    }

    /// What differs, if anything does.
    async fn compare(&self, rollup: &str, from: i64, to: i64, basis: &str) -> Result<Option<Found>> {
        let name = rollup.replace('\'', "''");
        let range = format!("'{name}', '{}', '{}'", shown(from), shown(to));
        let session = Session::new(self.engine.background_context(), Arc::clone(self.engine.warehouse()));
        let mut found: Option<Found> = None;
        for statement in parse(&format!("SELECT * FROM audit({range}, '{basis}')"))? {
            let Outcome::Rows { mut stream, .. } = session.execute(&statement, &[]).await? else {
                return Err(Error::internal("an audit gave no rows"));
            };
            while let Some(batch) = stream.try_next().await? {
                let buckets = batch.column(0).as_primitive::<TimestampMicrosecondType>();
                let (Some(first), Some(last)) = (min(buckets), max(buckets)) else { continue };
                let line = line(&batch)?;
                let found = found.get_or_insert(Found { range: range.clone(), lines: 0, line, first, last });
                found.lines += batch.num_rows();
                (found.first, found.last) = (found.first.min(first), found.last.max(last));
            }
        }
        let differences = found.as_ref().map_or(0, |found| found.lines);
        tracing::info!(rollup, from = shown(from), to = shown(to), differences, "audited");
        Ok(found)
    }
}

/// What an audit has found.
struct Found {
    /// The arguments that it was called with.
    range: String,
    lines: usize,
    /// The first line.
    line: String,
    /// The first bucket that differs, and the last one.
    first: i64,
    last: i64,
}

/// The first line, as messages show it.
fn line(lines: &RecordBatch) -> Result<String> {
    let mut shown = vec![];
    for (field, column) in lines.schema().fields().iter().zip(lines.columns()) {
        shown.push(format!("{} {}", field.name(), array_value_to_string(column, 0)?));
    }
    Ok(shown.join(", "))
}
