//! What a process tells of itself in numbers: every metric that Prometheus can read, with its labels and meaning, in one
//! table, and for each thing that happens a function that counts it.
//!
//! Counting costs next to nothing where nobody has [installed](install) a recorder, as in a program that embeds this crate.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use crate::error::{Error, Result};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moves {
    /// It only rises, from the start of the process on.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// It says how many values were how large.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, which ends in its unit.
    pub name: &'static str,
    /// How it moves.
    pub moves: Moves,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($moves:ident $constant:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $constant: &str = $name;)*

        /// All metrics, but for those of the process that the system knows (`process_…`).
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            moves: Moves::$moves,
            labels: &[$($label),*],
            help: $help,
        }),*];
    };
}

metrics_table! {
    Gauge BUILD_INFO = "toplake_build_info" ["version"] "1, for the version that runs";
    Gauge READY = "toplake_ready" [] "Whether the server is ready: 1 or 0";
    Gauge READY_CHECK = "toplake_ready_check" ["check"] "Whether this check of readiness holds: 1 or 0";
    Counter INGEST_ROWS = "toplake_ingest_rows_total" ["table", "outcome"]
        "Input that commits of this process consumed, and what became of it: consumed, stored, duplicate, dead, late, filtered";
    Gauge INGEST_LAG_MESSAGES = "toplake_ingest_lag_messages" ["pipeline"]
        "Messages that the broker has and the pipeline has not committed";
    Gauge INGEST_LAG_SECONDS = "toplake_ingest_lag_seconds" ["table", "stage"]
        "Seconds on the way: event_to_broker and broker_to_commit of the last commit, commit_to_fold of the oldest commit that waits";
    Gauge PIPELINE_STATE = "toplake_pipeline_state" ["pipeline", "state"]
        "1 for the state that a pipeline is in: running, paused, waiting, stopped (by too much bad input), lost; else 0";
    Gauge PIPELINE_ERROR_RATIO = "toplake_pipeline_error_ratio" ["pipeline"]
        "Share of bad input in the pipeline's window; at its limit the pipeline stops";
    Gauge TABLE_LAST_EVENT = "toplake_table_last_event_timestamp_seconds" ["table"] "Time of the latest event";
    Gauge TABLE_WATERMARK = "toplake_table_watermark_timestamp_seconds" ["table"]
        "Event time through which the table is taken to be complete";
    Gauge TABLE_ROWS = "toplake_table_rows" ["table"] "Rows of a table of events";
    Gauge TABLE_FILES = "toplake_table_files" ["table"] "Files of a table of events";
    Gauge LEDGER_IMBALANCE = "toplake_ledger_imbalance_rows" ["table"]
        "Rows consumed less those that the ledger accounts for; anything but 0 is a bug";
    Gauge DEAD_LETTERS = "toplake_dead_letter_rows" ["table"] "Dead letters of a table that are kept";
    Gauge LATE_ROWS = "toplake_late_rows" ["table"] "Diverted late rows of a table that are kept";
    Counter COMMITS = "toplake_commits_total" ["table", "kind"] "Commits by this process";
    Histogram COMMIT_SECONDS = "toplake_commit_seconds" ["kind"] "Time that a commit took, waiting for others included";
    Counter COMMIT_CONFLICTS = "toplake_commit_conflicts_total" []
        "Work that had to be planned again because another writer was faster";
    Histogram FOLD_SECONDS = "toplake_fold_seconds" ["rollup"] "Time of a fold that had something to do";
    Counter FOLD_ROWS = "toplake_fold_rows_total" ["rollup"] "Partial rows that folds wrote";
    Counter FOLD_ERRORS = "toplake_fold_errors_total" ["rollup"] "Folds that failed";
    Gauge ROLLUP_LAG_SECONDS = "toplake_rollup_lag_seconds" ["rollup"]
        "How long the oldest change of its source has waited to be folded";
    Gauge ROLLUP_LAG_ROWS = "toplake_rollup_lag_rows" ["rollup"] "Rows of its source that are not folded; queries see them";
    Gauge ROLLUP_COMPLETE_THROUGH = "toplake_rollup_complete_through_timestamp_seconds" ["rollup"]
        "End of the last bucket that the watermark has passed";
    Gauge WORKERS = "toplake_workers" ["state"] "Workers that are listed, by how they are: live, away, other build";
    Counter SPREAD_QUERIES = "toplake_spread_queries_total" [] "Plans that were run on workers";
    Counter WORKERS_LOST = "toplake_workers_lost_total" ["outcome"]
        "Workers that were lost under a query: it was retried, or failed";
    Gauge WORKER_TASKS = "toplake_worker_tasks" [] "Parts of queries that this worker runs";
    Gauge LEADERBOARD_AGE = "toplake_leaderboard_age_seconds" ["leaderboard"]
        "For how long it has not shown something that is new in what it reads; 0 if there is nothing new";
    Gauge LEADERBOARD_EVERY = "toplake_leaderboard_refresh_every_seconds" ["leaderboard"] "How often it is to be refreshed";
    Histogram QUERY_SECONDS = "toplake_query_seconds" ["kind"]
        "Time from a statement to its last row: memory, small, heavy, write, command";
    Counter QUERY_ROWS = "toplake_query_rows_total" [] "Rows that queries gave";
    Counter QUERY_READ_BYTES = "toplake_query_read_bytes_total" [] "Bytes of files that queries had to look at, as planned";
    Counter QUERY_ERRORS = "toplake_query_errors_total" ["sqlstate"] "Statements that failed";
    Counter ANSWER_HITS = "toplake_answer_cache_hits_total" [] "Statements answered by rows kept from before";
    Counter ANSWER_MISSES = "toplake_answer_cache_misses_total" [] "Statements whose answer was not kept or not true any more";
    Gauge QUERIES_RUNNING = "toplake_queries_running" ["role"] "Heavy queries that run";
    Gauge QUERIES_WAITING = "toplake_queries_waiting" ["role"] "Heavy queries that wait for their turn";
    Counter QUERIES_REFUSED = "toplake_queries_refused_total" ["reason"]
        "Statements that were refused: queue, rate, memory, connections";
    Gauge CONNECTIONS = "toplake_connections" [] "Connections of PostgreSQL clients";
    Gauge MEMORY_USED = "toplake_memory_pool_used_bytes" [] "Memory that queries have taken from their pool";
    Gauge MEMORY_LIMIT = "toplake_memory_pool_limit_bytes" [] "Size of that pool";
    Counter STORE_REQUESTS = "toplake_object_store_requests_total" ["operation", "outcome"]
        "Calls of the object store: get, head, put, list, delete, copy; ok, not_found, conflict, denied, error";
    Histogram STORE_SECONDS = "toplake_object_store_seconds" ["operation"] "Time of a call, up to the first byte for get";
    Counter STORE_BYTES = "toplake_object_store_bytes_total" ["direction"] "Bytes read from and written to the object store";
    Counter JOB_RUNS = "toplake_job_runs_total" ["name", "outcome"] "Runs of jobs on this server: done, failed, cancelled";
    Histogram JOB_SECONDS = "toplake_job_seconds" ["name"] "Time of a run";
    Gauge JOB_LAST_SUCCESS = "toplake_job_last_success_timestamp_seconds" ["name"] "When a job last ended well";
    Gauge JOB_PAUSED = "toplake_job_paused" ["name"] "Whether a job is paused: 1 or 0";
    Gauge JOB_FAILING = "toplake_job_failing" ["name"] "Whether a job's last run failed: 1 or 0";
    Gauge AUDIT_DIFFERENCES = "toplake_audit_differences" ["rollup"]
        "Differences that the last audit on this server found and that are not known to be mended";
    Counter HTTP_REQUESTS = "toplake_http_requests_total" ["path", "status"] "Requests by HTTP";
    Histogram HTTP_SECONDS = "toplake_http_seconds" ["path"] "Time of a request by HTTP";
    Gauge DISK_FREE = "toplake_disk_free_bytes" ["path"] "Room on the disk of a local warehouse, and of the spill folder";
}

/// Upper bounds of the buckets of all histograms, in seconds: what is in memory takes microseconds, a recompute minutes.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0,
];

/// A gauge that nothing sets any more, because what it is about is gone, is forgotten after so long.
const FORGET_GAUGES_AFTER: Duration = Duration::from_secs(60);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to count, in this process; once is enough. Fails where the program that embeds this has a recorder of its own.
pub fn install() -> Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let failed = |e: String| Error::internal(format!("cannot count metrics: {e}"));
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
        .map_err(|e| failed(e.to_string()))?
        .idle_timeout(MetricKindMask::GAUGE, Some(FORGET_GAUGES_AFTER))
        .build_recorder();
    let handle = recorder.handle();
    if let Err(e) = metrics::set_global_recorder(recorder) {
        // Another thread may have been faster.
        return if RECORDER.get().is_some() { Ok(()) } else { Err(failed(e.to_string())) };
    }
    let _ = RECORDER.set(handle);
    for metric in METRICS {
        match metric.moves {
            Moves::Counter => describe_counter!(metric.name, metric.help),
            Moves::Gauge => describe_gauge!(metric.name, metric.help),
            Moves::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
    metrics_process::Collector::default().describe();
    Ok(())
}

/// What there is to say now, in Prometheus' text format. `gauges` are all that are known; one that is not among them any
/// more is forgotten in a while.
pub fn render(gauges: &Gauges) -> String {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics_process::Collector::default().collect();
    for (name, labels, value) in &gauges.0 {
        gauge!(*name, labels.clone()).set(*value);
    }
    let Some(recorder) = RECORDER.get() else { return String::new() };
    recorder.run_upkeep();
    recorder.render()
}

/// Values of gauges at one moment.
#[derive(Debug, Default)]
pub struct Gauges(Vec<(&'static str, Vec<metrics::Label>, f64)>);

macro_rules! gauges {
    ($($function:ident($($label:ident),*) = $constant:ident;)*) => {
        impl Gauges {
            $(
                #[doc = concat!("Of [`METRICS`]: `", stringify!($constant), "`.")]
                pub fn $function(&mut self, $($label: &str,)* value: f64) {
                    let labels = vec![$(metrics::Label::new(stringify!($label), $label.to_owned())),*];
                    self.0.push(($constant, labels, value));
                }
            )*
        }
    };
}

gauges! {
    ready() = READY;
    ready_check(check) = READY_CHECK;
    ingest_lag_messages(pipeline) = INGEST_LAG_MESSAGES;
    ingest_lag_seconds(table, stage) = INGEST_LAG_SECONDS;
    pipeline_state(pipeline, state) = PIPELINE_STATE;
    pipeline_error_ratio(pipeline) = PIPELINE_ERROR_RATIO;
    table_last_event(table) = TABLE_LAST_EVENT;
    table_watermark(table) = TABLE_WATERMARK;
    table_rows(table) = TABLE_ROWS;
    table_files(table) = TABLE_FILES;
    ledger_imbalance(table) = LEDGER_IMBALANCE;
    dead_letters(table) = DEAD_LETTERS;
    late_rows(table) = LATE_ROWS;
    rollup_lag_seconds(rollup) = ROLLUP_LAG_SECONDS;
    rollup_lag_rows(rollup) = ROLLUP_LAG_ROWS;
    rollup_complete_through(rollup) = ROLLUP_COMPLETE_THROUGH;
    leaderboard_age(leaderboard) = LEADERBOARD_AGE;
    leaderboard_refresh_every(leaderboard) = LEADERBOARD_EVERY;
    queries_running(role) = QUERIES_RUNNING;
    queries_waiting(role) = QUERIES_WAITING;
    connections() = CONNECTIONS;
    memory_used() = MEMORY_USED;
    memory_limit() = MEMORY_LIMIT;
    job_last_success(name) = JOB_LAST_SUCCESS;
    job_paused(name) = JOB_PAUSED;
    job_failing(name) = JOB_FAILING;
    audit_differences(rollup) = AUDIT_DIFFERENCES;
    disk_free(path) = DISK_FREE;
    workers(state) = WORKERS;
    worker_tasks() = WORKER_TASKS;
}

/// A commit landed.
pub fn committed(table: &str, kind: &'static str, took: Duration) {
    counter!(COMMITS, "table" => table.to_owned(), "kind" => kind).increment(1);
    histogram!(COMMIT_SECONDS, "kind" => kind).record(took);
}

/// A commit was refused because another writer was faster.
pub fn commit_conflict() {
    counter!(COMMIT_CONFLICTS).increment(1);
}

/// Input was committed: what was read, and what became of it.
pub fn ingested(table: &str, outcomes: &[(&'static str, u64)]) {
    for (outcome, rows) in outcomes {
        counter!(INGEST_ROWS, "table" => table.to_owned(), "outcome" => *outcome).increment(*rows);
    }
}

/// A fold that had something to do has ended well.
pub fn folded(rollup: &str, rows: u64, took: Duration) {
    histogram!(FOLD_SECONDS, "rollup" => rollup.to_owned()).record(took);
    counter!(FOLD_ROWS, "rollup" => rollup.to_owned()).increment(rows);
}

/// A fold has failed.
pub fn fold_failed(rollup: &str) {
    counter!(FOLD_ERRORS, "rollup" => rollup.to_owned()).increment(1);
}

/// A statement has given its last row, or is done.
pub fn statement_done(kind: &'static str, rows: u64, took: Duration) {
    histogram!(QUERY_SECONDS, "kind" => kind).record(took);
    counter!(QUERY_ROWS).increment(rows);
}

/// A query is about to look at so many bytes of files.
pub fn query_reads(bytes: u64) {
    counter!(QUERY_READ_BYTES).increment(bytes);
}

/// A statement has failed.
pub fn statement_failed(sqlstate: &'static str) {
    counter!(QUERY_ERRORS, "sqlstate" => sqlstate).increment(1);
}

/// A statement was refused for lack of room: in a `queue`, a `rate`, `memory`, `connections`.
pub fn refused(reason: &'static str) {
    counter!(QUERIES_REFUSED, "reason" => reason).increment(1);
}

/// Whether the rows of a statement that may be answered by kept ones were.
pub fn answered(from_kept_rows: bool) {
    counter!(if from_kept_rows { ANSWER_HITS } else { ANSWER_MISSES }).increment(1);
}

/// The object store was called.
pub fn store_called(operation: &'static str, outcome: &'static str, took: Duration) {
    counter!(STORE_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
    histogram!(STORE_SECONDS, "operation" => operation).record(took);
}

/// Bytes went to or came from the object store.
pub fn store_moved(direction: &'static str, bytes: u64) {
    counter!(STORE_BYTES, "direction" => direction).increment(bytes);
}

/// A plan was run on workers.
pub fn spread() {
    counter!(SPREAD_QUERIES).increment(1);
}

/// A worker was lost under a query, which was `retried` or `failed`.
pub fn worker_lost(outcome: &'static str) {
    counter!(WORKERS_LOST, "outcome" => outcome).increment(1);
}

/// A run of a job has ended.
pub fn job_ran(job: &str, outcome: &'static str, took: Duration) {
    counter!(JOB_RUNS, "name" => job.to_owned(), "outcome" => outcome).increment(1);
    histogram!(JOB_SECONDS, "name" => job.to_owned()).record(took);
}

/// A request by HTTP was answered. `path` is the route, not what was asked for.
pub fn http_answered(path: &str, status: u16, took: Duration) {
    counter!(HTTP_REQUESTS, "path" => path.to_owned(), "status" => status.to_string()).increment(1);
    histogram!(HTTP_SECONDS, "path" => path.to_owned()).record(took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_what_they_count_and_no_two_are_the_same() {
        let mut names: Vec<&str> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.name.starts_with("toplake_") && !metric.help.ends_with('.'), "{metric:?}");
            match metric.moves {
                Moves::Counter => assert!(metric.name.ends_with("_total"), "{metric:?}"),
                Moves::Histogram => assert!(metric.name.ends_with("_seconds"), "{metric:?}"),
                Moves::Gauge => assert!(!metric.name.ends_with("_total"), "{metric:?}"),
            }
        }
    }

    #[test]
    fn what_was_counted_is_told() {
        install().unwrap();
        install().unwrap();
        committed("told", "append", Duration::from_millis(3));
        let mut gauges = Gauges::default();
        gauges.disk_free("told", 42.0);
        let text = render(&gauges);
        for line in [
            r#"toplake_commits_total{table="told",kind="append"} 1"#,
            "# TYPE toplake_commit_seconds histogram",
            r#"toplake_disk_free_bytes{path="told"} 42"#,
            "process_start_time_seconds ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
