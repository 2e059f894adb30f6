//! Passwords.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toplake::catalog::privileges::Role;
use toplake::pg::Options;

use super::{Files, Server, psql, told, users};
use crate::harness::{Home, soon};

async fn server() -> Server {
    let users = users(&[("ann", Role::Admin), ("rita", Role::Reader)]);
    Server::start(Options { users, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_lets_in_and_nothing_else_does() {
    let server = server().await;
    for (user, superuser) in [("ann", "on"), ("rita", "off")] {
        let client = server.try_connect(user, &format!("{user}!")).await.unwrap();
        let shown = client.query_one("SELECT current_user, 1", &[]).await.unwrap();
        assert_eq!(shown.get::<_, &str>(0), user);
        let shown = client.query_one("SHOW is_superuser", &[]).await.unwrap();
        assert_eq!(shown.get::<_, &str>(0), superuser);
    }
    for (user, password) in [("ann", "rita!"), ("ann", "ann"), ("nobody", "ann!"), ("Ann", "ann!")] {
        let (state, message) = told(&server.try_connect(user, password).await.err().unwrap());
        let expected = format!("password authentication failed for user \"{user}\"");
        assert_eq!((state.as_str(), message), ("28P01", expected));
    }
}

/// Talks to a server byte by byte, after the startup message of `ann`.
async fn raw(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let body = b"\0\x03\0\0user\0ann\0\0";
    let startup = [&(body.len() as u32 + 4).to_be_bytes(), body.as_slice()].concat();
    socket.write_all(&startup).await.unwrap();
    let offer = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    let mut answer = vec![0; offer.len()];
    soon(socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, offer);
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_prove_a_password_gets_nothing() {
    let server = server().await;
    let message =
        |kind: u8, body: &[u8]| [&[kind], (body.len() as u32 + 4).to_be_bytes().as_slice(), body].concat();
    let initial = |mechanism: &str, data: &str| {
        let length = (data.len() as u32).to_be_bytes();
        message(b'p', &[mechanism.as_bytes(), b"\0", &length, data.as_bytes()].concat())
    };
    for said in [
        message(b'Q', b"SELECT 1\0"),
        message(b'p', b"ann!\0"),
        initial("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc"),
        initial("PLAIN", "\0ann\0ann!"),
        initial("SCRAM-SHA-256", ""),
        initial("SCRAM-SHA-256", "n,,n=,r="),
        // More than anybody needs for it: no memory is given to strangers.
        [b"p".as_slice(), &0x3000_0000u32.to_be_bytes(), &[0; 5_000]].concat(),
    ] {
        let mut socket = raw(&server).await;
        socket.write_all(&said).await.unwrap();
        let mut answer = vec![];
        let _ = soon(socket.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with('E') && text.contains("FATAL") && text.contains("08P01"), "{text}");
    }
    // The proof of another exchange is none for this one.
    let mut socket = raw(&server).await;
    socket.write_all(&initial("SCRAM-SHA-256", "n,,n=,r=abc")).await.unwrap();
    let mut head = [0; 9];
    soon(socket.read_exact(&mut head)).await.unwrap();
    let mut first = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 8];
    soon(socket.read_exact(&mut first)).await.unwrap();
    let nonce = String::from_utf8(first).unwrap().split(',').next().unwrap().to_owned();
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let last = format!("c=biws,{nonce},p={proof}");
    socket.write_all(&message(b'p', last.as_bytes())).await.unwrap();
    let mut answer = vec![];
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("28P01"));
}

/// The binary; killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `toplake user` prints for a password on its standard input.
fn entry(name: &str, role: &str, password: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_toplake"))
        .args(["user", name, "--role", role])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_entry_that_is_printed_lets_its_user_in() {
    let (home, files) = (Home::new(), Files::new());
    // A soft hyphen is nothing in a password, by its standard form.
    let entries = entry("zoë \"z\"", "admin", "g\u{ad}eheim\n") + &entry("rita", "reader", "sec ret\r\n");
    assert!(!entries.contains("geheim") && !entries.contains("sec ret"), "{entries}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("warehouse = '{}'\nlisten = '0.0.0.0:{port}'\n", home.location());
    let serve = |config: &str| {
        let path = files.write("toplake.toml", config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
        command.args(["serve", "--http", "off", "--config"]).arg(path).stdout(Stdio::null());
        command
    };
    let refused = serve(&format!("{text}{entries}")).output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("no certificate"), "{error}");
    let open = format!("{text}{entries}[tls]\nrequire = false\n");
    let _server = Process(serve(&open).spawn().unwrap());
    let as_user = |user: &str, password: &str| {
        psql(
            &format!(
                "host=127.0.0.1 port={port} dbname=toplake user='{user}' password='{password}' connect_timeout=5"
            ),
            "SHOW is_superuser",
        )
    };
    let begun = Instant::now();
    loop {
        let Some(shown) = as_user("zoë \"z\"", "geheim") else { return };
        match shown {
            Ok(shown) => break assert_eq!(shown, "on"),
            Err(e) => assert!(begun.elapsed() < Duration::from_secs(120) && e.contains("refused"), "{e}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(as_user("rita", "sec ret").unwrap().as_deref(), Ok("off"));
    for password in ["secret", "geheim", ""] {
        assert!(as_user("rita", password).unwrap().is_err(), "{password}");
    }
}
