//! The job that keeps tables small while a server runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;

use crate::catalog::pipelines::FORGOTTEN_AFTER;
use crate::error::{Error, Kind, Result};
use crate::jobs::Job;
use crate::maintain::compact::compact;
use crate::maintain::expire::expire;
use crate::maintain::target::{Kept, Target};
use crate::maintain::vacuum::vacuum_all;
use crate::session::Engine;

/// A job that compacts every table, and every `seldom` applies retention and vacuums: what these look at changes slowly.
pub(super) fn job(engine: Engine, every: Duration, seldom: Duration) -> Job {
    let last: Arc<Mutex<Instant>> = Arc::new(Mutex::new(Instant::now()));
    Job {
        name: "upkeep".into(),
        pause: every,
        run: Box::new(move || {
            let (engine, last) = (engine.clone(), Arc::clone(&last));
            async move {
                let due = last.lock().elapsed() >= seldom;
                if due {
                    *last.lock() = Instant::now();
                }
                once(&engine, due).await
            }
            .boxed()
        }),
    }
}

/// One table that fails does not keep the others waiting; the first error is given at the end.
async fn once(engine: &Engine, seldom: bool) -> Result<()> {
    let warehouse = engine.warehouse();
    let mut failed: Option<Error> = None;
    for target in Target::all(warehouse).await? {
        let done = match target {
            Ok(target) => one(engine, &target, seldom).await,
            Err(e) => Err(e),
        };
        match done {
            // Another process does the same.
            Err(e) if e.kind() == Kind::Conflict => {}
            Err(e) => failed = failed.or(Some(e)),
            Ok(()) => {}
        }
    }
    if seldom {
        failed = failed.or(vacuum_all(warehouse, false).await.err());
        failed = failed.or(warehouse.forget_lost_pipelines(FORGOTTEN_AFTER).await.err());
    }
    failed.map_or(Ok(()), Err)
}

async fn one(engine: &Engine, target: &Target, seldom: bool) -> Result<()> {
    let state = engine.state();
    if let Target::Rows(rows) = target {
        engine.warehouse().follow(&rows.table).await?;
    }
    if let (true, Target::Rows(rows)) = (seldom, target)
        && (rows.kept == Kept::ByWindow || rows.retention(&rows.table.snapshot()).is_some())
    {
        expire(engine.warehouse(), rows, None, &state).await?;
    }
    let name = target.table().name();
    compact(target, &state).await.map_err(|e| e.context(format!("'{name}'")))?;
    Ok(())
}
