//! What keeps materialized views fresh while a server runs.
//!
//! Views that are made from the same events belong together: a family is refreshed by one server at a time, finest rollup
//! first, so several servers share the families among them. A family that takes long keeps no other waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::catalog::jobs::REFRESH;
use crate::catalog::options::keys;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Result};
use crate::jobs::task::Task;
use crate::leaderboard;
use crate::rollup::fold::fold;
use crate::session::Engine;

/// How often the task looks for views that are due.
const LOOK: Duration = Duration::from_millis(250);

/// The family of leaderboards that are made from no events, or from several tables of them.
const MIXED: &str = "*";

/// A task that folds rollups and refreshes leaderboards, each when it is due: by its own `refresh_every`, else `every`.
pub(super) fn task(engine: Engine, every: Duration) -> Task {
    let families =
        Arc::new(Families { engine, every, last: Default::default(), running: Default::default() });
    Task {
        name: REFRESH.into(),
        pause: LOOK,
        run: Box::new(move || {
            let families = Arc::clone(&families);
            async move { families.look().await }.boxed()
        }),
    }
}

struct Families {
    engine: Engine,
    every: Duration,
    /// When each view was refreshed last, here.
    last: Mutex<HashMap<String, Instant>>,
    /// Families that are being refreshed. They stop where the task does.
    running: tokio::sync::Mutex<Running>,
}

#[derive(Default)]
struct Running {
    tasks: JoinSet<(String, Result<()>)>,
    names: Vec<String>,
}

/// A view that is due.
struct View {
    level: usize,
    name: String,
    object: Object,
}

impl Families {
    /// Begins to refresh what is due, and tells how what was begun before has ended.
    async fn look(self: &Arc<Self>) -> Result<()> {
        let (families, mut failed) = self.due().await?;
        let mut running = self.running.lock().await;
        while let Some(ended) = running.tasks.try_join_next() {
            match ended {
                Ok((family, done)) => {
                    running.names.retain(|name| *name != family);
                    failed = failed.or(done.err());
                }
                Err(e) => {
                    running.names.clear();
                    failed = failed.or(Some(Error::internal(format!("a refresh ended: {e}"))));
                }
            }
        }
        for (family, views) in families {
            if running.names.contains(&family) {
                continue;
            }
            // Whose turn it is.
            if !self.engine.warehouse().leases().hold(&format!("{REFRESH}-{family}")).await? {
                continue;
            }
            running.names.push(family.clone());
            let families = Arc::clone(self);
            running.tasks.spawn(async move {
                let done = families.refresh(views).await;
                (family, done)
            });
        }
        failed.map_or(Ok(()), Err)
    }

    /// The views that are due, by family. One that cannot be opened does not keep the others waiting.
    async fn due(&self) -> Result<(BTreeMap<String, Vec<View>>, Option<Error>)> {
        let mut failed: Option<Error> = None;
        let mut families: BTreeMap<String, Vec<View>> = BTreeMap::new();
        let warehouse = self.engine.warehouse();
        for name in warehouse.list().await? {
            let object = match warehouse.get(&name).await {
                Ok(Some(object)) => object,
                Ok(None) => continue,
                Err(e) => {
                    failed = failed.or(Some(e.context(format!("'{name}'"))));
                    continue;
                }
            };
            let own = match &object {
                Object::Rollup(table) => refresh_every(&table.rollup().table.snapshot()),
                Object::Leaderboard(board) => refresh_every(&board.table().snapshot()),
                _ => continue,
            };
            let last = self.last.lock().get(&name).copied();
            if last.is_some_and(|at| at.elapsed() < own.unwrap_or(self.every)) {
                continue;
            }
            let (family, level) = match &object {
                Object::Rollup(table) => (table.rollup().events().name().to_owned(), table.rollup().level()),
                // After all rollups.
                Object::Leaderboard(board) => (self.family_of(board.sql()), usize::MAX),
                _ => continue,
            };
            families.entry(family).or_default().push(View { level, name, object });
        }
        for views in families.values_mut() {
            views.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
        }
        Ok((families, failed))
    }

    /// The events that a leaderboard is made from, if all of it is made from the same.
    fn family_of(&self, sql: &str) -> String {
        let warehouse = self.engine.warehouse();
        let mut found: Option<String> = None;
        let mut open = crate::catalog::names_in(sql).unwrap_or_default();
        while let Some(name) = open.pop() {
            let events = match warehouse.built(&name) {
                Some(Object::Rollup(table)) => table.rollup().events().name().to_owned(),
                Some(Object::Table(events)) if events.options().time_column.is_some() => name,
                // A plain table has no rollups; what a view is made from is not looked into.
                Some(Object::Table(_) | Object::External(_)) => continue,
                _ => return MIXED.to_owned(),
            };
            if found.get_or_insert_with(|| events.clone()) != &events {
                return MIXED.to_owned();
            }
        }
        found.unwrap_or_else(|| MIXED.to_owned())
    }

    /// Refreshes views of a family. One that fails does not keep the others waiting; the first error is given at the end.
    async fn refresh(&self, views: Vec<View>) -> Result<()> {
        let mut failed: Option<Error> = None;
        let engine = &self.engine;
        for View { name, object, .. } in views {
            self.last.lock().insert(name.clone(), Instant::now());
            let run = engine.warehouse().jobs().begin(REFRESH, &name);
            let done = match &object {
                // One unit of what is to be computed anew, so that no other view has to wait for all of it.
                Object::Rollup(table) => {
                    fold(table.rollup(), &engine.background()).await.map(|folded| folded.rows)
                }
                Object::Leaderboard(board) => {
                    let refreshed =
                        leaderboard::refresh(engine.warehouse(), board, &engine.background()).await;
                    refreshed.map(|done| if done.committed { done.rows } else { 0 })
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
}

fn refresh_every(snapshot: &crate::lake::snapshot::Snapshot) -> Option<Duration> {
    let micros = snapshot.option(keys::REFRESH_EVERY)?.parse().ok()?;
    Some(Duration::from_micros(micros))
}
