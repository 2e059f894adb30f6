//! The extended query protocol: prepared statements, portals, parameters.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::execution::SendableRecordBatchStream;
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::data::ParameterDescription;
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use tokio::sync::Mutex;

use super::casts::casts;
use super::catalog;
use super::command::Command;
use super::cursor::{Cursor, Scroll};
use super::encode::{Formats, description};
use super::error::{Failure, Stop, state};
use super::message::{Frontend, Target};
use super::params::{self, Parameter};
use super::portals::{Life, Portal, State};
use super::prepared::Prepared;
use super::session::{Core, Running, Statement};
use super::types;
use super::{Description, Outcome};
use crate::ingest::copy::CopyIn;
use crate::statement::split::split;

impl Core {
    /// Does what a message of the extended protocol asks. Gives a COPY back that waits for rows.
    pub(super) async fn extended(&mut self, message: Frontend) -> Result<Option<Box<CopyIn>>, Stop> {
        match message {
            Frontend::Execute(name, limit) => self.run_portal(name, limit).await,
            message => self.prepared(message).await.map(|()| None),
        }
    }

    /// Does what leads up to running a portal.
    async fn prepared(&mut self, message: Frontend) -> Result<(), Stop> {
        match message {
            Frontend::Parse { name, query, types } => self.prepare(name, &query, &types).await,
            Frontend::Bind { portal, statement, formats, values, results } => {
                let prepared = self.statement(&statement)?;
                if !portal.is_empty() && self.portals.contains(&portal) {
                    return Err(Failure::new("42P03", format!("portal \"{portal}\" already exists")).into());
                }
                if let Some(statement) = &prepared.statement {
                    self.check_transaction(statement)?;
                }
                let zone = self.client.settings.time_zone();
                let values = params::read(&prepared.parameters, &values, &Formats(formats), zone.name())?;
                let formats = Formats(results);
                formats.check(prepared.fields.as_ref().map_or(0, |f| f.fields().len()), "result column")?;
                let (state, cursor, life) = (State::New, None, Life::Transaction);
                self.portals.insert(portal, Portal { prepared, values, formats, state, cursor, life });
                self.writer.put(Backend::BindComplete(BindComplete::new()));
                Ok(())
            }
            Frontend::Describe(Target::Statement, name) => {
                let prepared = self.statement(&name)?;
                let types = prepared.parameters.iter().map(|p| p.wire.oid()).collect();
                self.writer.put(Backend::ParameterDescription(ParameterDescription::new(types)));
                self.writer.put(description(prepared.fields.as_deref(), &Formats::default()));
                Ok(())
            }
            Frontend::Describe(Target::Portal, name) => {
                let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
                let message = description(portal.prepared.fields.as_deref(), &portal.formats);
                self.writer.put(message);
                Ok(())
            }
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.prepared.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                self.writer.put(Backend::CloseComplete(CloseComplete::new()));
                Ok(())
            }
            other => Err(Failure::protocol(format!("unexpected message {other:?}")).into()),
        }
    }

    /// Outside of a transaction, what was sent together is one, whose portals go with it.
    pub(super) fn settle(&mut self) {
        if self.transaction == TransactionStatus::Idle {
            self.portals.end_transaction(true);
        }
    }

    /// Ends a series of messages.
    pub(super) fn sync(&mut self) {
        self.settle();
        self.deadline = None;
        self.ready();
    }

    /// A prepared statement.
    pub(super) fn statement(&self, name: &str) -> Result<Arc<Prepared>, Failure> {
        self.prepared.get(name).cloned().ok_or_else(|| {
            let named = match name {
                "" => "unnamed prepared statement".to_owned(),
                name => format!("prepared statement \"{name}\""),
            };
            Failure::new(state::UNDEFINED_STATEMENT, format!("{named} does not exist"))
        })
    }

    /// Parses and plans a statement, and keeps it.
    async fn prepare(&mut self, name: String, query: &str, types: &[u32]) -> Result<(), Stop> {
        if name.is_empty() {
            self.prepared.remove("");
        } else if self.prepared.contains(&name) {
            return Err(Failure::new(
                state::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        let pieces = split(query);
        let prepared = match pieces.as_slice() {
            [] => Prepared { statement: None, parameters: vec![], fields: None },
            [piece] => {
                let statement = self.parse(piece)?;
                self.check_transaction(&statement)?;
                let description = self.describe(&statement, types, piece.offset).await?;
                let count = description.parameters.len().max(types.len());
                let mut wanted = description.parameters.into_iter();
                let casts = casts(piece.text);
                let declared = |i: usize| {
                    let declared = types.get(i).copied().filter(|oid| *oid != 0);
                    declared.or_else(|| casts.get(&(i + 1)).map(Type::oid))
                };
                let parameters = (0..count)
                    .map(|i| Parameter::new(declared(i), wanted.next().flatten()))
                    .collect::<Result<_, _>>()?;
                Prepared { statement: Some(statement), parameters, fields: description.fields }
            }
            [_, second, ..] => {
                return Err(Failure::new(
                    state::SYNTAX,
                    "cannot insert multiple commands into a prepared statement",
                )
                .at(second.offset + 1)
                .into());
            }
        };
        let text = pieces.first().map_or("", |piece| piece.text);
        self.prepared.insert(name, prepared, text, false);
        self.writer.put(Backend::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    async fn describe(
        &mut self,
        statement: &Statement,
        types: &[u32],
        offset: usize,
    ) -> Result<Description, Failure> {
        match statement {
            Statement::Own(Command::Declare(declare)) => {
                let query = Statement::Engine { parsed: self.query_of(declare)?, rewritten: false };
                let offset = offset + declare.offset;
                let description = Box::pin(self.describe(&query, types, offset)).await?;
                Ok(Description { fields: None, ..description })
            }
            Statement::Own(command) => {
                Ok(Description { fields: self.columns_of(command), parameters: vec![] })
            }
            Statement::Engine { parsed, rewritten } => {
                self.look(statement).await?;
                let zone = self.client.settings.time_zone();
                let hints: Vec<_> = types
                    .iter()
                    .map(|oid| Type::from_oid(*oid).filter(|t| *t != Type::UNKNOWN))
                    .map(|ty| params::natural(&ty?, zone.name()))
                    .collect();
                let described =
                    self.connection.describe(parsed, &hints).await.map_err(|e| match rewritten {
                        true => Failure::from(e).without_position(),
                        false => Failure::from(e).offset_by(offset),
                    })?;
                let fields = described.fields.map(|f| if *rewritten { catalog::told(f) } else { f });
                Ok(Description { fields, ..described })
            }
        }
    }

    /// Runs a portal, or goes on with it.
    async fn run_portal(&mut self, name: String, limit: usize) -> Result<Option<Box<CopyIn>>, Stop> {
        let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
        let prepared = Arc::clone(&portal.prepared);
        if portal.cursor.is_some() {
            return self.run_cursor(&name, limit).await.map(|()| None);
        }
        let Some(statement) = &prepared.statement else {
            self.writer.put(Backend::EmptyQueryResponse(EmptyQueryResponse::new()));
            return Ok(None);
        };
        self.check_transaction(statement)?;
        let portal = self.portals.get_mut(&name).ok_or_else(|| no_portal(&name))?;
        // What fails or is cancelled does not come back.
        if let State::Ended(tag) = std::mem::replace(&mut portal.state, State::Ended(String::new())) {
            portal.state = State::Ended(tag.clone());
            self.complete(&tag, Some(0));
            return Ok(None);
        }
        let (values, formats) = (std::mem::take(&mut portal.values), portal.formats.clone());
        // A portal that is fetched from in parts is not kept.
        let text = statement.text().filter(|_| limit == 0);
        let told = prepared.fields.as_deref();
        let known = text.and_then(|text| self.known(text, &values, &formats));
        // The client goes by what it was told when it prepared the statement.
        if let Some(answer) = known.filter(|answer| told.is_some_and(|t| alike(t, &answer.schema))) {
            self.repeat(&answer).await?;
            self.put_back(&name, State::Ended(answer.tag));
            self.deadline = None;
            return Ok(None);
        }
        let ended = match self.execute(statement, &values).await? {
            Outcome::Done { tag, rows, notice } => {
                self.notice(notice);
                self.complete(&tag, rows);
                tag
            }
            Outcome::Rows { tag, stream, notice, .. } if limit > 0 => {
                self.notice(notice);
                self.keep_rows(&name, tag, stream);
                return self.run_cursor(&name, limit).await.map(|()| None);
            }
            Outcome::Rows { tag, stream, stamp, notice } => {
                self.notice(notice);
                let text = text.filter(|_| told.is_some_and(|t| alike(t, &stream.schema())));
                let recording = text.and_then(|text| self.record(text, &values, &formats, stamp));
                let schema = prepared.fields.clone().unwrap_or_else(|| stream.schema());
                let mut running = Running { tag, stream, schema, formats, recording };
                let sent = self.send_rows(&mut running).await?;
                let tag = running.tag.clone();
                self.end(running, sent);
                tag
            }
            Outcome::CopyIn(copy) => {
                self.put_back(&name, State::Ended("COPY".to_owned()));
                return Ok(Some(copy));
            }
            Outcome::CopyOut { format, stream } => {
                self.copy_out(&format, stream).await?;
                "COPY".to_owned()
            }
        };
        self.put_back(&name, State::Ended(ended));
        self.deadline = None;
        Ok(None)
    }

    /// Has a portal give its rows in parts.
    pub(super) fn keep_rows(&mut self, name: &str, tag: String, stream: SendableRecordBatchStream) {
        let cursor = Cursor::new(stream, Scroll::Perhaps, self.memory.as_ref());
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = State::Ended(tag);
            portal.cursor = Some(Arc::new(Mutex::new(cursor)));
        }
    }

    /// The portal may have gone meanwhile: a COMMIT drops them all.
    fn put_back(&mut self, name: &str, state: State) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = state;
        }
    }
}

/// Whether clients are told the same of both.
fn alike(a: &Schema, b: &Schema) -> bool {
    let told = |field: &Field| (types::of_field(field).oid(), types::modifier(field.data_type()));
    let pairs = a.fields().iter().zip(b.fields());
    a.fields().len() == b.fields().len()
        && pairs.into_iter().all(|(a, b)| a.name() == b.name() && told(a) == told(b))
}

pub(super) fn no_portal(name: &str) -> Failure {
    Failure::new(state::UNDEFINED_PORTAL, format!("portal \"{name}\" does not exist"))
}
