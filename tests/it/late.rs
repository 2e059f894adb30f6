//! `late = 'divert'`: what is complete stays as it is, and no row is lost or counted twice for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::error::Kind;
use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, Summary, ingest};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::schema::to_delta;
use toplake::maintain::target::Target;
use toplake::maintain::vacuum::{Horizon, vacuum};

use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes', late = 'divert');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity,
             count(*) AS events
      FROM sales GROUP BY 1, 2;";

const COMPLETE: &str = "SELECT bucket, product_id, quantity, events FROM hourly
                        WHERE bucket < complete_through('hourly')";

async fn ids(desk: &Desk, table: &str) -> Vec<String> {
    desk.rows(&format!("SELECT event_id FROM {table}")).await
}

async fn vacuum_now(desk: &Desk, name: &str) {
    let target = Target::find(desk.engine.warehouse(), name).await.unwrap();
    let now = Some(Horizon(Duration::ZERO));
    vacuum(desk.engine.warehouse(), &target, true, now).await.unwrap();
}

/// Ingests lines `event_id,event_time` as a file.
async fn ingest_lines(home: &Home, desk: &Desk, name: &str, lines: &str, follow: bool) -> Summary {
    let path = home.path(name);
    std::fs::write(&path, format!("event_id,event_time\n{lines}")).unwrap();
    let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
    let options = Options { follow, max_errors: "90%".parse().unwrap(), ..Options::default() };
    ingest(&desk.engine, "sales", &files, &options, &mut Progress::hidden()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_complete_does_not_change_under_late_rows() {
    const WRITERS: i64 = 3;
    const ROUNDS: i64 = 16;
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let (next, done) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = vec![];
    for writer in 0..WRITERS {
        let ((desk, faults), next) = (home.faulty_desk().await, Arc::clone(&next));
        writers.push(tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(writer as u64);
            for _ in 0..ROUNDS {
                let rows: Vec<String> = (0..6)
                    .map(|_| {
                        let id = next.fetch_add(1, Ordering::SeqCst);
                        // The clock goes on by a minute a row; some rows are hours late.
                        let minute =
                            id + 180 - if random.random_bool(0.3) { random.random_range(0..180) } else { 0 };
                        let (hour, minute) = (minute / 60, minute % 60);
                        format!(
                            "({id}, '2026-03-{:02} {:02}:{minute:02}:00', 'p{}', {})",
                            1 + hour / 24,
                            hour % 24,
                            id % 3,
                            id % 7
                        )
                    })
                    .collect();
                // Others commit between what was checked and what is put.
                let slow = Fault::Delay(Duration::from_millis(random.random_range(0..40)));
                faults.on_put("sales/_delta_log", [slow]);
                desk.run(&format!("INSERT INTO sales VALUES {}", rows.join(", "))).await;
            }
        }));
    }
    let reader = tokio::spawn({
        let (desk, done) = (home.desk().await, Arc::clone(&done));
        async move {
            let (mut through, mut complete, mut grew) = (String::new(), vec![], 0);
            loop {
                let last = done.load(Ordering::SeqCst);
                let now = desk.rows(COMPLETE).await;
                let same: Vec<String> =
                    now.iter().filter(|row| row.as_str() < through.as_str()).cloned().collect();
                assert_eq!(same, complete, "complete through {through}");
                grew += i32::from(now.len() > complete.len());
                // Rows of one text begin with their bucket, so they compare as buckets do.
                through =
                    now.last().map_or(String::new(), |row| format!("{}~", row.split(',').next().unwrap()));
                complete = now;
                if grew % 3 == 1 {
                    desk.run(
                        "REFRESH MATERIALIZED VIEW hourly; CALL compact('sales'); CALL compact('sales_late')",
                    )
                    .await;
                }
                if last {
                    return grew;
                }
            }
        }
    });
    for writer in writers {
        soon(writer).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(soon(reader).await.unwrap() > 1, "buckets became complete one after the other");
    let all = WRITERS * ROUNDS * 6;
    let (stored, late) = (ids(&desk, "sales").await, ids(&desk, "sales_late").await);
    assert!(late.len() > 10, "{} of {all} came late", late.len());
    let mut both: Vec<i64> = stored.iter().chain(&late).map(|id| id.parse().unwrap()).collect();
    both.sort_unstable();
    assert_eq!(both, (0..all).collect::<Vec<_>>(), "each row is in one of the two tables");
    for desk in [&desk, &home.desk().await] {
        let of_events = "SELECT date_trunc('hour', event_time), product_id, sum(quantity), count(*) FROM sales GROUP BY 1, 2";
        assert_eq!(
            desk.rows("SELECT bucket, product_id, quantity, events FROM hourly").await,
            desk.rows(of_events).await
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_watermark_passes_before_their_commit_are_divided_again() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("INSERT INTO sales VALUES (1, '2026-03-01 10:00:00', 'p', 1)").await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    // At this moment 9:00 is late, and noon is not.
    let inserting = tokio::spawn(async move {
        slow.run(
            "INSERT INTO sales VALUES (2, '2026-03-01 09:00:00', 'p', 1), (3, '2026-03-01 10:05:00', 'p', 1),
                                           (4, '2026-03-01 12:00:00', 'p', 1)",
        )
        .await;
    });
    gate.arrived().await;
    desk.run("INSERT INTO sales VALUES (5, '2026-03-01 11:30:00', 'p', 1)").await;
    let complete = desk.rows(COMPLETE).await;
    assert_eq!(complete.len(), 1);
    gate.release();
    soon(inserting).await.unwrap();
    assert_eq!(ids(&desk, "sales").await, ["1", "4", "5"]);
    assert_eq!(ids(&desk, "sales_late").await, ["2", "3"]);
    assert_eq!(
        desk.rows(&COMPLETE.replace("complete_through('hourly')", "'2026-03-01 11:00:00'")).await,
        complete
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_first_commits_too_the_later_one_is_divided() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    // There is no watermark yet that anything could be behind.
    let inserting = tokio::spawn(async move {
        slow.run(
            "INSERT INTO sales VALUES (1, '2026-03-01 09:00:00', 'p', 1), (2, '2026-03-01 12:00:00', 'p', 1)",
        )
        .await;
    });
    gate.arrived().await;
    desk.run("INSERT INTO sales VALUES (3, '2026-03-01 11:30:00', 'p', 1)").await;
    gate.release();
    soon(inserting).await.unwrap();
    assert_eq!(
        (ids(&desk, "sales").await, ids(&desk, "sales_late").await),
        (vec!["2".into(), "3".into()], vec!["1".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_is_under_way_goes_by_the_options_as_they_are_now() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("ALTER TABLE sales SET (late = 'accept'); INSERT INTO sales VALUES (1, '2026-03-01 12:00:00', 'p', 1)").await;
    for (n, (late, stored)) in [("divert", "1"), ("accept", "2")].into_iter().enumerate() {
        let (slow, faults) = home.faulty_desk().await;
        let gate = Gate::new();
        faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
        let inserting = tokio::spawn(async move {
            slow.run(&format!("INSERT INTO sales VALUES ({}, '2026-03-01 09:00:00', 'p', 1)", n + 2)).await;
        });
        gate.arrived().await;
        desk.run(&format!("ALTER TABLE sales SET (late = '{late}', retention = '{} days')", n + 100)).await;
        gate.release();
        soon(inserting).await.unwrap();
        assert_eq!(desk.value("SELECT count(*) FROM sales").await, stored, "{late}");
    }
    assert_eq!(
        (ids(&desk, "sales").await, ids(&desk, "sales_late").await),
        (vec!["1".into(), "3".into()], vec!["2".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_divert_and_the_numbers_balance() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    ingest_lines(&home, &desk, "a.csv", "1,2026-03-01 10:00:00\n", false).await;
    let lines =
        "2,2026-03-01 11:00:00\n3,2026-03-01 09:00:00\n4,never\n5,2999-01-01\n6,2026-03-01 09:30:00\n";
    let done = ingest_lines(&home, &desk, "b.csv", lines, false).await;
    // What is bad is bad, however late it is.
    assert_eq!((done.rows, done.late, done.dead, done.filtered), (1, 2, 2, 0));
    // Nobody has followed yet: the rows are visible by the events' commit.
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.table("sales_late").await.snapshot().files.len(), 0);
        assert_eq!(ids(desk, "sales_late").await, ["3", "6"]);
    }
    vacuum_now(&desk, "sales_late").await;
    assert_eq!(ids(&desk, "sales_late").await, ["3", "6"], "their files are named");
    // A deletion reaches those that are only named.
    desk.run("DELETE FROM sales_late WHERE event_id = 3").await;
    assert_eq!(ids(&desk, "sales_late").await, ["6"]);
    vacuum_now(&desk, "sales").await;
    vacuum_now(&desk, "sales_late").await;
    assert_eq!(ids(&desk, "sales_late").await, ["6"]);
    assert_eq!(ingest_lines(&home, &desk, "b.csv", lines, true).await.skipped, 1);
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_are_accepted_once_whatever_dies() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("INSERT INTO sales VALUES (1, '2026-03-05 10:00:00', 'p', 1)").await;
    desk.run(
        "INSERT INTO sales VALUES (2, '2026-03-01 10:00:00', 'p', 1), (3, '2026-03-02 10:00:00', 'p', 1)",
    )
    .await;
    desk.run(
        "INSERT INTO sales VALUES (4, '2026-03-03 10:00:00', 'p', 1), (5, '2026-03-04 10:00:00', 'p', 1)",
    )
    .await;
    assert_eq!(ids(&desk, "sales_late").await, ["2", "3", "4", "5"]);
    // They would be late again.
    desk.run("INSERT INTO sales SELECT event_id + 10, event_time, product_id, quantity FROM sales_late WHERE event_id = 2").await;
    assert_eq!(ids(&desk, "sales").await, ["1"]);
    desk.run("DELETE FROM sales_late WHERE event_id = 12").await;

    // It dies between the two commits, in the middle of a file.
    let (dying, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let accepting = tokio::spawn(async move {
        dying.run("CALL accept_late('sales', '2026-03-01', '2026-03-02')").await;
    });
    gate.arrived().await;
    accepting.abort();
    assert!(soon(accepting).await.unwrap_err().is_cancelled());
    assert_eq!(ids(&desk, "sales_late").await, ["3", "4", "5"]);
    vacuum_now(&desk, "sales").await;
    vacuum_now(&desk, "sales_late").await;
    assert_eq!(ids(&desk, "sales").await, ["1", "2"], "whoever follows finds them");

    // Two at once.
    let (one, other) = (home.desk().await, home.desk().await);
    let calls = "CALL accept_late('sales', '2026-03-02')";
    let (a, b) = tokio::join!(one.run(calls), other.run(calls));
    assert_eq!((a, b), ((), ()));
    assert_eq!(ids(&desk, "sales").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(ids(&desk, "sales_late").await, Vec::<String>::new());
    assert_eq!(desk.value("SELECT sum(events) FROM hourly").await, "5");
    assert_eq!(desk.rows("CALL accept_late('sales')").await, ["sales,0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_table_outlives_its_table() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    ingest_lines(&home, &desk, "a.csv", "1,2026-03-01 10:00:00\n", false).await;
    ingest_lines(&home, &desk, "b.csv", "2,2026-03-01 09:00:00\n", false).await;
    desk.run("DROP TABLE sales CASCADE").await;
    for desk in [&desk, &home.desk().await] {
        assert_eq!(ids(desk, "sales_late").await, ["2"]);
    }
    // Made again it is the same table's.
    desk.run(SCHEMA).await;
    desk.run(
        "INSERT INTO sales VALUES (3, '2026-03-02 10:00:00', 'p', 1);
              INSERT INTO sales VALUES (4, '2026-03-01 10:00:00', 'p', 1)",
    )
    .await;
    assert_eq!(ids(&desk, "sales_late").await, ["2", "4"]);

    // Dropped itself it takes all with it, also what was only named.
    ingest_lines(&home, &desk, "c.csv", "5,2026-03-01 09:00:00\n", false).await;
    desk.run("ALTER TABLE sales SET (late = 'accept'); DROP TABLE sales_late; ALTER TABLE sales SET (late = 'divert')").await;
    for desk in [&desk, &home.desk().await] {
        assert_eq!(ids(desk, "sales_late").await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_of_other_columns_are_not_accepted() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("INSERT INTO sales VALUES (1, '2026-03-01 10:00:00', 'p', 1)").await;
    desk.run("INSERT INTO sales VALUES (2, '2026-03-01 09:00:00', 'p', 1)").await;
    desk.run("DROP TABLE sales CASCADE").await;
    desk.run(
        "CREATE TABLE sales (event_id VARCHAR, event_time TIMESTAMP NOT NULL) WITH (time_column = 'event_time')",
    )
    .await;
    let refused = desk.try_run("CALL accept_late('sales')").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::WrongObjectType, "{refused}");
    assert!(refused.message().contains("'event_id' has type Int64"), "{refused}");
    assert_eq!((ids(&desk, "sales").await, ids(&desk, "sales_late").await), (vec![], vec!["2".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_table_that_does_not_fit_keeps_nobody_from_the_events() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(&SCHEMA[..SCHEMA.find("CREATE MATERIALIZED").unwrap()]).await;
    desk.run("INSERT INTO sales VALUES (1, '2026-03-01 10:00:00', 'p', 1)").await;
    // Another writer's ADD COLUMN.
    let table = desk.table("sales").await;
    let on = table.snapshot();
    let mut metadata = on.metadata.as_ref().clone();
    let mut fields = on.schema.fields().to_vec();
    fields.push(Arc::new(Field::new("note", DataType::Utf8View, true)));
    metadata.schema_string = to_delta(&Schema::new(fields)).unwrap();
    let mut change = Change::new(CommitKind::Foreign, "ADD COLUMNS", &on);
    change.metadata = Some(metadata);
    table.commit(&change).await.unwrap();
    for desk in [&desk, &home.desk().await] {
        assert_eq!(ids(desk, "sales").await, ["1"]);
    }
    desk.run("INSERT INTO sales VALUES (2, '2026-03-01 10:05:00', 'p', 1, 'in time')").await;
    let late = "INSERT INTO sales VALUES (3, '2026-03-01 09:00:00', 'p', 1, 'late'), (4, '2026-03-01 10:06:00', 'p', 1, 'not')";
    let refused = desk.try_run(late).await.unwrap_err();
    assert!(
        refused.message().contains("'note'") && refused.hint().unwrap().contains("'accept'"),
        "{refused}"
    );
    assert_eq!(ids(&desk, "sales").await, ["1", "2"]);
    desk.run(
        "ALTER TABLE sales SET (late = 'accept'); DROP TABLE sales_late; ALTER TABLE sales SET (late = 'divert')",
    )
    .await;
    desk.run(late).await;
    assert_eq!(
        (ids(&desk, "sales").await, ids(&desk, "sales_late").await.len()),
        (vec!["1".to_owned(), "2".to_owned(), "4".to_owned()], 1)
    );
}
