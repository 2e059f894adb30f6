//! Who gets in, and what they may do then.

mod escape;
mod limits;
mod passwords;
mod rights;
pub(crate) mod tls;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_postgres::{Client, NoTls};
use toplake::app::{Bounds, Front};
use toplake::catalog::privileges::Role;
use toplake::catalog::warehouse::Warehouse;
use toplake::pg::{Options, User, Users, Verifier, serve_with};
use toplake::session::Engine;
use toplake::statement::Session;
use toplake::workload::Resources;

use crate::harness::{Desk, Home};

/// What a server is started with.
struct Setup {
    options: Options,
    bounds: Bounds,
    resources: Resources,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            options: Options::default(),
            bounds: Bounds::default(),
            resources: Resources::with_memory(512 << 20),
        }
    }
}

/// A server in this process, over a warehouse of its own.
pub(crate) struct Server {
    home: Home,
    /// A session that may do everything, beside the server's.
    pub(crate) desk: Desk,
    pub(crate) port: u16,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Server {
        Self::start_with(Setup { options, ..Default::default() }).await
    }

    async fn start_with(setup: Setup) -> Server {
        let home = Home::new();
        let warehouse = Warehouse::open(&home.location()).await.unwrap();
        let engine = Engine::within(warehouse, &setup.resources).unwrap();
        let session = Session::new(engine.context(), Arc::clone(engine.warehouse()));
        let desk = Desk { engine, session };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let front = Front::within(desk.engine.clone(), setup.bounds);
        tokio::spawn(async move {
            serve_with(listener, front, setup.options, async { drop(stopped.await) }).await.unwrap()
        });
        Server { home, desk, port, stop: Some(stop) }
    }

    /// Connects without encryption.
    async fn try_connect(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname("toplake");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs psql with a connection string; `None` where there is no psql and this is not CI.
    fn psql(&self, connection: &str, sql: &str) -> Option<Result<String, String>> {
        let connection = format!("hostaddr=127.0.0.1 port={} dbname=toplake {connection}", self.port);
        psql(&connection, sql)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// What psql prints, or what it complains of.
fn psql(connection: &str, sql: &str) -> Option<Result<String, String>> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-w", "-c", sql, connection])
        .env("PGCONNECT_TIMEOUT", "10")
        .output();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    match output {
        Ok(output) if output.status.success() => Some(Ok(text(output.stdout))),
        Ok(output) => Some(Err(text(output.stderr))),
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
            None
        }
    }
}

/// Users whose password is their name with an exclamation mark.
pub(crate) fn users(users: &[(&str, Role)]) -> Arc<Users> {
    let user = |(name, role): &(&str, Role)| User {
        name: (*name).to_owned(),
        verifier: Verifier::of(&format!("{name}!")),
        role: *role,
    };
    Arc::new(Users::new(users.iter().map(user)).unwrap())
}

/// The SQLSTATE and the message of what a client was told.
fn told(e: &tokio_postgres::Error) -> (String, String) {
    let e = e.as_db_error().unwrap_or_else(|| panic!("{e}"));
    (e.code().code().to_owned(), e.message().to_owned())
}

/// Files of a test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}
