//! A server and workers in processes of their own, which can be killed, stopped and cut off.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::http::{Process, get, until};

/// How a worker is started.
#[derive(Clone, Default)]
pub(crate) struct Place {
    /// What stands before the command: `ip netns exec …`.
    pub(crate) within: Vec<String>,
    /// Where it listens; a port of its own on this machine if nothing is said.
    pub(crate) address: Option<String>,
    /// More arguments.
    pub(crate) arguments: Vec<String>,
    /// Its environment's variables.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// A worker in a process of its own, dead at the end of the test.
pub(crate) struct Worker {
    child: Option<Child>,
    address: String,
    place: Place,
    folder: PathBuf,
}

impl Worker {
    pub(crate) async fn start(folder: PathBuf, place: Place) -> Self {
        let address = place.address.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let mut worker = Worker { child: None, address, place, folder };
        worker.again().await;
        worker
    }

    /// Starts it, at the address that it had before.
    pub(crate) async fn again(&mut self) {
        let out = self.folder.join(format!("{}.out", self.address.replace(':', "-")));
        let program = env!("CARGO_BIN_EXE_toplake").to_owned();
        let mut words = self.place.within.iter().cloned().chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command.args(["worker", "--listen", &self.address, "--http", "off", "--memory", "256MB"]);
        command.args(&self.place.arguments).envs(self.place.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let text = || std::fs::read_to_string(&out).unwrap_or_default();
        until("the worker listens", async || text().trim_end().contains(" on ")).await;
        self.address = text().trim_end().rsplit_once(" on ").unwrap().1.to_owned();
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// A server with workers, all in processes of their own, and a client.
pub(crate) struct Machines {
    pub(crate) server: Process,
    client: Client,
    pub(crate) workers: Vec<Worker>,
    _folder: tempfile::TempDir,
}

impl Machines {
    /// So many workers on this machine.
    pub(crate) async fn start(warehouse: &str, workers: usize) -> Self {
        Self::at(warehouse, vec![Place::default(); workers], &[], &[]).await
    }

    /// A worker at each place, and a server with these arguments and variables before them. All that reads files is spread.
    pub(crate) async fn at(
        warehouse: &str,
        places: Vec<Place>,
        arguments: &[&str],
        variables: &[(&'static str, String)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut workers = vec![];
        for (i, place) in places.into_iter().enumerate() {
            let own = folder.path().join(i.to_string());
            std::fs::create_dir(&own).unwrap();
            workers.push(Worker::start(own, place).await);
        }
        let addresses: Vec<&str> = workers.iter().map(|w| w.address.as_str()).collect();
        let addresses = addresses.join(",");
        let mut all = vec!["serve", "--warehouse", warehouse, "--workers", &addresses];
        all.extend(["--cluster-bytes-per-task", "1", "--refresh-every", "0", "--upkeep-every", "0"]);
        all.extend(arguments);
        let server = Process::with(&all, variables).await;
        let client = connect(server.pg.port()).await.unwrap();
        let machines = Machines { server, client, workers, _folder: folder };
        machines.all_live().await;
        machines
    }

    pub(crate) async fn all_live(&self) {
        let wanted = self.workers.len().to_string();
        until("all workers take part", async || {
            self.value("SELECT count(*) FROM toplake.workers WHERE state = 'live'").await.unwrap() == wanted
        })
        .await;
    }

    /// The first value of a query, or the SQLSTATE of what went wrong.
    pub(crate) async fn value(&self, sql: &str) -> Result<String, String> {
        value(&self.client, sql).await
    }

    /// What the server has counted so far under this name, labels and all.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let text = get(self.server.http, "/metrics", None).await.body;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// Another client.
    pub(crate) async fn connect(&self) -> Client {
        connect(self.server.pg.port()).await.unwrap()
    }
}

/// A client of the server at a port of this machine.
pub(crate) async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let config = format!("host=127.0.0.1 port={port} user=toplake dbname=toplake");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn value(client: &Client, sql: &str) -> Result<String, String> {
    let messages = client.simple_query(sql).await.map_err(|e| match e.as_db_error() {
        Some(e) => format!("{}: {}", e.code().code(), e.message()),
        None => format!("the connection broke: {e}"),
    })?;
    let rows = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(rows.unwrap_or_default())
}
