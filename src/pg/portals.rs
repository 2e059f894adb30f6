//! The portals of a session: results that are being given, and how long each of them lives.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use tokio::sync::Mutex;

use super::cursor::Cursor;
use super::encode::Formats;
use super::prepared::Prepared;

/// A statement with values for its parameters.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) values: Vec<ScalarValue>,
    pub(super) formats: Formats,
    pub(super) state: State,
    /// The rows, where they are given in parts: to whoever asks by Execute messages, FETCH or MOVE. What DECLARE made has
    /// no statement.
    pub(super) cursor: Option<Arc<Mutex<Cursor>>>,
    pub(super) life: Life,
}

impl Portal {
    /// The statement's text, if it is the client's own.
    pub(super) fn text(&self) -> Option<&str> {
        self.prepared.statement.as_ref()?.text()
    }
}

pub(super) enum State {
    New,
    /// It has run, with this tag. What it gives no cursor gives, it has given.
    Ended(String),
}

/// How long a portal is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Until its transaction ends.
    Transaction,
    /// Until it is closed, if its transaction commits.
    IfCommitted,
    /// Until it is closed.
    Session,
}

/// All of them, by name.
#[derive(Default)]
pub(super) struct Portals {
    all: HashMap<String, (u64, Portal)>,
    /// How many there were when a savepoint was set.
    savepoints: Vec<(String, u64)>,
    made: u64,
}

impl Portals {
    pub(super) fn get(&self, name: &str) -> Option<&Portal> {
        self.all.get(name).map(|(_, portal)| portal)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Portal> {
        self.all.get_mut(name).map(|(_, portal)| portal)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn insert(&mut self, name: String, portal: Portal) {
        self.made += 1;
        self.all.insert(name, (self.made, portal));
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Portal> {
        self.all.remove(name).map(|(_, portal)| portal)
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.to_owned(), self.made));
    }

    pub(super) fn release(&mut self, name: &str) {
        if let Some(i) = self.savepoints.iter().rposition(|s| s.0 == name) {
            self.savepoints.truncate(i);
        }
    }

    /// Portals that were made since go; the savepoint stays.
    pub(super) fn roll_back_to(&mut self, name: &str) {
        if let Some(i) = self.savepoints.iter().rposition(|s| s.0 == name) {
            self.savepoints.truncate(i + 1);
            let made = self.savepoints[i].1;
            self.all.retain(|_, (number, portal)| *number <= made || portal.life == Life::Session);
        }
    }

    /// A transaction ends.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        self.savepoints.clear();
        for (_, portal) in self.all.values_mut() {
            if committed && portal.life == Life::IfCommitted {
                portal.life = Life::Session;
            }
        }
        self.all.retain(|_, (_, portal)| portal.life == Life::Session);
    }
}
