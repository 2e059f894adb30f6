//! Cancel requests: they come on a connection of their own, and name the one to cancel by its number and a secret.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The sessions that are there.
#[derive(Clone, Default)]
pub(super) struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    last: AtomicI32,
    running: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    secret: i32,
    cancel: Arc<Notify>,
}

/// A session's entry, for as long as it lives.
pub(super) struct Ticket {
    sessions: Sessions,
    /// The number that clients know the session by.
    pub(super) pid: i32,
    /// What a cancel request must know.
    pub(super) secret: i32,
    cancel: Arc<Notify>,
}

impl Sessions {
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
        running.insert(pid, Entry { secret, cancel: Arc::clone(&cancel) });
        Some(Ticket { sessions: self.clone(), pid, secret, cancel })
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
}

impl Ticket {
    /// Ends when the running statement is to be cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
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
