//! One version of each table for a whole statement.
//!
//! A statement that reads a rollup and its source, or two rollups of one source, has to see one state of the world. The
//! pins travel in the session's configuration, so that every provider of the statement finds them; without them (a
//! program that calls DataFusion by itself) each scan pins for itself.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

use super::snapshot::Snapshot;
use super::table::Table;
use crate::error::Result;

/// The versions that a statement reads, by table name.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<HashMap<String, Arc<Snapshot>>>>);

impl Pins {
    /// The pins of the statement that `config` belongs to; pins of its own if there are none.
    pub fn of(config: &SessionConfig) -> Pins {
        config.options().extensions.get::<Pins>().cloned().unwrap_or_default()
    }

    /// Puts fresh pins into a statement's configuration.
    pub fn install(config: &mut SessionConfig) -> Pins {
        let pins = Pins::default();
        config.options_mut().extensions.insert(pins.clone());
        pins
    }

    /// The version of `table` for this statement: the newest at the first call, the same ever after.
    pub async fn snapshot(&self, table: &Table) -> Result<Arc<Snapshot>> {
        if let Some(pinned) = self.get(table.name()) {
            return Ok(pinned);
        }
        let newest = table.update().await?;
        Ok(Arc::clone(self.0.lock().entry(table.name().to_owned()).or_insert(newest)))
    }

    /// Has this statement and those that share its pins read another state of a table.
    pub fn replace(&self, name: &str, snapshot: Arc<Snapshot>) {
        self.0.lock().insert(name.to_owned(), snapshot);
    }

    /// The version of the table of this name, if it is pinned.
    pub fn get(&self, name: &str) -> Option<Arc<Snapshot>> {
        self.0.lock().get(name).cloned()
    }

    /// Lets go of all versions: what is pinned next is the newest again.
    pub fn release(&self) {
        self.0.lock().clear();
    }

    /// The versions, for lineage.
    pub fn versions(&self) -> std::collections::BTreeMap<String, i64> {
        self.0.lock().iter().map(|(name, snapshot)| (name.clone(), snapshot.version)).collect()
    }
}

impl ConfigExtension for Pins {
    const PREFIX: &'static str = "toplake_pins";
}

impl ExtensionOptions for Pins {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> EngineResult<()> {
        Err(DataFusionError::Configuration(format!(
            "'{key}' cannot be set: pins are taken by the statement itself"
        )))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}
