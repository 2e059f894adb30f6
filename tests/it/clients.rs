//! Drivers and tools of other languages, each a program in `tests/clients/`, against a server with passwords and TLS.
//!
//! A program finds the server by libpq's environment variables, in a warehouse that `tests/clients/fixture.sql` has
//! filled. It prints a line `ok NAME` for each check that held and `not ok NAME: why` for each that did not, and exits
//! with 1 if any failed.

mod go;
mod java;
mod javascript;
mod postgres_fdw;
mod python;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use toplake::catalog::privileges::Role;
use toplake::pg::{Options, RequireTls};

use crate::security::tls::Paper;
use crate::security::{Server, users};

/// What every client has to do.
const CHECKS: [&str; 10] =
    ["connect", "metadata", "types", "large", "cancel", "error", "copy", "transaction", "batch", "pool"];

/// So long may a client's program take, or the installation of what it needs.
const TIME: Duration = Duration::from_secs(300);

/// A server that clients can be run against.
struct Matrix {
    server: Server,
    paper: Paper,
}

impl Matrix {
    async fn start() -> Matrix {
        let paper = Paper::new();
        let server = Server::start(Options {
            users: users(&[("ann", Role::Admin)]),
            tls: Some(paper.tls()),
            require_tls: RequireTls::Always,
            ..Default::default()
        })
        .await;
        let fixture = fs::read_to_string(source("fixture.sql")).unwrap();
        server.desk.run(&fixture).await;
        Matrix { server, paper }
    }

    /// Runs a client, which has to exit with 0 and to have printed `ok` for each of these checks.
    async fn run(&self, mut client: Command, checks: &[&str]) {
        client
            .env("PGHOST", "localhost")
            .env("PGPORT", self.server.port.to_string())
            .env("PGDATABASE", "toplake")
            .env("PGUSER", "ann")
            .env("PGPASSWORD", "ann!")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &self.paper.authority);
        let ended = tokio::task::spawn_blocking(move || run(&mut client)).await.unwrap();
        let output = ended.unwrap_or_else(|output| panic!("the client failed or took too long:\n{output}"));
        println!("{output}");
        for check in checks {
            let line = format!("ok {check}");
            assert!(output.lines().any(|l| l == line), "there is no line '{line}' in\n{output}");
        }
    }
}

/// A file of `tests/clients/`.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// Makes a folder of the target folder by `install`, once for each content of the manifest. `None` where it cannot be made,
/// which is a failure where CI runs the tests.
fn installed(
    name: &str,
    manifest: &[PathBuf],
    install: impl FnOnce(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let texts: String = manifest.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == texts) {
        return Some(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    match install(&folder) {
        Ok(()) => {
            fs::write(stamp, texts).unwrap();
            Some(folder)
        }
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "{name} cannot be installed: {e}");
            eprintln!("left out: {name} cannot be installed: {e}");
            None
        }
    }
}

/// Runs a program that has to succeed, and gives what it wrote to both of its outputs; an error is that too.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
    let (lines, written) = mpsc::channel();
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|output| Box::new(output) as _),
        child.stderr.take().map(|output| Box::new(output) as _),
    ];
    for output in outputs.into_iter().flatten() {
        let lines = lines.clone();
        std::thread::spawn(move || {
            let read = BufReader::new(output).split(b'\n').map_while(Result::ok);
            read.map(|line| lines.send(line)).all(|sent| sent.is_ok())
        });
    }
    drop(lines);
    let deadline = Instant::now() + TIME;
    let mut output = String::new();
    let in_time = loop {
        match written.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => output += &format!("{}\n", String::from_utf8_lossy(&line)),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !in_time {
        output += &format!("{name} was not done in {TIME:?}\n");
        let _ = child.kill();
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => Err(format!("{output}{name}: {status}")),
        Err(e) => Err(format!("{output}{name}: {e}")),
    }
}
