//! The simple query protocol: a string of statements, answered in text.

use datafusion::execution::SendableRecordBatchStream;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::response::EmptyQueryResponse;

use super::answers::{Answer, Statements};
use super::command::Command;
use super::encode::{Formats, description};
use super::error::{Failure, Stop};
use super::session::{Core, Running, Statement};
use super::{Outcome, Part, Stamp};
use crate::ingest::copy::CopyIn;
use crate::statement::split::split;

impl Core {
    /// The statements of a query string and the characters in front of each. All are parsed before the first is run,
    /// so that a typing error in the last does not leave half of them done.
    pub(super) fn begin_query(&mut self, sql: &str) -> Result<Statements, Failure> {
        if let Some(known) = self.answers.statements(sql) {
            return Ok(known);
        }
        let pieces = split(sql);
        if pieces.is_empty() {
            self.writer.put(Backend::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        let statements = pieces.iter().map(|piece| Ok((self.parse(piece)?, piece.offset)));
        let statements = statements.collect::<Result<Statements, Failure>>()?;
        let reads = |(statement, _): &(Statement, usize)| match statement {
            Statement::Engine { parsed, .. } => self.connection.part(parsed) == Part::Reads,
            Statement::Own(_) => false,
        };
        // What writes hardly ever comes twice.
        if !statements.is_empty() && statements.iter().all(reads) {
            self.answers.read(sql, &statements);
        }
        Ok(statements)
    }

    /// The unnamed statement and portal do not outlive a simple query.
    pub(super) fn forget_unnamed(&mut self) {
        self.prepared.remove("");
        self.portals.remove("");
    }

    /// Answers a query with what was answered to it before.
    pub(super) async fn tell_again(&mut self, answer: &Answer) -> Result<(), Stop> {
        self.writer.put(description(Some(&answer.schema), &Formats::default()));
        self.repeat(answer).await
    }

    /// Runs a statement and sends all that it gives; gives a COPY back that waits for rows. The answer may be kept for `text`.
    pub(super) async fn simple(
        &mut self,
        statement: &Statement,
        text: Option<&str>,
    ) -> Result<Option<Box<CopyIn>>, Stop> {
        let formats = match statement {
            Statement::Own(Command::Fetch { name, .. }) => self.formats_of_cursor(name),
            _ => Formats::default(),
        };
        match self.execute(statement, &[]).await? {
            Outcome::Done { tag, rows, notice } => {
                self.notice(notice);
                self.complete(&tag, rows);
            }
            Outcome::Rows { tag, stream, stamp, notice } => {
                self.notice(notice);
                // An EXECUTE means what its session has prepared under the name.
                let text = text.filter(|_| statement.text().is_some());
                self.give_rows(tag, stream, stamp, formats, text).await?;
            }
            Outcome::CopyIn(copy) => return Ok(Some(copy)),
            Outcome::CopyOut { format, stream } => self.copy_out(&format, stream).await?,
        }
        Ok(None)
    }

    /// Says which columns there are and sends all rows. The answer may be kept for `text`.
    pub(super) async fn give_rows(
        &mut self,
        tag: String,
        stream: SendableRecordBatchStream,
        stamp: Option<Stamp>,
        formats: Formats,
        text: Option<&str>,
    ) -> Result<(), Stop> {
        let recording = text.and_then(|text| self.record(text, &[], &formats, stamp));
        let schema = stream.schema();
        self.writer.put(description(Some(&schema), &formats));
        let mut running = Running { tag, stream, schema, formats, recording };
        let sent = self.send_rows(&mut running).await?;
        self.end(running, sent);
        Ok(())
    }
}
