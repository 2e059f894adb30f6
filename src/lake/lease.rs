//! Leases: of several processes on one warehouse, one at a time does a piece of work.
//!
//! A lease is for economy only. Whoever holds one may be stopped for longer than it lasts, wake up, and go on beside the
//! next holder: what is right then is decided by the rules of each commit, as it is without leases.
//!
//! A lease is a row of numbered objects, each written only if it is not there yet, like the commits of a log: who writes the
//! next number holds the lease. Clocks of machines are not compared. Whoever waits sees by its own clock for how long no number
//! has come; when that is the length of a lease, it may write the next one. A holder that goes writes a last number which
//! says so. One that ran on this machine and is not there any more is not waited for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::ObjectStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::error::{Error, Result};

/// How long a lease lasts after its holder was last heard of.
pub const LENGTH: Duration = Duration::from_secs(15);

/// What stands in an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    instance: String,
    host: String,
    pid: u32,
    /// It has gone of its own will.
    #[serde(default)]
    released: bool,
}

/// What a process knows of a lease.
#[derive(Debug, Clone)]
struct Known {
    /// The last number that was seen, and when it was seen first.
    number: u64,
    since: Instant,
    holder: Option<Holder>,
    /// When the store was looked at last.
    looked: Instant,
    /// Until when the lease is surely this process's.
    ours_until: Option<Instant>,
}

/// The leases of a warehouse, as one process takes part in them.
#[derive(Debug)]
pub struct Leases {
    folder: Store,
    me: Holder,
    length: Duration,
    known: Mutex<HashMap<String, Known>>,
    /// One at a time talks to the store about a lease.
    talking: tokio::sync::Mutex<()>,
}

impl Leases {
    /// Takes part in the leases kept below `folder`, each of which lasts so long.
    pub fn new(folder: Store, length: Duration) -> Arc<Self> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let instance = uuid::Uuid::new_v4().to_string();
        let me = Holder { instance, host, pid: std::process::id(), released: false };
        Arc::new(Leases { folder, me, length, known: Default::default(), talking: Default::default() })
    }

    /// Whether this process holds a lease, which it takes where nobody else has it. Asks the store seldom, so it may be
    /// called as often as one likes.
    pub async fn hold(&self, name: &str) -> Result<bool> {
        if let Some(known) = self.known(name) {
            let fresh = self.length / 3 * 2;
            if known.ours_until.is_some_and(|until| until.saturating_duration_since(Instant::now()) > fresh) {
                return Ok(true);
            }
            if known.ours_until.is_none() && known.looked.elapsed() < self.length / 5 {
                return Ok(false);
            }
        }
        let _one = self.talking.lock().await;
        match self.known(name) {
            Some(known) if known.ours_until.is_some() => self.take(name, known.number + 1).await,
            known => self.look(name, known).await,
        }
    }

    /// Whether this process held a lease when it last heard of it, without asking the store.
    pub fn holds(&self, name: &str) -> bool {
        self.known(name).and_then(|known| known.ours_until).is_some_and(|until| until > Instant::now())
    }

    /// Who holds a lease, as far as is known here.
    pub fn holder(&self, name: &str) -> Option<String> {
        let known = self.known(name)?;
        if known.ours_until.is_some() {
            return Some(self.server());
        }
        known.holder.filter(|holder| !holder.released).map(|holder| format!("{}:{}", holder.host, holder.pid))
    }

    /// What this process is called.
    pub fn server(&self) -> String {
        format!("{}:{}", self.me.host, self.me.pid)
    }

    /// Keeps what this process holds, for as long as somebody polls this: work may take longer than a lease.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.length / 5).await;
            for name in self.mine() {
                if let Err(e) = self.hold(&name).await {
                    tracing::warn!(lease = name, error = %e, "cannot keep a lease; somebody else may take it");
                }
            }
        }
    }

    /// Gives a lease back.
    pub async fn release(&self, name: &str) -> Result<()> {
        let _one = self.talking.lock().await;
        let Some(known) = self.known(name).filter(|known| known.ours_until.is_some()) else { return Ok(()) };
        self.write(name, known.number + 1, &Holder { released: true, ..self.me.clone() }).await?;
        self.known.lock().remove(name);
        self.forget(name, known.number).await
    }

    /// Gives all of them back.
    pub async fn release_all(&self) -> Result<()> {
        for name in self.mine() {
            self.release(&name).await?;
        }
        Ok(())
    }

    /// The leases that were this process's when it last heard of them.
    fn mine(&self) -> Vec<String> {
        let known = self.known.lock();
        known.iter().filter(|(_, known)| known.ours_until.is_some()).map(|(name, _)| name.clone()).collect()
    }

    fn known(&self, name: &str) -> Option<Known> {
        self.known.lock().get(name).cloned()
    }

    /// Looks who has a lease, and takes it where nobody has.
    async fn look(&self, name: &str, known: Option<Known>) -> Result<bool> {
        let now = Instant::now();
        let Some(newest) = self.newest(name).await? else { return self.take(name, 1).await };
        let seen = match known {
            Some(known) if known.number == newest => Known { looked: now, ..known },
            _ => {
                let holder = self.read(name, newest).await?;
                Known { number: newest, since: now, holder, looked: now, ours_until: None }
            }
        };
        let free =
            seen.since.elapsed() >= self.length || seen.holder.as_ref().is_some_and(|h| self.has_gone(h));
        self.known.lock().insert(name.to_owned(), seen);
        if free { self.take(name, newest + 1).await } else { Ok(false) }
    }

    /// Whether a holder will not be heard of again.
    fn has_gone(&self, holder: &Holder) -> bool {
        let here = holder.host == self.me.host && !holder.host.is_empty();
        holder.released
            || (here && holder.pid != self.me.pid && !Path::new(&format!("/proc/{}", holder.pid)).exists())
    }

    /// Takes or renews a lease by its next number, unless somebody else has been faster.
    async fn take(&self, name: &str, number: u64) -> Result<bool> {
        // What is ours is so from before the store was asked.
        let begun = Instant::now();
        let ours = self.write(name, number, &self.me).await?;
        let known = Known {
            number,
            since: begun,
            holder: ours.then(|| self.me.clone()),
            looked: begun,
            ours_until: ours.then(|| begun + self.length),
        };
        let before = self.known.lock().insert(name.to_owned(), known);
        match (ours, before.and_then(|before| before.ours_until)) {
            (true, None) => tracing::info!(lease = name, "taken"),
            (false, Some(_)) => tracing::info!(lease = name, "lost to another server"),
            _ => {}
        }
        if ours {
            self.forget(name, number.saturating_sub(1)).await?;
        }
        Ok(ours)
    }

    async fn write(&self, name: &str, number: u64, holder: &Holder) -> Result<bool> {
        let body =
            serde_json::to_vec(holder).map_err(|e| Error::internal(format!("cannot write a lease: {e}")))?;
        let path = self.path(name, number);
        if self.folder.put_if_absent(&path, body.into()).await? {
            return Ok(true);
        }
        // The store's client may have repeated a request that was heard the first time.
        Ok(self.read(name, number).await?.as_ref() == Some(holder))
    }

    async fn read(&self, name: &str, number: u64) -> Result<Option<Holder>> {
        let found = self.folder.get(&self.path(name, number)).await?;
        // What cannot be read has a holder that nobody knows: it expires like any other.
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    async fn newest(&self, name: &str) -> Result<Option<u64>> {
        let folder = self.folder.child(name);
        let listed: Vec<object_store::ObjectMeta> =
            folder.object_store().list(Some(folder.prefix())).try_collect().await?;
        Ok(listed.iter().filter_map(|meta| meta.location.filename()?.parse().ok()).max())
    }

    /// Removes a number that is of no use any more.
    async fn forget(&self, name: &str, number: u64) -> Result<()> {
        match number {
            0 => Ok(()),
            number => self.folder.delete_all(vec![self.path(name, number)]).await,
        }
    }

    fn path(&self, name: &str, number: u64) -> object_store::path::Path {
        self.folder.path(&format!("{name}/{number:020}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    fn store() -> Store {
        Store::open("memory:///leases").unwrap()
    }

    /// As if it ran on a machine of its own.
    fn elsewhere(store: &Store, host: &str) -> Leases {
        let leases = Leases::new(store.clone(), SHORT);
        let mut leases = Arc::into_inner(leases).unwrap();
        leases.me.host = host.to_owned();
        leases
    }

    async fn until(what: impl AsyncFn() -> bool) -> Duration {
        let begun = Instant::now();
        while !what().await {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed()
    }

    #[tokio::test]
    async fn one_at_a_time_holds_it_and_the_next_when_it_is_not_heard_of() {
        let store = store();
        let (a, b) = (elsewhere(&store, "a"), elsewhere(&store, "b"));
        assert!(a.hold("x").await.unwrap() && !b.hold("x").await.unwrap());
        assert!(b.hold("y").await.unwrap(), "another lease is free");
        assert_eq!((a.holds("x"), b.holds("x")), (true, false));
        // As long as it is heard of, nobody takes it.
        let begun = Instant::now();
        while begun.elapsed() < 4 * SHORT {
            assert!(a.hold("x").await.unwrap());
            assert!(!b.hold("x").await.unwrap());
            tokio::time::sleep(SHORT / 20).await;
        }
        // Now it stands still.
        let took = until(async || b.hold("x").await.unwrap()).await;
        assert!(took >= SHORT / 2, "after {took:?}");
        // It wakes up, and learns that it holds it no more.
        assert!(!a.holds("x") && !a.hold("x").await.unwrap() && b.hold("x").await.unwrap());
        let kept: Vec<_> = store.object_store().list(None).try_collect().await.unwrap();
        assert!(kept.len() <= 3, "{kept:?}");
    }

    #[tokio::test]
    async fn who_gives_it_back_or_is_dead_here_is_not_waited_for() {
        let store = store();
        let a = elsewhere(&store, "a");
        let long = |host: &str| Leases { length: Duration::from_secs(3600), ..elsewhere(&store, host) };
        let b = long("b");
        assert!(a.hold("x").await.unwrap());
        a.release_all().await.unwrap();
        assert!(!a.holds("x") && b.hold("x").await.unwrap());
        let mut dead = long("here");
        // No process has this number.
        dead.me.pid = u32::MAX;
        assert!(dead.hold("z").await.unwrap());
        assert!(!long("there").hold("z").await.unwrap() && long("here").hold("z").await.unwrap());
    }
}
