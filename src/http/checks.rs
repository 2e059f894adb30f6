//! Whether a server is ready: what has to hold, and what to do where it does not.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::status::{PipelineLine, Status};
use crate::catalog::workers::{WorkerState, WorkerStatus};
use crate::error::{Error, Result};

/// Less room than this on a disk is too little to go on.
const LEAST_ROOM: u64 = 256 << 20;

/// A check, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
}

impl Check {
    /// That which holds.
    pub(super) fn holds(name: &'static str) -> Self {
        Check { name, ok: true, message: None, hint: None }
    }

    /// That which does not.
    pub(super) fn fails(name: &'static str, message: String, hint: &str) -> Self {
        Check {
            name,
            ok: false,
            message: Some(message),
            hint: Some(hint.to_owned()).filter(|h| !h.is_empty()),
        }
    }

    /// By what came of something.
    pub(super) fn of<T>(name: &'static str, done: &Result<T>) -> Self {
        match done {
            Ok(_) => Self::holds(name),
            Err(e) => Self::fails(name, e.message().to_owned(), hint_of(e)),
        }
    }

    /// By the first thing that is wrong.
    fn first(name: &'static str, mut wrong: impl Iterator<Item = (String, &'static str)>) -> Self {
        match wrong.next() {
            None => Self::holds(name),
            Some((message, hint)) => {
                let more = wrong.count();
                let message = if more == 0 { message } else { format!("{message} (and {more} more)") };
                Self::fails(name, message, hint)
            }
        }
    }
}

fn hint_of(e: &Error) -> &str {
    e.hint().unwrap_or("the log of the server has more")
}

/// Whether all pipelines consume.
pub(super) fn ingest(status: &Status) -> Check {
    let works = |p: &&PipelineLine| matches!(p.state.as_str(), "running" | "paused");
    // Where another process has taken over, one that was lost is of no concern.
    let taken_over = |lost: &PipelineLine| {
        lost.state == "lost" && status.pipelines.iter().any(|p| p.name == lost.name && works(&p))
    };
    let wrong = status.pipelines.iter().filter(|p| !works(p) && !taken_over(p));
    Check::first(
        "ingest",
        wrong.map(|p| {
            let why = p.reason.as_deref().unwrap_or("it does not say why");
            let hint = match p.state.as_str() {
                "stopped" => "see toplake.dead_letters for what was bad; CALL resume('…') goes on",
                "lost" => "the process that ran it has gone: start it again, or wait until it is forgotten after a day",
                _ => "see that its brokers and the object store can be reached; it goes on by itself",
            };
            (format!("pipeline '{}' is {}: {why}", p.name, p.state), hint)
        }),
    )
}

/// Whether everything is as far as it should be.
pub(super) fn lag(status: &Status, most: Duration) -> Check {
    let most = most.as_secs() as i64;
    let rollups = status.rollups.iter().filter(|r| r.lag_seconds.is_some_and(|lag| lag > most)).map(|r| {
        let lag = r.lag_seconds.unwrap_or_default();
        (
            format!("rollup '{}' has not folded for {lag} s", r.name),
            "see toplake.jobs and toplake.rollups for why",
        )
    });
    let stages =
        status.stages.iter().filter(|s| s.broker_to_commit_seconds.is_some_and(|lag| lag > most as f64));
    let stages = stages.map(|s| {
        let lag = s.broker_to_commit_seconds.unwrap_or_default();
        (
            format!("messages for '{}' take {lag:.0} s from the broker to the table", s.table),
            "see toplake.sources; more processes may share the partitions",
        )
    });
    Check::first("lag", rollups.chain(stages))
}

/// Whether jobs end well.
pub(super) fn jobs(status: &Status) -> Check {
    let failed = status.jobs.iter().filter(|job| job.error.is_some() && job.state != "paused");
    Check::first(
        "jobs",
        failed.map(|job| {
            let of = job
                .object
                .as_deref()
                .filter(|o| *o != job.job)
                .map_or_else(String::new, |o| format!(" of '{o}'"));
            let error = job.error.as_deref().unwrap_or_default();
            (
                format!("job '{}'{of} failed: {error}", job.job),
                "mend it and CALL run_job('…'), or wait for its next run; CALL pause_job('…') leaves it out",
            )
        }),
    )
}

/// Whether there are two workers, of a server that runs no large query itself.
pub(super) fn workers(listed: &[WorkerStatus]) -> Check {
    let live = listed.iter().filter(|w| w.state == WorkerState::Live).count();
    if live > 1 {
        return Check::holds("workers");
    }
    let away = listed.iter().find_map(|w| Some(format!(" ({}: {})", w.url, w.reason.as_ref()?)));
    let message = format!(
        "{live} of {} workers take part: large queries and folds are refused{}",
        listed.len(),
        away.unwrap_or_default()
    );
    let hint = "see toplake.workers; [cluster] fallback = 'local' has the server run them itself";
    Check::fails("workers", message, hint)
}

/// Whether disks have room.
pub(super) fn disk(folders: &[(String, u64)]) -> Check {
    let full = folders.iter().filter(|(_, free)| *free < LEAST_ROOM);
    Check::first(
        "disk",
        full.map(|(path, free)| {
            (
                format!("{} MiB are left on the disk of '{path}'", free >> 20),
                "make room, or move to a larger disk",
            )
        }),
    )
}

/// Bytes that are left for us on the disk of a folder.
pub fn free(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::super::status::{JobStatus, RollupStatus};
    use super::*;

    fn pipeline(state: &str) -> PipelineLine {
        PipelineLine {
            name: "clicks".into(),
            table: "clicks".into(),
            state: state.into(),
            reason: Some("no broker answers".into()),
            since: None,
            host: None,
            written: None,
            lag: None,
            consumed_per_second: None,
            errors: 0,
            window: 0,
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_do() {
        let mut status = Status::default();
        assert!(ingest(&status).ok && lag(&status, Duration::ZERO).ok && jobs(&status).ok);
        status.pipelines = vec![pipeline("running"), pipeline("paused")];
        assert!(ingest(&status).ok);
        status.pipelines.push(pipeline("lost"));
        assert!(ingest(&status).ok, "another process has taken over");
        status.pipelines.extend([pipeline("waiting"), pipeline("stopped")]);
        let check = ingest(&status);
        assert!(!check.ok && check.hint.is_some());
        let message = check.message.unwrap();
        assert!(message.contains("no broker answers") && message.contains("and 1 more"), "{message}");
        status.rollups.push(RollupStatus {
            name: "hourly".into(),
            source: "clicks".into(),
            status: "ready".into(),
            lag_commits: Some(3),
            lag_rows: Some(9),
            lag_seconds: Some(61),
            watermark: None,
            complete_through: None,
            last_error: None,
        });
        assert!(lag(&status, Duration::from_secs(61)).ok);
        assert!(lag(&status, Duration::from_secs(60)).message.unwrap().contains("'hourly'"));
        let job = |state: &str, error: Option<&str>| JobStatus {
            job: "nightly".into(),
            object: None,
            state: state.into(),
            begun: None,
            ended: None,
            next: None,
            rows: None,
            error: error.map(str::to_owned),
        };
        status.jobs = vec![job("done", None), job("paused", Some("x"))];
        assert!(jobs(&status).ok);
        status.jobs.push(job("failed", Some("no table 'salse'")));
        assert!(jobs(&status).message.unwrap().contains("salse"));
        let worker = |state, reason: Option<&str>| WorkerStatus {
            url: "http://a:7433/".into(),
            state,
            version: None,
            reason: reason.map(str::to_owned),
            since: 0,
            asked: 0,
        };
        let mut listed = vec![worker(WorkerState::Live, None), worker(WorkerState::Away, Some("no answer"))];
        let message = workers(&listed).message.unwrap();
        assert!(message.contains("1 of 2") && message.contains("no answer"), "{message}");
        listed.push(worker(WorkerState::Live, None));
        assert!(workers(&listed).ok && !workers(&[]).ok);
        assert!(disk(&[("/".into(), 1 << 40)]).ok && !disk(&[("/".into(), 1 << 20)]).ok);
        assert!(free(Path::new("/")).is_some() && free(Path::new("/no such folder")).is_none());
    }
}
