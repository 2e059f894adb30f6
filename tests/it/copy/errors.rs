//! Rows that cannot be stored, loads that are broken off, and loads that are sent twice.

use bytes::Bytes;
use futures::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Server, copy_in, copy_out, db};
use crate::harness::soon;

const SALES: &str = "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product VARCHAR, quantity BIGINT, price DECIMAL(6, 2))
    WITH (time_column = 'event_time', max_future = '1 hour')";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_named_and_leaves_nothing() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute(SALES).await.unwrap();
    let good = "2026-01-01 10:00:00,P1,1,1.50\n";
    for (options, bad, code, message, place) in [
        (
            "csv",
            "2026-01-01,P1,x,1\n",
            "22P02",
            "column 'quantity': 'x' does not fit BIGINT",
            "COPY sales, line 3, column quantity: \"x\"",
        ),
        (
            "csv",
            "2026-01-01,P1,1,12345678\n",
            "22003",
            "column 'price': '12345678' does not fit DECIMAL(6, 2)",
            "COPY sales, line 3, column price: \"12345678\"",
        ),
        (
            "csv",
            "2026-01-01,P1,99999999999999999999,1\n",
            "22003",
            "does not fit BIGINT",
            "line 3, column quantity",
        ),
        (
            "csv",
            ",P1,1,1\n",
            "23502",
            "column 'event_time' may not be NULL",
            "COPY sales, line 3, column event_time: null input",
        ),
        (
            "csv",
            "2026-01-01,P1,1\n",
            "22P04",
            "missing data for column \"price\"",
            "COPY sales, line 3: \"2026-01-01,P1,1\"",
        ),
        ("csv", "2026-01-01,P1,1,1,1\n", "22P04", "extra data after last expected column", "line 3"),
        ("csv", "2026-01-01,\"P1,1,1\n", "22P04", "unterminated CSV quoted field", "line 3"),
        ("csv", "2026-01-01,P1,1,1\r\n", "22P04", "unquoted carriage return found in data", "line 3"),
        ("csv", "3026-01-01,P1,1,1\n", "22P02", "max_future", "line 3"),
        ("csv, HEADER match", "", "22P04", "column name mismatch in header line field 1", "line 1"),
    ] {
        let sql = format!("COPY sales FROM STDIN (FORMAT {options})");
        let text = format!("{good}{good}{bad}2026-01-01,P1,also bad,1\n");
        for piece in [7, 100_000] {
            let e = copy_in(&client, &sql, text.as_bytes(), piece).await.expect_err(bad);
            let e = db(&e);
            assert_eq!(e.code().code(), code, "{bad}: {e:?}");
            assert!(e.message().contains(message), "{bad}: {e:?}");
            assert!(e.where_().is_some_and(|w| w.contains(place)), "{bad}: {e:?}");
        }
    }
    let e = copy_in(&client, "COPY sales FROM STDIN", b"2026-01-01\t\xff\t1\t1\n", 100).await.unwrap_err();
    assert_eq!(db(&e).code().code(), "22021");
    for (sql, code) in [
        ("COPY sales (product) FROM STDIN", "23502"),
        ("COPY nothing FROM STDIN", "42P01"),
        ("COPY sales (nothing) FROM STDIN", "42703"),
        ("COPY sales (quantity, quantity) FROM STDIN", "42701"),
        ("COPY sales FROM STDIN (FORMAT csv, FORCE_NULL (nothing))", "42703"),
    ] {
        // A client each: this one sends a second Sync where a COPY does not even begin.
        let e = copy_in(&server.connect().await, sql, b"", 1).await.expect_err(sql);
        assert_eq!(db(&e).code().code(), code, "{sql}: {e:?}");
    }
    assert_eq!(server.desk.value("SELECT count(*) FROM sales").await, "0");
    assert_eq!(server.desk.table("sales").await.snapshot().version, 0, "a load that failed has committed");
    // The connection goes on, and no file is left that the table does not name.
    assert_eq!(copy_in(&client, "COPY sales FROM STDIN CSV", good.as_bytes(), 5).await.unwrap(), 1);
    let files = std::fs::read_dir(server.home.path("sales")).unwrap();
    let files = files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet"));
    assert_eq!(files.count(), 1, "files of loads that failed are left");
    drop(client);
    server.stop().await;
}

/// A row in binary.
fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        row.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
        row.extend_from_slice(field.unwrap_or_default());
    }
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_in_binary_is_named_and_leaves_nothing() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute(SALES).await.unwrap();
    let head = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0; 8]].concat();
    // 2026-01-01, and 1.50.
    let (time, price) = (820_540_800_000_000i64.to_be_bytes(), [0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 19, 136]);
    let (one, product) = (1i64.to_be_bytes(), b"P1".as_slice());
    let row = |quantity: &[u8]| tuple(&[Some(&time), Some(product), Some(quantity), Some(&price)]);
    let good = row(&one);
    let thousands = [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0];
    let flags = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for (data, code, message, place) in [
        (
            [&head, &good, &row(&[0, 1])].map(Vec::as_slice).concat(),
            "22P03",
            "incorrect binary data format for BIGINT",
            "COPY sales, line 2, column quantity",
        ),
        (
            [&head, &good, &tuple(&[Some(&time), Some(b"\xff"), None, None])].map(Vec::as_slice).concat(),
            "22021",
            "UTF8",
            "COPY sales, line 2, column product",
        ),
        (
            [&head, &tuple(&[Some(&time), None, None, Some(&thousands)])].map(Vec::as_slice).concat(),
            "22003",
            "does not fit DECIMAL(6, 2)",
            "COPY sales, line 1, column price",
        ),
        (
            [&head, &tuple(&[None, None, None, None])].map(Vec::as_slice).concat(),
            "23502",
            "may not be NULL",
            "COPY sales, line 1, column event_time: null input",
        ),
        (
            [&head, &good, &good, &tuple(&[Some(&time)])].map(Vec::as_slice).concat(),
            "22P04",
            "missing data for column \"product\"",
            "COPY sales, line 3",
        ),
        (
            [&head, &good, &good[..9].to_vec()].map(Vec::as_slice).concat(),
            "22P04",
            "unexpected EOF in COPY data",
            "COPY sales, line 2",
        ),
        ([&flags, &good].map(Vec::as_slice).concat(), "22P04", "critical flags", "COPY sales, line 1"),
        (b"2026-01-01,P1,1,1\n".to_vec(), "22P04", "signature not recognized", "COPY sales, line 1"),
    ] {
        for piece in [3, 100_000] {
            let e = copy_in(&client, "COPY sales FROM STDIN BINARY", &data, piece).await.expect_err(message);
            let e = db(&e);
            assert_eq!(e.code().code(), code, "{message}: {e:?}");
            assert!(e.message().contains(message), "{message}: {e:?}");
            assert_eq!(e.where_(), Some(place), "{message}: {e:?}");
        }
    }
    assert_eq!(server.desk.table("sales").await.snapshot().version, 0, "a load that failed has committed");
    // The mark at the end may be there or not.
    for end in [&[][..], &[255, 255]] {
        let data = [head.as_slice(), &good, &good, end].concat();
        for piece in [1, 100_000] {
            assert_eq!(copy_in(&client, "COPY sales FROM STDIN BINARY", &data, piece).await.unwrap(), 2);
        }
    }
    let stored = server.desk.rows("SELECT DISTINCT * FROM sales").await;
    assert_eq!(stored, ["2026-01-01T00:00:00,P1,1,1.50"]);
    client.batch_execute("CREATE TABLE pairs AS SELECT named_struct('a', 1) AS pair").await.unwrap();
    let e = copy_in(&client, "COPY pairs FROM STDIN BINARY", &head, 100).await.unwrap_err();
    assert_eq!(db(&e).code().code(), "0A000");
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_kept_apart() {
    let server = Server::start().await;
    let (client, mut notices) = server.connect_with_notices().await;
    client.batch_execute(SALES).await.unwrap();
    let text = "event_time,product,quantity,price\n2026-01-01 10:00:00,P1,1,1.50\n2026-01-01,P2,x,1\n2026-01-01 11:00:00,\"two\nlines\",2,\nshort\n,P3,1,1\n3026-01-01,P4,1,1\n";
    let sql = "COPY sales FROM STDIN (FORMAT csv, HEADER, ON_ERROR 'ignore')";
    assert_eq!(copy_in(&client, sql, text.as_bytes(), 11).await.unwrap(), 2);
    assert_eq!(
        soon(notices.recv()).await.unwrap().message(),
        "4 rows were bad and went to toplake.dead_letters"
    );
    assert_eq!(
        server
            .desk
            .rows("SELECT position, table_name, source, reason, payload FROM toplake.dead_letters")
            .await,
        [
            "3,sales,copy,column 'quantity': 'x' does not fit BIGINT,2026-01-01,P2,x,1",
            "6,sales,copy,missing data for column \"product\",short",
            "7,sales,copy,column 'event_time' may not be NULL,,P3,1,1",
            &format!(
                "8,sales,copy,{},3026-01-01,P4,1,1",
                server.desk.value("SELECT reason FROM toplake.dead_letters WHERE position = 8").await
            ),
        ]
    );
    assert_eq!(
        server.desk.rows("SELECT table_name, source, consumed, stored, dead FROM toplake.ledger").await,
        ["sales,copy,6,2,4"]
    );
    // They can be mended like those of a file.
    let mended = server
        .desk
        .rows(
            "CALL replay_dead_letters('sales', reason => '%BIGINT%', format => 'csv', header => 'event_time,product,quantity,price',
               transform => 'SELECT event_time, product, 5 AS quantity, price FROM input')",
        )
        .await;
    assert_eq!(mended.len(), 1);
    assert_eq!(server.desk.value("SELECT sum(quantity) FROM sales").await, "8");
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_go_where_the_table_says() {
    let server = Server::start().await;
    let (client, mut notices) = server.connect_with_notices().await;
    client
        .batch_execute(
            "CREATE TABLE clicks (at TIMESTAMP NOT NULL, n BIGINT) WITH (time_column = 'at', allowed_lateness = '1 minute', late = 'divert');
             INSERT INTO clicks VALUES ('2026-01-01 12:00:00', 1)",
        )
        .await
        .unwrap();
    let rows = b"2026-01-01 10:00:00\t2\n2026-01-01 12:00:30\t3\n";
    assert_eq!(copy_in(&client, "COPY clicks FROM STDIN", rows, 100).await.unwrap(), 1);
    assert_eq!(soon(notices.recv()).await.unwrap().message(), "1 row came late and went to 'clicks_late'");
    assert_eq!(server.desk.rows("SELECT n FROM clicks_late").await, ["2"]);
    assert_eq!(server.desk.rows("SELECT n FROM clicks").await, ["1", "3"]);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_a_key_counts_once() {
    let server = Server::start().await;
    let (client, mut notices) = server.connect_with_notices().await;
    client.batch_execute("CREATE TABLE t (a BIGINT)").await.unwrap();
    let sql = "COPY t FROM STDIN (IDEMPOTENCY_KEY 'day 1')";
    // One that fails has not been there.
    copy_in(&client, sql, b"1\nx\n", 100).await.unwrap_err();
    assert_eq!(copy_in(&client, sql, b"1\n2\n", 100).await.unwrap(), 2);
    assert_eq!(copy_in(&client, sql, b"1\n2\n", 100).await.unwrap(), 0);
    let notice = soon(notices.recv()).await.unwrap();
    assert_eq!(notice.message(), "idempotency_key 'day 1' was loaded before (2 rows), and nothing was added");
    // Another server knows it too, and another key is another load.
    let other = server.home.desk().await;
    assert_eq!(other.value("SELECT count(*) FROM t").await, "2");
    assert_eq!(copy_in(&client, "COPY t FROM STDIN (IDEMPOTENCY_KEY 'day 2')", b"3\n", 1).await.unwrap(), 1);
    // Any number at the same time: one of them counts.
    let mut loads = vec![];
    for _ in 0..6 {
        let client = server.connect().await;
        loads.push(tokio::spawn(async move {
            copy_in(&client, "COPY t FROM STDIN (IDEMPOTENCY_KEY 'day 3')", b"4\n5\n6\n", 2).await.unwrap()
        }));
    }
    let mut stored = vec![];
    for load in loads {
        stored.push(soon(load).await.unwrap());
    }
    stored.sort_unstable();
    assert_eq!(stored, [0, 0, 0, 0, 0, 3]);
    assert_eq!(server.desk.value("SELECT count(*), sum(a) FROM t").await, "6,21");
    drop(client);
    server.stop().await;
}

/// A client that speaks by hand, up to where the server asks for rows; and what it was told.
async fn copying(server: &Server, before: &str) -> (TcpStream, Vec<u8>) {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    socket.write_all(b"\0\0\0\x16\0\x03\0\0user\0toplake\0\0").await.unwrap();
    send(&mut socket, b'Q', format!("{before}; COPY t FROM STDIN\0").as_bytes()).await;
    let told = read_until(&mut socket, ASKED).await;
    (socket, told)
}

/// How the server asks for rows of one column.
const ASKED: &[u8] = b"G\0\0\0\x09\0\0\x01\0\0";

/// How it asks for the next query.
const READY: &[u8] = b"Z\0\0\0\x05I";

async fn send(socket: &mut TcpStream, kind: u8, body: &[u8]) {
    let mut frame = vec![kind];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    socket.write_all(&frame).await.unwrap();
}

async fn read_until(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = vec![];
    while !read.windows(end.len()).any(|w| w == end) {
        let mut buffer = [0; 4096];
        let n = soon(socket.read(&mut buffer)).await.unwrap();
        assert!(n > 0, "closed before {end:?}: {}", String::from_utf8_lossy(&read));
        read.extend(&buffer[..n]);
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_broken_off_leaves_nothing() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT)").await.unwrap();
    // The client takes it back.
    let (mut socket, _) = copying(&server, "").await;
    send(&mut socket, b'd', b"1\n2\n").await;
    send(&mut socket, b'f', b"no more\0").await;
    let answer = read_until(&mut socket, READY).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("57014") && answer.contains("COPY from stdin failed: no more"), "{answer}");
    // What was on its way still is no harm, and the next statement works.
    send(&mut socket, b'd', b"3\n").await;
    send(&mut socket, b'c', b"").await;
    send(&mut socket, b'Q', b"COPY t FROM STDIN\0").await;
    read_until(&mut socket, ASKED).await;
    // It vanishes: within a row, within a message, half closed.
    send(&mut socket, b'd', b"4\n5").await;
    drop(socket);
    let (mut socket, _) = copying(&server, "").await;
    socket.write_all(b"d\0\0\x01\x00006\n").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = vec![];
    soon(socket.read_to_end(&mut rest)).await.unwrap();
    // Another kind of message is a broken protocol.
    let (mut socket, _) = copying(&server, "").await;
    send(&mut socket, b'Q', b"SELECT 1\0").await;
    let mut rest = vec![];
    soon(socket.read_to_end(&mut rest)).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("08P01"));
    // A sender that drops its sink has taken it back.
    {
        let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from_static(b"7\n")).await.unwrap();
    }
    // One whose time is up.
    let (mut socket, _) = copying(&server, "SET statement_timeout = '100ms'").await;
    send(&mut socket, b'd', b"8\n").await;
    let answer = read_until(&mut socket, READY).await;
    assert!(String::from_utf8_lossy(&answer).contains("statement timeout"));
    // One that is cancelled: by the number and the secret that it was told.
    let (mut socket, told) = copying(&server, "").await;
    send(&mut socket, b'd', b"9\n").await;
    let key = told.windows(5).position(|w| w == b"K\0\0\0\x0c").unwrap() + 5;
    let mut cancel = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let request = [b"\0\0\0\x10\x04\xd2\x16\x2e".as_slice(), &told[key..key + 8]].concat();
    cancel.write_all(&request).await.unwrap();
    let answer = read_until(&mut socket, READY).await;
    assert!(String::from_utf8_lossy(&answer).contains("user request"));
    assert_eq!(copy_out(&client, "COPY t TO STDOUT").await, b"");
    assert_eq!(server.desk.table("t").await.snapshot().version, 0);
    assert_eq!(copy_in(&client, "COPY t FROM STDIN", b"1\n\\.\nbehind the end\n", 3).await.unwrap(), 1);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_in_a_transaction_waits_for_its_commit() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT)").await.unwrap();
    let sql = "COPY t FROM STDIN (ON_ERROR ignore, IDEMPOTENCY_KEY 'one')";
    for (end, stored) in [("ROLLBACK", "0"), ("COMMIT", "3")] {
        client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
        assert_eq!(copy_in(&client, sql, b"2\nx\n3\n", 2).await.unwrap(), 2);
        assert_eq!(copy_out(&client, "COPY (SELECT count(*) FROM t) TO STDOUT").await, b"3\n");
        assert_eq!(server.desk.value("SELECT count(*) FROM t").await, "0", "seen before the commit");
        client.batch_execute(end).await.unwrap();
        assert_eq!(server.desk.value("SELECT count(*) FROM t").await, stored);
    }
    assert_eq!(server.desk.table("t").await.snapshot().version, 1);
    assert_eq!(server.desk.rows("SELECT reason FROM toplake.dead_letters").await.len(), 1);
    assert_eq!(server.desk.rows("SELECT consumed, stored, dead FROM toplake.ledger").await, ["3,2,1"]);
    assert_eq!(copy_in(&client, sql, b"2\n", 2).await.unwrap(), 0);
    drop(client);
    server.stop().await;
}
