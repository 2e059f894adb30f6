//! Recompute: whole buckets anew from the raw events, through kills, the rollups above after it, and never without events.

use std::sync::Arc;

use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::range::TimeRanges;
use toplake::lake::snapshot::EXPIRED_THROUGH;
use toplake::rollup::recompute::{Origin, request};

use crate::corruption::{corrupt, replaced_since};
use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity
      FROM sales GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity FROM hourly GROUP BY 1;
    INSERT INTO sales SELECT t, 'p', 1 FROM generate_series(TIMESTAMP '2026-03-01', TIMESTAMP '2026-03-04 23:30:00',
      INTERVAL '30 minutes') AS g (t);
    REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily";
/// Every stored hour is wrong.
const WRONG: &str = "SELECT bucket, product_id, quantity + 100 FROM stored";
const DAY: i64 = 86_400_000_000;
/// 2026-03-01 in microseconds.
const FIRST: i64 = 1_772_323_200_000_000;

async fn wrong_hours(desk: &Desk) -> String {
    desk.value("SELECT count(*) FROM hourly WHERE quantity <> 2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_buckets_are_replaced_and_the_rollups_above_follow() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    corrupt(&desk, "hourly", WRONG).await;
    corrupt(&desk, "daily", "SELECT bucket, -1 FROM stored").await;
    assert_eq!(wrong_hours(&desk).await, "96");
    // Half an hour at each end stands for the whole of it.
    desk.run("CALL recompute('hourly', '2026-03-02 10:30:00', '2026-03-02 12:00:01')").await;
    assert_eq!(
        desk.rows("SELECT min(bucket), max(bucket), count(*) FROM hourly WHERE quantity = 2").await,
        ["2026-03-02T10:00:00,2026-03-02T12:00:00,3"]
    );
    let (hourly, daily) = (desk.table("hourly").await, desk.table("daily").await);
    let folded = toplake::rollup::view::Rollup::fold_app(&daily.snapshot());
    assert_eq!(daily.snapshot().position(&folded), Some(hourly.snapshot().version), "the days have followed");
    // A day is made from its hours, so they are computed anew first.
    desk.run("CALL recompute('daily', '2026-03-01 05:00:00', '2026-03-02 05:00:00')").await;
    assert_eq!(wrong_hours(&desk).await, "48");
    assert_eq!(
        desk.rows("SELECT bucket, quantity FROM daily").await,
        [
            "2026-03-01T00:00:00,48",
            "2026-03-02T00:00:00,48",
            "2026-03-03T00:00:00,-1",
            "2026-03-04T00:00:00,-1"
        ]
    );
    desk.run("CALL recompute('daily', '-infinity', 'infinity')").await;
    assert_eq!(
        desk.rows("SELECT * FROM audit('daily', '-infinity', 'infinity')").await,
        Vec::<String>::new()
    );
    assert_eq!(wrong_hours(&desk).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recompute_that_is_killed_is_worked_off_by_the_folds_to_come() {
    let home = Home::new();
    let (dying, faults) = home.faulty_desk().await;
    dying.run(SCHEMA).await;
    corrupt(&dying, "hourly", WRONG).await;
    let gate = Gate::new();
    // The first commit says what is asked for, the second one is the first unit.
    faults.on_put("hourly/_delta_log", [Fault::Delay(Default::default()), Fault::Pause(Arc::clone(&gate))]);
    let asking =
        tokio::spawn(async move { dying.run("CALL recompute('hourly', '2026-03-02', '2026-03-04')").await });
    gate.arrived().await;
    asking.abort();
    assert!(soon(asking).await.unwrap_err().is_cancelled());

    let desk = home.desk().await;
    assert_eq!(wrong_hours(&desk).await, "96");
    let jobs = "SELECT job, object, state, pending_from, pending_to FROM toplake.jobs";
    assert_eq!(desk.rows(jobs).await, ["recompute,hourly,pending,2026-03-02T00:00:00Z,2026-03-04T00:00:00Z"]);
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(wrong_hours(&desk).await, "48");
    assert_eq!(desk.rows(jobs).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_range_is_done_first_and_new_events_are_folded_meanwhile() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    corrupt(&desk, "hourly", WRONG).await;
    let rollup = desk.rollup("hourly").await;
    let ranges: TimeRanges = [(FIRST, FIRST + DAY), (FIRST + 2 * DAY, FIRST + 3 * DAY)].into_iter().collect();
    request(&rollup, &ranges, Origin::Events).await.unwrap();
    let version = desk.table("hourly").await.snapshot().version;
    desk.run("INSERT INTO sales VALUES ('2026-03-03 00:10:00', 'p', 0), ('2026-03-09 00:10:00', 'p', 2)")
        .await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(
        replaced_since(&desk, "hourly", version).await,
        [[(FIRST + 2 * DAY, FIRST + 3 * DAY)], [(FIRST, FIRST + DAY)]]
    );
    assert_eq!(wrong_hours(&desk).await, "48");
    assert_eq!(desk.value("SELECT count(*) FROM hourly").await, "97");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_do_each_bucket_right() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    corrupt(&desk, "hourly", WRONG).await;
    let mut at_work = vec![];
    for (from, to) in [("2026-03-01", "2026-03-03"), ("2026-03-02", "2026-03-05"), ("-infinity", "infinity")]
    {
        let desk = home.desk().await;
        at_work.push(tokio::spawn(async move {
            desk.run(&format!("CALL recompute('hourly', '{from}', '{to}')")).await;
            desk.run("INSERT INTO sales VALUES ('2026-03-02 00:10:00', 'p', 0)").await;
            desk.run("REFRESH MATERIALIZED VIEW hourly").await;
        }));
    }
    for work in at_work {
        soon(work).await.unwrap();
    }
    assert_eq!(wrong_hours(&desk).await, "0");
    assert_eq!(
        desk.rows("SELECT * FROM audit('hourly', '-infinity', 'infinity')").await,
        Vec::<String>::new()
    );
    assert_eq!(desk.value("SELECT count(*) FROM toplake.jobs WHERE pending_from IS NOT NULL").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_events_any_more_is_refused_and_nothing_changes() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let sales = desk.table("sales").await;
    let mut change = Change::new(CommitKind::Metadata, "TEST", &sales.snapshot());
    let mut metadata = sales.snapshot().metadata.as_ref().clone();
    metadata.configuration.insert(EXPIRED_THROUGH.to_owned(), (FIRST + DAY).to_string());
    change.metadata = Some(metadata);
    sales.commit(&change).await.unwrap();

    let before =
        (desk.table("hourly").await.snapshot().version, desk.table("daily").await.snapshot().version);
    for sql in [
        "CALL recompute('hourly', '2026-03-01 23:59:59', '2026-03-03')",
        "CALL recompute('daily', '-infinity', 'infinity')",
        "CALL repair('daily', '2026-03-01', '2026-03-03')",
        "SELECT * FROM audit('daily', '2026-03-01', '2026-03-03')",
    ] {
        let e = desk.try_run(sql).await.unwrap_err();
        assert_eq!(e.kind().sqlstate(), "55000", "{sql}: {e}");
        assert!(
            e.message().contains("events of 'sales' are kept from 2026-03-02 00:00:00Z on"),
            "{sql}: {e}"
        );
    }
    let after = (desk.table("hourly").await.snapshot().version, desk.table("daily").await.snapshot().version);
    assert_eq!(before, after);
    desk.run("CALL recompute('daily', '2026-03-02', 'infinity')").await;
    // From the hours, the days can still be told.
    assert_eq!(
        desk.rows("SELECT * FROM audit('daily', '2026-03-01', '2026-03-03', 'source')").await,
        Vec::<String>::new()
    );
}
