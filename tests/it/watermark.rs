//! How far event time has come: per partition of a stream, by batches, by foreign writers, and whatever leaves.

use std::collections::BTreeSet;

use toplake::lake::action::{Action, Add, CommitInfo, format_lines};
use toplake::lake::committer::{Change, Position};
use toplake::lake::event_times::{Partition, Seen};
use toplake::lake::table::Table;
use toplake::lake::{action::CommitKind, log};

use crate::harness::{Desk, Home};

const SCHEMA: &str = "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, n BIGINT)
    WITH (time_column = 'event_time', allowed_lateness = '1 hour')";

const HOUR: i64 = 3_600_000_000;
const NOON: i64 = 1_772_366_400_000_000; // 2026-03-01 12:00

async fn watermark(desk: &Desk) -> String {
    desk.value("SELECT watermark('sales')").await
}

/// The same from the process that followed every commit, from one that replays the log, and from one that opens a
/// checkpoint.
async fn assert_watermark(home: &Home, desk: &Desk, wanted: &str, when: &str) {
    assert_eq!(watermark(desk).await, wanted, "{when}");
    assert_eq!(watermark(&home.desk().await).await, wanted, "{when}, opened");
    desk.table("sales").await.checkpoint().await.unwrap();
    assert_eq!(watermark(&home.desk().await).await, wanted, "{when}, opened from a checkpoint");
}

/// Commits a file of which only the statistics are there.
async fn commit(table: &Table, name: &str, hour: i64, seen: Seen, positions: Vec<Position>) {
    let mut change = Change::new(CommitKind::Append, "INGEST", &table.update().await.unwrap());
    change.adds = vec![file(name, hour)];
    change.seen = seen;
    change.positions = positions;
    table.commit(&change).await.unwrap();
}

fn file(name: &str, hour: i64) -> Add {
    let time = chrono::DateTime::from_timestamp_micros(NOON + hour * HOUR).unwrap();
    let time = time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let stats = serde_json::json!({
        "numRecords": 1, "minValues": { "event_time": time }, "maxValues": { "event_time": time },
        "nullCount": { "event_time": 0 },
    });
    Add { path: format!("{name}.parquet"), size: 1, stats: Some(stats.to_string()), ..Default::default() }
}

/// What another Delta writer would put into the log.
async fn foreign(table: &Table, actions: Vec<Action>) {
    let version = table.update().await.unwrap().version + 1;
    let body = format_lines(&actions).unwrap();
    let path = log::commit_path(table.store(), version);
    assert!(table.store().put_if_absent(&path, body.into()).await.unwrap());
}

fn partition(number: i64) -> Partition {
    Partition { source: "kafka:eu:clicks".into(), number }
}

fn rows_of(number: i64, hour: i64) -> Seen {
    Seen { active: [(partition(number), Some(NOON + hour * HOUR))].into(), idle: BTreeSet::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_does_not_lower_it() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    assert_watermark(&home, &desk, "NULL", "empty").await;
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:00:00', 1), ('2026-03-03 10:00:00', 2)").await;
    assert_watermark(&home, &desk, "2026-03-03T09:00:00", "after an INSERT").await;
    desk.run("DELETE FROM sales WHERE n = 2").await;
    assert_watermark(&home, &desk, "2026-03-03T09:00:00", "after its newest row was deleted").await;
    desk.run("DELETE FROM sales; INSERT INTO sales VALUES ('2026-03-02 10:00:00', 3); CALL compact('sales')")
        .await;
    assert_watermark(&home, &desk, "2026-03-03T09:00:00", "after all was deleted").await;
    assert_eq!(desk.value("SELECT last_event_time('sales')").await, "2026-03-03T10:00:00");
    desk.run("DROP TABLE sales").await;
    desk.run(SCHEMA).await;
    assert_watermark(&home, &desk, "NULL", "made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_writers_count_by_their_statistics() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    // As a version that knew no such positions wrote it, and as another Delta writer would.
    let add = |name, hour| Action { add: Some(file(name, hour)), ..Default::default() };
    foreign(&table, vec![add("a", 0), add("b", 5)]).await;
    assert_watermark(&home, &desk, "2026-03-01T16:00:00", "after a foreign append").await;
    let snapshot = table.update().await.unwrap();
    let remove = Action { remove: Some(snapshot.files["b.parquet"].remove(0, true)), ..Default::default() };
    foreign(&table, vec![remove.clone(), add("c", 1)]).await;
    assert_watermark(&home, &desk, "2026-03-01T16:00:00", "after a foreign update").await;
    foreign(&table, vec![Action { add: Some(Add { stats: None, ..file("d", 9) }), ..Default::default() }])
        .await;
    assert_watermark(&home, &desk, "2026-03-01T16:00:00", "after a file that says nothing of itself").await;

    // A commit of ours says it for those who come by a checkpoint of another writer: one without what ours keeps.
    let table = desk.table("sales").await;
    commit(&table, "e", 2, Seen::default(), vec![]).await;
    let highest = format!("toplake.highest:{}", table.snapshot().metadata.id);
    assert_eq!(table.snapshot().position(&highest), Some(NOON + 5 * HOUR));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_another_writer_moves_it_no_further_than_ours_may() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    let info = CommitInfo { timestamp: NOON / 1000, ..Default::default() };
    let info = Action { commit_info: Some(info), ..Default::default() };
    let far = Action { add: Some(file("far", 24 * 365 * 100)), ..Default::default() };
    foreign(&table, vec![info, far]).await;
    // An hour ahead is allowed, and rows may be an hour late.
    assert_watermark(&home, &desk, "2026-03-01T12:00:00", "a century ahead").await;
    // Where a writer does not say when it commits, its file says when it was written.
    let written = NOON / 1000 + 2 * HOUR / 1000;
    let add = Add { modification_time: written, ..file("undated", 24 * 365 * 100) };
    foreign(&table, vec![Action { add: Some(add), ..Default::default() }]).await;
    assert_watermark(&home, &desk, "2026-03-01T14:00:00", "from a commit without a time").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slowest_partition_of_a_stream_holds_it_until_it_is_idle() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    let app = partition(0).consumed_app(&table.snapshot().metadata.id);
    commit(&table, "a", 0, rows_of(0, 0), vec![Position { app, from: None, to: 42 }]).await;
    commit(&table, "b", 9, rows_of(1, 9), vec![]).await;
    commit(&table, "c", 20, Seen::default(), vec![]).await;
    assert_watermark(&home, &desk, "2026-03-01T11:00:00", "partition 0 is behind, a batch does not matter")
        .await;
    assert_eq!(
        desk.rows(
            "SELECT source, partition, position, highest_event_time, watermark, idle FROM toplake.sources"
        )
        .await,
        [
            "batch,NULL,NULL,2026-03-02T08:00:00Z,2026-03-02T07:00:00Z,NULL",
            "kafka:eu:clicks,0,42,2026-03-01T12:00:00Z,2026-03-01T11:00:00Z,false",
            "kafka:eu:clicks,1,NULL,2026-03-01T21:00:00Z,2026-03-01T20:00:00Z,false",
        ]
    );
    let mut idle = Change::new(CommitKind::Rewrite, "IDLE", &table.snapshot());
    idle.seen.idle.insert(partition(0));
    table.commit(&idle).await.unwrap();
    assert_watermark(&home, &desk, "2026-03-01T20:00:00", "partition 0 is idle").await;
    commit(&table, "d", 8, rows_of(0, 8), vec![]).await;
    commit(&table, "e", 30, rows_of(1, 30), vec![]).await;
    assert_watermark(&home, &desk, "2026-03-01T20:00:00", "partition 0 is back, behind the watermark").await;
    commit(&table, "f", 12, rows_of(0, 12), vec![]).await;
    assert_watermark(&home, &desk, "2026-03-01T23:00:00", "and has passed it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_cross_take_the_higher_time() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let (one, other) = (desk.table("sales").await, home.desk().await.table("sales").await);
    // Both are planned before either commits.
    let plan = |table: &Table, hour| {
        let mut change = Change::new(CommitKind::Append, "WRITE", &table.snapshot());
        change.adds = vec![file(&format!("h{hour}"), hour)];
        change
    };
    let (late, early) = (plan(&one, 7), plan(&other, 3));
    one.commit(&late).await.unwrap();
    other.commit(&early).await.unwrap();
    assert_watermark(&home, &desk, "2026-03-01T18:00:00", "after both").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_costs_the_same_for_any_number_of_files() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    let asked = || {
        let snapshot = table.snapshot();
        let begun = std::time::Instant::now();
        for _ in 0..1000 {
            std::hint::black_box(toplake::catalog::watermark::of("sales", &snapshot).unwrap());
        }
        begun.elapsed()
    };
    commit(&table, "first", 0, Seen::default(), vec![]).await;
    let few = asked();
    let mut change = Change::new(CommitKind::Append, "WRITE", &table.snapshot());
    change.adds = (0..20_000).map(|n| file(&format!("more{n}"), 1)).collect();
    table.commit(&change).await.unwrap();
    let many = asked();
    // Looking at each file would take 20,000 times as long.
    assert!(
        many < few * 100 + std::time::Duration::from_millis(10),
        "{many:?} for many files, {few:?} for one"
    );
    assert_watermark(&home, &desk, "2026-03-01T12:00:00", "with many files").await;
}
