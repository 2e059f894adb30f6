//! What DECLARE, FETCH, MOVE and CLOSE do to a session.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::TransactionStatus;
use tokio::sync::Mutex;

use super::{Cursor, Direction};
use crate::pg::command::Declare;
use crate::pg::encode::Formats;
use crate::pg::error::{Failure, Stop, state};
use crate::pg::extended::no_portal;
use crate::pg::portals::{Life, Portal, State};
use crate::pg::prepared::Prepared;
use crate::pg::session::{Core, Running, Statement};
use crate::pg::{Outcome, Parsed};
use crate::statement::split::{Piece, words};

impl Core {
    /// Makes a cursor over a query.
    pub(in crate::pg) async fn declare(
        &mut self,
        declare: &Declare,
        values: &[ScalarValue],
    ) -> Result<Outcome, Failure> {
        let idle = self.transaction == TransactionStatus::Idle;
        if idle && !declare.hold && self.series.last {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Failure::new(state::NO_ACTIVE_TRANSACTION, message)
                .with_hint("begin a transaction, or declare it WITH HOLD"));
        }
        if self.portals.contains(&declare.name) {
            return Err(Failure::new("42P03", format!("cursor \"{}\" already exists", declare.name)));
        }
        let parsed = self.query_of(declare)?;
        let outcome = self.connection.execute(&parsed, values).await;
        let outcome = outcome.map_err(|e| Failure::from(e).offset_by(declare.offset))?;
        let Outcome::Rows { stream, .. } = outcome else { return Err(not_a_query(declare)) };
        let prepared = Prepared { statement: None, parameters: vec![], fields: Some(stream.schema()) };
        let cursor = Cursor::new(stream, declare.scroll, self.memory.as_ref());
        let life = match (declare.hold, idle) {
            (false, _) => Life::Transaction,
            (true, false) => Life::IfCommitted,
            (true, true) => Life::Session,
        };
        let portal = Portal {
            prepared: Arc::new(prepared),
            values: vec![],
            formats: Formats(if declare.binary { vec![1] } else { vec![] }),
            state: State::New,
            cursor: Some(Arc::new(Mutex::new(cursor))),
            life,
        };
        self.portals.insert(declare.name.clone(), portal);
        Ok(Outcome::done("DECLARE CURSOR"))
    }

    /// The query of a cursor.
    pub(in crate::pg) fn query_of(&self, declare: &Declare) -> Result<Parsed, Failure> {
        let reads = ["select", "with", "values", "table", "("];
        if !words(&declare.query).first().is_some_and(|first| reads.iter().any(|word| first.is(word))) {
            return Err(not_a_query(declare));
        }
        match self.parse(&Piece { text: &declare.query, offset: declare.offset })? {
            Statement::Engine { parsed, .. } => Ok(parsed),
            Statement::Own(_) => Err(not_a_query(declare)),
        }
    }

    /// Gives rows of a cursor, or counts them.
    pub(in crate::pg) async fn fetch(
        &mut self,
        name: &str,
        direction: Direction,
        moves: bool,
    ) -> Result<Outcome, Failure> {
        let cursor = self.cursor(name).await?;
        let stream = Cursor::fetch(&cursor, direction).await?;
        if !moves {
            return Ok(Outcome::Rows { tag: "FETCH".to_owned(), stream, stamp: None, notice: None });
        }
        let count = |count, batch: datafusion::arrow::array::RecordBatch| async move {
            Ok(count + batch.num_rows() as u64)
        };
        let rows = stream.try_fold(0, count).await?;
        Ok(Outcome::Done { tag: "MOVE".to_owned(), rows: Some(rows), notice: None })
    }

    /// Gives the next rows of a portal to an Execute message.
    pub(in crate::pg) async fn run_cursor(&mut self, name: &str, limit: usize) -> Result<(), Stop> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let Some(cursor) = portal.cursor.clone() else { return Err(no_portal(name).into()) };
        let formats = portal.formats.clone();
        let tag = match &portal.state {
            State::Ended(tag) => tag.clone(),
            State::New => "SELECT".to_owned(),
        };
        let told = portal.prepared.fields.clone();
        let count = (limit > 0).then_some(limit as u64);
        let stream = Cursor::fetch(&cursor, Direction::Forward(count)).await?;
        let schema = told.unwrap_or_else(|| stream.schema());
        let mut running = Running { tag, stream, schema, formats, recording: None };
        let sent = self.send_rows(&mut running).await?;
        match limit > 0 && sent == limit {
            true => self.writer.put(Backend::PortalSuspended(PortalSuspended::new())),
            false => self.end(running, sent),
        }
        self.deadline = None;
        Ok(())
    }

    /// How the rows of a FETCH of the simple protocol are given.
    pub(in crate::pg) fn formats_of_cursor(&self, name: &str) -> Formats {
        self.portals.get(name).map(|portal| portal.formats.clone()).unwrap_or_default()
    }

    pub(in crate::pg) fn close_cursor(&mut self, name: &str) -> Result<Outcome, Failure> {
        match self.portals.remove(name) {
            Some(_) => Ok(Outcome::done("CLOSE CURSOR")),
            None => Err(no_cursor(name)),
        }
    }

    /// The rows of a portal, which begins to run if it has not.
    async fn cursor(&mut self, name: &str) -> Result<Arc<Mutex<Cursor>>, Failure> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_cursor(name))?;
        if let Some(cursor) = &portal.cursor {
            return Ok(Arc::clone(cursor));
        }
        let gives_no_rows =
            || Failure::new(state::NOT_IN_STATE, format!("portal \"{name}\" has no rows to fetch"));
        let (State::New, Some(Statement::Engine { parsed, .. })) =
            (&portal.state, &portal.prepared.statement)
        else {
            return Err(gives_no_rows());
        };
        let (parsed, values) = (parsed.clone(), std::mem::take(&mut portal.values));
        portal.state = State::Ended(String::new());
        let Outcome::Rows { tag, stream, .. } = self.connection.execute(&parsed, &values).await? else {
            return Err(gives_no_rows());
        };
        self.keep_rows(name, tag, stream);
        self.portals.get(name).and_then(|portal| portal.cursor.clone()).ok_or_else(|| no_cursor(name))
    }
}

fn no_cursor(name: &str) -> Failure {
    Failure { message: format!("cursor \"{name}\" does not exist"), ..no_portal(name) }
}

fn not_a_query(declare: &Declare) -> Failure {
    Failure::new(state::SYNTAX, "a cursor is declared for a SELECT or VALUES").at(declare.offset + 1)
}
