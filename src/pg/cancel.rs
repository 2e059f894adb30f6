//! The running sessions, and how one reaches another: cancel requests, which come on a connection of their own and name the
//! one to cancel by its number and a secret, and `pg_cancel_backend`, `pg_terminate_backend`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Client;
use super::activity::Activity;

/// The sessions that are there.
#[derive(Clone, Default)]
pub struct Sessions {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    last: AtomicI32,
    /// How many there ever were.
    ever: AtomicI64,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    running: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    secret: i32,
    cancel: Arc<Notify>,
    end: watch::Sender<bool>,
    /// Who it is and what it does, once that is known.
    activity: Option<Arc<Activity>>,
}

/// A session's entry, for as long as it lives.
pub(super) struct Ticket {
    sessions: Sessions,
    /// The number that clients know the session by.
    pub(super) pid: i32,
    /// What a cancel request must know.
    pub(super) secret: i32,
    cancel: Arc<Notify>,
    end: watch::Receiver<bool>,
}

impl Sessions {
    /// How many there are now.
    pub fn count(&self) -> usize {
        self.inner.running.lock().len()
    }

    /// Enters a session, unless there are so many already.
    pub(super) fn enter(&self, most: usize) -> Option<Ticket> {
        let cancel = Arc::new(Notify::new());
        let secret = rand::random();
        let mut running = self.inner.running.lock();
        if running.len() >= most {
            return None;
        }
        // Numbers are positive, and come again after two billion connections.
        let next = || (self.inner.last.fetch_add(1, Ordering::Relaxed) & i32::MAX).max(1);
        let mut pid = next();
        while running.contains_key(&pid) {
            pid = next();
        }
        let (end, ended) = watch::channel(false);
        running.insert(pid, Entry { secret, cancel: Arc::clone(&cancel), end, activity: None });
        self.inner.ever.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { sessions: self.clone(), pid, secret, cancel, end: ended })
    }

    /// Cancels what the session runs, if it runs something and the secret is right. The client is told nothing of it.
    pub(super) fn cancel(&self, pid: i32, secret: i32) {
        if let Some(entry) = self.inner.running.lock().get(&pid)
            && entry.secret == secret
        {
            // Wakes only who waits now: a request that comes too late must not hit the next statement.
            entry.cancel.notify_waiters();
        }
    }

    /// Has a session cancel what it runs, or end. False if there is none of this number.
    pub(super) fn signal(&self, pid: i32, end: bool) -> bool {
        let running = self.inner.running.lock();
        let Some(entry) = running.get(&pid) else { return false };
        match end {
            true => drop(entry.end.send(true)),
            false => entry.cancel.notify_waiters(),
        }
        true
    }

    /// What the session of this number does.
    pub(super) fn activity(&self, pid: i32) -> Option<Arc<Activity>> {
        self.inner.running.lock().get(&pid)?.activity.clone()
    }

    /// What all do, by number.
    pub(super) fn activities(&self) -> Vec<Arc<Activity>> {
        let mut all: Vec<_> =
            self.inner.running.lock().values().filter_map(|entry| entry.activity.clone()).collect();
        all.sort_by_key(|activity| activity.pid);
        all
    }

    /// A transaction, or a statement outside of one, has ended.
    pub(super) fn ended(&self, committed: bool) {
        let counter = if committed { &self.inner.committed } else { &self.inner.rolled_back };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many transactions were committed and rolled back.
    pub(super) fn transactions(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.inner.committed), of(&self.inner.rolled_back))
    }

    /// How many sessions there ever were.
    pub(super) fn ever(&self) -> i64 {
        self.inner.ever.load(Ordering::Relaxed)
    }
}

impl Ticket {
    /// Whose session it is; what it does is told there.
    pub(super) fn belongs_to(&self, client: &Client) -> Arc<Activity> {
        let activity = Arc::new(Activity::of(client));
        if let Some(entry) = self.sessions.inner.running.lock().get_mut(&self.pid) {
            entry.activity = Some(Arc::clone(&activity));
        }
        activity
    }

    /// Ends when the running statement is to be cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    /// Ends when the session is to end.
    pub(super) async fn terminated(&self) {
        let mut end = self.end.clone();
        if end.wait_for(|end| *end).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sessions.inner.running.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn only_the_right_secret_cancels_and_only_what_runs() {
        let sessions = Sessions::default();
        let ticket = sessions.enter(1).unwrap();
        assert!(sessions.enter(1).is_none());
        sessions.cancel(ticket.pid, ticket.secret);
        let soon = Duration::from_millis(20);
        {
            let wait = ticket.cancelled();
            tokio::pin!(wait);
            assert!(timeout(soon, &mut wait).await.is_err(), "a late request hit the next statement");
            sessions.cancel(ticket.pid, ticket.secret.wrapping_add(1));
            assert!(timeout(soon, &mut wait).await.is_err());
            sessions.cancel(ticket.pid, ticket.secret);
            assert!(timeout(soon, &mut wait).await.is_ok());
        }
        drop(ticket);
        assert!(sessions.inner.running.lock().is_empty());
    }
}
