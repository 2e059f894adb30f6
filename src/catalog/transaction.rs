//! A transaction of a session: every statement in it reads one version of each table and what the transaction itself has
//! written, and what it has written becomes one commit at its end.
//!
//! Rows are written into files as they come. Until the commit no log names those files, so nobody else sees them; the
//! transaction's own statements do, because it pins the table with them in it. A process that dies before the commit
//! leaves files that vacuum removes.
//!
//! The log of a Delta table is the one place where a commit is made, so a transaction writes one table.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionConfig;
use tokio::sync::Mutex;

use super::events::{Appended, EventsTable, Part, commit, write_into};
use super::interrupt::Interrupt;
use super::late::EventWriter;
use crate::error::{Error, Kind, Result};
use crate::lake::pin::Pins;
use crate::lake::snapshot::{File, Snapshot};

/// A transaction that is open. What was not committed is removed when the last handle goes.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    inner: Arc<Inner>,
    /// That of the statement which this handle was given to.
    interrupt: Interrupt,
}

#[derive(Default)]
struct Inner {
    pins: Pins,
    written: Mutex<Written>,
}

/// What a transaction has written.
#[derive(Default)]
struct Written {
    table: Option<Target>,
    /// The file that is being written: one for many small statements, closed when somebody wants to read it.
    open: Option<EventWriter>,
    /// The files that are closed.
    parts: Vec<Part>,
    /// Savepoints, and how many parts there were.
    savepoints: Vec<(String, usize)>,
    /// A statement has failed, and may have left some of its rows in the open file.
    failed: bool,
}

/// The table that a transaction writes.
struct Target {
    events: EventsTable,
    /// The version that the transaction reads.
    base: Arc<Snapshot>,
    /// When the first file was begun.
    begun: Instant,
}

impl Transaction {
    /// The transaction that a statement with this configuration belongs to.
    pub fn of(config: &SessionConfig) -> Option<Transaction> {
        config.options().extensions.get::<Transaction>().cloned()
    }

    /// The transaction of a statement alone, which has its pins already.
    pub fn alone(pins: Pins) -> Transaction {
        let inner = Inner { pins, written: Default::default() };
        Transaction { inner: Arc::new(inner), interrupt: Interrupt::default() }
    }

    /// Has a statement belong to it.
    pub fn install(&self, config: &mut SessionConfig, interrupt: &Interrupt) {
        let handle = Transaction { inner: Arc::clone(&self.inner), interrupt: interrupt.clone() };
        config.options_mut().extensions.insert(self.inner.pins.clone());
        config.options_mut().extensions.insert(handle);
    }

    /// Writes rows, which the commit stores, and [`Self::flush`] shows to the statements that follow.
    pub async fn append(&self, events: &EventsTable, rows: SendableRecordBatchStream) -> Result<Appended> {
        let mut written = self.inner.written.lock().await;
        if self.interrupt.is_stopped() {
            return Err(Error::cancelled("the statement was stopped"));
        }
        written.check_target(events)?;
        let base = self.inner.pins.snapshot(events.table()).await?;
        // If this is dropped in between, the rows of the statements before are lost with the writer.
        let failed = std::mem::replace(&mut written.failed, true);
        let mut writer = written.open.take().unwrap_or_else(|| EventWriter::new(events, &base));
        if written.table.is_none() {
            written.table = Some(Target { events: events.share(), base, begun: Instant::now() });
        }
        let before = writer.rows();
        if let Err(e) = write_into(&mut writer, events, rows).await {
            writer.abandon().await;
            return Err(e);
        }
        let after = writer.rows();
        written.failed = failed;
        written.open = Some(writer);
        Ok(Appended { rows: after.0 - before.0, late: after.1 - before.1 })
    }

    /// The version that rows are written for by somebody else, who hands them over by [`Self::take`].
    pub async fn base(&self, events: &EventsTable) -> Result<Arc<Snapshot>> {
        self.inner.written.lock().await.check_target(events)?;
        self.inner.pins.snapshot(events.table()).await
    }

    /// Takes over what was written for [`Self::base`].
    pub async fn take(&self, events: &EventsTable, base: Arc<Snapshot>, part: Part) -> Result<Appended> {
        let mut written = self.inner.written.lock().await;
        let refused = match written.has_moved(&part) {
            true => Err(Error::invalid_input("the transaction has loaded the same before")),
            false => written.check_target(events),
        };
        if let Err(e) = refused {
            part.discard().await;
            return Err(e);
        }
        if written.table.is_none() {
            written.table = Some(Target { events: events.share(), base, begun: Instant::now() });
        }
        let appended = Appended { rows: part.divided.rows(), late: part.divided.late_rows() };
        written.parts.push(part);
        self.show(&written);
        Ok(appended)
    }

    /// Has the statements that follow see what is written.
    pub async fn flush(&self) -> Result<()> {
        let mut written = self.inner.written.lock().await;
        self.close(&mut written).await
    }

    async fn close(&self, written: &mut Written) -> Result<()> {
        if let Some(writer) = written.open.take() {
            let failed = std::mem::replace(&mut written.failed, true);
            written.parts.push(writer.finish().await?.into());
            written.failed = failed;
            self.show(written);
        }
        Ok(())
    }

    /// Pins the table with what is written.
    fn show(&self, written: &Written) {
        let Some(target) = &written.table else { return };
        let mut shown = target.base.as_ref().clone();
        for add in written.parts.iter().flat_map(|part| part.divided.in_time()) {
            let file = Arc::new(File::new(add.clone()));
            shown.files.insert(add.path.as_str().into(), Arc::clone(&file));
            shown.staged.push(file);
        }
        self.inner.pins.replace(target.events.table().name(), Arc::new(shown));
    }

    /// Remembers what is written so far.
    pub async fn savepoint(&self, name: &str) -> Result<()> {
        let mut written = self.inner.written.lock().await;
        self.close(&mut written).await?;
        written.check()?;
        let parts = written.parts.len();
        written.savepoints.push((name.to_owned(), parts));
        Ok(())
    }

    /// Forgets a savepoint, and those after it.
    pub async fn release(&self, name: &str) -> Result<()> {
        let mut written = self.inner.written.lock().await;
        let (place, _) = written.find(name)?;
        written.savepoints.truncate(place);
        Ok(())
    }

    /// Takes back what was written since a savepoint, and what has failed since.
    pub async fn rollback_to(&self, name: &str) -> Result<()> {
        let mut written = self.inner.written.lock().await;
        let (place, parts) = written.find(name)?;
        written.savepoints.truncate(place + 1);
        written.failed = false;
        let (open, undone) = (written.open.take(), written.parts.split_off(parts));
        self.show(&written);
        if written.parts.is_empty() {
            written.table = None;
        }
        drop(written);
        discard(open, undone).await;
        Ok(())
    }

    /// Commits what was written, in one commit; none if that is nothing. On an error nothing is stored, unless the store did
    /// not say.
    pub async fn commit(&self, interrupt: &Interrupt) -> Result<Option<Appended>> {
        let mut written = self.inner.written.lock().await;
        let closed = self.close(&mut written).await;
        let whole = closed.and(written.check());
        let Written { table, parts, .. } = std::mem::take(&mut *written);
        let Some(target) = table else { return Ok(None) };
        let may = async {
            whole?;
            for part in &parts {
                part.divided.check_there(target.begun).await?;
            }
            interrupt.commit()
        };
        let done = match may.await {
            Ok(()) => commit(&target.events, &target.base, parts).await,
            Err(e) => {
                discard(None, parts).await;
                Err(e)
            }
        };
        done.map(Some).map_err(|e| e.context(format!("table '{}'", target.events.table().name())))
    }

    /// Takes back what was written.
    pub async fn rollback(&self) {
        let written = std::mem::take(&mut *self.inner.written.lock().await);
        discard(written.open, written.parts).await;
    }
}

/// Removes files that no commit names.
async fn discard(open: Option<EventWriter>, parts: Vec<Part>) {
    if let Some(writer) = open {
        writer.abandon().await;
    }
    for part in parts {
        part.discard().await;
    }
}

impl Written {
    /// Refuses to go on with a part of what was written.
    fn check(&self) -> Result<()> {
        match self.failed {
            true => {
                Err(Error::conflict("a statement of the transaction has failed, so nothing of it is stored"))
            }
            false => Ok(()),
        }
    }

    /// Whether a part moves a position that another one moves too.
    fn has_moved(&self, part: &Part) -> bool {
        let mut moved = self.parts.iter().flat_map(|part| &part.besides.positions);
        moved.any(|one| part.besides.positions.iter().any(|other| one.app == other.app))
    }

    /// Refuses a second table.
    fn check_target(&self, events: &EventsTable) -> Result<()> {
        let name = events.table().name();
        match self.table.as_ref().map(|target| target.events.table().name()).filter(|first| *first != name) {
            None => Ok(()),
            Some(first) => Err(Error::not_supported(format!(
                "a transaction writes one table: this one has written '{first}' and cannot write '{name}'"
            ))
            .with_hint("COMMIT in between, or write each table in a transaction of its own")),
        }
    }

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
        let Written { open, parts, .. } = std::mem::take(self.written.get_mut());
        if open.is_none() && parts.is_empty() {
            return;
        }
        // Without a runtime the files stay, and vacuum removes them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(open, parts));
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("pins", &self.pins).finish_non_exhaustive()
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
