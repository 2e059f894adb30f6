//! Leaderboards over the wire: an answer that was given before is given again only while it is true.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use toplake::app::Front;
use toplake::statement::{Outcome, Session, parse};

use crate::harness::{Desk, Home};

const BOARD: &str = "
    CREATE TABLE sales (product VARCHAR, quantity BIGINT);
    INSERT INTO sales SELECT 'p' || CAST(n AS VARCHAR), n FROM generate_series(1, 50) AS g(n);
    CREATE MATERIALIZED VIEW board WITH (refresh_mode = 'snapshot') AS
      SELECT product, sum(quantity) AS quantity, TIMESTAMPTZ '2026-01-01 00:00:00Z' AS as_of FROM sales GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10;
    CREATE VIEW best AS SELECT product, quantity FROM board WHERE quantity > 45";

/// A server over a warehouse.
struct Server {
    port: u16,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    async fn over(desk: &Desk) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
        tokio::spawn(toplake::pg::serve(listener, front, async { drop(stopped.await) }));
        Server { port, _stop: stop }
    }

    async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=toplake dbname=toplake", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.iter().filter_map(|m| match m {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(","))
        }
        _ => None,
    });
    rows.collect()
}

/// Asks until the answer is as expected. The watch of another process's commits takes a moment.
async fn until(client: &Client, sql: &str, expected: &[&str]) {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let rows = texts(client, sql).await;
        if rows == expected {
            return;
        }
        assert!(Instant::now() < patience, "{sql}: {rows:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks until it is answered from memory: once the table is watched, an answer is kept.
async fn warm(client: &Client, sql: &str) -> Vec<String> {
    let first = texts(client, sql).await;
    for _ in 0..30 {
        assert_eq!(texts(client, sql).await, first, "{sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_server_commits_is_seen_at_once_and_what_others_do_in_a_moment() {
    let home = Home::new();
    let (desk, other) = (home.desk().await, home.desk().await);
    desk.run(BOARD).await;
    let server = Server::over(&desk).await;
    let (a, b) = (server.connect().await, server.connect().await);
    let (sql, view) =
        ("SELECT product, quantity FROM board WHERE quantity > 48", "SELECT * FROM best LIMIT 1;");
    assert_eq!(warm(&a, sql).await, ["p50,50", "p49,49"]);
    assert_eq!(warm(&b, view).await, ["p50,50"]);
    for n in 1..=5 {
        a.simple_query("INSERT INTO sales VALUES ('p1', 100); REFRESH MATERIALIZED VIEW board")
            .await
            .unwrap();
        let first = format!("p1,{}", 1 + n * 100);
        assert_eq!(texts(&b, sql).await[0], first);
        assert_eq!(texts(&b, view).await, [first]);
    }
    other.run("INSERT INTO sales VALUES ('p2', 1000); REFRESH MATERIALIZED VIEW board").await;
    until(&a, view, &["p2,1002"]).await;
    until(&b, sql, &["p2,1002", "p1,501", "p50,50", "p49,49"]).await;

    // Another definition of the view, and of the board.
    other.run("CREATE OR REPLACE VIEW best AS SELECT product FROM board WHERE quantity = 50").await;
    until(&a, view, &["p50"]).await;
    desk.run("DROP VIEW best; CREATE VIEW best AS SELECT quantity FROM board WHERE product = 'p49'").await;
    assert_eq!(texts(&b, view).await, ["49"]);
    desk.run("DROP VIEW best").await;
    assert!(a.simple_query(view).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_that_of_its_own_session_parameters_and_formats() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    let server = Server::over(&desk).await;
    let (a, b) = (server.connect().await, server.connect().await);
    let sql = "SELECT as_of FROM board LIMIT 1";
    b.simple_query("SET timezone = 'Asia/Kolkata'").await.unwrap();
    assert_eq!(warm(&a, sql).await, ["2026-01-01 00:00:00+00"]);
    assert_eq!(warm(&b, sql).await, ["2026-01-01 05:30:00+05:30"]);
    a.simple_query("SET timezone = 'Asia/Kolkata'").await.unwrap();
    assert_eq!(texts(&a, sql).await, ["2026-01-01 05:30:00+05:30"]);

    // Binary and text, by parameter.
    let by = "SELECT quantity FROM board WHERE product = $1";
    let statement = a.prepare(by).await.unwrap();
    for _ in 0..3 {
        for n in 41..=50i64 {
            let row = a.query_one(&statement, &[&format!("p{n}")]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), n);
            assert_eq!(texts(&a, &by.replace("$1", &format!("'p{n}'"))).await, [n.to_string()]);
        }
    }
    // In a transaction everything is of one version.
    a.simple_query("BEGIN").await.unwrap();
    let count = "SELECT count(*) FROM board WHERE quantity >= 1000";
    warm(&b, count).await;
    assert_eq!(texts(&a, count).await, ["0"]);
    desk.run("INSERT INTO sales VALUES ('new', 1000); REFRESH MATERIALIZED VIEW board").await;
    assert_eq!((texts(&a, count).await, texts(&b, count).await), (vec!["0".into()], vec!["1".into()]));
    a.simple_query("COMMIT").await.unwrap();
    assert_eq!(texts(&a, count).await, ["1"]);
}

/// Runs a statement as the server does, with its plan kept.
async fn ask(session: &Session, sql: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let parsed = parse(sql).unwrap();
    let outcome = match session.at_hand(&parsed[0].sql, &[]).await.unwrap() {
        Some(outcome) => outcome,
        None => session.execute(&parsed[0], &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")),
    };
    let Outcome::Rows { stream, .. } = outcome else { panic!("{sql} gives no rows") };
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    crate::harness::rows(&batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_differ_in_a_value_have_one_plan_and_answers_of_their_own() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    let watching = Session::new(desk.engine.context(), Arc::clone(desk.engine.warehouse())).watching();
    for (sql, knows) in [
        ("SELECT product FROM board WHERE quantity = {n}", true),
        ("SELECT * FROM best WHERE quantity >= {n} AND product <> 'p{n}' ORDER BY product LIMIT 3", true),
        ("SELECT count(*) FROM board WHERE quantity < {n}", false),
        // The name of the column is that of the value.
        ("SELECT product, (SELECT max(quantity) FROM board WHERE quantity < {n}) FROM board", false),
        // The column is no integer.
        ("SELECT product FROM board WHERE as_of > '20{n}-01-01'", false),
    ] {
        let at = |n: i64| sql.replace("{n}", &n.to_string());
        let patience = Instant::now() + Duration::from_secs(20);
        let mut at_hand = false;
        for n in (40..52).cycle() {
            at_hand |= watching.at_hand(&parse(&at(n)).unwrap()[0].sql, &[]).await.unwrap().is_some();
            assert_eq!(ask(&watching, &at(n)).await, desk.rows(&at(n)).await, "{}", at(n));
            if n == 51 && (at_hand || !knows || Instant::now() > patience) {
                break;
            }
        }
        assert_eq!(at_hand, knows, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_kept_says_what_a_new_one_says() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    desk.run(
        "CREATE TABLE events (at TIMESTAMP NOT NULL, n BIGINT) WITH (time_column = 'at');
         CREATE MATERIALIZED VIEW hourly AS SELECT time_bucket(INTERVAL '1 hour', at) AS bucket, sum(n) AS n FROM events GROUP BY 1",
    )
    .await;
    let watching = Session::new(desk.engine.context(), Arc::clone(desk.engine.warehouse())).watching();
    let queries = [
        "SELECT * FROM board",
        "SELECT product FROM board WHERE quantity > 44 AND product <> 'p45' ORDER BY product LIMIT 2 OFFSET 1",
        "SELECT quantity + 1 AS more, product FROM best b WHERE b.product LIKE '%5%'",
        "SELECT product FROM board WHERE quantity = (SELECT max(quantity) FROM board)",
        "SELECT count(*), max(quantity) FROM board",
        "SELECT product, rank() OVER (ORDER BY quantity) FROM board",
        "SELECT a.product FROM board a JOIN best b ON a.product = b.product",
        "SELECT DISTINCT quantity > 45 FROM board",
        "SELECT product FROM board UNION ALL SELECT product FROM best",
        "SELECT sum(n) FROM hourly",
        "SELECT h.n, b.product FROM hourly h, best b",
        "SELECT count(*) FROM events",
        "WITH t AS (SELECT * FROM board) SELECT product FROM t WHERE quantity < 43",
        "SELECT random() < 2, product FROM board LIMIT 1",
    ];
    for round in 0..12 {
        for sql in queries {
            let (kept, new) = (ask(&watching, sql).await, desk.rows(sql).await);
            // Without an order any row may be the first.
            match sql.contains("LIMIT 1") {
                true => assert_eq!(kept.len(), new.len(), "{sql}"),
                false => assert_eq!(kept, new, "{sql} in round {round}"),
            }
        }
        desk.run(&format!("INSERT INTO events VALUES ('2026-01-01 0{}:00:00', {round})", round % 3)).await;
        match round % 4 {
            0 => desk.run("INSERT INTO sales VALUES ('p45', 1)").await,
            1 => desk.run("REFRESH MATERIALIZED VIEW board; REFRESH MATERIALIZED VIEW hourly").await,
            2 => desk.run("CREATE OR REPLACE VIEW best AS SELECT product, quantity FROM board WHERE quantity > 46").await,
            _ => desk.run("CREATE OR REPLACE MATERIALIZED VIEW hourly AS SELECT time_bucket(INTERVAL '1 hour', at) AS bucket, sum(n + 0) AS n FROM events GROUP BY 1").await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_name_stands_for_is_its_sessions() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    let server = Server::over(&desk).await;
    let (a, b) = (server.connect().await, server.connect().await);
    a.simple_query("PREPARE q (bigint) AS SELECT product FROM board WHERE quantity > $1").await.unwrap();
    b.simple_query("PREPARE q (bigint) AS SELECT count(*) FROM board WHERE quantity > $1").await.unwrap();
    assert_eq!(warm(&a, "EXECUTE q(48)").await, ["p50", "p49"]);
    assert_eq!(warm(&b, "EXECUTE q(48)").await, ["2"]);
    a.simple_query("DEALLOCATE q").await.unwrap();
    let e = a.simple_query("EXECUTE q(48)").await.unwrap_err();
    assert_eq!(e.code().unwrap().code(), "26000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_beside_a_board_is_the_one_of_now() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    desk.run("CREATE TABLE events (at TIMESTAMP NOT NULL, n BIGINT) WITH (time_column = 'at')").await;
    let server = Server::over(&desk).await;
    let client = server.connect().await;
    let sql = "SELECT product, last_event_time('events') FROM board WHERE quantity = 50";
    for day in 1..=4 {
        desk.run(&format!("INSERT INTO events VALUES ('2026-01-0{day} 00:00:00', 1)")).await;
        assert_eq!(warm(&client, sql).await, [format!("p50,2026-01-0{day} 00:00:00")]);
        desk.run("INSERT INTO sales VALUES ('p1', 1); REFRESH MATERIALIZED VIEW board").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_other_columns_gets_an_answer_of_his_own() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(BOARD).await;
    let server = Server::over(&desk).await;
    let (a, b) = (server.connect().await, server.connect().await);
    let sql = "SELECT quantity FROM best WHERE product = 'p50'";
    let old = a.prepare(sql).await.unwrap();
    assert_eq!(a.query_one(&old, &[]).await.unwrap().get::<_, i64>(0), 50);
    desk.run("CREATE OR REPLACE VIEW best AS SELECT product, quantity / 4.0 AS quantity FROM board").await;
    for _ in 0..30 {
        // As it was told: whole numbers.
        assert_eq!(a.query_one(&old, &[]).await.unwrap().get::<_, i64>(0), 12);
        let new = b.prepare(sql).await.unwrap();
        assert_eq!(b.query_one(&new, &[]).await.unwrap().get::<_, f64>(0), 12.5);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another process makes the board anew; what is prepared after that is described as it is.
    let other = home.desk().await;
    let columns = "SELECT * FROM board";
    assert_eq!(b.prepare(columns).await.unwrap().columns().len(), 3);
    assert_eq!(warm(&b, columns).await.len(), 10);
    other.run("DROP VIEW best; CREATE OR REPLACE MATERIALIZED VIEW board WITH (refresh_mode = 'snapshot') AS SELECT product FROM sales").await;
    assert_eq!(b.prepare(columns).await.unwrap().columns().len(), 1);
}
