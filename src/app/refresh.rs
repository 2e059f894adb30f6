//! The job that keeps materialized views fresh while a server runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;

use crate::catalog::jobs::REFRESH;
use crate::catalog::options::keys;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::leaderboard;
use crate::rollup::fold::fold;
use crate::session::Engine;

/// How often the job looks for views that are due.
const LOOK: Duration = Duration::from_millis(250);

/// A job that folds rollups, finest first, and refreshes leaderboards, each when it is due: by its own `refresh_every`,
/// else `every`.
pub(super) fn job(engine: Engine, every: Duration) -> Job {
    let last: Arc<Mutex<HashMap<String, Instant>>> = Default::default();
    Job {
        name: "refresh".into(),
        pause: LOOK,
        run: Box::new(move || {
            let (engine, last) = (engine.clone(), Arc::clone(&last));
            async move { once(&engine, every, &last).await }.boxed()
        }),
    }
}

/// Refreshes what is due. One view that fails does not keep the others waiting; the first error is given at the end.
async fn once(engine: &Engine, every: Duration, last: &Mutex<HashMap<String, Instant>>) -> Result<()> {
    let mut failed: Option<Error> = None;
    let mut views = vec![];
    for name in engine.warehouse().list().await? {
        match engine.warehouse().get(&name).await {
            Ok(Some(Object::Rollup(table))) => {
                let own = refresh_every(&table.rollup().table.snapshot());
                views.push((table.rollup().level(), name, Object::Rollup(table), own));
            }
            Ok(Some(Object::Leaderboard(board))) => {
                let own = refresh_every(&board.table().snapshot());
                // After all rollups.
                views.push((usize::MAX, name, Object::Leaderboard(board), own));
            }
            Ok(_) => {}
            Err(e) => failed = failed.or(Some(e.context(format!("'{name}'")))),
        }
    }
    views.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, name, view, own) in views {
        let due = last.lock().get(&name).is_none_or(|at| at.elapsed() >= own.unwrap_or(every));
        if !due {
            continue;
        }
        last.lock().insert(name.clone(), Instant::now());
        let run = engine.warehouse().jobs().begin(REFRESH, &name);
        let done = match &view {
            // One unit of what is to be computed anew, so that no other view has to wait for all of it.
            Object::Rollup(table) => fold(table.rollup(), &engine.state()).await.map(|folded| folded.rows),
            Object::Leaderboard(board) => {
                leaderboard::refresh(engine.warehouse(), board, &engine.state()).await.map(|done| done.rows)
            }
            _ => Ok(0),
        };
        if let Ok(rows) = done {
            run.unit(rows);
        }
        if let Err(e) = run.end(done) {
            failed = failed.or(Some(e.context(format!("'{name}'"))));
        }
    }
    failed.map_or(Ok(()), Err)
}

fn refresh_every(snapshot: &crate::lake::snapshot::Snapshot) -> Option<Duration> {
    let micros = snapshot.option(keys::REFRESH_EVERY)?.parse().ok()?;
    Some(Duration::from_micros(micros))
}
