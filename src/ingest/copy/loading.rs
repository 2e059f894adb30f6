//! One load: records into rows of the table, and all of them into one commit.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::super::cast::sql_name;
use super::super::decode::BadLine;
use super::super::outbox::Outbox;
use super::binary;
use super::chunk::{Chunk, Problem};
use super::fields::Fields;
use super::format::{FormatKind, Header};
use super::records::{Next, Records};
use super::{Load, Loaded};
use crate::catalog::events::{Appended, Besides, EventsTable, Part, TimeCheck, commit};
use crate::catalog::late::EventWriter;
use crate::catalog::transaction::Transaction;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::LedgerEntry;
use crate::lake::committer::Position;
use crate::lake::snapshot::Snapshot;

/// Rows that are handled together, and bytes of them.
const CHUNK_ROWS: usize = 8 << 10;
const CHUNK_BYTES: usize = 4 << 20;

/// A load that is under way.
pub(super) struct Loading {
    warehouse: Arc<Warehouse>,
    events: Arc<EventsTable>,
    transaction: Option<Transaction>,
    load: Load,
    check: TimeCheck,
    records: Records,
    fields: Fields,
    chunk: Chunk,
    planned: Arc<Snapshot>,
    rows: EventWriter,
    dead: Outbox,
    /// Rows read and rows that were bad.
    read: u64,
    bad: u64,
    header: bool,
    ended: bool,
    /// What an earlier load with the key has stored.
    before: Option<u64>,
}

impl Loading {
    /// Begins a load.
    pub(super) async fn begin(
        warehouse: &Arc<Warehouse>,
        events: Arc<EventsTable>,
        transaction: Option<Transaction>,
        load: Load,
    ) -> Result<Self> {
        let schema = events.stored();
        let missing = schema.fields().iter().enumerate();
        let mut missing = missing.filter(|(i, f)| !f.is_nullable() && !load.columns.contains(i));
        if let Some((_, field)) = missing.next() {
            return Err(Error::not_null(format!(
                "column '{}' may not be NULL, and the columns to copy leave it out",
                field.name()
            )));
        }
        let unknown = load.columns.iter().map(|i| schema.field(*i));
        let mut unknown = unknown.filter(|field| !binary::is_known(field.data_type()));
        if let (FormatKind::Binary, Some(field)) = (load.format.kind, unknown.next()) {
            return Err(Error::not_supported(format!(
                "COPY … FROM in binary is not possible for column '{}' of {}",
                field.name(),
                sql_name(field.data_type())
            ))
            .with_hint("send text or csv"));
        }
        let planned = match &transaction {
            Some(transaction) => transaction.base(&events).await?,
            None => events.table().update().await?,
        };
        let before = load.position(&planned).and_then(|p| planned.position(&p.app));
        let letters = warehouse.dead_letters();
        Ok(Loading {
            warehouse: Arc::clone(warehouse),
            check: TimeCheck::new(events.options(), schema),
            records: Records::new(&load.format),
            fields: Fields::new(load.format.clone()),
            chunk: Chunk::new(&load),
            dead: Outbox::new(letters, events.table().name(), &load.source(), None),
            rows: EventWriter::new(&events, &planned),
            planned,
            read: 0,
            bad: 0,
            header: load.format.header != Header::None,
            ended: false,
            before: before.map(|rows| rows.max(0) as u64),
            transaction,
            events,
            load,
        })
    }

    /// Takes bytes. After an error it can only be abandoned.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.ended || self.before.is_some() {
            // Behind the end, or a load that is there already: the client sends it all the same.
            return Ok(());
        }
        self.records.push(bytes);
        self.read_rows().await
    }

    /// No more bytes will come: commits.
    pub(super) async fn finish(mut self) -> Result<Loaded> {
        let done = match self.before {
            Some(_) => Ok(()),
            None => {
                self.records.end();
                match self.read_rows().await {
                    Ok(()) => self.flush().await,
                    Err(e) => Err(e),
                }
            }
        };
        match (done, self.before) {
            (Ok(()), None) => self.commit().await,
            (done, before) => {
                self.abandon().await;
                done.map(|()| Loaded { before, ..Default::default() })
            }
        }
    }

    /// Gives up, and leaves nothing behind.
    pub(super) async fn abandon(self) {
        self.rows.abandon().await;
        self.dead.abandon().await;
    }

    /// Reads the records that are there.
    async fn read_rows(&mut self) -> Result<()> {
        while !self.ended {
            match self.next() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => {
                    // What is wrong in rows before it comes first.
                    let line = self.records.line();
                    self.flush().await?;
                    if e.place().is_some() {
                        return Err(e);
                    }
                    let name = self.events.table().name();
                    return Err(e.with_place(format!("COPY {name}, line {line}")));
                }
            }
            if self.chunk.rows() >= CHUNK_ROWS || self.chunk.bytes() >= CHUNK_BYTES || self.stops() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// A row that cannot be read has been found, and that is the end of it.
    fn stops(&self) -> bool {
        !self.load.ignore_errors && self.chunk.has_bad()
    }

    /// Reads a record; says whether there was one.
    fn next(&mut self) -> Result<bool> {
        let (range, line) = match self.records.next()? {
            Next::Record(range, line) => (range, line),
            Next::More => return Ok(false),
            Next::End => {
                self.ended = true;
                return Ok(false);
            }
        };
        let record = &self.records.bytes()[range];
        let read = self.fields.read(record);
        if std::mem::take(&mut self.header) {
            let checked = read.and_then(|()| match self.load.format.header {
                Header::Match => check_header(&self.fields, record, &self.load.columns, self.events.stored()),
                _ => Ok(()),
            });
            let name = self.events.table().name();
            return checked.map(|()| true).map_err(|e| e.with_place(format!("COPY {name}, line {line}")));
        }
        self.read += 1;
        let names = |i: usize| self.events.stored().field(self.load.columns[i]).name().as_str();
        self.chunk.add(record, line, read.map(|()| &self.fields), &names);
        Ok(true)
    }

    /// Writes the rows that were read.
    async fn flush(&mut self) -> Result<()> {
        let schema = self.events.stored();
        let (batch, problems) = self.chunk.take(schema, &self.load, &self.check)?;
        if let (Some(first), false) = (problems.first(), self.load.ignore_errors) {
            return Err(first.error(self.events.table().name()));
        }
        self.bad += problems.len() as u64;
        let letters: Vec<BadLine> = problems.into_iter().map(Problem::into_letter).collect();
        self.dead.write(&letters).await?;
        self.rows.write(&batch).await
    }

    async fn commit(self) -> Result<Loaded> {
        let Loading { warehouse, events, transaction, load, planned, rows, dead, read, bad, .. } = self;
        let key = load.position(&planned);
        let app = key.as_ref().map(|position| position.app.clone());
        let besides = Besides {
            // A load with the key finds there how many rows this one had.
            positions: key.into_iter().map(|key| Position { to: (read - bad) as i64, ..key }).collect(),
            dead: Some((warehouse.dead_letters().store().clone(), dead.finish().await?)),
            ledger: Some(LedgerEntry {
                source: load.source(),
                from: 0,
                to: read as i64,
                consumed: read,
                dead: bad,
                ..Default::default()
            }),
        };
        let part = Part { divided: rows.finish().await?, besides };
        let loaded =
            |appended: Appended| Loaded { rows: appended.rows, late: appended.late, dead: bad, before: None };
        if let Some(transaction) = transaction {
            return transaction.take(&events, planned, part).await.map(loaded);
        }
        match commit(&events, &planned, vec![part]).await {
            Ok(appended) => {
                if bad > 0
                    && let Err(e) = warehouse.follow(events.table()).await
                {
                    // They are visible by the commit; whoever follows next adds them.
                    tracing::warn!(table = events.table().name(), error = %e, "could not add dead letters to their table yet");
                }
                Ok(loaded(appended))
            }
            Err(e) => {
                let now = events.table().snapshot();
                match app.and_then(|app| now.position(&app)).filter(|_| e.kind() == Kind::Conflict) {
                    Some(rows) => Ok(Loaded { before: Some(rows.max(0) as u64), ..Default::default() }),
                    None => Err(e.context(format!("table '{}'", events.table().name()))),
                }
            }
        }
    }
}

impl Load {
    /// What dead letters and the ledger call it.
    fn source(&self) -> String {
        match &self.key {
            Some(key) => format!("copy:{key}"),
            None => "copy".to_owned(),
        }
    }

    /// The position that a load with a key moves.
    fn position(&self, on: &Snapshot) -> Option<Position> {
        let table = &on.metadata.id;
        let key = self.key.as_ref()?;
        Some(Position { app: format!("toplake.copy:{table}:{key}"), from: None, to: 0 })
    }
}

/// Refuses other names than those of the columns.
fn check_header(fields: &Fields, record: &[u8], columns: &[usize], schema: &SchemaRef) -> Result<()> {
    if fields.len() != columns.len() {
        return Err(Error::new(
            Kind::BadCopyFormat,
            format!(
                "wrong number of fields in header line: got {}, expected {}",
                fields.len(),
                columns.len()
            ),
        ));
    }
    for (i, (name, column)) in fields.values(record).zip(columns).enumerate() {
        let (name, expected) = (name?, schema.field(*column).name());
        if name != Some(expected.as_str()) {
            let got = name.map_or_else(|| "a null value".to_owned(), |name| format!("\"{name}\""));
            return Err(Error::new(
                Kind::BadCopyFormat,
                format!(
                    "column name mismatch in header line field {}: got {got}, expected \"{expected}\"",
                    i + 1
                ),
            ));
        }
    }
    Ok(())
}
