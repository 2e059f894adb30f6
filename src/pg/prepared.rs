//! The prepared statements of a session, by the protocol's messages and by PREPARE, and what the session is shown of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::RwLock;

use super::params::Parameter;
use super::session::Statement;

/// A prepared statement.
pub(super) struct Prepared {
    /// None for an empty query string.
    pub(super) statement: Option<Statement>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) fields: Option<SchemaRef>,
}

/// All of them, by name; the unnamed one is empty.
pub(super) struct PreparedStatements {
    all: HashMap<String, Arc<Prepared>>,
    shown: Arc<Shown>,
}

/// What `pg_prepared_statements` shows: those that have a name.
#[derive(Debug, Default)]
pub struct Shown(RwLock<BTreeMap<String, Text>>);

/// A statement as it was prepared.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) sql: String,
    pub(super) at: DateTime<Utc>,
    /// By PREPARE.
    pub(super) from_sql: bool,
}

impl Shown {
    pub(super) fn all(&self) -> Vec<(String, Text)> {
        self.0.read().iter().map(|(name, text)| (name.clone(), text.clone())).collect()
    }
}

impl PreparedStatements {
    pub(super) fn new(shown: Arc<Shown>) -> Self {
        PreparedStatements { all: HashMap::new(), shown }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.all.get(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn insert(&mut self, name: String, prepared: Prepared, sql: &str, from_sql: bool) {
        if !name.is_empty() {
            let text = Text { sql: sql.to_owned(), at: Utc::now(), from_sql };
            self.shown.0.write().insert(name.clone(), text);
        }
        self.all.insert(name, Arc::new(prepared));
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<Prepared>> {
        self.shown.0.write().remove(name);
        self.all.remove(name)
    }

    pub(super) fn clear(&mut self) {
        self.shown.0.write().clear();
        self.all.clear();
    }
}
