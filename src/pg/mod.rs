//! The PostgreSQL front end: what psql, drivers and BI tools talk to.
//!
//! # Layout
//!
//! A connection's life, and where each part of it is:
//!
//! - [`serve`] accepts it, and drains all connections at the server's end;
//! - `wire` reads frames and writes messages, `message` decodes what a client sends, `error` says what went wrong;
//! - `startup` greets it, and takes cancel requests (`cancel` knows the running sessions); [`Tls`] encrypts it, and
//!   [`Users`] finds out who it is, by `scram`;
//! - `session` waits for messages and guards the work for each: a cancel request, `statement_timeout` and a closed
//!   connection drop it;
//! - `split` cuts a query string into statements; `command` picks those that concern the connection (transactions,
//!   [`Settings`], prepared statements), which `control` runs; everything else is the engine's: [`Connection`];
//! - `series` has INSERTs that are sent together make one commit;
//! - `modes` has what transactions may be: READ ONLY;
//! - `simple` and `extended` are the two protocols; `by_name` has PREPARE and EXECUTE of SQL;
//! - `prepared` keeps statements, `portals` keeps results that are being given; `cursor` has DECLARE and FETCH;
//! - `copy` takes and gives rows in bulk: COPY;
//! - `answers` keeps what was answered while it stays true;
//! - `params` reads parameters, `encode` writes rows, `types` maps types;
//! - [`describe_plan`] helps an engine to say what a statement is;
//! - [`catalog`] has `pg_catalog`, its functions, and the rewriting of what clients ask of it; `activity` says what each
//!   connection does.
//!
//! Rows go from the engine's stream into the connection's buffer and from there to the socket, which the stream waits
//! for: a slow client slows its own query, and holds a batch and a buffer of it.

pub mod catalog;

mod activity;
mod answers;
mod by_name;
mod cancel;
mod casts;
mod command;
mod control;
mod copy;
mod cursor;
mod encode;
mod error;
mod extended;
mod message;
mod modes;
mod params;
mod portals;
mod prepared;
mod scram;
mod series;
mod session;
mod settings;
mod simple;
mod startup;
mod tls;
mod types;
mod users;
mod wire;

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::scalar::ScalarValue;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::catalog::privileges::Role;
use crate::error::Result;
pub use crate::statement::{Description, Outcome, Stamp, describe_plan};

pub use self::cancel::Sessions;
pub use self::catalog::{Catalog, register_pg_catalog, register_pg_catalog_of};
pub use self::scram::Verifier;
pub use self::settings::{SERVER_VERSION, Settings};
pub use self::tls::Tls;
pub use self::users::{User, Users};

/// What the front end needs of the engine: a [`Connection`] for each client.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Opens a session. An error ends the connection and is told to the client.
    async fn connect(&self, client: &Client) -> Result<Arc<dyn Connection>>;

    /// The memory that answers may be kept in; without it none are.
    fn memory(&self) -> Option<Arc<dyn MemoryPool>> {
        None
    }
}

/// Who connects.
#[derive(Debug, Clone)]
pub struct Client {
    /// The user that the client says it is, and has proved to be where users are configured.
    pub user: String,
    /// What the user may do.
    pub role: Role,
    /// Everybody who may connect.
    pub users: Arc<Users>,
    /// The database that it asks for.
    pub database: String,
    /// The session's PostgreSQL settings, shared with its functions and catalog tables.
    pub settings: Arc<Settings>,
    /// Other settings that it asks for, which the front end does not know (`datafusion.…`, `toplake.…`).
    pub options: Vec<(String, String)>,
    /// The number that names the connection: `pg_backend_pid()`.
    pub pid: i32,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What the session has prepared.
    pub prepared: Arc<prepared::Shown>,
    /// The sessions of the process.
    pub sessions: Sessions,
    /// The session's `pg_catalog`, from when it is registered.
    pub catalog: Catalog,
}

impl Client {
    /// A client in this process, which may do everything, with the settings of a new session.
    pub fn local(user: &str, database: &str) -> Self {
        Client {
            user: user.to_owned(),
            role: Role::Admin,
            users: Default::default(),
            database: database.to_owned(),
            settings: Arc::new(Settings::new(user)),
            options: Vec::new(),
            pid: 0,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            prepared: Default::default(),
            sessions: Sessions::default(),
            catalog: Catalog::default(),
        }
    }
}

/// A session of the engine. Statements come one at a time; dropping a call's future, or the stream that it gave, stops
/// the work.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Parses one statement, without planning it. What it gives is remembered for the other connections of the engine
    /// too. An error carries a position in `sql` where known.
    fn parse(&self, sql: &str) -> Result<Parsed>;

    /// Plans a statement. `hints` are types that the client declared for its first parameters.
    async fn describe(&self, statement: &Parsed, hints: &[Option<DataType>]) -> Result<Description>;

    /// Runs a statement with values for `$1`, `$2`, …
    async fn execute(&self, statement: &Parsed, parameters: &[ScalarValue]) -> Result<Outcome>;

    /// The rows of a query string, if they are known without parsing it.
    fn at_hand(&self, _text: &str) -> Result<Option<Outcome>> {
        Ok(None)
    }

    /// Whether an answer with this stamp, which perhaps another connection was given, is what this one would get now for a
    /// statement of the same text, parameters and time zone.
    fn shares(&self, _stamp: &Stamp) -> bool {
        false
    }

    /// A setting of the session has a new value (names as in [`Settings`], in lower case).
    async fn setting_changed(&self, _name: &str, _value: &str) -> Result<()> {
        Ok(())
    }

    /// Work on a message of the client begins.
    fn started(&self) {}

    /// Stops that work, whose future is dropped then. False if it is too late: what it has written is being committed, and
    /// its future says what became of it.
    fn stop(&self) -> bool {
        true
    }

    /// What a statement is to a transaction.
    fn part(&self, _statement: &Parsed) -> Part {
        Part::Alone
    }

    /// A transaction begins, goes a step, or ends. It is over after [`Transaction::Commit`] also if that fails.
    async fn transaction(&self, _step: Transaction) -> Result<()> {
        Ok(())
    }
}

/// What a statement is to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// It reads.
    Reads,
    /// It adds rows to this table.
    Inserts(String),
    /// It commits by itself, or is not part of any transaction.
    Alone,
}

/// A step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// It begins.
    Begin,
    /// What was written is to be kept.
    Commit,
    /// What was written is to be dropped.
    Rollback,
    /// What is written so far is to be remembered under this name.
    Savepoint(String),
    /// A savepoint is to be forgotten.
    Release(String),
    /// What was written since a savepoint is to be dropped.
    RollbackTo(String),
}

/// A statement as the engine parsed it.
#[derive(Clone)]
pub struct Parsed {
    sql: String,
    payload: Option<Arc<dyn Any + Send + Sync>>,
}

impl Parsed {
    /// A statement of which only the text is kept.
    pub fn new(sql: impl Into<String>) -> Self {
        Parsed { sql: sql.into(), payload: None }
    }

    /// Adds whatever saves the engine parsing it again.
    pub fn with_payload(mut self, payload: Arc<dyn Any + Send + Sync>) -> Self {
        self.payload = Some(payload);
        self
    }

    /// The statement's text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// What was added by [`Parsed::with_payload`].
    pub fn payload<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.payload.as_deref()?.downcast_ref()
    }
}

/// Who may connect, how, and how many.
#[derive(Clone)]
pub struct Options {
    /// Who may connect. Without users that is whoever is on this machine.
    pub users: Arc<Users>,
    /// The certificate; without one nothing is encrypted.
    pub tls: Option<Tls>,
    /// Which connections have to be encrypted.
    pub require_tls: RequireTls,
    /// More connections at once than this are refused.
    pub max_connections: usize,
    /// So many of them are for admins only, so that one can come in and see to it.
    pub reserved_connections: usize,
    /// How long running statements may go on after the shutdown begins.
    pub drain: Duration,
    /// Where the sessions are counted.
    pub sessions: Sessions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            users: Default::default(),
            tls: None,
            require_tls: RequireTls::default(),
            max_connections: 1_000,
            reserved_connections: 3,
            drain: Duration::from_secs(10),
            sessions: Sessions::default(),
        }
    }
}

/// Which connections have to be encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequireTls {
    /// Those from other machines.
    #[default]
    Remote,
    /// All.
    Always,
    /// None.
    Never,
}

/// Serves PostgreSQL clients until `shutdown` ends, with the default [`Options`].
pub async fn serve(
    listener: TcpListener,
    engine: Arc<dyn Engine>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_with(listener, engine, Options::default(), shutdown).await
}

/// Serves PostgreSQL clients until `shutdown` ends; then nobody new is let in, idle clients are sent away, and running
/// statements may finish within [`Options::drain`].
pub async fn serve_with(
    listener: TcpListener,
    engine: Arc<dyn Engine>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let sessions = options.sessions.clone();
    let answers = answers::Answers::new(engine.memory().as_ref());
    let (drain, max_connections) = (options.drain, options.max_connections);
    let options = Arc::new(options);
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => {
                if let Err(e) = ended {
                    tracing::error!("a connection's task failed: {e}");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((socket, address)) => {
                    // Whoever has not said who it is yet needs room, too, and strangers get so much and no more.
                    let full = tasks.len() >= 2 * max_connections;
                    let door = startup::Door {
                        engine: Arc::clone(&engine),
                        options: Arc::clone(&options),
                        sessions: sessions.clone(),
                        answers: answers.clone(),
                        stopping: stopping.clone(),
                        full,
                    };
                    tasks.spawn(startup::welcome(socket, address, door));
                }
                // Usually too many open files: the listener is fine, so wait for some to be closed.
                Err(e) => {
                    tracing::warn!("a connection could not be accepted: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!("{} connections did not end in time and are cut off", tasks.len());
        tasks.shutdown().await;
    }
    Ok(())
}
