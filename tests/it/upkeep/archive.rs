//! Events that are past their retention count again where an archive has them, each once, whatever is on its way.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::error::Kind;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::store::Store;
use toplake::lake::table::Table;
use toplake::maintain::expire::expire;
use toplake::maintain::target::{Rows, Target};
use toplake::maintain::vacuum::{Horizon, vacuum};

use super::{FOLD, SCHEMA, assert_equals, files_in, insert_into};
use crate::harness::{Desk, Fault, Gate, Home, soon};

const DAY: i64 = 86_400_000_000;
const EVERYTHING: &str = "CALL recompute('daily', '-infinity', 'infinity', 'archive')";

/// Six days of sales with an archive, the same in a table that keeps them, and the archive by its name.
async fn six_days(home: &Home, desk: &Desk) {
    let url = home.path("archive").to_str().unwrap().to_owned();
    desk.run(&SCHEMA.replace("retention = '2 days'", &format!("retention = '2 days', archive = '{url}'")))
        .await;
    desk.run("CREATE TABLE kept (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)")
        .await;
    insert_both(desk, 0, 600).await;
}

async fn insert_both(desk: &Desk, from: i64, to: i64) {
    for table in ["sales", "kept"] {
        desk.run(&insert_into(table, from, to)).await;
    }
}

async fn open_archive(home: &Home, desk: &Desk) {
    let url = home.path("archive").to_str().unwrap().to_owned();
    desk.run(&format!("CREATE EXTERNAL TABLE archived STORED AS DELTA LOCATION '{url}'")).await;
}

async fn expire_now(
    desk: &Desk,
    retention: i64,
) -> toplake::error::Result<toplake::maintain::expire::Expired> {
    let rows = Rows::of(&desk.table("sales").await);
    expire(desk.engine.warehouse(), &rows, Some(retention), &desk.engine.state()).await
}

/// Makes the rollups anew, so that they have only what is still there.
async fn forget(desk: &Desk) {
    let (_, rollups) = SCHEMA.split_once("CREATE MATERIALIZED VIEW hourly").unwrap();
    desk.run("DROP MATERIALIZED VIEW hourly CASCADE").await;
    desk.run(&format!("CREATE MATERIALIZED VIEW hourly{rollups}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_gets_its_history_from_the_archive() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&home, &desk).await;
    assert!(expire_now(&desk, 2 * DAY).await.unwrap().archived > 300);
    forget(&desk).await;
    let known = desk.value("SELECT sum(events) FROM daily").await;
    assert!(known.parse::<i64>().unwrap() < 300, "{known}");
    let refused = desk.try_run("CALL recompute('daily', '-infinity', 'infinity')").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Expired, "{refused}");
    desk.run("CALL recompute('daily', '2026-03-02', '2026-03-03', 'archive')").await;
    assert_eq!(desk.value("SELECT events FROM daily WHERE bucket = '2026-03-02'").await, "100");
    assert_eq!(desk.value("SELECT count(*) FROM daily WHERE bucket < '2026-03-02'").await, "0");
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "after all was computed anew").await;
    // Late rows below the cut, unfolded and folded; and once more, with nothing new.
    insert_both(&desk, 5, 25).await;
    for _ in 0..2 {
        desk.run(EVERYTHING).await;
        assert_equals(&desk, "kept", "with late rows").await;
        desk.run(FOLD).await;
        assert_equals(&desk, "kept", "when they are folded").await;
    }
    assert_eq!(desk.value("SELECT count(*) FROM toplake.jobs WHERE pending_from IS NOT NULL").await, "0");
    let refused =
        desk.try_run("CALL recompute('daily', '-infinity', 'infinity', 'cellar')").await.unwrap_err();
    assert!(
        refused.message().contains("'cellar'") && refused.hint().unwrap().contains("'archive'"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_without_an_archive_is_refused_and_nothing_changes() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&home, &desk).await;
    desk.run(FOLD).await;
    // Four days without, then one with it.
    desk.run("ALTER TABLE sales RESET (archive)").await;
    assert_eq!(expire_now(&desk, 2 * DAY).await.unwrap().archived, 0);
    let url = home.path("archive").to_str().unwrap().to_owned();
    desk.run(&format!("ALTER TABLE sales SET (archive = '{url}')")).await;
    assert!(expire_now(&desk, DAY).await.unwrap().archived > 0);
    let version = desk.table("hourly").await.snapshot().version;
    let refused = desk.try_run(EVERYTHING).await.unwrap_err();
    assert!(refused.kind() == Kind::Expired && refused.message().contains("without an archive"), "{refused}");
    assert_eq!(desk.table("hourly").await.snapshot().version, version);
    desk.run("CALL recompute('daily', '2026-03-05', 'infinity', 'archive')").await;
    assert_equals(&desk, "kept", "from where the archive is whole").await;
    // A third cut without it: the archive is whole no more.
    desk.run("ALTER TABLE sales RESET (archive)").await;
    expire_now(&desk, DAY / 2).await.unwrap();
    desk.run(&format!("ALTER TABLE sales SET (archive = '{url}')")).await;
    let refused =
        desk.try_run("CALL recompute('daily', '2026-03-05', 'infinity', 'archive')").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Expired, "{refused}");
    assert_equals(&desk, "kept", "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_their_way_count_once() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&home, &desk).await;
    desk.run(FOLD).await;
    expire_now(&desk, 4 * DAY).await.unwrap();
    // Late rows below that cut leave with the next one.
    insert_both(&desk, 5, 25).await;
    desk.run(FOLD).await;
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    // The first commit is the claim; at the second the rows are in both tables.
    faults.on_put("sales/_delta_log", [Fault::Delay(Duration::ZERO), Fault::Pause(Arc::clone(&gate))]);
    let expiring = tokio::spawn(async move { expire_now(&slow, 2 * DAY).await });
    gate.arrived().await;
    open_archive(&home, &desk).await;
    let both = "SELECT count(*) FROM sales JOIN archived USING (event_id)";
    assert_ne!(desk.value(both).await, "0");
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "while rows are in both").await;
    gate.release();
    assert!(soon(expiring).await.unwrap().unwrap().archived > 0);
    assert_eq!(desk.value(both).await, "0");
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "when they have left").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_in_the_archive_too() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&home, &desk).await;
    desk.run(FOLD).await;
    expire_now(&desk, 2 * DAY).await.unwrap();
    let refused = desk.try_run("DELETE FROM sales WHERE product_id = 'p3'").await.unwrap_err();
    assert!(refused.message().contains("the archive"), "{refused}");
    open_archive(&home, &desk).await;
    desk.run("DELETE FROM sales WHERE product_id = 'p3' AND event_time >= '2026-03-05'").await;
    desk.run("DELETE FROM archived WHERE product_id = 'p3'").await;
    let here = desk.value("SELECT min(event_time) FROM sales").await;
    desk.run(&format!(
        "DELETE FROM kept WHERE product_id = 'p3' AND (event_time >= '2026-03-05' OR event_time < '{here}')"
    ))
    .await;
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "after the deletion").await;
    // The next cut does not take the rest for what a dead process left.
    insert_both(&desk, 600, 700).await;
    expire_now(&desk, 2 * DAY).await.unwrap();
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "after another cut").await;

    let before = files_in(&home.path("archive"));
    desk.run("VACUUM archived").await;
    assert_eq!(files_in(&home.path("archive")), before, "they are young");
    let target = Target::find_to_vacuum(desk.engine.warehouse(), "archived").await.unwrap();
    let gone = vacuum(desk.engine.warehouse(), &target, true, Some(Horizon(Duration::ZERO))).await.unwrap();
    assert!(gone.files > 0 && files_in(&home.path("archive")) == before - gone.files, "{gone:?}");
    desk.run(EVERYTHING).await;
    assert_equals(&desk, "kept", "after the vacuum").await;
    // A table elsewhere that is no archive is not ours to clean.
    let other = home.path("sales").to_str().unwrap().to_owned();
    desk.run(&format!("CREATE EXTERNAL TABLE elsewhere STORED AS DELTA LOCATION '{other}'")).await;
    assert_eq!(desk.try_run("VACUUM elsewhere").await.unwrap_err().kind(), Kind::WrongObjectType);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_others_have_rewritten_or_removed_is_an_error() {
    let home = Home::new();
    let desk = home.desk().await;
    six_days(&home, &desk).await;
    desk.run(FOLD).await;
    expire_now(&desk, 3 * DAY).await.unwrap();
    // Another writer's OPTIMIZE: the same rows in a file that does not say where they came from.
    let store = Store::open(home.path("archive").to_str().unwrap()).unwrap();
    let archive = Table::open("archive", store.clone()).await.unwrap().unwrap();
    let mut change = Change::new(CommitKind::Foreign, "OPTIMIZE", &archive.snapshot());
    change.removes = archive.snapshot().files.values().cloned().collect();
    change.adds = change.removes.iter().map(|file| file.add.clone()).collect();
    for add in &mut change.adds {
        let path = format!("rewritten-{}", add.path);
        std::fs::copy(home.path("archive").join(&add.path), home.path("archive").join(&path)).unwrap();
        (add.path, add.tags) = (path, None);
    }
    archive.commit(&change).await.unwrap();
    for refused in [
        desk.try_run(EVERYTHING).await.map(|_| ()).unwrap_err(),
        expire_now(&desk, 2 * DAY).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::WrongObjectType, "{refused}");
        assert!(refused.message().contains("rewritten-"), "{refused}");
        assert!(refused.hint().unwrap().contains("restore"), "{refused}");
    }
    assert_equals(&desk, "kept", "nothing has changed").await;

    std::fs::rename(home.path("archive"), home.path("elsewhere")).unwrap();
    for refused in [
        desk.try_run(EVERYTHING).await.map(|_| ()).unwrap_err(),
        expire_now(&desk, 2 * DAY).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::UndefinedTable, "{refused}");
    }
    assert_equals(&desk, "kept", "and still nothing").await;
}

/// In whatever order rows come, leave, are folded and computed anew with the archive, and whatever dies.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_archive_every_rollup_equals_its_definition_over_all_events() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let home = Home::new();
        let desks = [home.desk().await, home.desk().await];
        six_days(&home, &desks[0]).await;
        let (mut next, mut log) = (600, vec![format!("seed {seed}")]);
        for _ in 0..18 {
            let desk = &desks[random.random_range(0..2)];
            match random.random_range(0..8) {
                0 | 1 => {
                    let from = if random.random_bool(0.5) { random.random_range(0..next) } else { next };
                    insert_both(desk, from, from + 40).await;
                    next = next.max(from + 40);
                    log.push(format!("insert {from}"));
                }
                2 => {
                    let rollup = ["hourly", "daily"][random.random_range(0..2)];
                    desk.run(&format!("REFRESH MATERIALIZED VIEW {rollup}")).await;
                    log.push(format!("fold {rollup}"));
                }
                3 | 4 => {
                    let retention = random.random_range(0..5) * DAY;
                    let after = Duration::from_micros(random.random_range(0..200_000));
                    let done = tokio::time::timeout(after, expire_now(desk, retention)).await;
                    log.push(format!("expire {retention}: {done:?}"));
                }
                5 => {
                    forget(desk).await;
                    desk.run(EVERYTHING).await;
                    log.push("forget and recompute".into());
                }
                _ => {
                    let from = random.random_range(1..7);
                    desk.run(&format!(
                        "CALL recompute('daily', '2026-03-{from:02}', '2026-03-{:02}', 'archive')",
                        from + random.random_range(1..4)
                    ))
                    .await;
                    log.push(format!("recompute {from}"));
                }
            }
            assert_equals(&desks[random.random_range(0..2)], "kept", &log.join("\n")).await;
        }
    }
}
