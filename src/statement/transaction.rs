//! Transactions of a session.

use std::sync::Arc;

use parking_lot::Mutex;

use super::run::Session;
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;

impl Session {
    /// From here on every statement reads one version of each table and what it has written itself. Does nothing in a
    /// transaction.
    pub fn begin(&self) {
        self.transaction.lock().get_or_insert_default();
    }

    /// A session with the same settings and rights, whose statements all read one version of each table; the pins say which.
    pub fn reading(&self) -> (Session, Pins) {
        let pins = Pins::default();
        let transaction = Some(Transaction::alone(pins.clone()));
        let session = Session { transaction: Arc::new(Mutex::new(transaction)), ..self.for_this_statement() };
        (session, pins)
    }

    /// Stores what was written since [`Self::begin`] in one commit. The transaction is over also if that fails.
    pub async fn commit(&self) -> Result<()> {
        match self.end() {
            Some(transaction) => transaction.commit(&self.interrupt()).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Ends the transaction and removes what was written.
    pub async fn rollback(&self) {
        if let Some(transaction) = self.end() {
            transaction.rollback().await;
        }
    }

    /// Remembers what is written so far.
    pub async fn savepoint(&self, name: &str) -> Result<()> {
        self.current()?.savepoint(name).await
    }

    /// Forgets a savepoint.
    pub async fn release(&self, name: &str) -> Result<()> {
        self.current()?.release(name).await
    }

    /// Takes back what was written since a savepoint.
    pub async fn rollback_to(&self, name: &str) -> Result<()> {
        self.current()?.rollback_to(name).await
    }

    /// Refuses a statement that commits by itself and so cannot be rolled back with the rest.
    pub(super) fn outside(&self, what: &str) -> Result<()> {
        if self.transaction.lock().is_none() {
            return Ok(());
        }
        Err(Error::not_supported(format!("{what} cannot run in a transaction: it commits by itself"))
            .with_hint("COMMIT first, or have your driver commit each statement by itself (autocommit)"))
    }

    fn end(&self) -> Option<Transaction> {
        self.transaction.lock().take()
    }

    fn current(&self) -> Result<Transaction> {
        self.transaction.lock().clone().ok_or_else(|| Error::internal("there is no transaction"))
    }
}
