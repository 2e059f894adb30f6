//! A session: waits for messages, does what they ask, and answers.

use std::future::Future;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use super::activity::Activity;
use super::answers::{Answer, Answers, Key, Recording, Statements};
use super::cancel::Ticket;
use super::catalog;
use super::command::{self, Command};
use super::encode::{Formats, Rows, Style};
use super::error::{Failure, Severity, Stop, state};
use super::message::{self, Frontend};
use super::portals::{Portal, Portals};
use super::prepared::PreparedStatements;
use super::series::Series;
use super::startup::Start;
use super::wire::{Reader, Writer};
use super::{Client, Connection, Outcome, Parsed, Settings, Stamp, copy};
use crate::ingest::copy::CopyIn;
use crate::metrics;
use crate::statement::split::Piece;

/// A connection that is open.
pub(super) struct Session {
    reader: Reader,
    stopping: watch::Receiver<bool>,
    ticket: Ticket,
    core: Core,
}

/// All of it but the half that reads, which is watched while this one works.
pub(super) struct Core {
    pub(super) writer: Writer,
    pub(super) client: Client,
    pub(super) connection: Arc<dyn Connection>,
    pub(super) answers: Answers,
    pub(super) transaction: TransactionStatus,
    pub(super) series: Series,
    pub(super) prepared: PreparedStatements,
    pub(super) portals: Portals,
    /// For what the session keeps of results.
    pub(super) memory: Option<Arc<dyn MemoryPool>>,
    /// When the running series of extended messages is too old.
    pub(super) deadline: Option<Instant>,
    activity: Arc<Activity>,
    /// Something has failed since the client was last told that it is its turn.
    failed: bool,
}

/// A statement that may be run: by the front end or by the engine.
#[derive(Clone)]
pub(super) enum Statement {
    Own(Command),
    Engine {
        parsed: Parsed,
        /// The text was changed, so positions in it say nothing to the client.
        rewritten: bool,
    },
}

impl Statement {
    /// The text, if it is the client's own and for the engine.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Statement::Engine { parsed, rewritten: false } => Some(parsed.sql()),
            _ => None,
        }
    }
}

impl Session {
    pub(super) fn new(
        reader: Reader,
        writer: Writer,
        start: Start,
        answers: Answers,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let Start { client, connection, ticket, activity, memory } = start;
        Session {
            reader,
            stopping,
            ticket,
            core: Core {
                writer,
                connection,
                answers,
                transaction: TransactionStatus::Idle,
                series: Series::default(),
                prepared: PreparedStatements::new(Arc::clone(&client.prepared)),
                client,
                portals: Portals::default(),
                memory,
                deadline: None,
                activity,
                failed: false,
            },
        }
    }

    /// Goes on until the client leaves, the connection breaks, or the server stops.
    pub(super) async fn run(mut self) {
        self.core.ready();
        match self.messages().await {
            // What it was answered before it said good-bye is still to be sent.
            Ok(()) => drop(self.core.writer.close().await),
            Err(Stop::Gone) => {}
            Err(Stop::Failed(failure)) => {
                self.core.writer.put(Failure { severity: Severity::Fatal, ..failure }.into_message());
                let _ = self.core.writer.close().await;
            }
        }
    }

    /// An error that comes out of here ends the connection.
    async fn messages(&mut self) -> Result<(), Stop> {
        // After an error, everything up to the next Sync is passed over.
        let mut skipping = false;
        loop {
            match self.reader.has_frame() {
                false => self.core.writer.flush().await?,
                true => self.core.writer.relieve().await?,
            }
            let (name, code) = match self.core.transaction {
                TransactionStatus::Idle => ("idle_session_timeout", state::IDLE_SESSION),
                _ => ("idle_in_transaction_session_timeout", state::IDLE_IN_TRANSACTION),
            };
            let patience = self.core.client.settings.duration(name);
            let idle = async {
                match patience {
                    Some(patience) => tokio::time::sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            let (kind, body) = tokio::select! {
                biased;
                frame = self.reader.frame() => frame?,
                () = idle => return Err(Failure::fatal(
                    code,
                    format!("terminating connection due to {name}"),
                ).into()),
                _ = self.stopping.wait_for(|stop| *stop) => return Err(Failure::fatal(
                    state::ADMIN_SHUTDOWN,
                    "terminating connection because the server is stopping",
                ).into()),
                () = self.ticket.terminated() => return Err(terminated().into()),
            };
            let message = message::decode(kind, body)?;
            match message {
                Frontend::Terminate => return Ok(()),
                Frontend::Sync => {
                    skipping = false;
                    if let Err(stop) = self.end_series().await {
                        self.core.fail(stop).await?;
                    }
                    self.core.sync();
                    continue;
                }
                _ if skipping => continue,
                Frontend::Query(sql) => {
                    self.core.activity.begins(Some(&sql));
                    if let Err(stop) = self.query(&sql).await {
                        self.core.fail(stop).await?;
                    }
                    self.core.settle();
                    self.core.deadline = None;
                    self.core.ready();
                }
                Frontend::Flush => self.core.writer.flush().await?,
                // Leftovers of a COPY that failed.
                Frontend::Unexpected(b'd' | b'c' | b'f') => {}
                Frontend::Unexpected(kind) => {
                    return Err(Failure::protocol(format!("unexpected message type {kind}")).into());
                }
                extended => {
                    // The whole pipeline is a series, unless it is known to have one statement.
                    self.core.note(&extended);
                    self.core.series.last = self.reader.has_frame() && self.reader.peek()[0] == b'S';
                    if let Err(stop) = self.extended(extended).await {
                        self.core.fail(stop).await?;
                        skipping = true;
                    }
                }
            }
        }
    }

    async fn query(&mut self, sql: &str) -> Result<(), Stop> {
        let connection = Arc::clone(&self.core.connection);
        self.core.forget_unnamed();
        if let Some(answer) = self.core.known(sql, &[], &Formats::default()) {
            let deadline = self.core.arm();
            return guard(
                &mut self.reader,
                &self.ticket,
                deadline,
                &connection,
                self.core.tell_again(&answer),
            )
            .await;
        }
        if self.core.transaction == TransactionStatus::Idle
            && let Some(Outcome::Rows { tag, stream, stamp, .. }) = connection.at_hand(sql)?
        {
            let deadline = self.core.arm();
            let work = self.core.give_rows(tag, stream, stamp, Formats::default(), Some(sql));
            return guard(&mut self.reader, &self.ticket, deadline, &connection, work).await;
        }
        let statements: Statements = self.core.begin_query(sql)?;
        // The whole text stands for its answer where it is one statement.
        let text = (statements.len() == 1).then_some(sql);
        self.core.series.last = statements.len() == 1;
        for (statement, offset) in statements.iter() {
            // Each statement of the string has the whole time.
            self.core.deadline = None;
            let deadline = self.core.arm();
            let work = async {
                self.core.simple(statement, text).await.map_err(|stop| match stop {
                    Stop::Failed(failure) => Stop::Failed(failure.offset_by(*offset)),
                    Stop::Gone => Stop::Gone,
                })
            };
            if let Some(copy) = guard(&mut self.reader, &self.ticket, deadline, &connection, work).await? {
                self.copy_in(copy).await?;
            }
        }
        self.end_series().await
    }

    /// Commits what was sent together, before anybody is told that it is done.
    async fn end_series(&mut self) -> Result<(), Stop> {
        if !self.core.series.is_open() {
            return Ok(());
        }
        let connection = Arc::clone(&self.core.connection);
        let deadline = self.core.arm();
        let work = async { Ok(self.core.end_series(true).await?) };
        guard(&mut self.reader, &self.ticket, deadline, &connection, work).await
    }

    async fn extended(&mut self, message: Frontend) -> Result<(), Stop> {
        let connection = Arc::clone(&self.core.connection);
        let deadline = self.core.arm();
        let work = self.core.extended(message);
        match guard(&mut self.reader, &self.ticket, deadline, &connection, work).await? {
            Some(copy) => self.copy_in(copy).await,
            None => Ok(()),
        }
    }

    /// Takes the rows of a COPY; then nobody else reads what the client sends.
    async fn copy_in(&mut self, copy: Box<CopyIn>) -> Result<(), Stop> {
        let deadline = self.core.arm();
        self.core.ask_for_rows(&copy);
        self.core.writer.flush().await?;
        let copy = copy::receive(&mut self.reader, &self.ticket, deadline, copy).await?;
        // All rows are there: their commit is waited for, as whoever is told that it was cancelled may load them again.
        let (loaded, notice) = copy.finish().await?;
        self.core.notice(notice);
        self.core.complete("COPY", Some(loaded.rows));
        self.core.deadline = None;
        Ok(())
    }
}

/// Does the work, unless it is cancelled, takes too long, or nobody is there any more to wait for it. Work that commits is
/// waited for: whoever is told that it was cancelled may do it again.
async fn guard<T>(
    reader: &mut Reader,
    ticket: &Ticket,
    deadline: Option<Instant>,
    connection: &Arc<dyn Connection>,
    work: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    connection.started();
    tokio::pin!(work);
    let watched = async {
        tokio::select! {
            biased;
            result = &mut work => Ok(result),
            () = reader.closed() => Err(Stop::Gone),
        }
    };
    match in_time(ticket, deadline, watched).await {
        Ok(result) => result,
        Err(stop) if connection.stop() => Err(stop),
        Err(_) => work.await,
    }
}

/// Does the work, unless it is cancelled or takes too long.
pub(super) async fn in_time<T>(
    ticket: &Ticket,
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    let timeout = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let canceled =
        |why| Failure::new(state::QUERY_CANCELED, format!("canceling statement due to {why}")).into();
    tokio::select! {
        biased;
        () = ticket.cancelled() => Err(canceled("user request")),
        () = ticket.terminated() => Err(terminated().into()),
        () = timeout => Err(canceled("statement timeout")),
        result = work => result,
    }
}

/// What a client is told whose session somebody else has ended.
fn terminated() -> Failure {
    Failure::fatal(state::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

impl Core {
    /// Tells others what this session does now.
    fn note(&self, message: &Frontend) {
        let text = match message {
            Frontend::Parse { query, .. } => Some(query.as_str()),
            Frontend::Execute(name, _) => self.portals.get(name).and_then(Portal::text),
            _ => None,
        };
        self.activity.begins(text);
    }

    /// Says that the next query may come.
    pub(super) fn ready(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        if self.transaction == TransactionStatus::Idle {
            self.client.sessions.ended(!failed);
        }
        self.activity.is_ready(self.transaction);
        self.writer.put(Backend::ReadyForQuery(ReadyForQuery::new(self.transaction)));
    }

    /// Tells of an error; gives it back when the connection ends with it.
    async fn fail(&mut self, stop: Stop) -> Result<(), Stop> {
        self.failed = true;
        self.deadline = None;
        if let Stop::Failed(failure) = &stop {
            metrics::statement_failed(failure.sqlstate);
            if failure.sqlstate == state::OUT_OF_MEMORY {
                metrics::refused("memory");
            }
        }
        // Nothing fails in dropping what was not stored.
        let _ = self.end_series(false).await;
        match stop {
            Stop::Failed(failure) if failure.severity != Severity::Fatal => {
                self.transaction = self.transaction.to_error_state();
                self.writer.put(failure.into_message());
                Ok(())
            }
            stop => Err(stop),
        }
    }

    /// Starts the clock of `statement_timeout`, unless it runs already.
    fn arm(&mut self) -> Option<Instant> {
        if self.deadline.is_none() {
            self.deadline = self.client.settings.statement_timeout().map(|t| Instant::now() + t);
        }
        self.deadline
    }

    /// Refuses everything but the end of a transaction that has failed.
    pub(super) fn check_transaction(&self, statement: &Statement) -> Result<(), Failure> {
        let ends = matches!(statement, Statement::Own(command) if command.ends_transaction());
        match self.transaction {
            TransactionStatus::Error if !ends => Err(Failure::new(
                state::IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// Parses a statement.
    pub(super) fn parse(&self, piece: &Piece<'_>) -> Result<Statement, Failure> {
        let command = command::parse(piece.text).map_err(|e| e.at(piece.offset + 1))?;
        if let Some(command) =
            command.filter(|c| c.setting().is_none_or(|n| Settings::knows(n) || !n.contains('.')))
        {
            return Ok(Statement::Own(command));
        }
        let rewritten = catalog::rewrite(piece.text);
        match self.connection.parse(rewritten.as_deref().unwrap_or(piece.text)) {
            Ok(parsed) => Ok(Statement::Engine { parsed, rewritten: rewritten.is_some() }),
            Err(e) if rewritten.is_some() => Err(Failure::from(e).without_position()),
            Err(e) => Err(Failure::from(e).offset_by(piece.offset)),
        }
    }

    /// Sends all rows; gives their number.
    pub(super) async fn send_rows(&mut self, running: &mut Running) -> Result<usize, Stop> {
        let mut sent = 0;
        while let Some(batch) = running.stream.next().await {
            let style = Style { zone: self.client.settings.time_zone() };
            let rows = Rows::new(&batch?, &running.schema, &running.formats, style)?;
            for row in 0..rows.len() {
                let start = self.writer.buffer.len();
                rows.write(row, &mut self.writer.buffer)?;
                if let Some(recording) = &mut running.recording
                    && !recording.add(&self.writer.buffer[start..])
                {
                    running.recording = None;
                }
                sent += 1;
                self.writer.relieve().await?;
            }
        }
        Ok(sent)
    }

    /// What was answered to the same before, if it is still true.
    pub(super) fn known(&self, sql: &str, parameters: &[ScalarValue], formats: &Formats) -> Option<Answer> {
        if self.transaction != TransactionStatus::Idle {
            return None;
        }
        let answer = self.answers.get(&self.key(sql, parameters, formats))?;
        self.connection.shares(&answer.stamp).then_some(answer)
    }

    /// A place to keep the answer that is about to be sent.
    pub(super) fn record(
        &self,
        sql: &str,
        parameters: &[ScalarValue],
        formats: &Formats,
        stamp: Option<Stamp>,
    ) -> Option<Recording> {
        let stamp = stamp?;
        metrics::answered(false);
        self.answers.record(self.key(sql, parameters, formats), stamp)
    }

    fn key(&self, sql: &str, parameters: &[ScalarValue], formats: &Formats) -> Key {
        Key {
            sql: sql.to_owned(),
            parameters: parameters.to_vec(),
            formats: formats.0.clone(),
            zone: self.client.settings.time_zone(),
        }
    }

    /// Sends an answer that was sent before.
    pub(super) async fn repeat(&mut self, answer: &Answer) -> Result<(), Stop> {
        let begun = std::time::Instant::now();
        self.writer.forward(&answer.bytes).await?;
        self.complete(&answer.tag, Some(answer.rows as u64));
        metrics::answered(true);
        metrics::statement_done("memory", answer.rows as u64, begun.elapsed());
        Ok(())
    }

    /// Ends a statement that gave rows, all of which were sent.
    pub(super) fn end(&mut self, running: Running, rows: usize) {
        if let Some(recording) = running.recording {
            recording.keep(&running.tag, &running.schema, rows);
        }
        self.complete(&running.tag, Some(rows as u64));
    }

    /// Says that a statement that gave rows has ended.
    pub(super) fn complete(&mut self, tag: &str, rows: Option<u64>) {
        let text = match (tag, rows) {
            ("INSERT", Some(n)) => format!("INSERT 0 {n}"),
            ("SHOW" | "EXPLAIN" | "CALL" | "DESCRIBE", _) | (_, None) => tag.to_owned(),
            (tag, Some(n)) => format!("{tag} {n}"),
        };
        self.writer.put(Backend::CommandComplete(CommandComplete::new(text)));
    }

    /// Before a statement is planned that asks what there is: looks.
    pub(super) fn look(&self, statement: &Statement) -> impl Future<Output = Result<(), Failure>> + use<> {
        let rewritten = matches!(statement, Statement::Engine { rewritten: true, .. });
        let catalog = rewritten.then(|| self.client.catalog.clone());
        async move {
            match catalog {
                Some(catalog) => Ok(catalog.look().await?),
                None => Ok(()),
            }
        }
    }

    /// Runs a statement up to where it gives rows.
    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
    ) -> Result<Outcome, Stop> {
        self.check_transaction(statement)?;
        self.enter_series(statement).await?;
        self.look(statement).await?;
        match statement {
            Statement::Own(command) => Ok(self.control(command, parameters).await?),
            Statement::Engine { parsed, rewritten } => {
                self.check_read_only(parsed)?;
                let outcome = self.connection.execute(parsed, parameters).await;
                Ok(outcome.map_err(|e| {
                    let failure = Failure::from(e);
                    if *rewritten { failure.without_position() } else { failure }
                })?)
            }
        }
    }
}

/// A statement that is giving rows.
pub(super) struct Running {
    pub(super) tag: String,
    pub(super) stream: SendableRecordBatchStream,
    /// What the client was told of the columns.
    pub(super) schema: SchemaRef,
    pub(super) formats: Formats,
    /// Keeps the answer, from its first row on.
    pub(super) recording: Option<Recording>,
}
