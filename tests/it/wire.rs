//! The corpus over the wire, and the server as a user meets it: the real binary, and psql.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio::net::TcpListener;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use toplake::app::Front;

use crate::harness::Home;
use crate::slt::{FILES, SltError, run_file};

/// A client of the server.
struct Wire(tokio_postgres::Client);

impl Wire {
    async fn connect(port: u16) -> Self {
        let config = format!("host=127.0.0.1 port={port} user=toplake dbname=toplake");
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        Wire(client)
    }
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = SltError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SltError> {
        let messages = self.0.simple_query(sql).await.map_err(|e| {
            let e = e.as_db_error().unwrap_or_else(|| panic!("{e}"));
            SltError {
                sqlstate: e.code().code().to_owned(),
                message: e.message().to_owned(),
                hint: e.hint().map(str::to_owned),
            }
        })?;
        let (mut columns, mut rows, mut complete) = (None, vec![], 0);
        for message in messages {
            match message {
                // Only the last statement's rows count, as in process.
                SimpleQueryMessage::RowDescription(c) => {
                    columns = Some(c.len());
                    rows = vec![];
                }
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| shown(row.get(i))).collect())
                }
                SimpleQueryMessage::CommandComplete(n) => complete = n,
                _ => {}
            }
        }
        Ok(match columns {
            // The text protocol does not say which are numbers; the corpus compares values.
            Some(n) => DBOutput::Rows { types: vec![DefaultColumnType::Any; n], rows },
            None => DBOutput::StatementComplete(complete),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "toplake"
    }

    fn error_sql_state(e: &SltError) -> Option<String> {
        Some(e.sqlstate.clone())
    }
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_gives_the_same_over_the_wire() {
    for name in FILES {
        let (home, out) = (Home::new(), tempfile::tempdir().unwrap());
        let desk = home.desk().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
        let server = tokio::spawn(toplake::pg::serve(listener, front, async { drop(stopped.await) }));
        run_file(name, out.path(), || async { Ok(Wire::connect(port).await) }).await;
        drop(stop);
        server.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_takes_parameters_and_says_what_it_gives() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, quantity BIGINT) WITH (time_column = 'event_time');
         CREATE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity FROM sales GROUP BY 1;
         INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1), ('2026-01-02 10:00:00', 1)",
    )
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
    let server = tokio::spawn(toplake::pg::serve(listener, front, async { drop(stopped.await) }));
    let client = Wire::connect(port).await.0;
    let call = client.prepare("CALL recompute($1, $2, '2026-01-01'::date + INTERVAL '1 day')").await.unwrap();
    let columns: Vec<&str> = call.columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, ["rollup", "ranges", "units", "rows"]);
    let rows = client.query(&call, &[&"hourly", &"2026-01-01"]).await.unwrap();
    let row: (&str, i64, i64, i64) = (rows[0].get(0), rows[0].get(1), rows[0].get(2), rows[0].get(3));
    assert_eq!((rows.len(), row), (1, ("hourly", 1, 1, 2)));
    let e = client.query("CALL require_complete($1, $2)", &[&"hourly", &"2026-01-03"]).await.unwrap_err();
    assert_eq!(e.as_db_error().unwrap().code().code(), "55000");
    drop((client, stop));
    server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_told_its_modes_and_may_be_kept_from_writing() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE t (id BIGINT)").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(toplake::pg::serve(listener, Front::new(desk.engine.clone()), std::future::pending()));
    let client = Wire::connect(port).await.0;
    let show =
        async |name: &str| client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, String>(0);
    let refused = async |sql: &str| {
        let e = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(e.code().map(|c| c.code()), Some("25006"), "{sql}: {e}");
    };

    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT * FROM t").await.unwrap();
    assert_eq!(show("transaction_isolation").await, "repeatable read");
    refused("INSERT INTO t VALUES (1)").await;
    client.batch_execute("ROLLBACK; BEGIN; SET TRANSACTION READ ONLY").await.unwrap();
    refused("COPY t FROM STDIN").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(show("transaction_isolation").await, "read committed");

    let usual = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY";
    client.batch_execute(usual).await.unwrap();
    assert_eq!(show("TRANSACTION ISOLATION LEVEL").await, "serializable");
    client.batch_execute("PREPARE p AS INSERT INTO t VALUES (2)").await.unwrap();
    for sql in ["INSERT INTO t VALUES (2)", "DELETE FROM t", "CREATE TABLE u (id BIGINT)", "EXECUTE p"] {
        refused(sql).await;
    }
    client.batch_execute("SET toplake.rewrite = on; EXPLAIN SELECT * FROM t").await.unwrap();
    client.batch_execute("BEGIN READ WRITE; INSERT INTO t VALUES (3); COMMIT").await.unwrap();
    assert_eq!(desk.rows("SELECT id FROM t").await, ["3"]);
}

#[test]
fn a_job_takes_its_day_from_the_command_line() {
    let home = Home::new();
    let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sales");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_toplake"))
            .args(["sql", "--quiet", "--format", "csv", "--warehouse", &home.location()])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (schema, rollups) = (format!("{pack}/schema.sql"), format!("{pack}/rollups.sql"));
    let close = format!("{pack}/jobs/close_day.sql");
    let insert = |at: &str| {
        let sql = format!("INSERT INTO sales (event_time, quantity, unit_price) VALUES ('{at}', 2, 1.5)");
        let (code, _, error) = run(&["-c", &sql]);
        assert_eq!(code, Some(0), "{error}");
    };
    let (code, _, error) = run(&["-f", &schema, "-f", &rollups]);
    assert_eq!(code, Some(0), "{error}");
    insert("2026-01-01 12:00:00");

    let (code, _, error) = run(&["-f", &close]);
    assert!(code == Some(1) && error.contains("variable 'day' has no value"), "{code:?} {error}");
    let (code, _, error) = run(&["-v", "day", "-f", &close]);
    assert!(code == Some(2) && error.contains("NAME=VALUE"), "{code:?} {error}");
    let (code, _, error) = run(&["-v", "day=2026-01-01", "-f", &close]);
    assert!(
        code == Some(1) && error.contains("'sales_daily' is complete through 2026-01-01"),
        "{code:?} {error}"
    );
    insert("2026-01-02 00:15:00");
    let (code, rows, error) = run(&["-v", "day=2026-01-01", "-f", &close]);
    assert_eq!(code, Some(0), "{error}");
    assert!(rows.trim_end().ends_with("2026-01-01T00:00:00,,2,3.0000,1"), "{rows}");
    let audit = format!("{pack}/jobs/audit_daily.sql");
    let (code, rows, error) = run(&["-v", "day=2026-01-01", "-f", &audit]);
    assert_eq!((code, rows.lines().count()), (Some(0), 1), "only the header: {rows}{error}");
}

/// The binary, serving; killed when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_toplake"))
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Server { child, port }
    }

    /// What psql prints, unaligned and without headers; `None` where there is no psql and this is not CI.
    fn psql(&self, sql: &str) -> Option<Result<String, String>> {
        let port = self.port.to_string();
        let output = Command::new("psql")
            .args([
                "-X",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "toplake",
                "-p",
                &port,
                "-c",
                sql,
            ])
            .env("PGCONNECT_TIMEOUT", "5")
            .output();
        match output {
            Ok(o) if o.status.success() => Some(Ok(String::from_utf8(o.stdout).unwrap())),
            Ok(o) => Some(Err(String::from_utf8(o.stderr).unwrap())),
            Err(e) => {
                assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
                None
            }
        }
    }

    /// The same, once it succeeds and satisfies `enough`.
    fn psql_until(&self, sql: &str, enough: impl Fn(&str) -> bool) -> Option<String> {
        let begun = Instant::now();
        loop {
            let last = self.psql(sql)?;
            if let Ok(text) = &last
                && enough(text)
            {
                return Some(text.clone());
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{sql}: {last:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_shows_ten_products_and_carries_on_after_it_was_killed() {
    let home = Home::new();
    let location = home.location();
    let arguments = ["demo", "--warehouse", &location, "--history", "20000", "--rate", "50", "--days", "10"];
    let question = "SELECT * FROM top_1000 WHERE period = 'day' LIMIT 10";
    let balanced = "SELECT count(*) = count(DISTINCT event_id) FROM sales";
    let first = Server::start(&arguments);
    let Some(rows) = first.psql_until(question, |rows| rows.lines().count() == 10) else { return };
    assert!(rows.lines().all(|line| line.starts_with("day|") && line.contains("|P")), "{rows}");
    let before: u64 = first.psql("SELECT count(*) FROM sales").unwrap().unwrap().trim().parse().unwrap();
    assert!(before >= 19_000, "{before}");
    drop(first);
    let second = Server::start(&arguments);
    let more = |text: &str| text.trim().parse::<u64>().is_ok_and(|n| n > before);
    second.psql_until("SELECT count(*) FROM sales", more).unwrap();
    assert_eq!(second.psql(balanced).unwrap().unwrap().trim(), "t");
    // Hour to year add up to the raw events, at one version, while new ones come in.
    for rollup in ["sales_hourly", "sales_daily", "sales_weekly", "sales_monthly", "sales_yearly"] {
        let same = format!("SELECT (SELECT sum(events) FROM {rollup}) = (SELECT count(*) FROM sales)");
        assert_eq!(second.psql(&same).unwrap().unwrap().trim(), "t", "{rollup}");
    }
}

#[test]
fn a_server_without_passwords_refuses_other_addresses() {
    let home = Home::new();
    let output = Command::new(env!("CARGO_BIN_EXE_toplake"))
        .args(["serve", "--warehouse", &home.location(), "--listen", "0.0.0.0:0", "--http", "off"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
}
