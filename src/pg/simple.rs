//! The simple query protocol: a string of statements, answered in text.

use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::response::EmptyQueryResponse;

use super::Outcome;
use super::encode::{Formats, description};
use super::error::{Failure, Stop};
use super::session::{Core, Running, Statement};
use crate::statement::split::split;

impl Core {
    /// The statements of a query string and the characters in front of each. All are parsed before the first is run,
    /// so that a typing error in the last does not leave half of them done.
    pub(super) fn begin_query(&mut self, sql: &str) -> Result<Vec<(Statement, usize)>, Failure> {
        // The unnamed statement and portal do not outlive a simple query.
        self.prepared.remove("");
        self.portals.remove("");
        let pieces = split(sql);
        if pieces.is_empty() {
            self.writer.put(Backend::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        pieces.iter().map(|piece| Ok((self.parse(piece)?, piece.offset))).collect()
    }

    /// Runs a statement and sends all that it gives.
    pub(super) async fn simple(&mut self, statement: &Statement) -> Result<(), Stop> {
        match self.execute(statement, &[]).await? {
            Outcome::Done { tag, rows, notice } => {
                self.notice(notice);
                self.complete(&tag, rows);
            }
            Outcome::Rows { tag, stream } => {
                let schema = stream.schema();
                let formats = Formats::default();
                self.writer.put(description(Some(&schema), &formats));
                let mut running = Running { tag, stream, schema, formats, batch: None };
                let sent = self.send_rows(&mut running, 0).await?;
                self.complete(&running.tag, Some(sent.rows as u64));
            }
        }
        Ok(())
    }
}
