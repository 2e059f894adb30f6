//! HTTP: a server in the test's process, and a client that is a few lines of socket.

mod dashboard;
mod grafana;
mod health;
mod metrics;
mod openapi;
mod prometheus;
mod questions;
mod tokens;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use toplake::app::Front;
use toplake::http::{self, Options};
use toplake::session::Engine;

use crate::harness::soon;

/// A server, gone at the end of the test.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Web {
    pub(crate) async fn start(engine: &Engine) -> Self {
        Self::with(engine, Options::default()).await
    }

    pub(crate) async fn with(engine: &Engine, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let front: Arc<dyn http::Host> = Front::new(engine.clone());
        let task = tokio::spawn(async move {
            http::serve(listener, front, options, std::future::pending()).await.unwrap();
        });
        Web { address, task }
    }

    /// The JSON of a question that is answered.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = get(self.address, path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The status and the problem of one that is not.
    pub(crate) async fn problem(&self, path: &str) -> (u16, Value) {
        let answer = get(self.address, path, None).await;
        assert!(answer.head.to_lowercase().contains("application/problem+json"), "{path}: {}", answer.head);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer by HTTP.
pub(crate) struct Http {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks, with a token or without.
pub(crate) async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> Http {
    soon(try_get(address, path, token)).await.unwrap()
}

pub(crate) async fn try_get(address: SocketAddr, path: &str, token: Option<&str>) -> std::io::Result<Http> {
    let mut socket = TcpStream::connect(address).await?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut bytes = vec![];
    socket.read_to_end(&mut bytes).await?;
    let text = String::from_utf8(bytes).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Http { status, head: head.to_owned(), body: body.to_owned() })
}

/// Waits for what comes by itself.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(240), waiting).await.is_err() {
        panic!("still not: {what}");
    }
}

/// A server in a process of its own, dead at the end of the test. It says where it listens.
pub(crate) struct Process {
    child: Child,
    pub(crate) pg: SocketAddr,
    pub(crate) http: SocketAddr,
    log: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Process {
    /// `toplake serve`, or `toplake demo`, with these arguments and ports of its own.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::at(arguments, "127.0.0.1:0", "127.0.0.1:0").await
    }

    pub(crate) async fn at(arguments: &[&str], listen: &str, http: &str) -> Self {
        Self::spawn(arguments, listen, http, &[]).await
    }

    /// The same with variables of its environment.
    pub(crate) async fn with(arguments: &[&str], variables: &[(&'static str, String)]) -> Self {
        Self::spawn(arguments, "127.0.0.1:0", "127.0.0.1:0", variables).await
    }

    async fn spawn(
        arguments: &[&str],
        listen: &str,
        http: &str,
        variables: &[(&'static str, String)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (out, log) = (folder.path().join("out"), folder.path().join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
        command.args(arguments).args(["--listen", listen, "--http", http]).stdin(Stdio::null());
        command.envs(variables.iter().cloned());
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&log).unwrap());
        let child = parking_lot::Mutex::new(command.spawn().unwrap());
        let text = || std::fs::read_to_string(&out).unwrap_or_default();
        until("the server listens", async || {
            if let Some(status) = child.lock().try_wait().unwrap() {
                panic!("the server ended with {status}: {}", std::fs::read_to_string(&log).unwrap());
            }
            addresses(&text()).is_some()
        })
        .await;
        let (pg, http) = addresses(&text()).unwrap();
        Process { child: child.into_inner(), pg, http, log, _folder: folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends it a signal: `STOP`, `CONT`, `KILL`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server that has printed this listens: `toplake serves … on ADDRESS` and `http://ADDRESS/`; of a demo in psql's words.
fn addresses(output: &str) -> Option<(SocketAddr, SocketAddr)> {
    let http = output.split("http://").nth(1)?.split('/').next()?.parse().ok()?;
    let serve = output.lines().find(|line| line.starts_with("toplake serves "));
    let serve = serve.and_then(|line| line.rsplit_once(" on "));
    let pg = match serve {
        Some((_, address)) => address.trim().to_owned(),
        None => {
            let mut words = output.split_whitespace();
            words.find(|word| *word == "psql")?;
            let words: Vec<&str> = words.take(4).collect();
            let ["-h", host, "-p", port] = words.as_slice() else { return None };
            format!("{host}:{port}")
        }
    };
    Some((pg.parse().ok()?, http))
}

/// A program that a test needs; without it the test is skipped, on the build server it fails.
pub(crate) fn need(program: &str, hint: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is needed: {hint}");
        eprintln!("{program} is not installed ({hint}): not tested");
    }
    found
}
