//! A log that never ends: opening a table and planning a query cost what came since the last checkpoint and the last fold,
//! and what nobody needs any more can be cleaned up under those who read.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use toplake::error::Kind;
use toplake::lake::action::{Add, CommitKind};
use toplake::lake::committer::{Change, Position};
use toplake::lake::log;
use toplake::lake::store::Store;
use toplake::lake::table::Table;
use toplake::rollup::view::Rollup;

use crate::harness::{Desk, FaultyStore, soon};

/// Commits of the events after the first that have no file: that of the rollup which was made over them.
const WITHOUT_FILE: usize = 1;

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, quantity BIGINT) WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity
      FROM sales GROUP BY 1;";

/// A warehouse in memory whose requests are counted.
struct Warehouse {
    faults: Arc<FaultyStore>,
    store: Store,
}

impl Warehouse {
    fn new() -> Self {
        let faults = Arc::new(FaultyStore::new(InMemory::new()));
        let store = Store::with_object_store(Arc::clone(&faults) as _, "memory:///warehouse").unwrap();
        Warehouse { faults, store }
    }

    async fn desk(&self) -> Desk {
        Desk::at(self.store.clone()).await
    }

    fn requests(&self) -> (usize, usize) {
        let (_, gets, lists) = self.faults.requests.so_far();
        (gets, lists)
    }
}

/// Commits one file each, of which only the log knows, up to this version.
async fn commit_until(table: &Table, version: i64) {
    while table.snapshot().version < version {
        let on = table.snapshot();
        let mut change = Change::new(CommitKind::Append, "WRITE", &on);
        change.adds = vec![Add {
            path: format!("part-{:08}.parquet", on.version),
            size: 1000,
            stats: Some(
                r#"{"numRecords":1,"minValues":{"event_time":"2026-01-01T00:00:00.000001Z","quantity":1},"maxValues":{"event_time":"2026-01-01T00:00:00.000001Z","quantity":1},"nullCount":{"event_time":0,"quantity":0}}"#
                    .into(),
            ),
            ..Default::default()
        }];
        table.commit(&change).await.unwrap();
    }
}

/// A checkpoint of the newest version, and of it only.
async fn checkpoint(table: &Table) {
    soon(table.checkpoint()).await.unwrap();
}

/// Says that a rollup has folded its source up to a version.
async fn say_folded(rollup: &Rollup, through: i64) {
    let on = rollup.table.update().await.unwrap();
    let app = Rollup::fold_app(&on);
    let mut change = Change::new(CommitKind::Append, "FOLD", &on);
    change.positions = vec![Position { from: on.position(&app), to: through, app }];
    rollup.table.commit(&change).await.unwrap();
}

/// What a new process asks the store for until it has planned a query over a rollup whose source has a log of this length.
async fn requests_to_plan(commits: i64) -> (usize, usize) {
    const SINCE_CHECKPOINT: i64 = 20;
    const UNFOLDED: i64 = 150;
    let warehouse = Warehouse::new();
    let desk = warehouse.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    commit_until(&table, commits - SINCE_CHECKPOINT).await;
    checkpoint(&table).await;
    commit_until(&table, commits).await;
    say_folded(desk.rollup("hourly").await.as_ref(), commits - UNFOLDED).await;

    let fresh = warehouse.desk().await;
    let before = warehouse.requests();
    fresh.run("EXPLAIN SELECT sum(quantity) FROM hourly").await;
    let after = warehouse.requests();
    assert_eq!(fresh.table("sales").await.snapshot().version, commits);
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_a_query_takes_no_more_requests_when_the_log_is_long() {
    // Not at a hundredth commit: the checkpoint that comes with it would be there by then, or not.
    let short = requests_to_plan(290).await;
    let long = requests_to_plan(2_490).await;
    assert_eq!(long, short, "gets and listings");
    assert!(long.0 < 300, "{long:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cleaned_up_is_read_as_before() {
    let warehouse = Warehouse::new();
    let desk = warehouse.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    for version in [50, 110, 150] {
        commit_until(&table, version).await;
        checkpoint(&table).await;
    }
    commit_until(&table, 180).await;
    let follower = warehouse.desk().await.table("sales").await;
    commit_until(&table, 190).await;
    let (store, whole) = (table.store(), table.snapshot());
    let commits =
        |commits: Vec<_>| commits.into_iter().map(|c: Arc<toplake::lake::snapshot::Commit>| c.version);

    let kept = log::clean_up(store, 140, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(kept, 0, "nothing is that old");
    // The newest checkpoint at or before what is needed is that of version 110.
    assert_eq!(log::clean_up(store, 140, Duration::ZERO).await.unwrap(), 110 + 2, "commits and checkpoints");
    assert_eq!(log::clean_up(store, 140, Duration::ZERO).await.unwrap(), 0, "again");

    let opened = warehouse.desk().await.table("sales").await;
    assert_eq!(opened.snapshot().version, 190);
    assert!(opened.snapshot().files.keys().eq(whole.files.keys()));
    assert!(commits(opened.commits(140, 190).await.unwrap()).eq(141..=190));
    assert_eq!(opened.snapshot_at(140).await.unwrap().files.len(), 140 - WITHOUT_FILE);
    assert_eq!(opened.snapshot_at(109).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(follower.update().await.unwrap().version, 190);
    commit_until(&follower, 191).await;
    assert_eq!(table.update().await.unwrap().version, 191);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_is_too_old_leads_to_the_end_all_the_same() {
    let warehouse = Warehouse::new();
    let desk = warehouse.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    for version in [40, 80] {
        commit_until(&table, version).await;
        checkpoint(&table).await;
    }
    commit_until(&table, 95).await;
    let store = table.store();
    let old = store.get(&log::checkpoint_path(store, 40)).await.unwrap().unwrap();

    // A checkpoint that came late took the hint back, and the clean-up puts it right before it removes anything.
    log::write_hint(store, 40, None).await.unwrap();
    assert_eq!(warehouse.desk().await.table("sales").await.snapshot().version, 95);
    log::clean_up(store, 90, Duration::ZERO).await.unwrap();
    let (_, lists) = warehouse.requests();
    let opened = Table::open("sales", store.clone()).await.unwrap().unwrap();
    assert_eq!((opened.snapshot().version, warehouse.requests().1), (95, lists));

    // It comes after the clean-up, and even its checkpoint does: the commits after it are gone.
    log::write_hint(store, 40, None).await.unwrap();
    for late in [None, Some(old)] {
        if let Some(late) = late {
            store.put(&log::checkpoint_path(store, 40), late).await.unwrap();
        }
        let opened = Table::open("sales", store.clone()).await.unwrap().unwrap();
        assert_eq!((opened.snapshot().version, opened.snapshot().files.len()), (95, 95 - WITHOUT_FILE));
    }
}
