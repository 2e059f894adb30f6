//! `CALL replay_dead_letters('t')`: dead letters of a table go the way of all input once more.
//!
//! Those that are chosen are decoded, mapped and cast as lines of a file are. One commit of the dead letters takes out what has
//! become rows and names the files that these are in; a follower adds the files to the table, each once
//! ([`replayed`](crate::catalog::outbox::Route::Replayed)). Between the two the rows are in neither, and whatever dies there, the
//! next follower finds them. What is bad again stays, with the reason that it is bad for now.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray, UInt32Array};
use datafusion::arrow::compute::{take, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use futures::TryStreamExt;
use serde_json::{Map, Value};

use super::csv::CsvDecoder;
use super::decode::{BadLine, TextDecoder, Wanted};
use super::lines::{RawChunk, Span};
use super::map::{Given, Mapped, Mapper};
use super::ndjson::NdjsonDecoder;
use super::whence::Whence;
use crate::catalog::events::EventsTable;
use crate::catalog::outbox::Route;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::provider::Files;
use crate::lake::range::TimeRanges;
use crate::lake::scan::Scan;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::table::Table;
use crate::lake::writer::{FileWriter, discard};

/// Times that the work is planned again after losing to another writer.
const TRIES: usize = 20;

/// Which letters are sent again, and how they are read.
#[derive(Debug, Clone)]
pub struct Replay {
    /// When they came: from this instant on, in microseconds,
    pub from: i64,
    /// and before this one.
    pub to: i64,
    /// A pattern of LIKE for the reason.
    pub reason: Option<String>,
    /// What the payload is.
    pub format: Format,
    /// One SELECT over `input` that makes the table's rows; without it columns are matched by name.
    pub transform: Option<String>,
}

/// What a payload is.
#[derive(Debug, Clone)]
pub enum Format {
    /// An object.
    Json,
    /// A record.
    Csv {
        /// The header line, which is no part of it.
        header: String,
        /// What separates fields: one byte of ASCII.
        delimiter: u8,
    },
}

/// What became of the letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Those that are rows now, of the table or its late table.
    pub replayed: u64,
    /// Those that the transform's WHERE left out.
    pub filtered: u64,
    /// Those that stay.
    pub still_bad: u64,
}

/// Sends letters of a table again.
pub async fn replay(
    warehouse: &Arc<Warehouse>,
    events: &Arc<EventsTable>,
    replay: &Replay,
    state: &SessionState,
) -> Result<Replayed> {
    let name = events.table().name();
    if let Some(of) = events.late_of() {
        return Err(Error::wrong_object_type(format!("'{name}' has the late rows of '{}'", of.name()))
            .with_hint(format!("replay_dead_letters('{}') sends late ones there", of.name())));
    }
    let letters = warehouse.dead_letters().table().await?;
    let work = Work { events, letters, replay, state };
    let mut lost = None;
    for _ in 0..TRIES {
        Route::DeadLetters.follow(events.table(), letters).await?;
        match work.attempt().await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            done => {
                let done = done.map_err(|e| e.context(format!("dead letters of '{name}'")))?;
                // Also what an earlier call left on its way.
                warehouse.catch_up(events.table()).await?;
                return Ok(done);
            }
        }
    }
    Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
}

struct Work<'a> {
    events: &'a EventsTable,
    letters: &'a Table,
    replay: &'a Replay,
    state: &'a SessionState,
}

/// What is written for the commit.
struct Written {
    rows: FileWriter,
    stay: FileWriter,
    done: Replayed,
    /// Whether anything is different from before.
    news: bool,
}

impl Work<'_> {
    async fn attempt(&self) -> Result<Replayed> {
        let on = self.letters.update().await?;
        let into = self.events.table().update().await?;
        if into.schema != *self.events.stored() {
            return Err(Error::conflict("the table's columns were altered meanwhile, or it was made again"));
        }
        let route = Route::replayed(&into)?;
        let files = self.files(&on)?;
        let store = self.events.table().store();
        let mut written = Written {
            rows: FileWriter::new(store, Arc::clone(self.events.stored()), None),
            stay: FileWriter::new(self.letters.store(), Arc::clone(&on.schema), Some("carry")),
            done: Replayed::default(),
            news: false,
        };
        let result = self.write(&on, &files, &mut written).await;
        let Written { rows, stay, done, news } = written;
        if result.is_err() || !news {
            rows.abandon().await;
            stay.abandon().await;
            return result.map(|()| done);
        }
        let mut change = Change::new(CommitKind::Replace, "REPLAY", &on);
        change.refuses_alteration = true;
        change.ranges = Some([(self.replay.from, self.replay.to)].into_iter().collect::<TimeRanges>());
        change.removes = files;
        change.adds = stay.finish().await?;
        let named = rows.finish().await?;
        route.name_in(&mut change, &named);
        let committed = self.letters.commit(&change).await;
        if committed.as_ref().is_err_and(|e| e.kind() == Kind::Conflict) {
            discard(self.letters.store(), &change.adds).await;
            discard(store, &named).await;
        }
        committed.map(|_| done)
    }

    /// Which letters are chosen.
    fn chosen(&self) -> Expr {
        let column = |name: &str| col(Column::new_unqualified(name));
        let instant = |t| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into())), None);
        let chosen = column("table_name")
            .eq(lit(self.events.table().name()))
            .and(column("at").gt_eq(instant(self.replay.from)))
            .and(column("at").lt(instant(self.replay.to)));
        match &self.replay.reason {
            Some(pattern) => chosen.and(column("reason").like(lit(pattern.as_str()))),
            None => chosen,
        }
    }

    /// Files that may have some of them.
    fn files(&self, on: &Snapshot) -> Result<Vec<Arc<File>>> {
        let files = on.files.values().cloned().collect();
        let filters = [self.chosen()];
        let store = self.letters.store();
        Scan { store, schema: &on.schema, files, projection: None, filters: &filters, limit: None }
            .matching(self.state)
    }

    async fn write(&self, on: &Snapshot, files: &[Arc<File>], written: &mut Written) -> Result<()> {
        let mut chosen = self.read(on, files, self.chosen()).await?;
        while let Some(letters) = chosen.try_next().await? {
            if letters.num_rows() > 0 {
                self.send(&letters, written).await?;
            }
        }
        if written.news {
            written.stay.write_all(self.read(on, files, self.chosen().is_not_true()).await?).await?;
        }
        Ok(())
    }

    async fn read(
        &self,
        on: &Snapshot,
        files: &[Arc<File>],
        filter: Expr,
    ) -> Result<SendableRecordBatchStream> {
        let files = Files::new(self.letters.store(), Arc::clone(&on.schema), files.to_vec());
        let plan = LogicalPlanBuilder::from(files.into_plan("letters")?).filter(filter)?.build()?;
        let physical = self.state.create_physical_plan(&plan).await?;
        Ok(datafusion::physical_plan::execute_stream(physical, self.state.task_ctx())?)
    }

    /// Sends some letters: each is a row now, left out, or stays.
    async fn send(&self, letters: &RecordBatch, written: &mut Written) -> Result<()> {
        let Mapped { rows, bad } = self.rows(letters).await?;
        written.rows.write(&rows.batch).await?;
        let (all, replayed) = (letters.num_rows() as u64, rows.batch.num_rows() as u64);
        let still_bad = bad.len() as u64;
        written.done.replayed += replayed;
        written.done.filtered += all - replayed - still_bad;
        written.done.still_bad += still_bad;
        let stays =
            take_record_batch(letters, &UInt32Array::from_iter_values(bad.iter().map(|b| b.line as u32)))?;
        let reasons = StringViewArray::from_iter_values(bad.iter().map(|b| &b.reason));
        let index = letters.schema_ref().index_of("reason")?;
        written.news |= still_bad < all || stays.column(index).as_string_view() != &reasons;
        let mut columns = stays.columns().to_vec();
        columns[index] = Arc::new(reasons);
        written.stay.write(&RecordBatch::try_new(letters.schema(), columns)?).await
    }

    /// Rows of the table, and the numbers of letters that are none.
    async fn rows(&self, letters: &RecordBatch) -> Result<Mapped> {
        let payloads = text(letters, "payload")?;
        let mut raw = RawChunk { bytes: vec![], spans: vec![], bad: vec![], position: 0 };
        let (wanted, table) = (self.replay.transform.is_some(), self.events.schema());
        if let Format::Csv { header, .. } = &self.replay.format {
            raw.bytes.extend_from_slice(header.as_bytes());
            raw.spans.push(Span { range: 0..raw.bytes.len(), line: -1 });
        }
        for (row, payload) in payloads.iter().enumerate() {
            let why = match payload {
                None => "the payload was not kept",
                Some(payload) if payload.trim().is_empty() => "the payload is empty",
                Some(payload) => {
                    let from = raw.bytes.len();
                    raw.bytes.extend_from_slice(payload.as_bytes());
                    raw.spans.push(Span { range: from..raw.bytes.len(), line: row as i64 });
                    continue;
                }
            };
            raw.bad.push(BadLine { line: row as i64, reason: why.to_owned(), payload: None });
        }
        let mut decoder: Box<dyn TextDecoder> = match &self.replay.format {
            Format::Csv { delimiter, .. } => Box::new(CsvDecoder::new(&mut raw, *delimiter)?),
            Format::Json if wanted => Box::new(NdjsonDecoder::new(&raw, Wanted::Input).map_err(choose)?),
            Format::Json => {
                let first = known_keys(payloads, &table)?;
                Box::new(NdjsonDecoder::new(&first, Wanted::Columns(table))?)
            }
        };
        let mut chunk = decoder.decode(raw)?;
        let given = Given {
            who: "the payload",
            schema: decoder.schema(),
            typed: decoder.typed(),
            origin: Whence::fields(),
        };
        let transform = self.replay.transform.as_deref();
        let mapper = Mapper::new(self.events, given, transform, self.state).await.map_err(choose)?;
        let mut origin: Vec<ArrayRef> = vec![];
        if wanted {
            let numbers = UInt32Array::from_iter_values(chunk.lines.iter().map(|line| *line as u32));
            for name in ["source", "position"] {
                let column = letters.column_by_name(name).ok_or_else(|| missing(name))?;
                origin.push(take(column, &numbers, None)?);
            }
        }
        mapper.map(&mut chunk, &origin)
    }
}

/// Nothing was changed where letters cannot be read together.
fn choose(e: Error) -> Error {
    e.with_hint("nothing was changed; choose letters that are alike by from, to and reason")
}

fn missing(column: &str) -> Error {
    Error::corrupt(format!("dead letters have no column '{column}'"))
}

fn text<'a>(letters: &'a RecordBatch, column: &str) -> Result<&'a StringViewArray> {
    let found = letters.column_by_name(column).and_then(|c| c.as_string_view_opt());
    found.ok_or_else(|| missing(column))
}

/// An object with the keys of payloads that are columns of the table, one for each column. A letter with another key is bad by
/// itself, and not all of them.
fn known_keys(payloads: &StringViewArray, table: &SchemaRef) -> Result<RawChunk> {
    let mut of_column: Vec<Option<String>> = vec![None; table.fields().len()];
    for payload in payloads.iter().flatten() {
        let Ok(Value::Object(object)) = serde_json::from_str(payload) else { continue };
        for (key, _) in object {
            let same = |name: &String| name.eq_ignore_ascii_case(&key);
            let Some(place) = table.fields().iter().position(|f| same(f.name())) else { continue };
            if of_column[place].is_none() || key == *table.field(place).name() {
                of_column[place] = Some(key);
            }
        }
    }
    let keys: Map<String, Value> = of_column.into_iter().flatten().map(|key| (key, Value::Null)).collect();
    let bytes = Value::Object(keys).to_string().into_bytes();
    let spans = vec![Span { range: 0..bytes.len(), line: 0 }];
    Ok(RawChunk { bytes, spans, bad: vec![], position: 0 })
}
