//! `toplake.job_runs`: what jobs have done, on all servers; `toplake.refreshes` is what of it concerns views.
//!
//! A side table that servers append to now and then. Runs that ended well are added up by the minute, as a view may be
//! refreshed each second; each one that failed has a row of its own. The last rows before a kill -9 are lost: that is a report,
//! and nothing depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result as EngineResult;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
use parking_lot::Mutex;

use super::jobs::{RECOMPUTE, REFRESH};
use super::schemas::SYSTEM;
use super::side_table::Definition;
use super::warehouse::Warehouse;
use crate::error::Result;
use crate::lake::schema::timestamp;

/// The name of the table in the schema `toplake`.
pub const NAME: &str = "job_runs";

/// The column that says when a run began.
const TIME: &str = "begun";

const MINUTE: i64 = 60_000_000;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8View, nullable);
    Arc::new(Schema::new(vec![
        text("job", false),
        text("object", true),
        text("state", false),
        Field::new(TIME, timestamp(true), false),
        Field::new("ended", timestamp(true), false),
        Field::new("runs", DataType::Int64, false),
        Field::new("seconds", DataType::Float64, false),
        Field::new("slowest_seconds", DataType::Float64, false),
        Field::new("rows", DataType::Int64, false),
        text("error", true),
        text("server", false),
    ]))
});

/// The table.
pub(super) fn definition() -> Definition {
    Definition { name: NAME, time: TIME, schema: Arc::clone(&SCHEMA), route: None }
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRun {
    /// The job.
    pub job: String,
    /// What it was about.
    pub object: Option<String>,
    /// `done`, `failed` or `cancelled`.
    pub state: &'static str,
    /// When, in microseconds.
    pub begun: i64,
    /// Until when.
    pub ended: i64,
    /// Rows that it wrote.
    pub rows: i64,
    /// Why it failed.
    pub error: Option<String>,
}

/// Runs, or one.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    run: JobRun,
    runs: i64,
    micros: i64,
    slowest: i64,
}

impl Line {
    fn of(run: JobRun) -> Self {
        let micros = (run.ended - run.begun).max(0);
        Line { run, runs: 1, micros, slowest: micros }
    }

    fn add(&mut self, run: &JobRun) {
        let micros = (run.ended - run.begun).max(0);
        self.runs += 1;
        self.micros += micros;
        self.slowest = self.slowest.max(micros);
        self.run.rows += run.rows;
        self.run.ended = self.run.ended.max(run.ended);
    }
}

/// `toplake.refreshes`: what of it concerns views.
pub(super) fn refreshes(warehouse: &Warehouse) -> EngineResult<ViewTable> {
    let runs = provider_as_source(Arc::clone(warehouse.job_runs()) as _);
    let views = col("job").in_list(vec![lit(REFRESH), lit(RECOMPUTE)], false);
    let plan = LogicalPlanBuilder::scan(format!("{SYSTEM}.{NAME}"), runs, None)?.filter(views)?.build()?;
    Ok(ViewTable::new(plan, None))
}

/// What is not written yet.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// Those that ended well, by job, object and minute.
    well: BTreeMap<(String, Option<String>, i64), Line>,
    others: Vec<Line>,
}

impl Recorder {
    /// A run has ended. One that had nothing to do is not worth a line.
    pub fn add(&self, run: JobRun) {
        let mut lines = self.0.lock();
        if run.state != "done" {
            lines.others.push(Line::of(run));
            return;
        }
        if run.object.is_some() && run.rows == 0 {
            return;
        }
        let key = (run.job.clone(), run.object.clone(), run.begun.div_euclid(MINUTE));
        match lines.well.get_mut(&key) {
            Some(line) => line.add(&run),
            None => drop(lines.well.insert(key, Line::of(run))),
        }
    }

    /// Takes what is over: failures, and minutes before `now`, in microseconds.
    fn take(&self, now: i64) -> Vec<Line> {
        let mut lines = self.0.lock();
        let this = now.div_euclid(MINUTE);
        let open = lines.well.extract_if(.., |key, _| key.2 < this).map(|(_, line)| line);
        let mut taken: Vec<Line> = open.collect();
        taken.append(&mut lines.others);
        taken
    }
}

impl Warehouse {
    /// Writes down the runs that have ended; with `all` also those of this minute.
    pub async fn record_job_runs(&self, server: &str, all: bool) -> Result<()> {
        let now = if all { i64::MAX } else { chrono::Utc::now().timestamp_micros() };
        let lines = self.jobs().recorder().take(now);
        if lines.is_empty() {
            return Ok(());
        }
        self.job_runs().append(&batch(&lines, server)?).await
    }
}

fn batch(lines: &[Line], server: &str) -> Result<RecordBatch> {
    let texts = |each: for<'a> fn(&'a JobRun) -> Option<&'a str>| -> ArrayRef {
        Arc::new(lines.iter().map(|line| each(&line.run)).collect::<StringViewArray>())
    };
    let times = |each: fn(&JobRun) -> i64| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter_values(lines.iter().map(|line| each(&line.run)));
        Arc::new(times.with_timezone("UTC"))
    };
    let numbers = |each: fn(&Line) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(lines.iter().map(each)))
    };
    let seconds = |each: fn(&Line) -> i64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|line| each(line) as f64 / 1e6)))
    };
    let columns = vec![
        texts(|run| Some(&run.job)),
        texts(|run| run.object.as_deref()),
        texts(|run| Some(run.state)),
        times(|run| run.begun),
        times(|run| run.ended),
        numbers(|line| line.runs),
        seconds(|line| line.micros),
        seconds(|line| line.slowest),
        numbers(|line| line.run.rows),
        texts(|run| run.error.as_deref()),
        Arc::new(StringViewArray::from_iter_values(lines.iter().map(|_| server))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_well_is_added_up_by_the_minute() {
        let run = |state, begun: i64, rows| JobRun {
            job: "refresh".into(),
            object: Some("r".into()),
            state,
            begun,
            ended: begun + 2_000_000,
            rows,
            error: None,
        };
        let recorder = Recorder::default();
        for (begun, rows) in [(0, 5), (1_000_000, 7), (2_000_000, 0), (MINUTE, 1)] {
            recorder.add(run("done", begun, rows));
        }
        recorder.add(run("failed", MINUTE, 0));
        recorder.add(run("failed", MINUTE, 0));
        let taken = recorder.take(MINUTE + 1);
        let shown: Vec<_> =
            taken.iter().map(|l| (l.run.state, l.runs, l.run.rows, l.micros, l.slowest)).collect();
        let failed = ("failed", 1, 0, 2_000_000, 2_000_000);
        assert_eq!(shown, [("done", 2, 12, 4_000_000, 2_000_000), failed, failed]);
        assert_eq!(recorder.take(i64::MAX).len(), 1);
        assert_eq!(batch(&taken, "here").unwrap().num_rows(), 3);
    }
}
