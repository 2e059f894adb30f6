//! Retention: raw events leave, rollups stay right, and an archive has each row once.

use std::sync::Arc;

use toplake::error::{Kind, Result};
use toplake::lake::pin::Pins;
use toplake::maintain::expire::{Expired, expire};
use toplake::maintain::target::{Rows, Target};

use super::{
    FOLD, SCHEMA, assert_equals, compact_all, insert, insert_into, target, vacuum_now, write_letters,
};
use crate::harness::{Desk, Fault, Gate, Home, soon};

const DAY: i64 = 86_400_000_000;
const MARCH: i64 = 1_772_323_200_000_000; // 2026-03-01

async fn rows_of(desk: &Desk, name: &str) -> Rows {
    match target(desk, name).await {
        Target::Rows(rows) => rows,
        other => panic!("{other:?}"),
    }
}

async fn try_expire(desk: &Desk, retention: Option<i64>) -> Result<Expired> {
    expire(desk.engine.warehouse(), &rows_of(desk, "sales").await, retention, &desk.engine.state()).await
}

async fn expire_now(desk: &Desk) -> Expired {
    try_expire(desk, None).await.unwrap()
}

/// Six days of sales, and the same in a table that keeps them.
async fn six_days(desk: &Desk) {
    desk.run(SCHEMA).await;
    desk.run("CREATE TABLE kept (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)")
        .await;
    for n in 0..12 {
        let (from, to) = (n * 50, n * 50 + 50);
        desk.run(&insert(from, to)).await;
        desk.run(&insert_into("kept", from, to)).await;
        if n % 4 == 0 {
            desk.run(FOLD).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_keep_what_leaves_and_late_rows_still_count() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    // The watermark is on the sixth day, and the cut two days before it, at an edge of an hour.
    let done = expire_now(&desk).await;
    let through = done.through.unwrap();
    assert!(
        (MARCH + 3 * DAY..MARCH + 4 * DAY).contains(&through) && through % 3_600_000_000 == 0,
        "{done:?}"
    );
    let kept: u64 = desk.value("SELECT count(*) FROM sales").await.parse().unwrap();
    assert_eq!(kept + done.rows, 600);
    assert_eq!(
        desk.value("SELECT count(*) FROM sales").await,
        desk.value(&format!("SELECT count(*) FROM kept WHERE event_time >= to_timestamp_micros({through})"))
            .await
    );
    assert_equals(&desk, "kept", "after rows left that were not folded").await;
    assert_eq!(expire_now(&desk).await, Expired { through: Some(through), ..Default::default() }, "again");
    desk.run(FOLD).await;
    assert_equals(&desk, "kept", "when all is folded").await;

    // Late rows below the cut, and a deletion above it.
    for table in ["sales", "kept"] {
        desk.run(&insert_into(table, 5, 25)).await;
        desk.run(&format!("DELETE FROM {table} WHERE event_id = 590 AND event_time >= '2026-03-06'")).await;
    }
    for desk in [&desk, &home.desk().await] {
        assert_equals(desk, "kept", "with late rows").await;
        desk.run(FOLD).await;
        assert_equals(desk, "kept", "when they are folded").await;
    }
    // The cut never falls, whatever the retention is now; and when it rises the late rows leave as well.
    assert_eq!(try_expire(&desk, Some(5 * DAY)).await.unwrap().through, Some(through));
    let more = try_expire(&desk, Some(DAY)).await.unwrap();
    assert!(more.through.unwrap() > through && more.rows > 20, "{more:?}");
    compact_all(&desk, "sales").await;
    vacuum_now(&desk, "sales", true).await;
    assert_equals(&desk, "kept", "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_computes_anew_before_its_rows_leave() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    desk.run(FOLD).await;
    for table in ["sales", "kept"] {
        desk.run(&format!("DELETE FROM {table} WHERE product_id = 'p2' AND event_time < '2026-03-03'")).await;
    }
    // Pinned before the rollup takes the deletion in; its events are pinned when they are gone.
    let (pins, rollup) = (Pins::default(), desk.rollup("hourly").await);
    pins.snapshot(&rollup.table).await.unwrap();
    assert!(expire_now(&desk).await.rows > 0);
    assert_equals(&desk, "kept", "after a deletion below the cut").await;
    let pinned = rollup.pin(&pins).await.unwrap();
    assert_eq!(pinned.view().await.unwrap_err().kind(), Kind::Conflict, "it has to be pinned anew");
    pins.release();
    rollup.pin(&pins).await.unwrap().view().await.unwrap();
    desk.run(FOLD).await;
    assert_equals(&desk, "kept", "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_buckets_of_every_rollup_leave() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    desk.run(
        "CREATE MATERIALIZED VIEW berlin WITH (refresh_mode = 'incremental') AS
           SELECT time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin') AS day, count(*) AS events
           FROM sales GROUP BY 1",
    )
    .await;
    let done = expire_now(&desk).await;
    assert_eq!(done.through, Some(MARCH + 4 * DAY - 3_600_000_000), "midnight in Berlin");
    assert_equals(&desk, "kept", "after expire").await;
    desk.run("DELETE FROM sales WHERE event_time >= '2026-03-04T23:00:00' AND event_id = 401").await;
    let berlin = "SELECT time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin'), count(*) FROM kept
                  WHERE event_id <> 401 GROUP BY 1";
    assert_eq!(desk.rows("SELECT * FROM berlin").await, desk.rows(berlin).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_says_what_it_cannot_reach() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    expire_now(&desk).await;
    for condition in ["", "WHERE product_id = 'p1'", "WHERE event_time < '2026-03-02'"] {
        let refused = desk.try_run(&format!("DELETE FROM sales {condition}")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Expired, "{refused}");
        assert!(refused.message().contains("rollup 'hourly'"), "{refused}");
        assert!(refused.hint().unwrap().contains("AND event_time >= '2026-03-04 "), "{refused:?}");
    }
    desk.run("DELETE FROM sales WHERE product_id = 'p1' AND event_time >= '2026-03-05'").await;
    assert_eq!(
        desk.value("SELECT count(*) FROM sales WHERE product_id = 'p1' AND event_time >= '2026-03-05'").await,
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_or_change_while_it_is_planned() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    desk.run(FOLD).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let expiring = tokio::spawn(async move { expire_now(&slow).await });
    gate.arrived().await;
    // Late rows are left where they are; a deletion makes it plan again, after the rollup has taken it in.
    for table in ["sales", "kept"] {
        desk.run(&insert_into(table, 5, 9)).await;
        desk.run(&format!("DELETE FROM {table} WHERE event_id BETWEEN 100 AND 120")).await;
    }
    gate.release();
    let done = soon(expiring).await.unwrap();
    assert!(done.rows > 300, "{done:?}");
    assert_equals(&desk, "kept", "after all").await;
    desk.run(FOLD).await;
    assert_equals(&desk, "kept", "when all is folded").await;
}

/// The archive's rows and those of the table are all rows, each once.
async fn assert_archived(desk: &Desk, when: &str) {
    let all = "SELECT count(*), count(DISTINCT event_id), sum(quantity) FROM";
    assert_eq!(
        desk.value(&format!("{all} (SELECT * FROM sales UNION ALL SELECT * FROM archived)")).await,
        desk.value(&format!("{all} kept")).await,
        "{when}"
    );
}

async fn with_archive(home: &Home, desk: &Desk) -> String {
    let url = home.path("archive").to_str().unwrap().to_owned();
    let schema = SCHEMA.replace("retention = '2 days'", &format!("retention = '2 days', archive = '{url}'"));
    desk.run(&schema).await;
    desk.run("CREATE TABLE kept (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)")
        .await;
    for table in ["sales", "kept"] {
        desk.run(&insert_into(table, 0, 600)).await;
    }
    desk.run(FOLD).await;
    format!("DROP TABLE IF EXISTS archived; CREATE EXTERNAL TABLE archived STORED AS DELTA LOCATION '{url}'")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_has_each_row_once() {
    let home = Home::new();
    let desk = home.desk().await;
    let open_archive = with_archive(&home, &desk).await;
    // It dies after the rows are in the archive, before they leave the table.
    let (dying, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put(
        "sales/_delta_log",
        [Fault::Delay(std::time::Duration::ZERO), Fault::Pause(Arc::clone(&gate))],
    );
    let expiring = tokio::spawn(async move { expire_now(&dying).await });
    gate.arrived().await;
    expiring.abort();
    assert!(soon(expiring).await.unwrap_err().is_cancelled());
    desk.run(&open_archive).await;
    assert_ne!(desk.value("SELECT count(*) FROM archived").await, "0");
    assert_eq!(desk.value("SELECT count(*) FROM sales").await, "600");

    // A deletion in between: what it deletes is not in the archive in the end.
    for table in ["sales", "kept"] {
        desk.run(&format!("DELETE FROM {table} WHERE event_id = 7")).await;
    }
    let done = expire_now(&desk).await;
    assert!(done.archived > 300 && done.archived == done.rows, "{done:?}");
    desk.run(&open_archive).await;
    assert_archived(&desk, "after a crash").await;
    assert_equals(&desk, "kept", "after a crash").await;

    // The next cut appends.
    let more = try_expire(&desk, Some(DAY)).await.unwrap();
    assert!(more.archived > 0);
    desk.run(&open_archive).await;
    assert_archived(&desk, "after the second cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_archive_one_counts() {
    // One stands still before it claims the rows, or when they are in the archive, while the other does it all.
    for commits_before in [0, 1] {
        let home = Home::new();
        let desk = home.desk().await;
        let open_archive = with_archive(&home, &desk).await;
        let (slow, faults) = home.faulty_desk().await;
        let gate = Gate::new();
        let before = vec![Fault::Delay(std::time::Duration::ZERO); commits_before];
        faults.on_put("sales/_delta_log", before.into_iter().chain([Fault::Pause(Arc::clone(&gate))]));
        let expiring = tokio::spawn({
            let slow = slow.clone();
            async move { expire_now(&slow).await }
        });
        gate.arrived().await;
        let done = expire_now(&desk).await;
        assert!(done.archived > 300, "{done:?}");
        gate.release();
        let second = soon(expiring).await.unwrap();
        assert_eq!((second.rows, second.through), (0, done.through), "{commits_before}");
        desk.run(&open_archive).await;
        let when = format!("{commits_before} commits before");
        assert_archived(&desk, &when).await;
        assert_equals(&slow, "kept", &when).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_retention_or_time_says_so() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL) WITH (time_column = 'event_time');
         INSERT INTO sales VALUES ('2026-03-01')",
    )
    .await;
    let refused = try_expire(&desk, None).await.unwrap_err();
    assert!(
        refused.kind() == Kind::InvalidInput && refused.hint().unwrap().contains("retention"),
        "{refused}"
    );
    assert_eq!(try_expire(&desk, Some(DAY)).await.unwrap().through, None, "nothing is that old");
    for options in ["retention = 'soon'", "retention = '1 day', archive = 'here'", "archive = '/a'"] {
        let refused = desk
            .try_run(&format!("CREATE TABLE t (t TIMESTAMP NOT NULL) WITH (time_column = 't', {options})"))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidInput, "{options}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_have_a_retention_too() {
    let home = Home::new();
    let desk = home.desk().await;
    let letters = rows_of(&desk, "toplake.dead_letters").await;
    let done = expire(desk.engine.warehouse(), &letters, Some(DAY), &desk.engine.state()).await.unwrap();
    assert_eq!(done, Expired::default());
    write_letters(&desk, &[0, 3]).await;
    let done = expire(desk.engine.warehouse(), &letters, Some(DAY), &desk.engine.state()).await.unwrap();
    assert_eq!(done.rows, 1);
    assert_eq!(desk.value("SELECT position FROM toplake.dead_letters").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_follows_the_buckets_of_a_rollup_that_is_made_meanwhile() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&desk).await;
    desk.run(FOLD).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let expiring = tokio::spawn(async move { expire_now(&slow).await });
    gate.arrived().await;
    let of = |events: &str| {
        format!(
            "SELECT time_bucket(INTERVAL '1 day', event_time) AS day, count(*) AS events FROM {events} GROUP BY 1"
        )
    };
    desk.run(&format!(
        "CREATE MATERIALIZED VIEW days WITH (refresh_mode = 'incremental') AS {}",
        of("sales")
    ))
    .await;
    gate.release();
    let done = soon(expiring).await.unwrap();
    assert_eq!(done.through, Some(MARCH + 3 * DAY), "the beginning of a day");
    for table in ["sales", "kept"] {
        desk.run(&format!("DELETE FROM {table} WHERE event_id = 390 AND event_time >= '2026-03-04'")).await;
    }
    for _ in 0..2 {
        assert_eq!(desk.rows("SELECT * FROM days").await, desk.rows(&of("kept")).await);
        desk.run("REFRESH MATERIALIZED VIEW days").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recompute_beside_it_is_no_reason_to_archive_again() {
    let home = Home::new();
    let desk = home.desk().await;
    let open_archive = with_archive(&home, &desk).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    // The cut is about to be announced.
    faults.on_put("hourly/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let expiring = tokio::spawn(async move { expire_now(&slow).await });
    gate.arrived().await;
    assert!(!home.path("archive/_delta_log").exists(), "nothing is copied before the rollups know");
    desk.run("CALL recompute('hourly', '2026-03-05', 'infinity')").await;
    gate.release();
    assert!(soon(expiring).await.unwrap().archived > 300);
    let sales = desk.table("sales").await.snapshot();
    let claims = format!("toplake.archive.claimed:{}", sales.metadata.id);
    assert_eq!(sales.position(&claims), Some(1), "one claim did it all");
    desk.run(&open_archive).await;
    assert_archived(&desk, "after a recompute").await;
    assert_equals(&desk, "kept", "after a recompute").await;
}
