//! `toplake.jobs`: long work on the warehouse's objects.
//!
//! What this process is at, and how its last run of each job ended, is kept in memory only. What is left of a recompute
//! stands in the rollup's own table, so it is listed by every process, whoever asked for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;
use parking_lot::Mutex;

use super::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::rollup::recompute;

/// The job of computing ranges of a rollup anew.
pub const RECOMPUTE: &str = "recompute";
/// The job of keeping a materialized view fresh.
pub const REFRESH: &str = "refresh";

/// What runs in this process, and how the last run of each job on each object ended.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<BTreeMap<(String, &'static str), Run>>);

/// One run of a job.
#[derive(Debug, Clone)]
struct Run {
    state: &'static str,
    begun: i64,
    units: i64,
    rows: i64,
    error: Option<String>,
}

impl Jobs {
    /// A run begins; it has ended when what this gives is dropped.
    pub fn begin(self: &Arc<Self>, job: &'static str, object: &str) -> Running {
        let begun = chrono::Utc::now().timestamp_micros();
        let key = (object.to_owned(), job);
        let mut runs = self.0.lock();
        // An error stays until a run has ended well.
        let error = runs.get(&key).and_then(|run| run.error.clone());
        runs.insert(key.clone(), Run { state: "running", begun, units: 0, rows: 0, error });
        Running { jobs: Arc::clone(self), key }
    }

    /// Why the last run of a job failed; `None` if it did not, or there was none here.
    pub fn error(&self, job: &'static str, object: &str) -> Option<String> {
        self.0.lock().get(&(object.to_owned(), job)).and_then(|run| run.error.clone())
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    jobs: Arc<Jobs>,
    key: (String, &'static str),
}

impl Running {
    /// A unit of the work is done.
    pub fn unit(&self, rows: u64) {
        self.note(|run| {
            run.units += 1;
            run.rows += rows as i64;
        });
    }

    /// The run has ended so.
    pub fn end<T>(self, done: Result<T>) -> Result<T> {
        let error = done.as_ref().err().map(ToString::to_string);
        self.note(|run| {
            run.state = if error.is_some() { "failed" } else { "done" };
            run.error = error;
        });
        done
    }

    fn note(&self, note: impl FnOnce(&mut Run)) {
        if let Some(run) = self.jobs.0.lock().get_mut(&self.key) {
            note(run);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither done nor failed: whoever waited for it has gone.
        self.note(|run| {
            if run.state == "running" {
                run.state = "cancelled";
            }
        });
    }
}

/// A job of an object: its last run here, and what is left of it whoever began it.
#[derive(Default)]
struct Row {
    run: Option<Run>,
    pending: Option<(i64, i64)>,
}

impl Row {
    fn state(&self) -> &'static str {
        match (&self.run, self.pending) {
            (Some(run), None) => run.state,
            (Some(run), Some(_)) if matches!(run.state, "running" | "failed") => run.state,
            // Left by a process that was stopped, or asked for elsewhere: the next folds do it.
            _ => "pending",
        }
    }
}

/// The system table.
#[derive(Debug)]
pub struct JobsTable {
    warehouse: Arc<Warehouse>,
    schema: SchemaRef,
}

impl JobsTable {
    /// The jobs of a warehouse.
    pub fn new(warehouse: Arc<Warehouse>) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let time = |name: &str| Field::new(name, timestamp(true), true);
        let schema = Schema::new(vec![
            text("job"),
            text("object"),
            text("state"),
            time("begun"),
            number("units"),
            number("rows"),
            time("pending_from"),
            time("pending_to"),
            text("error"),
        ]);
        JobsTable { warehouse, schema: Arc::new(schema) }
    }

    async fn rows(&self, pins: &Pins) -> Result<RecordBatch> {
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        for (key, run) in self.warehouse.jobs().0.lock().iter() {
            rows.insert(key.clone(), Row { run: Some(run.clone()), pending: None });
        }
        for name in self.warehouse.list().await? {
            let Ok(Some(Object::Rollup(table))) = self.warehouse.get(&name).await else { continue };
            let pending = recompute::pending(&*pins.snapshot(&table.rollup().table).await?)?;
            let ends = (pending.iter().next(), pending.iter().last());
            if let (Some((from, _)), Some((_, to))) = ends {
                rows.entry((name, RECOMPUTE)).or_default().pending = Some((from, to));
            }
        }
        let texts =
            |each: Vec<Option<&str>>| Arc::new(each.into_iter().collect::<StringViewArray>()) as ArrayRef;
        let numbers = |each: Vec<Option<i64>>| Arc::new(Int64Array::from(each)) as ArrayRef;
        let times = |each: Vec<Option<i64>>| {
            Arc::new(TimestampMicrosecondArray::from(each).with_timezone("UTC")) as ArrayRef
        };
        let run = |value: fn(&Run) -> i64| rows.values().map(|row| row.run.as_ref().map(value)).collect();
        let columns = vec![
            texts(rows.keys().map(|(_, job)| Some(*job)).collect()),
            texts(rows.keys().map(|(object, _)| Some(object.as_str())).collect()),
            texts(rows.values().map(|row| Some(row.state())).collect()),
            times(run(|run| run.begun)),
            numbers(run(|run| run.units)),
            numbers(run(|run| run.rows)),
            times(rows.values().map(|row| row.pending.map(|(from, _)| from)).collect()),
            times(rows.values().map(|row| row.pending.map(|(_, to)| to)).collect()),
            texts(rows.values().map(|row| row.run.as_ref()?.error.as_deref()).collect()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[async_trait]
impl TableProvider for JobsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let rows = self.rows(&Pins::of(state.config())).await?;
        let exec = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(exec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_stays_until_a_run_ends_well() {
        let jobs = Arc::new(Jobs::default());
        let state = |jobs: &Jobs| jobs.0.lock().get(&("r".to_owned(), REFRESH)).map(|run| run.state);
        let failed: Result<()> = jobs.begin(REFRESH, "r").end(Err(Error::storage("away")));
        assert!(failed.is_err() && state(&jobs) == Some("failed"));
        let run = jobs.begin(REFRESH, "r");
        assert_eq!((state(&jobs), jobs.error(REFRESH, "r").as_deref()), (Some("running"), Some("away")));
        drop(run);
        assert_eq!((state(&jobs), jobs.error(REFRESH, "r").as_deref()), (Some("cancelled"), Some("away")));
        jobs.begin(REFRESH, "r").end(Ok(())).unwrap();
        assert_eq!((state(&jobs), jobs.error(REFRESH, "r")), (Some("done"), None));
        assert_eq!(jobs.error(RECOMPUTE, "r"), None);
    }
}
