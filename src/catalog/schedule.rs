//! The jobs of a warehouse, as all of its servers know them: what each is, when it ran last, whether it is paused, and whether
//! somebody wants it to run now. Each is an object of its own below `_toplake/jobs/<name>/`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folder_names::folder_of_name;
use super::side_table::OURS;
use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result, nearest};
use crate::lake::store::Store;

/// A job that no server has told of for so long is in no configuration any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// Objects that are read at the same time.
const PARALLEL: usize = 16;

/// What a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDefinition {
    /// Its name.
    pub name: String,
    /// When it runs: a cron expression, or `every 60s`.
    pub schedule: Option<String>,
    /// The time zone of a cron expression.
    pub time_zone: Option<String>,
    /// It runs after these have ended well.
    #[serde(default)]
    pub after: Vec<String>,
}

/// How the last run of a job went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The time that it was due at, in microseconds.
    pub due: i64,
    /// When it began.
    pub begun: i64,
    /// When it ended; `None` while it runs, or if nobody knows.
    pub ended: Option<i64>,
    /// `running`, `done`, `failed`; `waiting` for the next try.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// Rows that it wrote.
    pub rows: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Which server ran it.
    pub server: String,
    /// When it ended well last.
    pub succeeded: Option<i64>,
}

/// A job as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledJob {
    /// What it is, if some server has said so.
    pub definition: Option<JobDefinition>,
    /// How its last run went.
    pub last: Option<LastRun>,
    /// Whether it is not to run.
    pub paused: bool,
    /// Whether somebody wants it to run now.
    pub wanted: bool,
}

/// What may stand in a job's folder.
const DEFINITION: &str = "job.json";
const LAST: &str = "last.json";
const PAUSED: &str = "paused";
const WANTED: &str = "run";
const KEPT: &str = "kept.json";

fn folder(warehouse: &Store) -> Store {
    warehouse.child(OURS).child("jobs")
}

fn path(warehouse: &Store, job: &str, what: &str) -> object_store::path::Path {
    folder(warehouse).path(&format!("{}/{what}", folder_of_name(job)))
}

impl Warehouse {
    /// All jobs that servers have told of, by name.
    pub async fn scheduled_jobs(&self) -> Result<BTreeMap<String, ScheduledJob>> {
        let folder = folder(self.store());
        let listed: Vec<object_store::ObjectMeta> =
            folder.object_store().list(Some(folder.prefix())).try_collect().await?;
        let forgotten = chrono::Utc::now() - FORGOTTEN_AFTER;
        let read = futures::stream::iter(listed).map(|meta| {
            let folder = &folder;
            async move {
                let parts: Vec<_> = meta.location.parts().map(|part| part.as_ref().to_owned()).collect();
                let [.., job, what] = parts.as_slice() else { return Ok(None) };
                let body = match what.as_str() {
                    DEFINITION if meta.last_modified < forgotten => None,
                    DEFINITION | LAST => folder.get(&meta.location).await?,
                    _ => Some(Bytes::new()),
                };
                Ok(body.map(|body| (job.clone(), what.clone(), body)))
            }
        });
        let read: Vec<Result<Option<(String, String, Bytes)>>> = read.buffered(PARALLEL).collect().await;
        let mut jobs: BTreeMap<String, ScheduledJob> = BTreeMap::new();
        for found in read {
            let Some((folder, what, body)) = found? else { continue };
            let job = jobs.entry(folder).or_default();
            match what.as_str() {
                DEFINITION => job.definition = parsed(&body),
                LAST => job.last = parsed(&body),
                PAUSED => job.paused = true,
                WANTED => job.wanted = true,
                _ => {}
            }
        }
        // A folder's name is not always the job's.
        let named = jobs.into_values().filter_map(|job| Some((job.definition.as_ref()?.name.clone(), job)));
        Ok(named.collect())
    }

    /// Says what a job is.
    pub async fn define_job(&self, job: &JobDefinition) -> Result<()> {
        self.put_job(&job.name, DEFINITION, job).await
    }

    /// Says how a job's run goes.
    pub async fn note_job(&self, job: &str, last: &LastRun) -> Result<()> {
        self.put_job(job, LAST, last).await
    }

    /// What a job has kept for its next run, on whichever server that is.
    pub async fn kept_by_job<T: DeserializeOwned>(&self, job: &str) -> Result<Option<T>> {
        let kept = self.store().get(&path(self.store(), job, KEPT)).await?;
        Ok(kept.and_then(|body| parsed(&body)))
    }

    /// Has a job find something at its next run.
    pub async fn keep_for_job(&self, job: &str, value: &impl Serialize) -> Result<()> {
        self.put_job(job, KEPT, value).await
    }

    async fn put_job(&self, job: &str, what: &str, value: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(value)
            .map_err(|e| Error::internal(format!("cannot write how job '{job}' is: {e}")))?;
        self.store().put(&path(self.store(), job, what), body.into()).await
    }

    /// Has a job run now, on the server whose turn it is.
    pub async fn want_job(self: &Arc<Self>, job: &str) -> Result<()> {
        self.require_job(job).await?;
        self.store().put(&path(self.store(), job, WANTED), Bytes::from_static(b"1")).await
    }

    /// Somebody has seen to it that a job runs.
    pub async fn heed_job(&self, job: &str) -> Result<()> {
        self.store().delete_all(vec![path(self.store(), job, WANTED)]).await
    }

    /// Has a job not run any more, or run again. A run that goes on is not stopped.
    pub async fn pause_job(self: &Arc<Self>, job: &str, paused: bool) -> Result<()> {
        self.require_job(job).await?;
        let path = path(self.store(), job, PAUSED);
        match paused {
            true => self.store().put(&path, Bytes::from_static(b"1")).await,
            false => self.store().delete_all(vec![path]).await,
        }
    }

    /// Removes what stands of jobs that are in no configuration any more.
    pub async fn forget_old_jobs(&self) -> Result<()> {
        let folder = folder(self.store());
        let forgotten = chrono::Utc::now() - FORGOTTEN_AFTER;
        let listed: Vec<object_store::ObjectMeta> =
            folder.object_store().list(Some(folder.prefix())).try_collect().await?;
        let ends = format!("/{DEFINITION}");
        let old = |meta: &object_store::ObjectMeta| {
            meta.last_modified < forgotten && meta.location.as_ref().ends_with(&ends)
        };
        let gone: Vec<String> = listed
            .iter()
            .filter(|meta| old(meta))
            .map(|meta| meta.location.as_ref().replace(&ends, "/"))
            .collect();
        let theirs = listed.into_iter().map(|meta| meta.location);
        let theirs = theirs.filter(|path| gone.iter().any(|job| path.as_ref().starts_with(job.as_str())));
        folder.delete_all(theirs.collect()).await
    }

    async fn require_job(&self, job: &str) -> Result<()> {
        let jobs = self.scheduled_jobs().await?;
        if jobs.contains_key(job) {
            return Ok(());
        }
        let error = Error::new(Kind::UndefinedObject, format!("there is no job '{job}'"));
        Err(match nearest(job, jobs.keys().map(String::as_str)) {
            Some(near) => error.with_hint(format!("perhaps you meant '{near}'")),
            None => error.with_hint("SELECT job FROM toplake.jobs lists those that servers have"),
        })
    }
}

/// What cannot be read is as if it were not there: the next run writes it anew.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).inspect_err(|e| tracing::warn!(error = %e, "cannot read how a job is")).ok()
}
