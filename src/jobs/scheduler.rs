//! Jobs of a warehouse: on a schedule, after each other, when somebody asks; on one of its servers at a time.
//!
//! How each job stands is kept in the warehouse ([`schedule`](crate::catalog::schedule)), so a server that starts carries on
//! where another was: a time that was missed is made up for once, a run that a dead server left is begun again. Who runs a job
//! holds a [lease](crate::lake::lease) meanwhile; a server that dies is waited for as long as that lasts. What a job does must be
//! right also if two servers do it at the same time, as all commits see to.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::catalog::cron::When;
use crate::catalog::job_runs::JobRun;
use crate::catalog::schedule::{JobDefinition, LastRun, ScheduledJob};
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Result};

/// How often it looks which jobs are due.
const LOOK: Duration = Duration::from_secs(2);

/// How often a server says that its jobs are still there.
const TELL: Duration = Duration::from_secs(600);

/// Before it is tried again a failed run waits for so long, twice that, and so on, at most [`MOST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(10);
const MOST_PAUSE: Duration = Duration::from_secs(600);

/// A job whose next run is further away gives its lease back.
const KEEP: i64 = 60_000_000;

/// What a run does; it gives the number of rows that it wrote.
pub type Run = Box<dyn Fn() -> BoxFuture<'static, Result<u64>> + Send + Sync>;

/// A job.
pub struct Job {
    /// What it is, for everybody.
    pub definition: JobDefinition,
    /// When it is due; without it when those before it have ended well, or somebody asks.
    pub when: Option<When>,
    /// How often a run that failed is tried again before the next time.
    pub retries: u32,
    /// One run.
    pub run: Run,
}

impl Job {
    /// A job on a schedule; see [`When::parse`].
    pub fn new(name: &str, schedule: Option<&str>, time_zone: Option<&str>, run: Run) -> Result<Self> {
        let when = schedule.map(|schedule| When::parse(schedule, time_zone)).transpose();
        Ok(Job {
            definition: JobDefinition {
                name: name.to_owned(),
                schedule: schedule.map(str::to_owned),
                time_zone: time_zone.map(str::to_owned),
                after: vec![],
            },
            when: when.map_err(|e| e.context(format!("job '{name}'")))?,
            retries: 0,
            run,
        })
    }

    /// The same after these have ended well.
    pub fn after(mut self, jobs: Vec<String>) -> Self {
        self.definition.after = jobs;
        self
    }

    /// The same, tried again so often.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    fn name(&self) -> &str {
        &self.definition.name
    }
}

/// Refuses jobs that wait for each other, or for none that there is.
pub fn check(jobs: &[Job]) -> Result<()> {
    let names: BTreeMap<&str, &Job> = jobs.iter().map(|job| (job.name(), job)).collect();
    if names.len() < jobs.len() {
        let mut seen = HashSet::new();
        let double = jobs.iter().map(Job::name).find(|name| !seen.insert(*name)).unwrap_or_default();
        return Err(Error::invalid_input(format!("two jobs are called '{double}'")));
    }
    for job in jobs {
        if job.when.is_none() && job.definition.after.is_empty() {
            return Err(Error::invalid_input(format!("job '{}' is never due", job.name()))
                .with_hint("give it a schedule, or say after which jobs it runs"));
        }
        let mut before = job.definition.after.clone();
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(name) = before.pop() {
            let Some(other) = names.get(name.as_str()) else {
                return Err(Error::invalid_input(format!(
                    "job '{}' runs after '{name}', and there is no such job",
                    job.name()
                )));
            };
            if name == job.name() {
                return Err(Error::invalid_input(format!("job '{name}' runs after itself, in the end")));
            }
            if seen.insert(name) {
                before.extend(other.definition.after.iter().cloned());
            }
        }
    }
    Ok(())
}

/// Runs the jobs of a warehouse that it is this server's turn to run, until `stopping` says so. A run that goes on then is
/// dropped where it waits, and begun again by whoever comes next.
pub async fn run(jobs: Vec<Job>, warehouse: Arc<Warehouse>, stopping: watch::Receiver<bool>) {
    let scheduler = Scheduler {
        jobs: jobs.into_iter().map(Arc::new).collect(),
        warehouse: Arc::clone(&warehouse),
        started: now(),
        running: Default::default(),
    };
    let mut asked = stopping;
    tokio::select! {
        () = scheduler.forever() => {}
        () = Arc::clone(warehouse.leases()).keep() => {}
        _ = asked.wait_for(|stop| *stop) => {}
    }
    if let Err(e) = warehouse.leases().release_all().await {
        tracing::warn!(error = %e, "could not give leases back; other servers wait until they end");
    }
}

struct Scheduler {
    jobs: Vec<Arc<Job>>,
    warehouse: Arc<Warehouse>,
    started: i64,
    /// What runs here.
    running: Arc<Mutex<HashSet<String>>>,
}

impl Scheduler {
    async fn forever(&self) {
        let mut runs = JoinSet::new();
        let mut told: Option<tokio::time::Instant> = None;
        loop {
            while runs.try_join_next().is_some() {}
            if told.is_none_or(|at| at.elapsed() >= TELL) {
                match self.tell().await {
                    Ok(()) => told = Some(tokio::time::Instant::now()),
                    Err(e) => {
                        tracing::warn!(error = %e, "cannot say which jobs there are; it will be tried again")
                    }
                }
            }
            if let Err(e) = self.look(&mut runs).await {
                tracing::warn!(error = %e, "cannot see which jobs are due; it will be tried again");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn tell(&self) -> Result<()> {
        for job in &self.jobs {
            self.warehouse.define_job(&job.definition).await?;
        }
        self.warehouse.forget_old_jobs().await
    }

    /// Begins what is due.
    async fn look(&self, runs: &mut JoinSet<()>) -> Result<()> {
        // Those whose turn it is here since before the jobs were read: nobody else has run them meanwhile.
        let leases = self.warehouse.leases();
        let held: HashSet<&str> =
            self.jobs.iter().map(|job| job.name()).filter(|name| leases.holds(&lease(name))).collect();
        // A run that ends while they are read may still stand there as running.
        let busy = self.running.lock().clone();
        let known = self.warehouse.scheduled_jobs().await?;
        for job in &self.jobs {
            let name = job.name();
            let stands = known.get(name).cloned().unwrap_or_default();
            let busy = busy.contains(name);
            self.warehouse.jobs().stands(name, stands.paused, stands.last.as_ref().filter(|_| !busy));
            if busy {
                continue;
            }
            let Some(next) = due(job, &known, self.started, now()) else {
                if held.contains(name) && self.is_far(job, &stands) {
                    leases.release(&lease(name)).await?;
                }
                continue;
            };
            if !leases.hold(&lease(name)).await? || !held.contains(name) {
                continue;
            }
            self.running.lock().insert(name.to_owned());
            let over = Over { name: name.to_owned(), running: Arc::clone(&self.running) };
            let span = tracing::info_span!("job", job = name, due = %shown(next.due));
            let (job, warehouse) = (Arc::clone(job), Arc::clone(&self.warehouse));
            let work = async move {
                let _over = over;
                if let Err(e) = once(&job, &warehouse, next, &stands).await {
                    tracing::warn!(error = %e, "cannot write down how the job went");
                }
            };
            runs.spawn(work.instrument(span));
        }
        Ok(())
    }

    /// Whether the next run of a job is far away.
    fn is_far(&self, job: &Job, stands: &ScheduledJob) -> bool {
        let since = stands.last.as_ref().map_or(self.started, |last| last.begun);
        let next = job.when.as_ref().and_then(|when| when.next(since));
        next.is_none_or(|next| next - now() > KEEP)
    }
}

/// A run has ended, however it did.
struct Over {
    name: String,
    running: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.running.lock().remove(&self.name);
    }
}

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    /// Since when.
    due: i64,
    /// Which try it is.
    tries: u32,
}

/// Whether a job is due, by how all stand, where the server started at `started` and it is `now`.
fn due(job: &Job, known: &BTreeMap<String, ScheduledJob>, started: i64, now: i64) -> Option<Due> {
    let stands = known.get(job.name());
    if stands.is_some_and(|job| job.wanted) {
        return Some(Due { due: now, tries: 1 });
    }
    if stands.is_some_and(|job| job.paused) {
        return None;
    }
    let last = stands.and_then(|job| job.last.as_ref());
    if let Some(last) = last {
        match last.state.as_str() {
            // Whoever ran it has left it, else this server would not be asked.
            "running" => return Some(Due { due: last.due, tries: last.tries }),
            "waiting" => {
                let pause =
                    PAUSE.saturating_mul(2_u32.saturating_pow(last.tries.saturating_sub(1))).min(MOST_PAUSE);
                let again = last.ended.unwrap_or(last.begun) + pause.as_micros() as i64;
                return (again <= now).then_some(Due { due: last.due, tries: last.tries + 1 });
            }
            _ => {}
        }
    }
    let due = match &job.when {
        None => now,
        Some(when @ When::Every(_)) => match last {
            None => now,
            // One that fails is tried again soon, however seldom it runs, and later each time that it fails in a row.
            Some(last) => {
                let ended = last.ended.unwrap_or(last.begun);
                let every = when.next(ended)? - ended;
                match failures(last) {
                    0 => ended + every,
                    n => {
                        let pause =
                            every.min(PAUSE.as_micros() as i64).saturating_mul(2_i64.saturating_pow(n));
                        ended + pause.min(MOST_PAUSE.as_micros() as i64)
                    }
                }
            }
        },
        Some(when) => {
            let mut due = when.next(last.map_or(started, |last| last.due))?;
            // Times that were missed are made up for by one run.
            while let Some(later) = when.next(due).filter(|later| *later <= now) {
                due = later;
            }
            due
        }
    };
    let since = last.map_or(i64::MIN, |last| last.begun);
    let ready = job.definition.after.iter().all(|before| {
        let last = known.get(before).and_then(|job| job.last.as_ref());
        last.and_then(|last| last.succeeded).is_some_and(|succeeded| succeeded > since)
    });
    (due <= now && ready).then_some(Due { due, tries: 1 })
}

/// How often a job has failed in a row.
fn failures(last: &LastRun) -> u32 {
    if last.state == "failed" { last.tries.min(16) } else { 0 }
}

/// One run.
async fn once(job: &Job, warehouse: &Arc<Warehouse>, due: Due, before: &ScheduledJob) -> Result<()> {
    let name = job.name();
    let begun = now();
    let succeeded = before.last.as_ref().and_then(|last| last.succeeded);
    let every = matches!(job.when, Some(When::Every(_)));
    // Of one that comes again and again, how often it failed in a row.
    let tries = if every { before.last.as_ref().map_or(0, failures) + 1 } else { due.tries };
    let mut last = LastRun {
        due: due.due,
        begun,
        ended: None,
        state: "running".to_owned(),
        tries,
        rows: 0,
        // It fails until it has ended well.
        error: before.last.as_ref().and_then(|last| last.error.clone()),
        server: warehouse.leases().server(),
        succeeded,
    };
    warehouse.note_job(name, &last).await?;
    if before.wanted {
        warehouse.heed_job(name).await?;
    }
    let mut dropped = Dropped { name, begun, warehouse, over: false };
    let done = (job.run)().await;
    dropped.over = true;
    last.ended = Some(now());
    match &done {
        Ok(rows) => {
            if last.error.take().is_some() {
                tracing::info!("works again");
            }
            (last.rows, last.succeeded) = (*rows, last.ended);
            last.state = "done".to_owned();
        }
        Err(e) => {
            let again = !every && tries <= job.retries;
            let hint = e.hint().unwrap_or_default();
            let then = if again { "it will be tried again" } else { "it will run again at its next time" };
            tracing::error!(error = %e, hint, tries, "failed; {then}");
            last.error = Some(e.to_string());
            last.state = if again { "waiting" } else { "failed" }.to_owned();
        }
    }
    warehouse.jobs().ended(JobRun {
        job: name.to_owned(),
        object: None,
        state: if done.is_ok() { "done" } else { "failed" },
        begun,
        ended: last.ended.unwrap_or(begun),
        rows: last.rows as i64,
        error: last.error.clone(),
    });
    warehouse.note_job(name, &last).await
}

/// A run that was dropped where it waited.
struct Dropped<'a> {
    name: &'a str,
    begun: i64,
    warehouse: &'a Arc<Warehouse>,
    /// It was not.
    over: bool,
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.warehouse.jobs().ended(JobRun {
            job: self.name.to_owned(),
            object: None,
            state: "cancelled",
            begun: self.begun,
            ended: now(),
            rows: 0,
            error: None,
        });
    }
}

fn lease(job: &str) -> String {
    format!("job-{job}")
}

fn now() -> i64 {
    Utc::now().timestamp_micros()
}

fn shown(micros: i64) -> String {
    chrono::DateTime::<Utc>::from_timestamp_micros(micros).map_or_else(String::new, |time| time.to_rfc3339())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn job(name: &str, schedule: Option<&str>, after: &[&str]) -> Job {
        let run: Run = Box::new(|| async { Ok(0) }.boxed());
        let job = Job::new(name, schedule, None, run).unwrap();
        job.after(after.iter().map(|name| (*name).to_owned()).collect())
    }

    fn stands(state: &str, due: i64, begun: i64, ended: i64, tries: u32) -> ScheduledJob {
        let last = LastRun {
            due,
            begun,
            ended: Some(ended),
            state: state.into(),
            tries,
            rows: 0,
            error: (state != "done").then(|| "x".to_owned()),
            server: "here:1".into(),
            succeeded: (state == "done").then_some(ended),
        };
        ScheduledJob { last: Some(last), ..ScheduledJob::default() }
    }

    fn board(jobs: &[(&str, ScheduledJob)]) -> BTreeMap<String, ScheduledJob> {
        jobs.iter().map(|(name, job)| ((*name).to_owned(), job.clone())).collect()
    }

    #[test]
    fn a_missed_time_is_made_up_for_once() {
        let hourly = job("h", Some("0 * * * *"), &[]);
        let hour = 3600 * SECOND;
        let at = |started, now, known: &BTreeMap<_, _>| due(&hourly, known, started, now).map(|due| due.due);
        assert_eq!(at(10, hour - 1, &board(&[])), None, "a new job waits for its first time");
        assert_eq!(at(10, hour, &board(&[])), Some(hour));
        let ran = board(&[("h", stands("done", hour, hour + 1, hour + 2, 1))]);
        assert_eq!(at(hour + 3, 2 * hour - 1, &ran), None);
        assert_eq!(at(5 * hour + 1, 5 * hour + 2, &ran), Some(5 * hour), "after hours of standing still");
        let paused = ScheduledJob { paused: true, ..ran["h"].clone() };
        assert_eq!(at(0, 9 * hour, &board(&[("h", paused.clone())])), None);
        let wanted = ScheduledJob { wanted: true, ..paused };
        assert_eq!(at(0, 9 * hour + 7, &board(&[("h", wanted)])), Some(9 * hour + 7));
    }

    #[test]
    fn what_failed_is_tried_again_later_each_time() {
        let hourly = job("h", Some("0 * * * *"), &[]).with_retries(3);
        let hour = 3600 * SECOND;
        let failed = board(&[("h", stands("waiting", hour, hour + 1, hour + 2, 2))]);
        assert_eq!(due(&hourly, &failed, 0, hour + 2 + 19 * SECOND), None);
        assert_eq!(due(&hourly, &failed, 0, hour + 2 + 20 * SECOND), Some(Due { due: hour, tries: 3 }));
        let left = board(&[("h", stands("running", hour, hour + 1, hour + 1, 1))]);
        assert_eq!(
            due(&hourly, &left, 0, hour + 5),
            Some(Due { due: hour, tries: 1 }),
            "left by a dead server"
        );
        let given_up = board(&[("h", stands("failed", hour, hour + 1, hour + 2, 4))]);
        assert_eq!(due(&hourly, &given_up, 0, 2 * hour - 1), None);
        let every = job("e", Some("every 10s"), &[]);
        let failing = board(&[("e", stands("failed", 0, 0, 0, 2))]);
        assert_eq!(due(&every, &failing, 0, 39 * SECOND), None);
        assert!(due(&every, &failing, 0, 40 * SECOND).is_some());
        let daily = job("d", Some("every 1day"), &[]);
        let failing = |tries| board(&[("d", stands("failed", 0, 0, 0, tries))]);
        assert_eq!(due(&daily, &failing(1), 0, 19 * SECOND), None);
        assert!(due(&daily, &failing(1), 0, 20 * SECOND).is_some());
        assert_eq!(due(&daily, &failing(16), 0, 599 * SECOND), None);
        assert!(due(&daily, &failing(16), 0, 600 * SECOND).is_some());
        assert_eq!(due(&daily, &board(&[("d", stands("done", 0, 0, 0, 1))]), 0, 3600 * SECOND), None);
        let well = board(&[("e", stands("done", 0, 0, 0, 3))]);
        assert!(due(&every, &well, 0, 10 * SECOND).is_some());
    }

    #[test]
    fn one_runs_after_others_have_ended_well() {
        let after = job("b", None, &["a"]);
        let at = |a: Option<ScheduledJob>, b: Option<ScheduledJob>| {
            let jobs: Vec<_> = a.map(|a| ("a", a)).into_iter().chain(b.map(|b| ("b", b))).collect();
            due(&after, &board(&jobs), 0, 100).is_some()
        };
        assert!(!at(None, None));
        assert!(at(Some(stands("done", 0, 10, 20, 1)), None));
        assert!(!at(Some(stands("failed", 0, 10, 20, 1)), None));
        assert!(!at(Some(stands("done", 0, 10, 20, 1)), Some(stands("done", 0, 30, 40, 1))), "once for each");
        assert!(at(Some(stands("done", 0, 50, 60, 1)), Some(stands("done", 0, 30, 40, 1))));
    }

    #[test]
    fn jobs_do_not_wait_for_each_other() {
        let good =
            || vec![job("a", Some("@daily"), &[]), job("b", None, &["a"]), job("c", None, &["a", "b"])];
        check(&good()).unwrap();
        for (more, what) in [
            (job("a", Some("@daily"), &[]), "two jobs are called 'a'"),
            (job("d", None, &[]), "never due"),
            (job("d", None, &["x"]), "'x'"),
            (job("d", None, &["d"]), "after itself"),
        ] {
            let mut jobs = good();
            jobs.push(more);
            let e = check(&jobs).unwrap_err();
            assert!(e.message().contains(what), "{e}");
        }
        let round = vec![job("a", None, &["b"]), job("b", None, &["a"])];
        assert!(check(&round).unwrap_err().message().contains("after itself"));
    }
}
