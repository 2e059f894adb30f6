//! `[[jobs]]`: SQL scripts that servers run on a schedule, as cron would with `toplake sql -f`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{FutureExt, TryStreamExt};
use serde::Deserialize;

use crate::catalog::jobs::{RECOMPUTE, REFRESH};
use crate::error::{Error, Result};
use crate::jobs::scheduler::{Job, Run};
use crate::session::Engine;
use crate::statement::run::needs_client;
use crate::statement::variables::substitute;
use crate::statement::{Outcome, Session, parse};

/// Names of jobs that are there anyway.
const TAKEN: &[&str] = &[REFRESH, RECOMPUTE, "compaction", "retention"];

/// An entry of `[[jobs]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlJob {
    name: String,
    /// A file of statements, which is read at each run, so that a better one is taken without a restart.
    file: Option<PathBuf>,
    /// Statements.
    sql: Option<String>,
    /// A cron expression, or `every 10m`.
    schedule: Option<String>,
    /// Whose clock the cron expression means; UTC if nothing is said.
    time_zone: Option<String>,
    /// It runs after these have ended well.
    #[serde(default)]
    after: Vec<String>,
    /// How often it is tried again where it fails.
    #[serde(default)]
    retries: u32,
    /// Values of `:'name'` in the statements.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl SqlJob {
    /// The job, for a server.
    pub(super) fn job(&self, engine: &Engine) -> Result<Job> {
        let wrong = |what: &str| Error::invalid_input(format!("job '{}': {what}", self.name));
        if self.name.is_empty() || TAKEN.contains(&self.name.as_str()) {
            return Err(wrong("this name is taken").with_hint(format!("others than {}", TAKEN.join(", "))));
        }
        match (&self.file, &self.sql) {
            (Some(file), None) if !file.is_file() => {
                return Err(wrong(&format!("there is no file '{}'", file.display())));
            }
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => return Err(wrong("it has a file and sql: one of them is enough")),
            (None, None) => return Err(wrong("it has neither file nor sql")),
        }
        let (of, engine) = (self.clone(), engine.clone());
        let run: Run = Box::new(move || {
            let (of, engine) = (of.clone(), engine.clone());
            async move { of.run(&engine).await }.boxed()
        });
        let job = Job::new(&self.name, self.schedule.as_deref(), self.time_zone.as_deref(), run)?;
        Ok(job.after(self.after.clone()).with_retries(self.retries))
    }

    /// Runs all statements; gives how many rows they wrote.
    async fn run(&self, engine: &Engine) -> Result<u64> {
        let text = match &self.file {
            Some(file) => tokio::fs::read_to_string(file)
                .await
                .map_err(|e| Error::invalid_input(format!("cannot read '{}': {e}", file.display())))?,
            None => self.sql.clone().unwrap_or_default(),
        };
        let place = self.file.as_ref().map_or_else(|| "sql".to_owned(), |file| file.display().to_string());
        let located = |e: Error, offset: usize| {
            let at = offset + e.position().unwrap_or(1);
            let line = text.chars().take(at).filter(|c| *c == '\n').count() + 1;
            e.context(format!("{place}:{line}"))
        };
        let session = Session::new(engine.background_context(), Arc::clone(engine.warehouse()));
        let sql = substitute(&text, &self.variables).map_err(|e| located(e, 0))?;
        let mut written = 0;
        for statement in parse(&sql).map_err(|e| located(e, 0))? {
            let failed = |e| located(e, statement.offset);
            match session.execute(&statement, &[]).await.map_err(failed)? {
                Outcome::Done { rows, notice, .. } => {
                    written += rows.unwrap_or(0);
                    log(notice);
                }
                Outcome::Rows { mut stream, notice, .. } => {
                    log(notice);
                    let mut rows = 0;
                    while let Some(batch) = stream.try_next().await.map_err(|e| failed(e.into()))? {
                        rows += batch.num_rows();
                    }
                    tracing::info!(rows, "a query of the job gave rows");
                }
                Outcome::CopyIn(copy) => {
                    copy.abandon().await;
                    return Err(failed(needs_client()));
                }
                Outcome::CopyOut { .. } => return Err(failed(needs_client())),
            }
        }
        Ok(written)
    }
}

fn log(notice: Option<String>) {
    if let Some(notice) = notice {
        tracing::info!("{notice}");
    }
}
