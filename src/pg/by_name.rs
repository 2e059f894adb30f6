//! `PREPARE name AS …` and `EXECUTE name (…)`: prepared statements in SQL, beside those of the protocol. Both kinds have
//! one set of names.

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;

use super::command::Command;
use super::control;
use super::error::{Failure, state};
use super::params::{self, Parameter};
use super::prepared::Prepared;
use super::session::{Core, Statement};
use super::{Description, Outcome};
use crate::statement::split::Piece;

impl Core {
    /// Keeps a statement under a name. Types of its parameters may be given; others are what the statement wants.
    pub(super) async fn prepare_by_name(
        &mut self,
        name: &str,
        types: &[String],
        query: &str,
        text: &str,
    ) -> Result<Outcome, Failure> {
        if self.prepared.contains(name) {
            return Err(Failure::new(
                state::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        let hints: Vec<Option<DataType>> = match types {
            [] => vec![],
            types => {
                let nulls: Vec<String> = types.iter().map(|t| format!("CAST(NULL AS {t})")).collect();
                let parsed = self.connection.parse(&format!("SELECT {}", nulls.join(", ")));
                let described =
                    self.connection.describe(&parsed.map_err(unplaced)?, &[]).await.map_err(unplaced)?;
                let fields = described.fields.iter().flat_map(|f| f.fields());
                fields.map(|f| Some(f.data_type().clone())).collect()
            }
        };
        let statement = self.parse(&Piece { text: query, offset: 0 }).map_err(Failure::without_position)?;
        let description = match &statement {
            Statement::Own(command) => Description { fields: self.columns_of(command), parameters: vec![] },
            Statement::Engine { parsed, .. } => {
                self.connection.describe(parsed, &hints).await.map_err(unplaced)?
            }
        };
        let count = description.parameters.len().max(hints.len());
        let wanted = |i: usize| {
            let of = |types: &[Option<DataType>]| types.get(i).cloned().flatten();
            of(&description.parameters).or_else(|| of(&hints))
        };
        let parameters = (0..count).map(|i| Parameter::new(None, wanted(i))).collect::<Result<_, _>>()?;
        let prepared = Prepared { statement: Some(statement), parameters, fields: description.fields };
        self.prepared.insert(name.to_owned(), prepared, text, true);
        Ok(Outcome::done("PREPARE"))
    }

    /// Runs a statement that was kept under a name, with values that any expressions without tables give.
    pub(super) async fn execute_by_name(&mut self, name: &str, arguments: &str) -> Result<Outcome, Failure> {
        let prepared = self.statement(name)?;
        let values = match arguments.trim() {
            "" => vec![],
            arguments => self.values(arguments).await?,
        };
        let wanted = prepared.parameters.len();
        if values.len() != wanted {
            return Err(Failure::new(
                state::SYNTAX,
                format!(
                    "prepared statement \"{name}\" takes {wanted} parameters, and {} were given",
                    values.len()
                ),
            ));
        }
        let zone = self.client.settings.time_zone();
        let typed = values.into_iter().zip(&prepared.parameters).map(|(value, parameter)| {
            let to = parameter.wanted.clone().or_else(|| params::natural(&parameter.wire, zone.name()));
            Ok(match to {
                Some(to) if value.data_type() != to => value.cast_to(&to)?,
                _ => value,
            })
        });
        let values = typed.collect::<Result<Vec<_>, Failure>>()?;
        match &prepared.statement {
            Some(Statement::Own(Command::Execute { .. })) => {
                Err(Failure::new(state::NOT_SUPPORTED, "EXECUTE of a statement that is itself an EXECUTE"))
            }
            Some(Statement::Own(command)) => Box::pin(self.control(command, &values)).await,
            Some(Statement::Engine { parsed, .. }) => {
                self.check_read_only(parsed)?;
                self.connection.execute(parsed, &values).await.map_err(unplaced)
            }
            None => Ok(Outcome::done("EXECUTE")),
        }
    }

    /// The values of a list of expressions.
    async fn values(&mut self, arguments: &str) -> Result<Vec<ScalarValue>, Failure> {
        let parsed = self.connection.parse(&format!("SELECT {arguments}")).map_err(unplaced)?;
        let Outcome::Rows { stream, .. } = self.connection.execute(&parsed, &[]).await.map_err(unplaced)?
        else {
            return Err(Failure::new(state::SYNTAX, "the parameters of EXECUTE are not values"));
        };
        let batches: Vec<_> = stream.try_collect().await?;
        let row = batches.iter().find(|b| b.num_rows() > 0);
        let columns = row.map(|b| b.columns()).unwrap_or_default();
        Ok(columns.iter().map(|c| ScalarValue::try_from_array(c, 0)).collect::<Result<_, _>>()?)
    }

    /// The columns that a command gives.
    pub(super) fn columns_of(&self, command: &Command) -> Option<datafusion::arrow::datatypes::SchemaRef> {
        match command {
            Command::Execute { name, .. } => self.prepared.get(name).and_then(|p| p.fields.clone()),
            Command::Fetch { name, moves: false, .. } => {
                self.portals.get(name).and_then(|portal| portal.prepared.fields.clone())
            }
            command => control::columns(command),
        }
    }
}

/// An error in a text that is only part of what the client sent.
fn unplaced(e: crate::error::Error) -> Failure {
    Failure::from(e).without_position()
}
