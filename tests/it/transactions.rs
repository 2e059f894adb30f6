//! Transactions: what a session sees between BEGIN and COMMIT, and what others see of it.

use std::sync::Arc;

use proptest::prelude::*;
use toplake::error::Kind;
use toplake::statement::Session;

use crate::harness::{Desk, Fault, Gate, Home, soon};

const TABLES: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product BIGINT, quantity BIGINT) WITH (time_column = 'event_time');
    CREATE TABLE products (product BIGINT);
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product, sum(quantity) AS quantity FROM sales GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product, sum(quantity) AS quantity FROM hourly GROUP BY 1, 2";

async fn home() -> (Home, Desk) {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(TABLES).await;
    (home, desk)
}

/// Another session of the same process.
fn session(desk: &Desk) -> Session {
    Session::new(desk.engine.context(), desk.engine.warehouse().clone())
}

async fn one(session: &Session, sql: &str) -> i64 {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    let rows = session.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = rows.iter().find(|b| b.num_rows() > 0).unwrap();
    row.column(0).as_primitive::<Int64Type>().value(0)
}

/// What the table and both rollups have; they have to agree.
async fn total(session: &Session) -> i64 {
    let mut all = vec![];
    for name in ["daily", "sales", "hourly"] {
        all.push(one(session, &format!("SELECT coalesce(sum(quantity), 0) FROM {name}")).await);
    }
    assert!(all.iter().all(|n| *n == all[0]), "daily, sales, hourly: {all:?}");
    all[0]
}

async fn refused(session: &Session, sql: &str) -> toplake::error::Error {
    match session.sql(sql).await {
        Err(e) => e,
        Ok(_) => panic!("{sql} was not refused"),
    }
}

const INSERT: &str = "INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 5), ('2026-01-02 10:00:00', 2, 6)";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_seen_inside_at_once_and_outside_after_commit() {
    let (_home, desk) = home().await;
    let (a, b) = (session(&desk), session(&desk));
    let table = desk.engine.warehouse().table("sales").await.unwrap().unwrap();
    let before = table.update().await.unwrap().version;
    a.begin();
    a.sql(INSERT).await.unwrap();
    a.sql(INSERT).await.unwrap();
    assert_eq!((total(&a).await, total(&b).await), (22, 0));
    a.commit().await.unwrap();
    assert_eq!((total(&a).await, total(&b).await), (22, 22));
    assert_eq!(table.update().await.unwrap().version, before + 1, "two inserts are one commit");

    // The folds that follow count each row once.
    desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
    assert_eq!(total(&b).await, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_leaves_nothing() {
    let (home, desk) = home().await;
    let files = || {
        let folder = std::fs::read_dir(home.path("sales")).unwrap();
        folder.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
    };
    let a = session(&desk);
    a.begin();
    a.sql(INSERT).await.unwrap();
    assert_eq!((total(&a).await, files()), (11, 1));
    a.sql(INSERT).await.unwrap();
    a.rollback().await;
    assert_eq!((files(), total(&a).await), (0, 0));

    // A session that goes away rolls back too.
    let gone = session(&desk);
    gone.begin();
    gone.sql(INSERT).await.unwrap();
    assert_eq!((total(&gone).await, files()), (11, 1));
    drop(gone);
    soon(async {
        while files() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(total(&a).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_reads_the_same_versions() {
    let (_home, desk) = home().await;
    let (a, b) = (session(&desk), session(&desk));
    b.sql(INSERT).await.unwrap();
    a.begin();
    assert_eq!(one(&a, "SELECT sum(quantity) FROM sales").await, 11);
    // The rollups fold past the version that is read; then a version of them from before is.
    for _ in 0..3 {
        b.sql(INSERT).await.unwrap();
        desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
    }
    assert_eq!((total(&a).await, total(&b).await), (11, 44));
    b.sql("DELETE FROM sales WHERE product = 1").await.unwrap();
    assert_eq!(total(&a).await, 11);
    a.rollback().await;
    assert_eq!(total(&a).await, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_takes_back_what_came_after_it() {
    let (_home, desk) = home().await;
    let a = session(&desk);
    a.begin();
    a.sql(INSERT).await.unwrap();
    a.savepoint("one").await.unwrap();
    a.sql(INSERT).await.unwrap();
    a.savepoint("two").await.unwrap();
    assert_eq!(total(&a).await, 22);
    a.rollback_to("one").await.unwrap();
    assert_eq!(total(&a).await, 11);
    assert_eq!(a.rollback_to("two").await.unwrap_err().kind(), Kind::UndefinedSavepoint);
    a.sql(INSERT).await.unwrap();
    a.release("one").await.unwrap();
    assert!(a.rollback_to("one").await.is_err());
    a.commit().await.unwrap();
    assert_eq!(total(&a).await, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_part_of_it_is_refused_and_says_what_to_do() {
    let (_home, desk) = home().await;
    let a = session(&desk);
    a.begin();
    a.sql(INSERT).await.unwrap();
    for (sql, what) in [
        ("INSERT INTO products VALUES (1)", "has written 'sales' and cannot write 'products'"),
        ("CREATE TABLE more (a BIGINT)", "CREATE TABLE cannot run in a transaction"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW cannot run in a transaction"),
        ("DROP TABLE products", "DROP cannot run in a transaction"),
        ("ALTER TABLE sales SET (retention = '9 days')", "ALTER TABLE cannot run"),
        ("DELETE FROM sales WHERE product = 1", "DELETE cannot run"),
        ("REFRESH MATERIALIZED VIEW hourly", "REFRESH MATERIALIZED VIEW cannot run"),
        ("CALL compact('sales')", "CALL compact cannot run"),
        ("VACUUM sales", "VACUUM cannot run"),
    ] {
        let e = refused(&a, sql).await;
        assert!(e.kind().sqlstate() == "0A000" && e.message().contains(what), "{sql}: {e:?}");
        assert!(e.hint().is_some_and(|h| h.contains("COMMIT")), "{sql}: {:?}", e.hint());
    }
    a.rollback().await;
    assert_eq!(one(&a, "SELECT count(*) FROM products").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_into_a_table_that_was_made_again_fails_and_stores_nothing() {
    let (_home, desk) = home().await;
    let a = session(&desk);
    a.begin();
    a.sql("INSERT INTO products VALUES (1)").await.unwrap();
    desk.run("DROP TABLE products; CREATE TABLE products (product BIGINT, name VARCHAR)").await;
    let e = a.commit().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict, "{e:?}");
    assert_eq!(one(&a, "SELECT count(*) FROM products").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_failed_is_not_stored_in_part_and_takes_nothing_along() {
    let (_home, desk) = home().await;
    let a = session(&desk);
    a.begin();
    a.sql(INSERT).await.unwrap();
    refused(&a, "INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 5), (NULL, 2, 6)").await;
    assert_eq!(a.commit().await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(total(&a).await, 0);

    a.begin();
    a.sql(INSERT).await.unwrap();
    a.savepoint("s").await.unwrap();
    refused(&a, "INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 5), (NULL, 2, 6)").await;
    assert!(a.savepoint("t").await.is_err());
    a.rollback_to("s").await.unwrap();
    a.commit().await.unwrap();
    assert_eq!(total(&a).await, 11);

    // Nothing is left of the first table, so another may be written.
    a.begin();
    a.savepoint("s").await.unwrap();
    a.sql(INSERT).await.unwrap();
    a.rollback_to("s").await.unwrap();
    a.sql("INSERT INTO products VALUES (1)").await.unwrap();
    a.commit().await.unwrap();
    assert_eq!((total(&a).await, one(&a, "SELECT count(*) FROM products").await), (11, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew_meanwhile_is_not_read_as_what_it_was() {
    let (_home, desk) = home().await;
    desk.run(
        "INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 5);
         CREATE MATERIALIZED VIEW board WITH (refresh_mode = 'snapshot') AS SELECT product, quantity FROM sales",
    )
    .await;
    let a = session(&desk);
    a.begin();
    assert_eq!(one(&a, "SELECT count(product) FROM board").await, 1);
    desk.run("CREATE OR REPLACE MATERIALIZED VIEW board WITH (refresh_mode = 'snapshot') AS SELECT product AS item FROM sales")
        .await;
    assert_eq!(refused(&a, "SELECT count(item) FROM board").await.kind(), Kind::Conflict);
    a.rollback().await;
    assert_eq!(one(&a, "SELECT count(item) FROM board").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_has_begun_is_waited_for() {
    let (home, desk) = home().await;
    drop(desk);
    let (slow, faults) = home.faulty_desk().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let front: Arc<dyn toplake::pg::Engine> = toplake::app::Front::new(slow.engine.clone());
    tokio::spawn(toplake::pg::serve(listener, front, std::future::pending()));
    let config = format!("host=127.0.0.1 port={port} user=toplake dbname=toplake");
    for statements in [
        &[INSERT][..],
        &["BEGIN", INSERT, "COMMIT"],
        &[
            "INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 5); INSERT INTO sales VALUES ('2026-01-01 10:00:00', 1, 6)",
        ],
    ] {
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let cancel = client.cancel_token();
        let before = total(&slow.session).await;
        let gate = Gate::new();
        faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
        let work = tokio::spawn(async move {
            for sql in statements {
                client.simple_query(sql).await?;
            }
            Ok::<(), tokio_postgres::Error>(())
        });
        gate.arrived().await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
        gate.release();
        soon(work).await.unwrap().expect("it was stored, and was said not to be");
        assert_eq!(total(&slow.session).await, before + 11, "{statements:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Commit,
    Rollback,
    Insert(i64),
    Savepoint,
    RollbackTo,
    Look,
    Other(i64),
    Fold,
    FoldDaily,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{
        Begin, Commit, Compact, Fold, FoldDaily, Insert, Look, Other, Rollback, RollbackTo, Savepoint,
    };
    prop_oneof![
        2 => Just(Begin),
        2 => Just(Commit),
        1 => Just(Rollback),
        4 => (1..100i64).prop_map(Insert),
        1 => Just(Savepoint),
        1 => Just(RollbackTo),
        5 => Just(Look),
        3 => (1..100i64).prop_map(Other),
        2 => Just(Fold),
        1 => Just(FoldDaily),
        1 => Just(Compact),
    ]
}

/// One session in and out of transactions, while others write, fold and compact: it sees what was committed when it first
/// looked and what it wrote itself, in the table as in its rollups; at the end all that was committed is there once.
async fn run(steps: &[Step]) {
    let (_home, desk) = home().await;
    let (a, other) = (session(&desk), session(&desk));
    let insert = |n: i64| {
        format!("INSERT INTO sales VALUES ('2026-01-0{} 0{}:00:00', {}, {n})", 1 + n % 5, n % 7, n % 3)
    };
    let mut committed = 0;
    // In a transaction: what was committed when it first looked; what it wrote; what it had written at its savepoint.
    let mut open: Option<(Option<i64>, i64, Option<i64>)> = None;
    for step in steps {
        match step {
            Step::Begin if open.is_none() => {
                a.begin();
                open = Some((None, 0, None));
            }
            Step::Commit => {
                a.commit().await.unwrap();
                committed += open.take().map_or(0, |(_, wrote, _)| wrote);
            }
            Step::Rollback => {
                a.rollback().await;
                open = None;
            }
            Step::Insert(n) => {
                a.sql(&insert(*n)).await.unwrap();
                match &mut open {
                    Some((seen, wrote, _)) => {
                        seen.get_or_insert(committed);
                        *wrote += n;
                    }
                    None => committed += n,
                }
            }
            Step::Savepoint => {
                if let Some((_, wrote, savepoint)) = &mut open {
                    a.savepoint("s").await.unwrap();
                    *savepoint = Some(*wrote);
                }
            }
            Step::RollbackTo => {
                if let Some((_, wrote, Some(savepoint))) = &mut open {
                    a.rollback_to("s").await.unwrap();
                    *wrote = *savepoint;
                }
            }
            Step::Look => {
                let expected = match &mut open {
                    Some((seen, wrote, _)) => *seen.get_or_insert(committed) + *wrote,
                    None => committed,
                };
                assert_eq!(total(&a).await, expected);
            }
            Step::Other(n) => {
                other.sql(&insert(*n)).await.unwrap();
                committed += n;
            }
            Step::Fold => drop(other.sql("REFRESH MATERIALIZED VIEW hourly").await.unwrap()),
            Step::FoldDaily => drop(other.sql("REFRESH MATERIALIZED VIEW daily").await.unwrap()),
            Step::Compact => drop(other.sql("CALL compact('sales')").await.unwrap()),
            Step::Begin => {}
        }
        assert_eq!(total(&other).await, committed);
    }
    a.rollback().await;
    assert_eq!(total(&a).await, committed);
}

#[test]
fn any_interleaving_sees_what_it_should() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..25))| {
        runtime.block_on(run(&steps));
    });
}
