//! Rows into commits, each of which says how far its file is consumed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;

use super::breaker::Breaker;
use super::decode::{self, Decoding, Plan, Wanted};
use super::files::InputFile;
use super::lines::CHUNK_ROWS;
use super::map::{Given, Mapper};
use super::outbox::Outbox;
use super::progress::Progress;
use super::whence::Whence;
use super::{Options, Summary};
use crate::catalog::events::EventsTable;
use crate::catalog::late::{Divided, EventWriter};
use crate::catalog::outbox::Route;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, LedgerEntry};
use crate::lake::committer::{Change, Position};
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;
use crate::lake::writer::discard;
use crate::session::Engine;

/// Times in a row that a file is begun again although it is where it was.
const TRIES: usize = 20;

/// Least rows of a chunk; a commit has at least that many.
const LEAST_ROWS: usize = 1000;

/// What a file's position is once it is consumed whole.
const COMPLETE: i64 = i64::MAX;

/// How far a table has consumed a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    app: String,
    size_app: String,
    position: Option<i64>,
    size: Option<i64>,
}

impl Stands {
    /// Looks it up; fails if the file has another size than the one whose lines were consumed.
    pub(super) fn of(snapshot: &Snapshot, file: &InputFile) -> Result<Self> {
        let app = format!("toplake.file:{}:{}", snapshot.metadata.id, file.url);
        let size_app = format!("{app}#size");
        let stands =
            Stands { position: snapshot.position(&app), size: snapshot.position(&size_app), app, size_app };
        match stands.size {
            Some(size) if size != file.size as i64 => Err(Error::invalid_input(format!(
                "the file has {} bytes now and had {size} when its lines were ingested",
                file.size
            ))
            .with_hint(
                "a file may not change once it was begun: put what is new into a file of another name",
            )),
            _ => Ok(stands),
        }
    }

    pub(super) fn complete(&self) -> bool {
        self.position == Some(COMPLETE)
    }

    /// What a commit moves that consumes the file up to `to`.
    fn moves(&self, file: &InputFile, to: i64) -> Vec<Position> {
        let mut moves = vec![Position { app: self.app.clone(), from: self.position, to }];
        if self.size.is_none() {
            moves.push(Position { app: self.size_app.clone(), from: None, to: file.size as i64 });
        }
        moves
    }
}

/// One run.
pub(super) struct Load<'a> {
    pub(super) engine: &'a Engine,
    pub(super) table: &'a str,
    pub(super) options: &'a Options,
    pub(super) session: SessionState,
    pub(super) breaker: Breaker,
    pub(super) progress: &'a mut Progress,
    pub(super) summary: Summary,
}

/// What is written for the next commit.
struct Segment {
    rows: EventWriter,
    dead: Outbox,
    lines: u64,
    dead_lines: u64,
    /// Lines of the file up to its end.
    through: i64,
    /// Bytes that were read when it began.
    begun_at: u64,
}

impl Segment {
    async fn abandon(self) {
        self.rows.abandon().await;
        self.dead.abandon().await;
    }
}

/// One attempt at a file: everything was planned on these metadata.
struct Attempt<'a> {
    file: &'a InputFile,
    events: Arc<EventsTable>,
    /// The newest version that was looked at; its metadata are those of the plan.
    planned: Arc<Snapshot>,
    stands: Stands,
}

impl Load<'_> {
    /// The table as it is now.
    pub(super) async fn events(&self) -> Result<Arc<EventsTable>> {
        match self.engine.warehouse().require(self.table).await? {
            Object::Table(events) => Ok(events),
            other => {
                let what = format!("'{}' is a {}, not a table", self.table, other.kind().sql_name());
                Err(Error::wrong_object_type(what))
            }
        }
    }

    /// Ingests what is left of a file. Another process may take part of it meanwhile, and the table may change: then it
    /// goes on from where the file stands now.
    pub(super) async fn file(&mut self, file: &InputFile) -> Result<()> {
        let (mut tries, mut begun_at, mut counted) = (0, None, false);
        let before = self.progress.read().load(Ordering::Relaxed);
        loop {
            let events = self.events().await?;
            let planned = events.table().snapshot();
            let stands = Stands::of(&planned, file)?;
            if stands.complete() {
                self.summary.skipped += u64::from(!counted);
                return Ok(());
            }
            if !std::mem::replace(&mut counted, true) {
                self.summary.files += 1;
            }
            tries = if begun_at == Some(stands.position) { tries + 1 } else { 0 };
            begun_at = Some(stands.position);
            self.progress.file(&file.url, before);
            match self.attempt(Attempt { file, events, planned, stands }).await {
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => self.breaker.revert(),
                done => return done,
            }
        }
    }

    async fn attempt(&mut self, mut attempt: Attempt<'_>) -> Result<()> {
        let from = attempt.stands.position.unwrap_or(0);
        let wanted = match &self.options.transform {
            Some(_) => Wanted::Input,
            None => Wanted::Columns(attempt.events.schema()),
        };
        // Small commits need small chunks, though not so small that types cannot be inferred from the first one.
        let rows =
            usize::try_from(self.options.commit_lines).unwrap_or(CHUNK_ROWS).clamp(LEAST_ROWS, CHUNK_ROWS);
        let plan = Plan { wanted, from, rows, read: self.progress.read() };
        let decoding = decode::open(attempt.file, plan).await?;
        let mut segment = self.segment(&attempt);
        let done = match decoding {
            Some(decoding) => self.rows(&mut attempt, decoding, &mut segment).await,
            None => Ok(()),
        };
        match done.and_then(|()| self.breaker.end()) {
            Ok(()) => self.commit(&mut attempt, segment, COMPLETE).await,
            Err(e) => {
                segment.abandon().await;
                Err(e)
            }
        }
    }

    /// Reads the file to its end. What is not committed yet then is in `segment`.
    async fn rows(
        &mut self,
        attempt: &mut Attempt<'_>,
        mut decoding: Decoding,
        segment: &mut Segment,
    ) -> Result<()> {
        let (url, transform) = (attempt.file.url.as_str(), self.options.transform.as_deref());
        let mut whence = Whence::new(url);
        let given = Given {
            who: "the file",
            schema: &decoding.schema,
            typed: &decoding.typed,
            origin: Whence::fields(),
        };
        let mapper = Mapper::new(&attempt.events, given, transform, &self.session).await?;
        while let Some(chunk) = decoding.chunks.recv().await {
            let mut chunk = chunk?;
            let lines = chunk.len();
            if segment.lines == 0 {
                // What was passed over to get here is none of its bytes.
                segment.begun_at = self.progress.read().load(Ordering::Relaxed);
            }
            let origin = if transform.is_some() { whence.of(&chunk.lines) } else { vec![] };
            let mapped = mapper.map(&mut chunk, &origin)?;
            self.breaker.count(lines, &mapped.bad)?;
            segment.rows.write(&mapped.rows.batch).await?;
            segment.dead.write(&mapped.bad).await?;
            segment.lines += lines as u64;
            segment.dead_lines += mapped.bad.len() as u64;
            segment.through = chunk.position;
            self.progress.rows(mapped.rows.batch.num_rows() as u64);
            let bytes = self.progress.read().load(Ordering::Relaxed).saturating_sub(segment.begun_at);
            if segment.lines >= self.options.commit_lines || bytes >= self.options.commit_bytes {
                let full = std::mem::replace(segment, self.segment(attempt));
                self.commit(attempt, full, chunk.position).await?;
            }
        }
        Ok(())
    }

    fn segment(&self, attempt: &Attempt<'_>) -> Segment {
        let table = attempt.events.table();
        let letters = self.engine.warehouse().dead_letters();
        Segment {
            rows: EventWriter::new(&attempt.events, &attempt.planned),
            dead: Outbox::new(letters, table.name(), &attempt.file.url, None),
            lines: 0,
            dead_lines: 0,
            through: 0,
            begun_at: 0,
        }
    }

    /// Commits a segment, which consumes the file up to `to`. On a conflict nothing of it is left.
    async fn commit(&mut self, attempt: &mut Attempt<'_>, segment: Segment, to: i64) -> Result<()> {
        let Segment { rows, dead, lines, dead_lines, through, .. } = segment;
        let consumed = LedgerEntry {
            source: attempt.file.url.clone(),
            from: attempt.stands.position.unwrap_or(0),
            to: through,
            consumed: lines,
            dead: dead_lines,
            ..Default::default()
        };
        let mut change = Change::new(CommitKind::Append, "INGEST", &attempt.planned);
        let mut divided = rows.finish().await?;
        let dead = dead.finish().await?;
        Route::DeadLetters.name_in(&mut change, &dead);
        let table = Arc::clone(attempt.events.table());
        let committed = commit(&table, attempt, &mut change, &mut divided, consumed, to).await;
        match committed {
            Ok(entry) => {
                self.breaker.settle();
                self.summary.commits += 1;
                self.summary.rows += entry.stored;
                self.summary.late += entry.late;
                self.summary.dead += entry.dead;
                self.summary.filtered += entry.filtered;
                Ok(())
            }
            Err(e) => {
                // After any other error the commit may have happened: its files stay.
                if e.kind() == Kind::Conflict {
                    divided.discard().await;
                    discard(self.engine.warehouse().dead_letters().store(), &dead).await;
                }
                Err(e)
            }
        }
    }
}

/// Commits what a segment consumed; gives what became of it. That the watermark has passed some of the rows meanwhile is no reason to read the file again.
async fn commit(
    table: &Table,
    attempt: &mut Attempt<'_>,
    change: &mut Change,
    divided: &mut Divided,
    mut entry: LedgerEntry,
    to: i64,
) -> Result<LedgerEntry> {
    let mut now = table.snapshot();
    for _ in 0..TRIES {
        if now.metadata != attempt.planned.metadata || Stands::of(&now, attempt.file)? != attempt.stands {
            return Err(Error::conflict(format!(
                "table '{}' has changed, or the file was read on",
                table.name()
            )));
        }
        divided.plan(change, &now).await?;
        (entry.stored, entry.late) = (divided.rows(), divided.late_rows());
        entry.filtered = entry.consumed.saturating_sub(entry.dead + entry.stored + entry.late);
        change.ledger = if entry.consumed > 0 { vec![entry.clone()] } else { vec![] };
        change.positions = attempt.stands.moves(attempt.file, to);
        attempt.planned = Arc::clone(&now);
        match table.commit(change).await {
            Ok(_) => {
                attempt.stands.position = Some(to);
                attempt.stands.size = Some(attempt.file.size as i64);
                return Ok(entry);
            }
            Err(e) if e.kind() == Kind::Conflict => now = table.update().await?,
            Err(e) => return Err(e),
        }
    }
    Err(Error::conflict(format!("table '{}': other writers keep winning", table.name())))
}
