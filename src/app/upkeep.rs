//! The jobs that keep tables small and rid of what is past its time while servers run.

use std::time::Duration;

use futures::FutureExt;

use crate::catalog::pipelines::FORGOTTEN_AFTER;
use crate::error::{Error, Kind, Result};
use crate::jobs::scheduler::{Job, Run};
use crate::maintain::compact::compact;
use crate::maintain::expire::expire;
use crate::maintain::target::{Kept, Target};
use crate::maintain::vacuum::vacuum_all;
use crate::session::Engine;

/// The job of compaction.
const COMPACTION: &str = "compaction";
/// The job of retention and vacuum.
const RETENTION: &str = "retention";

/// A job that compacts every table, and takes into side tables what commits have for them.
pub(super) fn compaction(engine: Engine, every: Duration) -> Result<Job> {
    let run: Run = Box::new(move || {
        let engine = engine.clone();
        async move {
            let mut done = Done::default();
            for target in Target::all(engine.warehouse()).await? {
                done.take(async { compact_one(&engine, &target?).await }.await);
            }
            done.end()
        }
        .boxed()
    });
    Job::new(COMPACTION, Some(&schedule(every)), None, run)
}

/// A job that applies retention and vacuums: what these look at changes slowly.
pub(super) fn retention(engine: Engine, every: Duration) -> Result<Job> {
    let run: Run = Box::new(move || {
        let engine = engine.clone();
        async move {
            let mut done = Done::default();
            let warehouse = engine.warehouse();
            for target in Target::all(warehouse).await? {
                done.take(async { expire_one(&engine, &target?).await }.await);
            }
            done.take(vacuum_all(warehouse, false).await.map(|_| ()));
            done.take(warehouse.forget_lost_pipelines(FORGOTTEN_AFTER).await);
            done.end()
        }
        .boxed()
    });
    Job::new(RETENTION, Some(&schedule(every)), None, run)
}

fn schedule(every: Duration) -> String {
    format!("every {}", humantime::format_duration(every))
}

/// One table that fails does not keep the others waiting; the first error is given at the end.
#[derive(Default)]
struct Done(Option<Error>);

impl Done {
    fn take(&mut self, done: Result<()>) {
        match done {
            // Another process does the same.
            Err(e) if e.kind() == Kind::Conflict => {}
            Err(e) => self.0 = self.0.take().or(Some(e)),
            Ok(()) => {}
        }
    }

    fn end(self) -> Result<u64> {
        self.0.map_or(Ok(0), Err)
    }
}

async fn compact_one(engine: &Engine, target: &Target) -> Result<()> {
    if let Target::Rows(rows) = target {
        engine.warehouse().follow(&rows.table).await?;
    }
    let name = target.table().name();
    compact(target, &engine.background()).await.map_err(|e| e.context(format!("'{name}'")))?;
    Ok(())
}

async fn expire_one(engine: &Engine, target: &Target) -> Result<()> {
    let Target::Rows(rows) = target else { return Ok(()) };
    // A cut may only pass what others have taken in.
    engine.warehouse().follow(&rows.table).await?;
    if rows.kept == Kept::ByWindow || rows.retention(&rows.table.snapshot()).is_some() {
        expire(engine.warehouse(), rows, None, &engine.background()).await?;
    }
    Ok(())
}
