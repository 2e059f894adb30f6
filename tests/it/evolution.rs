//! Another definition in the place of a rollup's: what can be kept is kept, what is not known is NULL, and nobody sees a
//! rollup that is half of each.

use std::sync::Arc;

use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::snapshot::EXPIRED_THROUGH;

use crate::harness::{Desk, Fault, Gate, Home, soon};

const HOURLY: &str =
    "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity";
const DAILY: &str = "SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity";
const EVENTS: &str = "
    ('2026-03-01 10:10:00', 'a', 1, 1.5), ('2026-03-01 10:20:00', 'a', 2, 2.5), ('2026-03-01 11:00:00', 'b', 4, 3.5),
    ('2026-03-02 10:00:00', 'a', 8, 4.5)";
/// The first day in microseconds.
const FIRST: i64 = 1_772_323_200_000_000;

/// The definition of the hours, with more measures.
fn hourly(more: &str) -> String {
    format!("CREATE OR REPLACE MATERIALIZED VIEW hourly AS {HOURLY}{more} FROM sales GROUP BY 1, 2")
}

fn daily(more: &str) -> String {
    format!("CREATE OR REPLACE MATERIALIZED VIEW daily AS {DAILY}{more} FROM hourly GROUP BY 1")
}

async fn desk(home: &Home) -> Desk {
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT, price DECIMAL(18, 4))
           WITH (time_column = 'event_time')",
    )
    .await;
    desk.run(&format!("INSERT INTO sales VALUES {EVENTS}")).await;
    desk.run(&hourly("")).await;
    desk.run(&daily("")).await;
    desk
}

async fn assert_clean(desk: &Desk, when: &str) {
    for rollup in ["hourly", "daily"] {
        let audit = format!("SELECT * FROM audit('{rollup}', '-infinity', 'infinity')");
        assert_eq!(desk.rows(&audit).await, Vec::<String>::new(), "{rollup} {when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_measure_is_null_until_its_bucket_is_computed_anew() {
    let home = Home::new();
    let desk = desk(&home).await;
    let version = "SELECT definition_version FROM toplake.rollups WHERE name = 'hourly'";
    assert_eq!(desk.value(version).await, "1");
    desk.run(&hourly(", sum(price) AS price, count(*) AS events")).await;
    desk.run(&daily(", sum(price) AS price")).await;
    // The same again is no other definition.
    desk.run(&hourly(", sum(price) AS price, count(*) AS events")).await;
    assert_eq!(desk.value(version).await, "2");
    // A late event in an old bucket, and a new bucket; folded, and not.
    desk.run(
        "INSERT INTO sales VALUES ('2026-03-01 10:30:00', 'a', 16, 10), ('2026-03-03 10:00:00', 'a', 32, 20)",
    )
    .await;
    let hours = "SELECT bucket, product_id, quantity, price, events FROM hourly";
    let days = "SELECT bucket, quantity, price FROM daily";
    let other = home.desk().await;
    for desk in [&desk, &other] {
        assert_eq!(
            desk.rows(hours).await,
            [
                "2026-03-01T10:00:00,a,19,NULL,NULL",
                "2026-03-01T11:00:00,b,4,NULL,NULL",
                "2026-03-02T10:00:00,a,8,NULL,NULL",
                "2026-03-03T10:00:00,a,32,20.0000,1",
            ]
        );
        assert_eq!(
            desk.rows(days).await,
            ["2026-03-01T00:00:00,23,NULL", "2026-03-02T00:00:00,8,NULL", "2026-03-03T00:00:00,32,20.0000"]
        );
    }
    assert_clean(&desk, "while the new measures are not known").await;
    // The days are computed anew before the hours are: what they have of the new measure is not known either.
    desk.run("REFRESH MATERIALIZED VIEW daily").await;
    assert_eq!(desk.rows(days).await[0], "2026-03-01T00:00:00,23,NULL");
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(
        desk.rows(hours).await,
        [
            "2026-03-01T10:00:00,a,19,14.0000,3",
            "2026-03-01T11:00:00,b,4,3.5000,1",
            "2026-03-02T10:00:00,a,8,4.5000,1",
            "2026-03-03T10:00:00,a,32,20.0000,1",
        ]
    );
    let complete =
        ["2026-03-01T00:00:00,23,17.5000", "2026-03-02T00:00:00,8,4.5000", "2026-03-03T00:00:00,32,20.0000"];
    assert_eq!(desk.rows(days).await, complete);
    desk.run("REFRESH MATERIALIZED VIEW daily").await;
    assert_eq!(other.rows(days).await, complete);
    assert_clean(&desk, "when all is known").await;
    assert_eq!(desk.value("SELECT count(*) FROM toplake.jobs WHERE pending_from IS NOT NULL").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measure_that_is_used_above_stays_and_another_may_leave() {
    let home = Home::new();
    let desk = desk(&home).await;
    desk.run(&hourly(", sum(price) AS price")).await;
    let drop_quantity = "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
        SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(price) AS price FROM sales GROUP BY 1, 2";
    let e = desk.try_run(drop_quantity).await.unwrap_err();
    assert_eq!(e.kind().sqlstate(), "2BP01");
    assert!(e.message().contains("'daily' uses 'quantity' of 'hourly'"), "{e}");
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    desk.run(&hourly("")).await;
    assert_eq!(desk.value("SELECT * FROM hourly WHERE product_id = 'b'").await, "2026-03-01T11:00:00,b,4");
    assert_clean(&desk, "without the measure").await;
    // It comes back as something else: what the files still have of it must not be seen.
    let e = desk.try_run(&hourly(", max(price) AS price")).await.unwrap_err();
    assert_eq!(e.kind().sqlstate(), "2BP01", "{e}");
    desk.run("DROP MATERIALIZED VIEW daily").await;
    desk.run(&hourly(", max(price) AS price")).await;
    assert_eq!(
        desk.value("SELECT * FROM hourly WHERE bucket = '2026-03-01 10:00:00'").await,
        "2026-03-01T10:00:00,a,3,2.5000"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_old_definition_or_the_new_one() {
    let home = Home::new();
    let desk = desk(&home).await;
    desk.run("DROP MATERIALIZED VIEW daily").await;
    let (old, new) = (
        ["2026-03-01T10:00:00,3", "2026-03-01T11:00:00,4", "2026-03-02T10:00:00,8"]
            .map(str::to_owned)
            .to_vec(),
        ["2026-03-01T00:00:00,7", "2026-03-02T00:00:00,8"].map(str::to_owned).to_vec(),
    );
    let by_day = "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
        SELECT time_bucket(INTERVAL '1 day', event_time) AS bucket, sum(quantity) AS quantity FROM sales GROUP BY 1";
    let read = "SELECT bucket, quantity FROM hourly";

    // One that dies before it exchanges them leaves the old one.
    let (dying, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("hourly/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let replacing = tokio::spawn(async move { dying.run(by_day).await });
    gate.arrived().await;
    assert_eq!(desk.rows(read).await, old);
    replacing.abort();
    assert!(soon(replacing).await.unwrap_err().is_cancelled());
    assert_eq!(home.desk().await.rows(read).await, old);

    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (old, new, home) = (old.clone(), new.clone(), home.location());
            tokio::spawn(async move {
                let desk = Desk::at(toplake::lake::store::Store::open(&home).unwrap()).await;
                while desk.rows(read).await == old {}
                assert_eq!(desk.rows(read).await, new);
            })
        })
        .collect();
    let folding = home.desk().await;
    for _ in 0..3 {
        folding.run("INSERT INTO sales VALUES ('2026-03-01 10:00:00', 'a', 0, 0); REFRESH MATERIALIZED VIEW hourly").await;
    }
    desk.run(by_day).await;
    for reader in readers {
        soon(reader).await.unwrap();
    }
    folding
        .run(
            "INSERT INTO sales VALUES ('2026-03-01 10:00:00', 'a', 100, 0); REFRESH MATERIALIZED VIEW hourly",
        )
        .await;
    assert_eq!(folding.rows(read).await, ["2026-03-01T00:00:00,107", "2026-03-02T00:00:00,8"]);
    assert_eq!(
        desk.rows("SELECT * FROM audit('hourly', '-infinity', 'infinity')").await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_without_events_is_kept_or_the_definition_refused() {
    let home = Home::new();
    let desk = desk(&home).await;
    let sales = desk.table("sales").await;
    let mut metadata = sales.snapshot().metadata.as_ref().clone();
    metadata.configuration.insert(EXPIRED_THROUGH.to_owned(), (FIRST + 86_400_000_000).to_string());
    let mut change = Change::new(CommitKind::Metadata, "TEST", &sales.snapshot());
    change.metadata = Some(metadata);
    sales.commit(&change).await.unwrap();

    desk.run("DROP MATERIALIZED VIEW daily").await;
    let e = desk
        .try_run(
            "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
             SELECT time_bucket(INTERVAL '1 day', event_time) AS bucket, sum(quantity) AS quantity FROM sales GROUP BY 1",
        )
        .await
        .unwrap_err();
    assert_eq!(e.kind().sqlstate(), "55000");
    assert!(e.message().contains("from 2026-03-02 00:00:00Z on"), "{e}");
    desk.run(&hourly(", sum(price) AS price")).await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(
        desk.rows("SELECT bucket, quantity, price FROM hourly").await,
        ["2026-03-01T10:00:00,3,NULL", "2026-03-01T11:00:00,4,NULL", "2026-03-02T10:00:00,8,4.5000"]
    );
    // A refund of an expired day still counts, where the history is known.
    desk.run(
        "INSERT INTO sales VALUES ('2026-03-01 10:00:00', 'a', -1, -1.5); REFRESH MATERIALIZED VIEW hourly",
    )
    .await;
    assert_eq!(
        desk.value("SELECT quantity, price FROM hourly WHERE bucket = '2026-03-01 10:00:00'").await,
        "2,NULL"
    );
}

/// Runs a statement whose commit to the hours waits until `meanwhile` has been run elsewhere.
async fn run_while(home: &Home, sql: &str, desk: &Desk, meanwhile: &str) {
    let (slow, faults) = home.faulty_desk().await;
    // What it will need is open before: the commit is the first thing that waits.
    slow.run("SELECT * FROM hourly").await;
    let gate = Gate::new();
    faults.on_put("hourly/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let sql = sql.to_owned();
    let running = tokio::spawn(async move { slow.run(&sql).await });
    gate.arrived().await;
    desk.run(meanwhile).await;
    gate.release();
    soon(running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_folded_while_a_measure_is_added_does_not_know_it() {
    let home = Home::new();
    let desk = desk(&home).await;
    let meanwhile =
        "INSERT INTO sales VALUES ('2026-03-05 10:00:00', 'n', 1, 1); REFRESH MATERIALIZED VIEW hourly";
    run_while(&home, &hourly(", sum(price) AS price"), &desk, meanwhile).await;
    desk.run("INSERT INTO sales VALUES ('2026-03-05 10:30:00', 'n', 1, 2)").await;
    let bucket = "SELECT quantity, price FROM hourly WHERE product_id = 'n'";
    assert_eq!(desk.value(bucket).await, "2,NULL");
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(desk.value(bucket).await, "2,3.0000");
    assert_clean(&desk, "after the refresh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_folded_while_a_rollup_is_exchanged_counts_once() {
    let home = Home::new();
    let desk = desk(&home).await;
    desk.run("DROP MATERIALIZED VIEW daily").await;
    let by_day = "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
        SELECT time_bucket(INTERVAL '1 day', event_time) AS bucket, product_id, sum(quantity) AS quantity FROM sales
        GROUP BY 1, 2";
    let meanwhile =
        "INSERT INTO sales VALUES ('2026-03-05 10:00:00', 'n', 1, 1); REFRESH MATERIALIZED VIEW hourly";
    run_while(&home, by_day, &desk, meanwhile).await;
    let right = [
        "2026-03-01T00:00:00,a,3",
        "2026-03-01T00:00:00,b,4",
        "2026-03-02T00:00:00,a,8",
        "2026-03-05T00:00:00,n,1",
    ];
    assert_eq!(desk.rows("SELECT * FROM hourly").await, right);
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(desk.rows("SELECT * FROM hourly").await, right);
}

const BY_DAY: &str = "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
    SELECT time_bucket(INTERVAL '1 day', event_time) AS bucket, sum(quantity) AS quantity FROM sales GROUP BY 1";

/// Starts a statement on a store of its own, and comes back when its first write to this log waits for the gate.
async fn run_until(
    home: &Home,
    sql: &'static str,
    log: &'static str,
) -> (Arc<Gate>, tokio::task::JoinHandle<toplake::error::Result<()>>) {
    let (slow, faults) = home.faulty_desk().await;
    slow.run("SELECT * FROM hourly").await;
    let gate = Gate::new();
    faults.on_put(log, [Fault::Pause(Arc::clone(&gate))]);
    let running = tokio::spawn(async move { slow.try_run(sql).await.map(|_| ()) });
    gate.arrived().await;
    (gate, running)
}

/// Events of two days, a rollup by the hour, and a cut that is no edge of a day.
async fn about_to_expire(home: &Home) -> Desk {
    let desk = desk(home).await;
    desk.run("DROP MATERIALIZED VIEW daily; INSERT INTO sales VALUES ('2026-03-02 20:00:00', 'z', 1, 1)")
        .await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    desk
}

const EXPIRE: &str = "CALL expire('sales', '2 hours')";

const BY_HOUR: [&str; 4] =
    ["2026-03-01T10:00:00,3", "2026-03-01T11:00:00,4", "2026-03-02T10:00:00,8", "2026-03-02T20:00:00,1"];

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_not_exchanged_for_one_whose_events_expire_meanwhile() {
    let home = Home::new();
    let desk = about_to_expire(&home).await;
    let (gate, replacing) = run_until(&home, BY_DAY, "hourly/_delta_log").await;
    desk.run(EXPIRE).await;
    gate.release();
    let e = soon(replacing).await.unwrap().unwrap_err();
    assert_eq!(e.kind().sqlstate(), "55000", "{e}");
    assert_eq!(desk.rows("SELECT bucket, sum(quantity) FROM hourly GROUP BY 1").await, BY_HOUR);
    assert_eq!(desk.value("SELECT count(*) FROM sales").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_not_exchanged_while_a_cut_by_its_old_buckets_is_under_way() {
    let home = Home::new();
    let desk = about_to_expire(&home).await;
    let (gate, expiring) = run_until(&home, EXPIRE, "sales/_delta_log").await;
    let e = desk.try_run(BY_DAY).await.unwrap_err();
    assert!(e.message().contains("are about to expire"), "{e}");
    gate.release();
    soon(expiring).await.unwrap().unwrap();
    assert_eq!(desk.rows("SELECT bucket, sum(quantity) FROM hourly GROUP BY 1").await, BY_HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_follows_the_buckets_of_a_definition_that_came_meanwhile() {
    let home = Home::new();
    let desk = about_to_expire(&home).await;
    let (gate, expiring) = run_until(&home, EXPIRE, "hourly/_delta_log").await;
    desk.run(BY_DAY).await;
    gate.release();
    soon(expiring).await.unwrap().unwrap();
    let cut = desk.table("sales").await.update().await.unwrap().expired_through().unwrap();
    assert_eq!(cut, FIRST + 86_400_000_000, "the beginning of the second day");
    desk.run("DELETE FROM sales WHERE product_id = 'z' AND event_time >= '2026-03-02'; REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(
        desk.rows("SELECT bucket, quantity FROM hourly").await,
        ["2026-03-01T00:00:00,7", "2026-03-02T00:00:00,8"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_of_the_definition_before_is_planned_again() {
    let home = Home::new();
    let desk = desk(&home).await;
    desk.run("INSERT INTO sales VALUES ('2026-03-05 10:00:00', 'n', 1, 1)").await;
    run_while(&home, "REFRESH MATERIALIZED VIEW hourly", &desk, &hourly(", sum(price) AS price")).await;
    assert_eq!(desk.value("SELECT quantity, price FROM hourly WHERE product_id = 'n'").await, "1,1.0000");
    assert_clean(&desk, "after the fold").await;
}
