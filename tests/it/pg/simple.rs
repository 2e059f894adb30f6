//! The simple protocol, settings, transactions, errors, cancelling.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::engine::OPEN;
use super::{Server, keep_cancelling, sqlstate, text, texts};

#[tokio::test(flavor = "multi_thread")]
async fn several_statements_in_one_string() {
    let server = Server::start().await;
    let client = server.connect().await;
    let sql = "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, ';'), (2, NULL); SELECT * FROM t ORDER BY a;";
    let messages = client.simple_query(sql).await.unwrap();
    let counts: Vec<u64> = messages
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::CommandComplete(n) => Some(*n),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [0, 2, 2]);
    assert_eq!(texts(&client, "SELECT b FROM t ORDER BY a").await, [vec![Some(";".to_owned())], vec![None]]);
    assert!(texts(&client, " ; -- nothing\n").await.is_empty());

    // The first error ends it: what is in front is done, what is behind is not.
    let error =
        client.simple_query("INSERT INTO t VALUES (3, 'x'); SELECT 1/0; INSERT INTO t VALUES (4, 'y')").await;
    assert_eq!(error.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(text(&client, "SELECT max(a) FROM t").await, "3");
    // One that does not parse lets nothing be done.
    let error = client.simple_query("INSERT INTO t VALUES (5, 'é'); SELECT 1 FORM t; SELECT 2").await;
    let error = error.unwrap_err();
    let db = error.as_db_error().unwrap();
    assert_eq!(db.code().code(), "42601");
    assert_eq!(text(&client, "SELECT max(a) FROM t").await, "3");
    let error = client.simple_query("SELECT 'é'; SELECT * FORM t").await.unwrap_err();
    let position = error.as_db_error().unwrap().position().cloned();
    assert_eq!(position, Some(tokio_postgres::error::ErrorPosition::Original(27)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_code_and_a_hint() {
    let server = Server::start().await;
    let client = server.connect().await;
    for (sql, code) in [
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM (SELECT 1 AS a)", "42703"),
        ("SELECT no_such_function(1)", "42883"),
        ("SELEC 1", "42601"),
        ("SELECT 1/0", "22012"),
        ("SET nonsense = 1", "42704"),
        ("SHOW nonsense", "42704"),
        ("SET client_encoding = 'LATIN1'", "22023"),
        ("DEALLOCATE nothing", "26000"),
        ("SAVEPOINT a", "25P01"),
    ] {
        assert_eq!(sqlstate(&client, sql).await, code, "{sql}");
    }
    let error = client.simple_query("SELECT 1 AS hints_for_errors").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(
        (error.code().code(), error.message(), error.hint()),
        ("53200", "no memory", Some("buy some"))
    );
    // The connection lives on.
    assert_eq!(text(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_session() {
    let server = Server::start().await;
    let client = server.connect_with("application_name=tests options='-c statement_timeout=90000'").await;
    for (name, value) in [
        ("application_name", "tests"),
        ("statement_timeout", "90s"),
        ("server_version", "15.0"),
        ("client_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("TIME ZONE", "UTC"),
        ("TRANSACTION ISOLATION LEVEL", "read committed"),
        ("search_path", "\"$user\", public"),
    ] {
        assert_eq!(text(&client, &format!("SHOW {name}")).await, value, "{name}");
    }
    client.batch_execute("SET application_name TO 'other'; SET TIME ZONE 'Asia/Kolkata'").await.unwrap();
    assert_eq!(text(&client, "SHOW application_name").await, "other");
    assert_eq!(text(&client, "SELECT current_setting('timezone')").await, "Asia/Kolkata");
    assert_eq!(text(&client, "SELECT TIMESTAMPTZ '2024-01-01 00:00:00Z'").await, "2024-01-01 05:30:00+05:30");
    client.batch_execute("RESET ALL").await.unwrap();
    assert_eq!(text(&client, "SHOW application_name").await, "tests");
    assert_eq!(text(&client, "SHOW timezone").await, "UTC");
    assert!(texts(&client, "SHOW ALL").await.len() > 30);
    // The engine's own settings go to the engine.
    client.batch_execute("SET datafusion.execution.batch_size = 17").await.unwrap();
    assert_eq!(texts(&client, "SHOW datafusion.execution.batch_size").await[0][1].as_deref(), Some("17"));
    assert_eq!(text(&client, "SELECT current_user").await, "tester");
    assert_eq!(text(&client, "SELECT set_config('application_name', 'x', false)").await, "x");
    assert_eq!(text(&client, "SHOW application_name").await, "x");
    client.batch_execute("DISCARD ALL; LISTEN x; UNLISTEN *").await.unwrap();
    assert_eq!(text(&client, "SHOW application_name").await, "tests");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_drivers_open() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a INT)").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    assert_eq!(transaction.query("SELECT * FROM t", &[]).await.unwrap().len(), 1);
    transaction.commit().await.unwrap();

    client.batch_execute("BEGIN; SET application_name = 'inside'").await.unwrap();
    assert_eq!(sqlstate(&client, "SELECT * FROM nowhere").await, "42P01");
    assert_eq!(sqlstate(&client, "SELECT 1").await, "25P02");
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().code().unwrap().code(), "25P02");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(text(&client, "SHOW application_name").await, "");
    // Not in a transaction: a warning, and no error.
    client.batch_execute("ROLLBACK; START TRANSACTION READ ONLY; BEGIN; END").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled() {
    let server = Server::start().await;
    let client = server.connect().await;
    let cancel = client.cancel_token();
    let started = Instant::now();
    let cancelling = keep_cancelling(cancel);
    assert_eq!(sqlstate(&client, "SELECT 1 AS slow_rows").await, "57014");
    cancelling.abort();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(text(&client, "SELECT 2").await, "2");

    // A request that comes too late does no harm, nor one with a wrong secret.
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    assert_eq!(text(&client, "SELECT 3").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_only_so_much_time() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    for sql in ["SELECT 1 AS slow_planning", "SELECT 1 AS slow_rows"] {
        let started = Instant::now();
        let error = client.simple_query(sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "57014");
        assert_eq!(error.message(), "canceling statement due to statement timeout");
        assert!(started.elapsed() < Duration::from_secs(20));
        // In the extended protocol too.
        assert_eq!(client.query(sql, &[]).await.unwrap_err().code().unwrap().code(), "57014");
    }
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    assert_eq!(text(&client, "SELECT 2").await, "2");
}

/// The first messages of a client that speaks by hand.
async fn raw(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"N");
    socket.write_all(b"\0\0\0\x15\0\x03\0\0user\0tester\0\0").await.unwrap_or_default();
    socket
}

async fn send(socket: &mut TcpStream, kind: u8, body: &[u8]) {
    let mut frame = vec![kind];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    socket.write_all(&frame).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_stops_the_work() {
    let server = Server::start().await;
    let mut socket = raw(&server).await;
    let before = OPEN.load(Ordering::SeqCst);
    send(&mut socket, b'Q', b"SELECT 'closed' AS slow_rows\0").await;
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + Duration::from_secs(10);
    while OPEN.load(Ordering::SeqCst) <= before && Instant::now() < deadline {
        let _ = tokio::time::timeout(Duration::from_millis(50), socket.read(&mut buffer)).await;
    }
    drop(socket);
    // Other tests open and close streams meanwhile, so wait for a moment without any.
    while OPEN.load(Ordering::SeqCst) > before {
        assert!(Instant::now() < deadline, "the stream was not dropped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_end_the_connection_and_nothing_else() {
    let server = Server::start().await;
    let broken: [&[u8]; 6] = [
        b"\0\0\0\x04",
        b"\0\0\0\x09\xff\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\x05hello",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x0c\0\x03\0\0user",
    ];
    for bytes in broken {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.expect("hangs");
    }
    for (kind, body) in
        [(b'Z', &b""[..]), (b'B', b"\0\0\xff\xff"), (b'Q', b"no end"), (b'P', b"\xff\0\0\0\0")]
    {
        let mut socket = raw(&server).await;
        send(&mut socket, kind, body).await;
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await;
        let _ = read.expect("hangs");
        assert!(rest.windows(5).any(|w| w == b"FATAL"), "{}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(text(&server.connect().await, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_drains() {
    let server = Server::start().await;
    let idle = server.connect().await;
    let client = server.connect().await;
    client.batch_execute("SET statement_timeout = '700ms'").await.unwrap();
    let running = tokio::spawn(async move { client.simple_query("SELECT 1 AS slow_rows").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let port = server.port;
    server.stop().await;
    // What ran could go on to its end.
    assert_eq!(running.await.unwrap().unwrap_err().code().unwrap().code(), "57014");
    let error = idle.simple_query("SELECT 1").await.unwrap_err();
    assert!(error.is_closed() || error.code().is_some_and(|c| c.code() == "57P01"), "{error:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_connect() {
    let server = Server::start().await;
    for (more, code) in [("dbname=nowhere", "22023"), ("options='-c nonsense=1'", "42704")] {
        let config = format!("host=127.0.0.1 port={} user=tester {more}", server.port);
        let error = tokio_postgres::connect(&config, NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), code, "{more}");
    }
}
