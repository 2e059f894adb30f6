//! Statements that are sent together and not between BEGIN and COMMIT, over a warehouse.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use toplake::app::Front;

use crate::harness::{Desk, Home, soon};

/// Messages of a pipeline.
#[derive(Default)]
struct Pipeline(Vec<u8>);

impl Pipeline {
    fn message(&mut self, kind: u8, body: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        self.0.extend_from_slice(body);
    }

    /// Parse, Bind, Execute.
    fn run(&mut self, sql: &str) {
        self.message(b'P', format!("\0{sql}\0\0\0").as_bytes());
        self.message(b'B', b"\0\0\0\0\0\0\0\0");
        self.message(b'E', b"\0\0\0\0\0");
    }

    fn sync(&mut self) {
        self.message(b'S', b"");
    }
}

async fn connect(desk: &Desk) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
    tokio::spawn(toplake::pg::serve(listener, front, std::future::pending()));
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = b"\x00\x03\x00\x00user\0toplake\0\0";
    socket.write_all(&(body.len() as i32 + 4).to_be_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    answers(&mut socket).await;
    socket
}

/// Tags of what was done and SQLSTATEs of what failed, up to ReadyForQuery.
async fn answers(socket: &mut TcpStream) -> Vec<String> {
    soon(async {
        let mut found = vec![];
        loop {
            let kind = socket.read_u8().await.unwrap();
            let mut body = vec![0; socket.read_i32().await.unwrap() as usize - 4];
            socket.read_exact(&mut body).await.unwrap();
            let text = String::from_utf8_lossy(&body).into_owned();
            match kind {
                b'C' => found.push(text.trim_end_matches('\0').to_owned()),
                b'E' => found.push(text.split('\0').find_map(|f| f.strip_prefix('C')).unwrap().to_owned()),
                b'Z' => return found,
                _ => {}
            }
        }
    })
    .await
}

async fn send(socket: &mut TcpStream, build: impl FnOnce(&mut Pipeline)) -> Vec<String> {
    let mut pipeline = Pipeline::default();
    build(&mut pipeline);
    pipeline.sync();
    socket.write_all(&pipeline.0).await.unwrap();
    answers(socket).await
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_of_a_pipeline_are_one_commit_or_nothing() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE a (n BIGINT NOT NULL); CREATE TABLE b (n BIGINT)").await;
    let mut socket = connect(&desk).await;
    let version = || async { desk.table("a").await.update().await.unwrap().version };
    let count = |table: &'static str| {
        desk.value(if table == "a" { "SELECT count(*) FROM a" } else { "SELECT count(*) FROM b" })
    };

    let before = version().await;
    let done =
        send(&mut socket, |p| (0..50).for_each(|n| p.run(&format!("INSERT INTO a VALUES ({n})")))).await;
    assert_eq!((done.len(), done[49].as_str()), (50, "INSERT 0 1"));
    assert_eq!((version().await, count("a").await.as_str()), (before + 1, "50"));

    // What was written before it is seen by a query among them.
    let done = send(&mut socket, |p| {
        p.run("INSERT INTO a VALUES (1)");
        p.run("SELECT n FROM a");
        p.run("INSERT INTO a VALUES (2)");
    })
    .await;
    assert_eq!(done, ["INSERT 0 1", "SELECT 51", "INSERT 0 1"]);
    assert_eq!((version().await, count("a").await.as_str()), (before + 2, "52"));

    // An error takes back all of them; what comes after it is passed over.
    let done = send(&mut socket, |p| {
        p.run("INSERT INTO a VALUES (3)");
        p.run("INSERT INTO a VALUES (NULL)");
        p.run("INSERT INTO a VALUES (4)");
    })
    .await;
    assert_eq!(done, ["INSERT 0 1", "23502"]);
    assert_eq!((version().await, count("a").await.as_str()), (before + 2, "52"));

    // Another table, and what commits by itself, begin anew.
    let done = send(&mut socket, |p| {
        p.run("INSERT INTO a VALUES (5)");
        p.run("INSERT INTO b VALUES (5)");
        p.run("CREATE TABLE c (n BIGINT)");
        p.run("INSERT INTO b VALUES (6)");
        p.run("SELECT nothing");
    })
    .await;
    assert_eq!(done[..4], ["INSERT 0 1", "INSERT 0 1", "CREATE TABLE", "INSERT 0 1"]);
    assert_eq!(
        (done[4].as_str(), count("a").await.as_str(), count("b").await.as_str()),
        ("42703", "53", "1")
    );
    assert_eq!(send(&mut socket, |p| p.run("INSERT INTO b VALUES (7)")).await, ["INSERT 0 1"]);
    assert_eq!(count("b").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_of_one_query_string_are_one_commit_or_nothing() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE a (n BIGINT NOT NULL)").await;
    let mut socket = connect(&desk).await;
    let before = desk.table("a").await.update().await.unwrap().version;
    for (sql, expected) in [
        (
            "INSERT INTO a VALUES (1); INSERT INTO a VALUES (2); SELECT * FROM a",
            vec!["INSERT 0 1", "INSERT 0 1", "SELECT 2"],
        ),
        ("INSERT INTO a VALUES (3); INSERT INTO a VALUES (NULL)", vec!["INSERT 0 1", "23502"]),
        (
            "INSERT INTO a VALUES (4); BEGIN; INSERT INTO a VALUES (5); ROLLBACK",
            vec!["INSERT 0 1", "BEGIN", "INSERT 0 1", "ROLLBACK"],
        ),
    ] {
        let mut pipeline = Pipeline::default();
        pipeline.message(b'Q', format!("{sql}\0").as_bytes());
        socket.write_all(&pipeline.0).await.unwrap();
        assert_eq!(answers(&mut socket).await, expected, "{sql}");
    }
    assert_eq!(desk.table("a").await.update().await.unwrap().version, before + 2);
    assert_eq!(desk.value("SELECT sum(n) FROM a").await, "7");
}
