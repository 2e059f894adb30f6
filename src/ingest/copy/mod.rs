//! `COPY … FROM STDIN`: what a client sends, into a table, by one commit at the end.
//!
//! Bytes are cut into records and these into fields as they come in; some thousand rows at a time become columns of the table's
//! types and are written. The first row that does not fit ends it and nothing is left behind, or such rows go to
//! `toplake.dead_letters` by the same commit (`ON_ERROR 'ignore'`). A load with a key (`IDEMPOTENCY_KEY`) moves a position of the
//! table from nothing in its commit: of loads with one key one succeeds, whoever sends them and however often. In a transaction
//! the rows, the dead letters and the position wait for its commit.
//!
//! The work is a task of its own, so that reading from clients does not wait for it.
//!
//! | file | what |
//! | --- | --- |
//! | [`format`](mod@format) | how COPY writes rows, also for `COPY … TO` |
//! | `loading` | one load |
//! | `records`, `tuples` | bytes into records, of lines and in binary |
//! | `fields` | a record into fields |
//! | `chunk` | some thousand rows on their way |
//! | `values`, `literal` | columns of text into columns of the table |
//! | `binary` | columns of binary values into columns of the table |

mod binary;
mod chunk;
mod fields;
pub mod format;
mod loading;
mod records;
mod tuples;
mod values;

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::format::Format;
use self::loading::Loading;
use crate::catalog::events::EventsTable;
use crate::catalog::late;
use crate::catalog::transaction::Transaction;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Result};

/// Pieces that may wait to be taken.
const AHEAD: usize = 4;

/// What a load is.
#[derive(Debug, Clone)]
pub struct Load {
    /// How the rows are written.
    pub format: Format,
    /// Which column of the table each field is for.
    pub columns: Vec<usize>,
    /// Whether bad rows go to the dead letters.
    pub ignore_errors: bool,
    /// Loads of one key count once.
    pub key: Option<String>,
    /// The time zone of times that name none.
    pub zone: String,
}

/// What a load has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows stored.
    pub rows: u64,
    /// Rows that went to the late table.
    pub late: u64,
    /// Rows that went to the dead letters.
    pub dead: u64,
    /// Rows that another load with the same key has stored: this one has done nothing.
    pub before: Option<u64>,
}

impl Loaded {
    /// What the client should know besides the number of rows.
    fn notice(&self, table: &str, key: Option<&str>) -> Option<String> {
        let count = |n: u64| format!("{n} row{}", if n == 1 { "" } else { "s" });
        let mut notices = vec![];
        if let (Some(rows), Some(key)) = (self.before, key) {
            let rows = count(rows);
            notices
                .push(format!("idempotency_key '{key}' was loaded before ({rows}), and nothing was added"));
        }
        if self.dead > 0 {
            let went = if self.dead == 1 { "was bad and went" } else { "were bad and went" };
            notices.push(format!("{} {went} to toplake.dead_letters", count(self.dead)));
        }
        if self.late > 0 {
            notices.push(format!("{} came late and went to '{}'", count(self.late), late::name_of(table)));
        }
        (!notices.is_empty()).then(|| notices.join("; "))
    }
}

/// A load that is under way. Dropping it gives up, and leaves nothing behind.
pub struct CopyIn {
    pieces: mpsc::Sender<Piece>,
    task: Option<JoinHandle<Result<Loaded>>>,
    table: String,
    load: Load,
}

/// What the task is sent.
enum Piece {
    Bytes(Bytes),
    /// All is sent.
    End,
}

impl CopyIn {
    /// Begins a load, whose work is done on `threads`.
    pub async fn begin(
        warehouse: &Arc<Warehouse>,
        events: Arc<EventsTable>,
        transaction: Option<Transaction>,
        load: Load,
        threads: &Handle,
    ) -> Result<Self> {
        let table = events.table().name().to_owned();
        let loading = Loading::begin(warehouse, events, transaction, load.clone()).await?;
        let (pieces, receiver) = mpsc::channel(AHEAD);
        let task = Some(threads.spawn(run(loading, receiver)));
        Ok(CopyIn { pieces, task, table, load })
    }

    /// How the rows are written.
    pub fn format(&self) -> &Format {
        &self.load.format
    }

    /// How many fields a row has.
    pub fn width(&self) -> usize {
        self.load.columns.len()
    }

    /// Takes bytes. After an error nothing is left of the load.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self.pieces.send(Piece::Bytes(bytes)).await {
            Ok(()) => Ok(()),
            // Why it has ended, it says itself.
            Err(_) => self.outcome().await.map(|_| ()),
        }
    }

    /// No more bytes will come: commits. Gives what was done, and what the client should know besides the number of rows.
    pub async fn finish(mut self) -> Result<(Loaded, Option<String>)> {
        // A task that has ended says why.
        let _ = self.pieces.send(Piece::End).await;
        let loaded = self.outcome().await?;
        let notice = loaded.notice(&self.table, self.load.key.as_deref());
        Ok((loaded, notice))
    }

    /// Gives up, and waits until nothing is left behind.
    pub async fn abandon(mut self) {
        let task = self.task.take();
        drop(self);
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    async fn outcome(&mut self) -> Result<Loaded> {
        let Some(task) = &mut self.task else {
            return Err(Error::internal("a load was asked twice how it ended"));
        };
        let outcome = task.await;
        self.task = None;
        outcome.map_err(|e| Error::internal(format!("the load ended: {e}")))?
    }
}

/// Takes pieces up to the end, or until nobody sends any.
async fn run(mut loading: Loading, mut pieces: mpsc::Receiver<Piece>) -> Result<Loaded> {
    loop {
        match pieces.recv().await {
            Some(Piece::Bytes(bytes)) => {
                if let Err(e) = loading.write(&bytes).await {
                    loading.abandon().await;
                    return Err(e);
                }
            }
            Some(Piece::End) => return loading.finish().await,
            None => {
                loading.abandon().await;
                return Err(Error::cancelled("the rows did not come to their end"));
            }
        }
    }
}
