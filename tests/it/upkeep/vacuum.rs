//! VACUUM takes what nobody needs and nothing else.

use super::{FOLD, SCHEMA, active_files, assert_right, compact_all, files_in, insert, vacuum_now};
use std::sync::Arc;

use crate::harness::{Fault, Gate, Home, soon};
use toplake::maintain::vacuum::Vacuumed;

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_unfolded_tail_stay_until_they_are_folded() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for n in 0..4 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    for n in 4..8 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    assert_eq!(compact_all(&desk, "sales").await.files_removed, 8);
    for full in [false, true] {
        assert_eq!(vacuum_now(&desk, "sales", full).await.files, 0, "full: {full}");
        assert_right(&desk, "while the tail is not folded").await;
    }
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    // An idle source is not followed at once: one more row makes the rollup read on.
    desk.run(&insert(80, 81)).await;
    desk.run(FOLD).await;
    assert_eq!(vacuum_now(&desk, "sales", false).await.files, 8);
    assert_eq!(files_in(&home.path("sales")), active_files(&desk, "sales").await);
    assert_eq!(vacuum_now(&desk, "sales", true).await, Vacuumed::default(), "again");
    for desk in [&desk, &home.desk().await] {
        assert_right(desk, "after all is folded").await;
        assert_eq!(desk.value("SELECT count(*) FROM sales").await, "81");
    }

    // A rollup is the source of the next one.
    desk.run(&insert(81, 85)).await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    compact_all(&desk, "hourly").await;
    vacuum_now(&desk, "hourly", true).await;
    assert_right(&desk, "while daily has not folded").await;
    desk.run(FOLD).await;
    vacuum_now(&desk, "hourly", true).await;
    vacuum_now(&desk, "daily", true).await;
    assert_right(&desk, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_stays() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    for n in 0..4 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    compact_all(&desk, "sales").await;
    desk.run(&insert(40, 50)).await;
    desk.run(FOLD).await;
    std::fs::write(home.path("sales/part-orphan.parquet"), "x").unwrap();
    desk.run("VACUUM FULL sales; VACUUM FULL; VACUUM toplake.dead_letters").await;
    assert_eq!(files_in(&home.path("sales")), 4 + 2 + 1);
    assert_eq!(vacuum_now(&desk, "sales", true).await.files, 4 + 1);
    assert_eq!(files_in(&home.path("sales")), 2);
    assert_right(&desk, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_table_gets_no_commits_from_being_vacuumed() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run(&insert(0, 10)).await;
    let before = desk.table("sales").await.snapshot().version;
    for _ in 0..3 {
        vacuum_now(&desk, "sales", true).await;
    }
    assert_eq!(desk.table("sales").await.snapshot().version, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_are_named_only_by_the_events_stay() {
    use toplake::ingest::files::find;
    use toplake::ingest::progress::Progress;
    use toplake::ingest::{Options, ingest};
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let path = home.path("a.csv");
    std::fs::write(&path, "event_id,event_time,product_id,quantity\n1,2026-03-01,p,1\n2,never,p,1\n")
        .unwrap();
    let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
    let options = Options { follow: false, max_errors: "90%".parse().unwrap(), ..Options::default() };
    ingest(&desk.engine, "sales", &files, &options, &mut Progress::hidden()).await.unwrap();
    vacuum_now(&desk, "toplake.dead_letters", true).await;
    assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "1");
    // Vacuuming the events follows them first.
    vacuum_now(&desk, "sales", true).await;
    vacuum_now(&desk, "toplake.dead_letters", true).await;
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.value("SELECT count(*) FROM toplake.dead_letters").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_that_is_being_built_is_right_whatever_is_vacuumed_meanwhile() {
    let home = Home::new();
    let desk = home.desk().await;
    let (events, rollups) = SCHEMA.split_once("CREATE MATERIALIZED VIEW hourly").unwrap();
    desk.run(events).await;
    for n in 0..4 {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    let (builder, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    // The first commit makes the table, the second is that of the build.
    faults.on_put(
        "hourly/_delta_log",
        [Fault::Delay(std::time::Duration::ZERO), Fault::Pause(Arc::clone(&gate))],
    );
    let rollups = format!("CREATE MATERIALIZED VIEW hourly{rollups}");
    let building = tokio::spawn(async move { builder.run(&rollups).await });
    gate.arrived().await;
    assert_eq!(compact_all(&desk, "sales").await.files_removed, 4);
    desk.run(&insert(40, 50)).await;
    vacuum_now(&desk, "sales", true).await;
    // Whoever asks now builds it too, from what is there.
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    vacuum_now(&desk, "hourly", true).await;
    gate.release();
    soon(building).await.unwrap();
    for desk in [&desk, &home.desk().await] {
        assert_right(desk, "after the build").await;
        desk.run(FOLD).await;
        assert_right(desk, "when all is folded").await;
    }
}
