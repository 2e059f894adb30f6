//! `toplake.jobs`: long work on the warehouse's objects, and the jobs that servers run.
//!
//! What this process is at, and how its last run of each job on each object ended, is kept in memory only. What is left of a
//! recompute stands in the rollup's own table, and how jobs stand that have a schedule in the warehouse
//! ([`schedule`](super::schedule)): those are listed by every process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parking_lot::Mutex;

use super::cron::When;
use super::job_runs::{JobRun, Recorder};
use super::live_table::LiveRows;
use super::schedule::{LastRun, ScheduledJob};
use super::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::metrics;
use crate::rollup::recompute;

/// The job of computing ranges of a rollup anew.
pub const RECOMPUTE: &str = "recompute";
/// The job of comparing rollups with what they are made from.
pub const AUDIT: &str = "audit";
/// The job of keeping a materialized view fresh.
pub const REFRESH: &str = "refresh";

/// What runs in this process, and how the last run of each job on each object ended.
#[derive(Debug, Default)]
pub struct Jobs {
    runs: Mutex<BTreeMap<(String, &'static str), Run>>,
    recorder: Recorder,
    /// How each job stands.
    known: Mutex<BTreeMap<String, KnownJob>>,
    /// When the last audit of each rollup ended here, in microseconds, and how many differences it found.
    audits: Mutex<BTreeMap<String, (i64, u64)>>,
}

/// A job as this process knows it: what it has run itself, and of a job on a schedule what others have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownJob {
    /// Its name.
    pub name: String,
    /// Whether its last run failed; of one with several objects, that of any of them.
    pub failing: bool,
    /// Whether it is not to run.
    pub paused: bool,
    /// When a run ended well last, in microseconds.
    pub last_success: Option<i64>,
}

/// One run of a job.
#[derive(Debug, Clone)]
struct Run {
    state: &'static str,
    begun: i64,
    ended: Option<i64>,
    units: i64,
    rows: i64,
    error: Option<String>,
}

impl Jobs {
    /// A run begins; it has ended when what this gives is dropped.
    pub fn begin(self: &Arc<Self>, job: &'static str, object: &str) -> Running {
        let begun = chrono::Utc::now().timestamp_micros();
        let key = (object.to_owned(), job);
        let mut runs = self.runs.lock();
        // An error stays until a run has ended well.
        let error = runs.get(&key).and_then(|run| run.error.clone());
        runs.insert(key.clone(), Run { state: "running", begun, ended: None, units: 0, rows: 0, error });
        Running { jobs: Arc::clone(self), key }
    }

    /// Why the last run of a job failed; `None` if it did not, or there was none here.
    pub fn error(&self, job: &'static str, object: &str) -> Option<String> {
        self.runs.lock().get(&(object.to_owned(), job)).and_then(|run| run.error.clone())
    }

    /// A run of a job has ended, whichever it was: it is counted, and written down with the next rows of `toplake.job_runs`.
    pub fn ended(&self, run: JobRun) {
        let took = Duration::from_micros((run.ended - run.begun).max(0) as u64);
        metrics::job_ran(&run.job, run.state, took);
        let mut known = self.known.lock();
        let job = known.entry(run.job.clone()).or_default();
        job.name.clone_from(&run.job);
        if run.state == "done" {
            job.last_success = Some(run.ended);
        }
        if run.object.is_none() {
            job.failing = run.state == "failed" || (job.failing && run.state == "cancelled");
        }
        drop(known);
        self.recorder.add(run);
    }

    /// How a job on a schedule stands in the warehouse, whoever ran it: whether it is not to run, and its last run, where that is known.
    pub fn stands(&self, name: &str, paused: bool, last: Option<&LastRun>) {
        let mut known = self.known.lock();
        let job = known.entry(name.to_owned()).or_default();
        name.clone_into(&mut job.name);
        job.paused = paused;
        if let Some(last) = last {
            job.failing = last.error.is_some();
            job.last_success = last.succeeded.or(job.last_success);
        }
    }

    /// The jobs that this process knows.
    pub fn known(&self) -> Vec<KnownJob> {
        let runs = self.runs.lock();
        let fails = |name: &str| runs.iter().any(|((_, job), run)| *job == name && run.error.is_some());
        let known = self.known.lock();
        known
            .values()
            .map(|job| KnownJob { failing: job.failing || fails(&job.name), ..job.clone() })
            .collect()
    }

    /// An audit of a rollup has found so many differences.
    pub fn audited(&self, rollup: &str, differences: u64) {
        let now = chrono::Utc::now().timestamp_micros();
        self.audits.lock().insert(rollup.to_owned(), (now, differences));
    }

    /// How many differences are left of those that the last audits here found: none where the scheduled one has ended well since.
    pub fn audits(&self) -> BTreeMap<String, u64> {
        let succeeded = self.known.lock().get(AUDIT).and_then(|job| job.last_success);
        let left =
            |at: i64, found: u64| if succeeded.is_some_and(|succeeded| at < succeeded) { 0 } else { found };
        self.audits.lock().iter().map(|(rollup, (at, found))| (rollup.clone(), left(*at, *found))).collect()
    }

    /// What is to be written down.
    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
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
        self.close(if error.is_some() { "failed" } else { "done" }, error);
        done
    }

    fn close(&self, state: &'static str, error: Option<String>) {
        let ended = chrono::Utc::now().timestamp_micros();
        let mut over = None;
        self.note(|run| {
            if run.state != "running" {
                return;
            }
            run.state = state;
            run.ended = Some(ended);
            // Of a cancelled run nobody knows how it would have ended.
            if state != "cancelled" {
                run.error.clone_from(&error);
            }
            over = Some((run.begun, run.rows));
        });
        let Some((begun, rows)) = over else { return };
        let (object, job) = self.key.clone();
        self.jobs.ended(JobRun {
            job: job.to_owned(),
            object: Some(object),
            state,
            begun,
            ended,
            rows,
            error,
        });
    }

    fn note(&self, note: impl FnOnce(&mut Run)) {
        if let Some(run) = self.jobs.runs.lock().get_mut(&self.key) {
            note(run);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither done nor failed: whoever waited for it has gone.
        self.close("cancelled", None);
    }
}

/// A job: its last run here or, with a schedule, anywhere, and what is left of it whoever began it.
#[derive(Default)]
struct Row {
    run: Option<Run>,
    pending: Option<(i64, i64)>,
    scheduled: Option<ScheduledJob>,
}

impl Row {
    fn state(&self) -> &str {
        if let Some(job) = &self.scheduled {
            return match &job.last {
                _ if job.paused => "paused",
                Some(last) => &last.state,
                None => "scheduled",
            };
        }
        match (&self.run, self.pending) {
            (Some(run), None) => run.state,
            (Some(run), Some(_)) if matches!(run.state, "running" | "failed") => run.state,
            // Left by a process that was stopped, or asked for elsewhere: the next folds do it.
            _ => "pending",
        }
    }

    fn last(&self) -> Option<&LastRun> {
        self.scheduled.as_ref()?.last.as_ref()
    }

    fn begun(&self) -> Option<i64> {
        self.last().map(|last| last.begun).or(self.run.as_ref().map(|run| run.begun))
    }

    fn ended(&self) -> Option<i64> {
        self.last().and_then(|last| last.ended).or(self.run.as_ref().and_then(|run| run.ended))
    }

    fn rows(&self) -> Option<i64> {
        self.last().map(|last| last.rows as i64).or(self.run.as_ref().map(|run| run.rows))
    }

    fn error(&self) -> Option<&str> {
        match self.last() {
            Some(last) => last.error.as_deref(),
            None => self.run.as_ref()?.error.as_deref(),
        }
    }

    fn schedule(&self) -> Option<&str> {
        self.scheduled.as_ref()?.definition.as_ref()?.schedule.as_deref()
    }

    /// When it is due next.
    fn next(&self) -> Option<i64> {
        let job = self.scheduled.as_ref().filter(|job| !job.paused)?;
        let definition = job.definition.as_ref()?;
        let when = When::parse(definition.schedule.as_deref()?, definition.time_zone.as_deref()).ok()?;
        let after = match (&when, &job.last) {
            (When::Every(_), Some(last)) => last.ended.unwrap_or(last.begun),
            _ => chrono::Utc::now().timestamp_micros(),
        };
        when.next(after)
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
            time("ended"),
            time("next"),
            number("units"),
            number("rows"),
            time("pending_from"),
            time("pending_to"),
            text("schedule"),
            text("server"),
            text("error"),
        ]);
        JobsTable { warehouse, schema: Arc::new(schema) }
    }

    async fn rows(&self, pins: &Pins) -> Result<RecordBatch> {
        // By object and job; those of a schedule are about no object.
        let mut rows: BTreeMap<(Option<String>, String), Row> = BTreeMap::new();
        for ((object, job), run) in self.warehouse.jobs().runs.lock().iter() {
            let row = Row { run: Some(run.clone()), ..Row::default() };
            rows.insert((Some(object.clone()), (*job).to_owned()), row);
        }
        for name in self.warehouse.list().await? {
            let Ok(Some(Object::Rollup(table))) = self.warehouse.get(&name).await else { continue };
            let pending = recompute::pending(&*pins.snapshot(&table.rollup().table).await?)?;
            let ends = (pending.iter().next(), pending.iter().last());
            if let (Some((from, _)), Some((_, to))) = ends {
                rows.entry((Some(name), RECOMPUTE.to_owned())).or_default().pending = Some((from, to));
            }
        }
        for (name, job) in self.warehouse.scheduled_jobs().await? {
            rows.insert((None, name), Row { scheduled: Some(job), ..Row::default() });
        }
        let texts =
            |each: Vec<Option<&str>>| Arc::new(each.into_iter().collect::<StringViewArray>()) as ArrayRef;
        let numbers = |each: Vec<Option<i64>>| Arc::new(Int64Array::from(each)) as ArrayRef;
        let times = |each: Vec<Option<i64>>| {
            Arc::new(TimestampMicrosecondArray::from(each).with_timezone("UTC")) as ArrayRef
        };
        let columns = vec![
            texts(rows.keys().map(|(_, job)| Some(job.as_str())).collect()),
            texts(rows.keys().map(|(object, _)| object.as_deref()).collect()),
            texts(rows.values().map(|row| Some(row.state())).collect()),
            times(rows.values().map(Row::begun).collect()),
            times(rows.values().map(Row::ended).collect()),
            times(rows.values().map(Row::next).collect()),
            numbers(rows.values().map(|row| row.run.as_ref().map(|run| run.units)).collect()),
            numbers(rows.values().map(Row::rows).collect()),
            times(rows.values().map(|row| row.pending.map(|(from, _)| from)).collect()),
            times(rows.values().map(|row| row.pending.map(|(_, to)| to)).collect()),
            texts(rows.values().map(Row::schedule).collect()),
            texts(rows.values().map(|row| row.last().map(|last| last.server.as_str())).collect()),
            texts(rows.values().map(Row::error).collect()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[async_trait]
impl LiveRows for JobsTable {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    async fn now(&self, pins: &Pins) -> Result<RecordBatch> {
        self.rows(pins).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_stays_until_a_run_ends_well() {
        let jobs = Arc::new(Jobs::default());
        let state = |jobs: &Jobs| jobs.runs.lock().get(&("r".to_owned(), REFRESH)).map(|run| run.state);
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
