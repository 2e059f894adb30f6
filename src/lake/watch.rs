//! Watching a log: a table that is asked for often is followed by a task, so that asking costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::snapshot::Snapshot;
use super::table::Table;

/// How long ago a watched table's log was last read to its end, at most. What this process commits is seen at once.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// A table that nobody asked for in so long is not watched any more.
const LEAVE_AFTER: Duration = Duration::from_secs(60);

/// Of a table: whether it is watched.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    watched: bool,
    /// When somebody last asked.
    asked: Option<Instant>,
    /// When the log was last seen to end at the version that is known.
    seen: Option<Instant>,
}

impl Table {
    /// The newest version as of a moment ago ([`WATCH_EVERY`]), without looking. None where that is not known: at the
    /// first call, which begins the watch, and while the store does not answer.
    ///
    /// Has to be called in a Tokio runtime.
    pub fn watched(self: &Arc<Self>) -> Option<Arc<Snapshot>> {
        let now = Instant::now();
        let fresh = {
            let mut state = self.watch.0.lock();
            state.asked = Some(now);
            if !std::mem::replace(&mut state.watched, true) {
                state.seen = None;
                tokio::spawn(watch(Arc::clone(self)));
            }
            // A look takes its time too.
            state.seen.is_some_and(|seen| now.duration_since(seen) < 4 * WATCH_EVERY)
        };
        fresh.then(|| self.snapshot())
    }

    /// Ends the watch if nobody asked for long.
    fn is_left(&self) -> bool {
        let mut state = self.watch.0.lock();
        let left = state.asked.is_none_or(|asked| asked.elapsed() > LEAVE_AFTER);
        state.watched = !left;
        left
    }
}

async fn watch(table: Arc<Table>) {
    while !table.is_left() {
        let begun = Instant::now();
        match table.update().await {
            Ok(_) => table.watch.0.lock().seen = Some(begun),
            // Whoever asks looks for himself meanwhile, and hears of it.
            Err(e) => tracing::debug!(table = table.name(), error = %e, "could not follow the log"),
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::super::action::{Add, CommitKind};
    use super::super::committer::Change;
    use super::super::store::Store;
    use super::super::table::NewTable;
    use super::*;

    async fn until(what: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < patience, "it did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_others_commit_is_seen_without_looking() {
        let memory = Arc::new(object_store::memory::InMemory::new());
        let store = Store::with_object_store(memory, "memory:///t").unwrap();
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let new = NewTable { schema, configuration: vec![], description: None };
        let other = Table::create("t", store.clone(), &new).await.unwrap().unwrap();
        let table = Arc::new(Table::open("t", store).await.unwrap().unwrap());
        assert!(table.watched().is_none(), "nobody has looked yet");
        until(|| table.watched().is_some_and(|s| s.version == 0)).await;
        let mut change = Change::new(CommitKind::Append, "WRITE", &other.snapshot());
        change.adds = vec![Add { path: "f".into(), ..Default::default() }];
        other.commit(&change).await.unwrap();
        until(|| table.watched().is_some_and(|s| s.version == 1)).await;
    }
}
