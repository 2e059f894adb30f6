//! psql, and rows in bulk.

use std::process::Command;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Server, copy_in, copy_out};

impl Server {
    /// What psql prints; `None` where there is no psql and this is not CI.
    fn psql(&self, input: &str) -> Option<(String, String)> {
        let script = self.home.path("script.sql");
        std::fs::write(&script, input).unwrap();
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-h", "127.0.0.1", "-U", "toplake", "-p", &self.port.to_string(), "-f"])
            .arg(&script)
            .env("PGCONNECT_TIMEOUT", "5")
            .current_dir(self.home.path("."))
            .output();
        match output {
            Ok(o) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Some((text(&o.stdout), text(&o.stderr)))
            }
            Err(e) => {
                assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
                None
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_copies_both_ways() {
    let server = Server::start().await;
    std::fs::write(server.home.path("in.csv"), "a,b\n1,\"x\ty\"\n2,\n").unwrap();
    let script = "CREATE TABLE t (a BIGINT, b VARCHAR);
\\copy t FROM 'in.csv' WITH (FORMAT csv, HEADER match)
COPY t FROM STDIN;
3\t\\N
4\tinline
\\.
\\copy (SELECT * FROM t ORDER BY a) TO 'out.txt'
COPY (SELECT a, b FROM t ORDER BY a) TO STDOUT WITH CSV HEADER;
COPY t (b) FROM STDIN (FORMAT csv, ON_ERROR ignore);
fine
too,many
\\.
COPY t (a) FROM STDIN;
x
\\.
\\copy t TO PROGRAM 'cat > out.csv' CSV
SELECT count(*) FROM t;
";
    let Some((out, errors)) = server.psql(script) else { return server.stop().await };
    assert_eq!(
        out, "CREATE TABLE\nCOPY 2\nCOPY 2\nCOPY 4\na,b\n1,x\ty\n2,\n3,\n4,inline\nCOPY 1\nCOPY 5\n5\n",
        "{errors}"
    );
    assert!(errors.contains("NOTICE:  1 row was bad and went to toplake.dead_letters"), "{errors}");
    assert!(errors.contains("ERROR:  column 'a': 'x' does not fit BIGINT"), "{errors}");
    assert!(errors.contains("CONTEXT:  COPY t, line 1, column a: \"x\""), "{errors}");
    let written = std::fs::read_to_string(server.home.path("out.txt")).unwrap();
    assert_eq!(written, "1\tx\\ty\n2\t\\N\n3\t\\N\n4\tinline\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_gives_any_query() {
    let server = Server::start().await;
    let client = server.connect().await;
    client
        .batch_execute("CREATE TABLE t (a BIGINT, b VARCHAR); INSERT INTO t VALUES (1, 'x,y'), (2, NULL)")
        .await
        .unwrap();
    for (sql, expected) in [
        ("COPY t (b, a) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)", "b,a\n\"x,y\",\"1\"\n,\"2\"\n"),
        ("COPY (SELECT a FROM t WHERE a > 5) TO STDOUT CSV HEADER", "a\n"),
        ("COPY (SELECT '\\.' AS x) TO STDOUT (FORMAT csv)", "\"\\.\"\n"),
        ("COPY (SELECT '\\.' AS x, '' AS y) TO STDOUT (FORMAT csv)", "\\.,\"\"\n"),
        ("COPY (SELECT '\\.' AS x) TO STDOUT", "\\\\.\n"),
        ("COPY (VALUES (true, CAST(1.5 AS DECIMAL(4, 2)), ARRAY[1, NULL])) TO STDOUT", "t\t1.50\t{1,NULL}\n"),
        ("COPY toplake.rollups TO STDOUT", ""),
    ] {
        assert_eq!(String::from_utf8(copy_out(&client, sql).await).unwrap(), expected, "{sql}");
    }
    // The same by the simple protocol, between other statements.
    let messages = client.simple_query("SELECT 1; SELECT 2").await.unwrap();
    assert_eq!(messages.len(), 6);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_stream_both_ways() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT, b VARCHAR)").await.unwrap();
    let rows = 60_000;
    let text: String = (0..rows).map(|i| format!("{i}\tproduct number {i}\n")).collect();
    assert_eq!(copy_in(&client, "COPY t FROM STDIN", text.as_bytes(), 10_007).await.unwrap(), rows);
    assert_eq!(server.desk.table("t").await.snapshot().version, 1, "more than one commit");
    let out = copy_out(&client, "COPY (SELECT * FROM t ORDER BY a) TO STDOUT").await;
    assert_eq!(out.len(), text.len());
    assert!(out == text.as_bytes());
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_binary_copy_has_a_row() {
    let server = Server::start().await;
    let client = server.connect().await;
    for (rows, messages) in [(0, 1), (1, 2), (3, 4)] {
        let sql = format!("COPY (SELECT n FROM generate_series(1, {rows}) AS g(n)) TO STDOUT BINARY");
        let pieces: Vec<Bytes> = client.copy_out(&sql).await.unwrap().try_collect().await.unwrap();
        assert_eq!(pieces.len(), messages, "{rows} rows");
        // In front of the first one stands what a copy begins with, and the last one is the mark of the end.
        assert!(pieces[0].starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
        assert!(pieces.last().unwrap().ends_with(&[255, 255]));
        assert!(pieces.iter().skip(1).take(rows).all(|p| p.len() == 14 || p.len() == 2), "{pieces:?}");
    }
    drop(client);
    server.stop().await;
}
