//! Runs the commands that concern the connection: transactions, settings, prepared statements, cursors.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::startup::ParameterStatus;

use super::command::{Command, Discard};
use super::error::{Failure, state};
use super::modes;
use super::session::Core;
use super::settings::{Report, unknown};
use super::{Outcome, Transaction};

/// The columns that a command gives.
pub(super) fn columns(command: &Command) -> Option<SchemaRef> {
    let names = match command {
        Command::Show(name) => vec![name.as_str()],
        Command::ShowAll => vec!["name", "setting", "description"],
        _ => return None,
    };
    let fields: Vec<_> = names.into_iter().map(|n| Field::new(n, DataType::Utf8, false)).collect();
    Some(Arc::new(Schema::new(fields)))
}

impl Core {
    /// Runs a command, with values for the parameters in it.
    pub(super) async fn control(
        &mut self,
        command: &Command,
        parameters: &[ScalarValue],
    ) -> Result<Outcome, Failure> {
        let settings = Arc::clone(&self.client.settings);
        let idle = self.transaction == TransactionStatus::Idle;
        match command {
            Command::Begin(tag, modes) => {
                if idle {
                    self.connection.transaction(Transaction::Begin).await?;
                    settings.begin();
                    modes::begin(&settings, modes)?;
                    self.transaction = TransactionStatus::Transaction;
                } else {
                    let message = "there is already a transaction in progress";
                    self.warn(Failure::warning(state::ACTIVE_TRANSACTION, message));
                }
                Ok(done(tag))
            }
            Command::Commit => {
                let committed = self.transaction != TransactionStatus::Error;
                self.end_transaction(committed).await?;
                Ok(done(if committed { "COMMIT" } else { "ROLLBACK" }))
            }
            Command::Rollback => {
                self.end_transaction(false).await?;
                Ok(done("ROLLBACK"))
            }
            Command::Savepoint(_) | Command::Release(_) | Command::RollbackTo(_) if idle => {
                Err(Failure::new(
                    state::NO_ACTIVE_TRANSACTION,
                    "savepoints can only be used in transaction blocks",
                ))
            }
            Command::Savepoint(name) => {
                self.connection.transaction(Transaction::Savepoint(name.clone())).await?;
                self.portals.savepoint(name);
                Ok(done("SAVEPOINT"))
            }
            Command::Release(name) => {
                self.connection.transaction(Transaction::Release(name.clone())).await?;
                self.portals.release(name);
                Ok(done("RELEASE"))
            }
            Command::RollbackTo(name) => {
                self.connection.transaction(Transaction::RollbackTo(name.clone())).await?;
                self.portals.roll_back_to(name);
                self.transaction = TransactionStatus::Transaction;
                Ok(done("ROLLBACK"))
            }
            Command::Set(name, value, local) => self.set(name, value.as_deref(), *local).await,
            Command::Reset(name) => {
                self.set(name, None, false).await?;
                Ok(done("RESET"))
            }
            Command::SetTransaction(_) if idle => {
                let message = "SET TRANSACTION can only be used in transaction blocks";
                self.warn(Failure::warning(state::NO_ACTIVE_TRANSACTION, message));
                Ok(done("SET"))
            }
            Command::SetTransaction(modes) => {
                modes::apply(&settings, "transaction", modes)?;
                Ok(done("SET"))
            }
            Command::SetCharacteristics(modes) => {
                let reports = modes::apply(&settings, "default_transaction", modes)?;
                self.tell(reports);
                Ok(done("SET"))
            }
            Command::ResetAll => {
                self.reset_all().await?;
                Ok(done("RESET"))
            }
            Command::Show(name) => match settings.get(self.in_effect(name)) {
                Some(value) => rows(command, vec![vec![value]]),
                None => Err(unknown(name)),
            },
            Command::ShowAll => {
                let (names, values): (Vec<_>, Vec<_>) =
                    settings.all().into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
                let descriptions = vec![String::new(); names.len()];
                rows(command, vec![names, values, descriptions])
            }
            Command::Discard(Discard::All) if !idle => Err(Failure::new(
                state::ACTIVE_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            )),
            Command::Discard(Discard::All) => {
                self.reset_all().await?;
                self.prepared.clear();
                self.portals.clear();
                Ok(done("DISCARD ALL"))
            }
            Command::Discard(Discard::Other(tag)) | Command::Nothing(tag) => Ok(done(tag)),
            Command::Declare(declare) => self.declare(declare, parameters).await,
            Command::Fetch { name, direction, moves } => self.fetch(name, *direction, *moves).await,
            Command::Close(name) => self.close_cursor(name),
            Command::CloseAll => {
                self.portals.clear();
                Ok(done("CLOSE CURSOR ALL"))
            }
            Command::Prepare { name, types, query, text } => {
                self.prepare_by_name(name, types, query, text).await
            }
            Command::Execute { name, arguments } => self.execute_by_name(name, arguments).await,
            Command::DeallocateAll => {
                self.prepared.clear();
                Ok(done("DEALLOCATE ALL"))
            }
            Command::Deallocate(name) => match self.prepared.remove(name) {
                Some(_) => Ok(done("DEALLOCATE")),
                None => Err(Failure::new(
                    state::UNDEFINED_STATEMENT,
                    format!("prepared statement \"{name}\" does not exist"),
                )),
            },
        }
    }

    async fn end_transaction(&mut self, commit: bool) -> Result<(), Failure> {
        if self.transaction == TransactionStatus::Idle {
            let message = "there is no transaction in progress";
            self.warn(Failure::warning(state::NO_ACTIVE_TRANSACTION, message));
            return Ok(());
        }
        // Whatever the engine says, the transaction is over.
        self.transaction = TransactionStatus::Idle;
        let reports = self.client.settings.end(commit);
        self.report(reports).await?;
        let step = if commit { Transaction::Commit } else { Transaction::Rollback };
        let ended = self.connection.transaction(step).await;
        self.portals.end_transaction(commit && ended.is_ok());
        Ok(ended?)
    }

    async fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Outcome, Failure> {
        let report = self.client.settings.set(name, value, local)?;
        let value = self.client.settings.get(name).unwrap_or_default();
        self.connection.setting_changed(&name.to_lowercase(), &value).await?;
        self.tell(report.into_iter().collect());
        Ok(done("SET"))
    }

    async fn reset_all(&mut self) -> Result<(), Failure> {
        let reports = self.client.settings.reset_all();
        for (name, value) in self.client.settings.all() {
            self.connection.setting_changed(&name.to_lowercase(), &value).await?;
        }
        self.tell(reports);
        Ok(())
    }

    /// Tells the client and the engine of settings with a new value.
    async fn report(&mut self, reports: Vec<Report>) -> Result<(), Failure> {
        for (name, value) in &reports {
            self.connection.setting_changed(&name.to_lowercase(), value).await?;
        }
        self.tell(reports);
        Ok(())
    }

    fn tell(&mut self, reports: Vec<Report>) {
        for (name, value) in reports {
            self.writer.put(Backend::ParameterStatus(ParameterStatus::new(name.to_owned(), value)));
        }
    }

    /// Tells the client what there is to know besides.
    pub(super) fn notice(&mut self, notice: Option<String>) {
        if let Some(text) = notice {
            self.writer.put(Failure::notice(text).into_message());
        }
    }

    fn warn(&mut self, warning: Failure) {
        self.writer.put(warning.into_message());
    }
}

fn done(tag: &str) -> Outcome {
    Outcome::done(tag)
}

/// One value for each column and row, by columns.
fn rows(command: &Command, values: Vec<Vec<String>>) -> Result<Outcome, Failure> {
    let schema = columns(command).unwrap_or_else(|| Arc::new(Schema::empty()));
    let arrays = values.into_iter().map(|column| Arc::new(StringArray::from(column)) as _);
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect())?;
    let stream = futures::stream::iter([Ok(batch)]);
    Ok(Outcome::Rows {
        tag: "SHOW".to_owned(),
        stream: Box::pin(RecordBatchStreamAdapter::new(schema, stream)),
        stamp: None,
        notice: None,
    })
}
