//! A transaction of a session: every statement in it reads one version of each table and what the transaction itself has
//! written, and what it has written becomes one commit at its end.
//!
//! Rows are written into files as they come. Until the commit no log names those files, so nobody else sees them; the
//! transaction's own statements do, because it pins the table with them in it. A process that dies before the commit
//! leaves files that vacuum removes.
//!
//! The log of a Delta table is the one place where a commit is made, so a transaction writes one table.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionConfig;
use tokio::sync::Mutex;

use super::events::{Appended, EventsTable, commit, write};
use super::late::Divided;
use crate::error::{Error, Kind, Result};
use crate::lake::pin::Pins;
use crate::lake::snapshot::{File, Snapshot};

/// A transaction that is open. What was not committed is removed when the last handle goes.
#[derive(Debug, Clone, Default)]
pub struct Transaction(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pins: Pins,
    written: Mutex<Written>,
}

/// What a transaction has written.
#[derive(Debug, Default)]
struct Written {
    table: Option<Target>,
    /// The files, statement by statement.
    parts: Vec<Divided>,
    /// Savepoints, and how many parts there were.
    savepoints: Vec<(String, usize)>,
}

/// The table that a transaction writes.
#[derive(Debug)]
struct Target {
    events: EventsTable,
    /// The version that the transaction reads.
    base: Arc<Snapshot>,
}

impl Transaction {
    /// The transaction that a statement with this configuration belongs to.
    pub fn of(config: &SessionConfig) -> Option<Transaction> {
        config.options().extensions.get::<Transaction>().cloned()
    }

    /// Has a statement belong to it.
    pub fn install(&self, config: &mut SessionConfig) {
        config.options_mut().extensions.insert(self.0.pins.clone());
        config.options_mut().extensions.insert(self.clone());
    }

    /// Writes rows, which the statements that follow see and the commit stores.
    pub async fn append(&self, events: &EventsTable, rows: SendableRecordBatchStream) -> Result<Appended> {
        let mut written = self.0.written.lock().await;
        let name = events.table().name();
        if let Some(target) = &written.table
            && target.events.table().name() != name
        {
            let first = target.events.table().name();
            return Err(Error::not_supported(format!(
                "a transaction writes one table: this one has written '{first}' and cannot write '{name}'"
            ))
            .with_hint("COMMIT in between, or write each table in a transaction of its own"));
        }
        let base = self.0.pins.snapshot(events.table()).await?;
        let part = write(events, &base, rows).await?;
        let appended = Appended { rows: part.rows(), late: part.late_rows() };
        if written.table.is_none() {
            written.table = Some(Target { events: events.share(), base });
        }
        written.parts.push(part);
        self.show(&written);
        Ok(appended)
    }

    /// Pins the table with what is written.
    fn show(&self, written: &Written) {
        let Some(target) = &written.table else { return };
        let mut shown = target.base.as_ref().clone();
        for add in written.parts.iter().flat_map(Divided::in_time) {
            let file = Arc::new(File::new(add.clone()));
            shown.files.insert(add.path.as_str().into(), Arc::clone(&file));
            shown.staged.push(file);
        }
        self.0.pins.replace(target.events.table().name(), Arc::new(shown));
    }

    /// Remembers what is written so far.
    pub async fn savepoint(&self, name: &str) {
        let mut written = self.0.written.lock().await;
        let parts = written.parts.len();
        written.savepoints.push((name.to_owned(), parts));
    }

    /// Forgets a savepoint, and those after it.
    pub async fn release(&self, name: &str) -> Result<()> {
        let mut written = self.0.written.lock().await;
        let (place, _) = written.find(name)?;
        written.savepoints.truncate(place);
        Ok(())
    }

    /// Takes back what was written since a savepoint.
    pub async fn rollback_to(&self, name: &str) -> Result<()> {
        let mut written = self.0.written.lock().await;
        let (place, parts) = written.find(name)?;
        written.savepoints.truncate(place + 1);
        let undone = written.parts.split_off(parts);
        self.show(&written);
        for part in undone {
            part.discard().await;
        }
        Ok(())
    }

    /// Commits what was written, in one commit. On an error nothing is stored.
    pub async fn commit(&self) -> Result<()> {
        let written = std::mem::take(&mut *self.0.written.lock().await);
        let Some(target) = written.table else { return Ok(()) };
        let name = target.events.table().name().to_owned();
        commit(&target.events, &target.base, written.parts)
            .await
            .map_err(|e| e.context(format!("table '{name}'")))
    }

    /// Takes back what was written.
    pub async fn rollback(&self) {
        let written = std::mem::take(&mut *self.0.written.lock().await);
        for part in written.parts {
            part.discard().await;
        }
    }
}

impl Written {
    /// The newest savepoint of a name: its place, and the parts there were.
    fn find(&self, name: &str) -> Result<(usize, usize)> {
        let place = self.savepoints.iter().rposition(|(n, _)| n == name);
        place.map(|place| (place, self.savepoints[place].1)).ok_or_else(|| {
            Error::new(Kind::UndefinedSavepoint, format!("savepoint \"{name}\" does not exist"))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let parts = std::mem::take(&mut self.written.get_mut().parts);
        if parts.is_empty() {
            return;
        }
        // Without a runtime the files stay, and vacuum removes them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for part in parts {
                    part.discard().await;
                }
            });
        }
    }
}

impl ConfigExtension for Transaction {
    const PREFIX: &'static str = "toplake_transaction";
}

impl ExtensionOptions for Transaction {
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
        Err(DataFusionError::Configuration(format!("'{key}' cannot be set: use BEGIN and COMMIT")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}
