//! Statements that are sent together without BEGIN: the pipeline up to a Sync, the string of a simple query.
//!
//! A driver that inserts a thousand rows sends a thousand INSERTs and one Sync. They are one transaction, as in PostgreSQL:
//! one commit, which the answer to the Sync waits for, or an error and nothing. What commits by itself ends the transaction
//! before it, and so does an INSERT into another table.

use super::command::Command;
use super::error::Failure;
use super::session::{Core, Statement};
use super::{Part, Transaction};
use pgwire::messages::response::TransactionStatus;

/// A transaction that nobody began by a statement.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// The table that it writes, while it is open.
    table: Option<String>,
    /// Whether what runs now is known to be the last statement.
    pub(super) last: bool,
}

impl Series {
    /// Whether there is something to commit.
    pub(super) fn is_open(&self) -> bool {
        self.table.is_some()
    }
}

impl Core {
    /// Before a statement runs: begins a series, goes on with one, or ends it.
    pub(super) async fn enter_series(&mut self, statement: &Statement) -> Result<(), Failure> {
        if self.transaction != TransactionStatus::Idle {
            return Ok(());
        }
        let part = match statement {
            Statement::Own(Command::Begin(..) | Command::Commit | Command::Rollback) => Part::Alone,
            // Settings and the like; EXECUTE may be anything.
            Statement::Own(Command::Execute { .. }) => Part::Alone,
            Statement::Own(_) => Part::Reads,
            Statement::Engine { parsed, .. } => self.connection.part(parsed),
        };
        match part {
            Part::Reads => Ok(()),
            Part::Inserts(table) if self.series.table.as_ref() == Some(&table) => Ok(()),
            // Alone it commits by itself, and an error comes with its own answer.
            Part::Inserts(_) if self.series.last && self.series.table.is_none() => Ok(()),
            Part::Inserts(table) => {
                self.end_series(true).await?;
                self.connection.transaction(Transaction::Begin).await?;
                self.series.table = Some(table);
                Ok(())
            }
            Part::Alone => self.end_series(true).await,
        }
    }

    /// Stores what the series has written, or drops it.
    pub(super) async fn end_series(&mut self, commit: bool) -> Result<(), Failure> {
        let step = if commit { Transaction::Commit } else { Transaction::Rollback };
        match self.series.table.take() {
            Some(_) => Ok(self.connection.transaction(step).await?),
            None => Ok(()),
        }
    }
}
