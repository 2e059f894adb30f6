//! `CALL name(arguments…)`: procedures by name.
//!
//! A procedure takes values: any expression that needs no table, evaluated once, before it runs; those that may be left out
//! can be given by name, `name => value`. It gives a few rows that
//! say what it did. A new one is a line of [`PROCEDURES`].

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement as SqlStatement,
};
use futures::TryStreamExt;
use futures::future::BoxFuture;

use super::access::Right;
use super::parse::{Parsed, Statement, normal, parse_one};
use super::procedures::PROCEDURES;
use super::run::{Description, Outcome, Session};
use crate::error::{Error, Kind, Result};
use crate::lake::instant::instant;

/// A procedure.
pub(super) struct Procedure {
    /// What CALL calls it.
    pub(super) name: &'static str,
    /// What whoever calls it needs.
    pub(super) right: Right,
    /// What it takes, first of all the name of what it works on.
    pub(super) parameters: &'static [Parameter],
    /// How many of the last parameters may be left out.
    pub(super) optional: usize,
    /// The columns of what it gives.
    pub(super) result: &'static [(&'static str, DataType)],
    /// Runs it.
    pub(super) run: for<'a> fn(&'a Session, &'a Arguments) -> BoxFuture<'a, Result<Vec<ArrayRef>>>,
}

/// What a procedure takes in one place.
pub(super) struct Parameter {
    /// What messages call it.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) takes: Takes,
}

/// The type of a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Text, such as a name.
    Text,
    /// An instant: a date, a timestamp, or either as text.
    Instant,
}

/// What can be called: names, and the names and types of what each takes.
pub fn procedures() -> Vec<(&'static str, Vec<(&'static str, DataType)>)> {
    let data_type = |takes: Takes| match takes {
        Takes::Text => DataType::Utf8,
        Takes::Instant => DataType::Timestamp(TimeUnit::Microsecond, None),
    };
    let takes = |p: &Procedure| p.parameters.iter().map(|p| (p.name, data_type(p.takes))).collect();
    PROCEDURES.iter().map(|procedure| (procedure.name, takes(procedure))).collect()
}

impl Procedure {
    /// As it is called, for messages.
    pub(super) fn signature(&self) -> String {
        let required = self.parameters.len() - self.optional;
        let mut text = format!("{}(", self.name);
        for (i, parameter) in self.parameters.iter().enumerate() {
            text.push_str(if i == required { " [" } else { "" });
            text.push_str(if i > 0 { ", " } else { "" });
            text.push_str(parameter.name);
        }
        text.push_str(if self.optional > 0 { "])" } else { ")" });
        text
    }

    fn only_reads(&self) -> bool {
        self.name == "require_complete"
    }

    fn schema(&self) -> SchemaRef {
        let fields = self.result.iter().map(|(name, t)| Field::new(*name, t.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// The values that a procedure is called with, each of its parameter's type and not NULL.
pub(super) struct Arguments {
    procedure: &'static Procedure,
    /// By place; `None` where it was left out.
    values: Vec<Option<ScalarValue>>,
    /// The session's time zone.
    zone: String,
}

impl Arguments {
    /// Whether there is a value at a place.
    pub(super) fn has(&self, place: usize) -> bool {
        self.value(place).is_some()
    }

    fn value(&self, place: usize) -> Option<&ScalarValue> {
        self.values.get(place).and_then(Option::as_ref)
    }

    /// The text at a place; `None` where it was left out.
    pub(super) fn optional_text(&self, place: usize) -> Option<&str> {
        self.value(place).and_then(|v| v.try_as_str().flatten())
    }

    /// The text at a place that may not be left out.
    pub(super) fn text(&self, place: usize) -> Result<&str> {
        self.optional_text(place).ok_or_else(|| Error::internal("a procedure has no such text"))
    }

    /// The instant at a place, in microseconds. Without a zone of its own it is one of UTC, or of the session's time zone
    /// where it is compared with a column that has a zone.
    pub(super) fn instant(&self, place: usize, zoned: bool) -> Result<i64> {
        let value = self.value(place).ok_or_else(|| Error::internal("a procedure has no such time"))?;
        let zone = zoned.then_some(self.zone.as_str());
        instant(value, zone).map_err(|e| e.context(self.procedure.place(place)))
    }
}

impl Procedure {
    /// How messages name a parameter.
    fn place(&self, place: usize) -> String {
        let name = self.parameters.get(place).map_or("", |p| p.name);
        format!("{}: argument {} ({name})", self.name, place + 1)
    }

    fn check(&self, place: usize, value: &ScalarValue) -> Result<()> {
        if value.is_null() {
            return Err(Error::not_null(format!("{} may not be NULL", self.place(place))));
        }
        let takes = self.parameters.get(place).map(|p| p.takes);
        let t = value.data_type();
        let fits = match takes {
            Some(Takes::Text) => t.is_string(),
            _ => {
                t.is_string() || matches!(t, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64)
            }
        };
        if fits {
            return Ok(());
        }
        let wanted = if takes == Some(Takes::Text) { "text" } else { "a date or timestamp" };
        Err(Error::invalid_input(format!("{} is {t}, and has to be {wanted}", self.place(place))))
    }
}

/// A call that has been read: the procedure exists, and takes so many arguments.
pub(super) struct Call {
    procedure: &'static Procedure,
    /// A query of one row whose columns are the arguments; `None` without arguments.
    arguments: Option<Parsed>,
    /// Which parameter each of them is.
    places: Vec<usize>,
}

impl Call {
    /// Reads it.
    pub(super) fn of(function: &Function) -> Result<Self> {
        let name = match function.name.0.as_slice() {
            [part] => part.as_ident().map(normal).unwrap_or_default(),
            _ => function.name.to_string(),
        };
        let Some(procedure) = PROCEDURES.iter().find(|p| p.name == name) else {
            let known: Vec<String> = PROCEDURES.iter().map(Procedure::signature).collect();
            return Err(Error::new(Kind::UndefinedFunction, format!("there is no procedure '{name}'"))
                .with_hint(format!("known are {}", known.join(", "))));
        };
        let usage = |what: String| {
            Error::invalid_input(format!("{name}: {what}"))
                .with_hint(format!("write CALL {}", procedure.signature()))
        };
        let given: &[FunctionArg] = match &function.args {
            FunctionArguments::List(list)
                if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                &list.args
            }
            FunctionArguments::None => &[],
            _ => return Err(usage("cannot read its arguments".to_owned())),
        };
        let (most, least) = (procedure.parameters.len(), procedure.parameters.len() - procedure.optional);
        if given.len() < least || given.len() > most {
            let takes = if least == most { most.to_string() } else { format!("{least} to {most}") };
            return Err(usage(format!("it takes {takes} arguments, and got {}", given.len())));
        }
        let (mut columns, mut places, mut named) = (vec![], vec![], false);
        for (i, argument) in given.iter().enumerate() {
            let (place, expr) = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if !named => (i, expr),
                FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) => {
                    return Err(usage("an argument without a name follows one that has a name".to_owned()));
                }
                argument => {
                    named = true;
                    let (key, expr) = named_argument(argument)
                        .ok_or_else(|| usage(format!("'{argument}' is not a value")))?;
                    let place = procedure.parameters.iter().position(|p| p.name == key);
                    (place.ok_or_else(|| usage(format!("it has no parameter '{key}'")))?, expr)
                }
            };
            if places.contains(&place) {
                return Err(usage(format!("it got '{}' twice", procedure.parameters[place].name)));
            }
            columns.push(format!("({expr}) AS argument_{i}"));
            places.push(place);
        }
        if let Some(missing) = (0..least).find(|place| !places.contains(place)) {
            return Err(usage(format!("it needs '{}'", procedure.parameters[missing].name)));
        }
        let arguments = if columns.is_empty() {
            None
        } else {
            let sql = format!("SELECT {}", columns.join(", "));
            Some(Parsed { statement: parse_one(&sql)?, sql, offset: 0 })
        };
        Ok(Call { procedure, arguments, places })
    }

    /// The call that a statement is.
    pub(super) fn in_statement(statement: &Statement) -> Option<&Function> {
        use datafusion::sql::parser::Statement as EngineStatement;
        match statement {
            Statement::Engine(engine) => match engine.as_ref() {
                EngineStatement::Statement(sql) => match sql.as_ref() {
                    SqlStatement::Call(function) => Some(function),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

/// The name and the value of `name => value`.
fn named_argument(argument: &FunctionArg) -> Option<(String, &Expr)> {
    match argument {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => Some((normal(name), value)),
        FunctionArg::ExprNamed {
            name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), ..
        } => Some((normal(name), value)),
        _ => None,
    }
}

impl Session {
    /// What is known of a call before it runs.
    pub(super) async fn describe_call(
        &self,
        function: &Function,
        hints: &[Option<DataType>],
    ) -> Result<Description> {
        let call = Call::of(function)?;
        let parameters = match &call.arguments {
            Some(query) => Box::pin(self.describe(query, hints)).await?.parameters,
            None => vec![],
        };
        Ok(Description { fields: Some(call.procedure.schema()), parameters })
    }

    /// `CALL name(…)`
    pub(super) async fn call(&self, function: &Function, parameters: &[ScalarValue]) -> Result<Outcome> {
        let call = Call::of(function)?;
        if !call.procedure.only_reads() {
            self.outside(&format!("CALL {}", call.procedure.name))?;
        }
        let mut values = vec![None; call.procedure.parameters.len()];
        if let Some(query) = &call.arguments
            && let Outcome::Rows { stream, .. } = Box::pin(self.execute(query, parameters)).await?
        {
            let rows: Vec<RecordBatch> = stream.try_collect().await?;
            let row = rows.iter().find(|b| b.num_rows() > 0);
            let row = row.ok_or_else(|| Error::internal("arguments without a row"))?;
            for (column, place) in row.columns().iter().zip(&call.places) {
                let value = ScalarValue::try_from_array(column, 0)?;
                call.procedure.check(*place, &value)?;
                values[*place] = Some(value);
            }
        }
        let zone = self.time_zone().unwrap_or_else(|| "UTC".to_owned());
        let arguments = Arguments { procedure: call.procedure, values, zone };
        self.authorize_call(call.procedure.name, call.procedure.right, arguments.text(0)?).await?;
        let columns = (call.procedure.run)(self, &arguments).await?;
        let schema = call.procedure.schema();
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let rows = MemorySourceConfig::try_new_exec(&[vec![rows]], schema, None)?;
        let stream = rows.execute(0, self.ctx.task_ctx())?;
        Ok(Outcome::Rows { tag: "CALL".to_owned(), stream, stamp: None, notice: None })
    }
}
