//! The job that compares rollups with what they are made from, each bucket once after it is complete.
//!
//! A rollup over events is compared with the events, one over another rollup with that: together they are the whole way
//! from events to years, and nothing is read more than once for each rollup over it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use futures::{FutureExt, TryStreamExt};
use parking_lot::Mutex;

use crate::catalog::jobs::AUDIT;
use crate::catalog::warehouse::Object;
use crate::catalog::watermark;
use crate::error::{Error, Result};
use crate::jobs::scheduler::{Job, Run};
use crate::lake::instant::shown;
use crate::rollup::view::{Rollup, Source};
use crate::session::Engine;
use crate::statement::{Outcome, Session, parse};

/// A job that audits what has become complete since its last run in this process; at the first, in the last `every`.
pub(super) fn job(engine: Engine, every: Duration) -> Result<Job> {
    let audits = Arc::new(Audits { engine, every: every.as_micros() as i64, audited: Mutex::default() });
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
    /// How far each rollup was found right, by the id of its table.
    audited: Mutex<HashMap<String, i64>>,
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
        for rollup in &rollups {
            if let Err(e) = self.audit(rollup).await {
                let hint = e.hint().unwrap_or_default();
                tracing::error!(rollup = rollup.table.name(), error = %e, hint, "the audit did not end well");
                failed = failed.or(Some(e));
            }
        }
        failed.map_or(Ok(0), Err)
    }

    async fn audit(&self, rollup: &Arc<Rollup>) -> Result<()> {
        let (events, snapshot) = (rollup.events().update().await?, rollup.table.update().await?);
        // What is not built yet is computed from the events by the view itself.
        if snapshot.position(&Rollup::fold_app(&snapshot)).is_none() {
            return Ok(());
        }
        let Some(watermark) = watermark::of(rollup.events().name(), &events)? else { return Ok(()) };
        let bucketing = rollup.definition.bucketing();
        let to = bucketing.start(watermark);
        let known = self.audited.lock().get(&snapshot.metadata.id).copied();
        let mut from = known.unwrap_or_else(|| bucketing.start(watermark.saturating_sub(self.every)));
        let basis = match &rollup.source {
            Source::Events { .. } => "events",
            Source::Rollup(_) => "source",
        };
        if let (Source::Events { .. }, Some(cut)) = (&rollup.source, events.expired_through()) {
            from = from.max(bucketing.end(cut - 1));
        }
        if from < to {
            self.compare(rollup.table.name(), from, to, basis).await?;
        }
        self.audited.lock().insert(snapshot.metadata.id.clone(), to.max(from));
        Ok(())
    }

    async fn compare(&self, rollup: &str, from: i64, to: i64, basis: &str) -> Result<()> {
        let name = rollup.replace('\'', "''");
        let range = format!("'{name}', '{}', '{}'", shown(from), shown(to));
        let session = Session::new(self.engine.background_context(), Arc::clone(self.engine.warehouse()));
        let mut lines = 0;
        let mut first = None;
        for statement in parse(&format!("SELECT * FROM audit({range}, '{basis}')"))? {
            let Outcome::Rows { mut stream, .. } = session.execute(&statement, &[]).await? else {
                return Err(Error::internal("an audit gave no rows"));
            };
            while let Some(batch) = stream.try_next().await? {
                lines += batch.num_rows();
                if first.is_none() && batch.num_rows() > 0 {
                    first = Some(line(&batch)?);
                }
            }
        }
        tracing::info!(rollup, from = shown(from), to = shown(to), differences = lines, "audited");
        let Some(first) = first else { return Ok(()) };
        Err(Error::corrupt(format!(
            "'{rollup}' differs from its {basis} in {lines} values, the first is {first}"
        ))
        .with_hint(format!(
            "SELECT * FROM audit({range}, '{basis}') shows them, CALL repair({range}) mends them"
        )))
    }
}

/// The first line, as messages show it.
fn line(lines: &RecordBatch) -> Result<String> {
    let mut shown = vec![];
    for (field, column) in lines.schema().fields().iter().zip(lines.columns()) {
        shown.push(format!("{} {}", field.name(), array_value_to_string(column, 0)?));
    }
    Ok(shown.join(", "))
}
