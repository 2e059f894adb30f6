//! DELETE gets through beside ingest, touches only the files that it has to, and reaches the side tables.

use std::sync::Arc;

use toplake::error::Kind;
use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, ingest};

use super::{FOLD, SCHEMA, assert_right, compact_all, insert};
use crate::harness::{Fault, Gate, Home, soon};

#[tokio::test(flavor = "multi_thread")]
async fn only_files_with_such_rows_are_written_anew() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for day in 0..4 {
        desk.run(&insert(day * 100, day * 100 + 100)).await;
    }
    desk.run(FOLD).await;
    let before = desk.table("sales").await.snapshot();
    // The second day by its statistics, one row of it by its content.
    desk.run(
        "DELETE FROM sales WHERE event_time >= '2026-03-02' AND event_time < '2026-03-03' AND event_id = 150",
    )
    .await;
    let after = desk.table("sales").await.snapshot();
    let stayed = before.files.keys().filter(|path| after.files.contains_key(*path)).count();
    assert_eq!((stayed, after.files.len(), after.version), (3, 4, before.version + 1));
    assert_right(&desk, "before it is folded").await;
    let ranges = &desk.table("sales").await.commits(before.version, after.version).await.unwrap()[0].ranges;
    assert_eq!(ranges.iter().map(|(from, to)| to - from).sum::<i64>(), 3_600_000_000, "one hour is dirty");
    desk.run(FOLD).await;
    assert_right(&desk, "when it is folded").await;
    assert_eq!(desk.value("SELECT sum(events) FROM daily").await, "399");

    // No such row: no commit.
    desk.run("DELETE FROM sales WHERE event_id = 150").await;
    assert_eq!(desk.table("sales").await.snapshot().version, after.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_in_meanwhile_are_no_conflict() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run(&insert(0, 50)).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let (puts, _, _) = faults.requests.so_far();
    let deleting =
        tokio::spawn(async move { slow.try_run("DELETE FROM sales WHERE product_id = 'p1'").await });
    gate.arrived().await;
    for n in 5..10 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
        desk.run(FOLD).await;
        assert_right(&desk, "before the deletion").await;
    }
    gate.release();
    soon(deleting).await.unwrap().unwrap();
    assert_right(&desk, "after the deletion").await;
    desk.run(FOLD).await;
    assert_right(&desk, "when it is folded").await;
    // Rows that were not there when it began stay, and it wrote its one file once.
    assert_eq!(
        desk.value("SELECT count(*), min(event_id) FROM sales WHERE product_id = 'p1'").await,
        "10,51"
    );
    let (done, _, _) = faults.requests.so_far();
    assert_eq!(done - puts, 3, "a file, a commit that found its place taken, and the commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_replaced_meanwhile_are_done_again() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for n in 0..6 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    desk.run(FOLD).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("sales/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let deleting =
        tokio::spawn(async move { slow.try_run("DELETE FROM sales WHERE product_id = 'p1'").await });
    gate.arrived().await;
    assert_eq!(compact_all(&desk, "sales").await.files_added, 1);
    gate.release();
    soon(deleting).await.unwrap().unwrap();
    assert_right(&desk, "after the deletion").await;
    assert_eq!(desk.value("SELECT count(*), count(DISTINCT product_id) FROM sales").await, "48,4");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_whether_they_were_followed_or_not() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for (name, follow) in [("a.csv", true), ("b.csv", false)] {
        let path = home.path(name);
        let lines = "event_id,event_time,product_id,quantity\n1,2026-03-01 10:00:00,p1,1\n\
                     2,2026-03-01 10:00:00,p1,secret\n3,never,p1,other\n";
        std::fs::write(&path, lines).unwrap();
        let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
        let max_errors = "90%".parse().unwrap();
        let options = Options { follow, max_errors, ..Options::default() };
        ingest(&desk.engine, "sales", &files, &options, &mut Progress::hidden()).await.unwrap();
    }
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "4");
    desk.run("DELETE FROM toplake.dead_letters WHERE payload LIKE '%secret%'").await;
    for desk in [&desk, &home.desk().await] {
        assert_eq!(
            desk.value("SELECT count(*), sum((payload LIKE '%other%')::INT) FROM toplake.dead_letters").await,
            "2,2"
        );
    }
    compact_all(&desk, "toplake.dead_letters").await;
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "2");
    assert_eq!(desk.value("SELECT count(*) FROM sales").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_has_nothing_to_delete() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("CREATE VIEW v AS SELECT * FROM sales").await;
    for name in ["hourly", "v", "toplake.rollups"] {
        let refused = desk.try_run(&format!("DELETE FROM {name}")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::WrongObjectType, "{name}: {refused}");
    }
}
