//! Two processes at one rollup or leaderboard, and processes that die: the views are right at every moment, and what is
//! folded is folded once.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity,
             count(*) AS events
      FROM sales GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity, sum(events) AS events
      FROM hourly GROUP BY 1;";

const HOURLY: &str = "SELECT bucket, product_id, quantity, events FROM hourly";
const HOURLY_FROM_EVENTS: &str = "SELECT date_trunc('hour', event_time), product_id, sum(quantity), count(*)
                                  FROM sales GROUP BY 1, 2";
const DAILY: &str = "SELECT bucket, quantity, events FROM daily";
const DAILY_FROM_EVENTS: &str =
    "SELECT date_trunc('day', event_time), sum(quantity), count(*) FROM sales GROUP BY 1";

/// Both rollups equal their definitions over the events.
async fn assert_right(desk: &Desk, when: &str) {
    assert_eq!(desk.rows(HOURLY).await, desk.rows(HOURLY_FROM_EVENTS).await, "hourly {when}");
    assert_eq!(desk.rows(DAILY).await, desk.rows(DAILY_FROM_EVENTS).await, "daily {when}");
}

/// What the rollup's own files hold, each partial row counted.
async fn folded_events(desk: &Desk, rollup: &str) -> u64 {
    let table = desk.table(rollup).await;
    let files = toplake::lake::provider::Files::active(table.store(), &table.snapshot());
    let ctx = desk.engine.context();
    let plan = files.into_plan("stored").unwrap();
    let frame = ctx.execute_logical_plan(plan).await.unwrap();
    let batches = frame.collect().await.unwrap();
    let events = |b: &datafusion::arrow::array::RecordBatch| -> i64 {
        use datafusion::arrow::array::AsArray;
        use datafusion::arrow::datatypes::Int64Type;
        b.column_by_name("events").unwrap().as_primitive::<Int64Type>().values().iter().sum()
    };
    batches.iter().map(events).sum::<i64>() as u64
}

/// Rows number `from` to `to` of an endless list of sales, as an INSERT.
fn insert(from: i64, to: i64) -> String {
    let rows = (from..to).map(|i| {
        let (day, hour, minute) = (1 + i % 3, (i * 7) % 24, i % 60);
        format!("({i}, '2026-03-{day:02} {hour:02}:{minute:02}:00', 'p{}', {})", i % 5, i % 11 - 2)
    });
    format!("INSERT INTO sales VALUES {}", rows.collect::<Vec<_>>().join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_folds_of_the_same_rows_one_counts() {
    let home = Home::new();
    let fast = home.desk().await;
    fast.run(SCHEMA).await;
    fast.run(&insert(0, 100)).await;

    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("hourly/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let folding = tokio::spawn({
        let slow = slow.clone();
        async move { slow.run("REFRESH MATERIALIZED VIEW hourly").await }
    });
    gate.arrived().await;
    // The slow one has written its files and is about to commit.
    assert_right(&fast, "while a fold hangs").await;
    fast.run("REFRESH MATERIALIZED VIEW hourly").await;
    fast.run(&insert(100, 130)).await;
    assert_right(&fast, "after the race is lost").await;
    gate.release();
    soon(folding).await.unwrap();
    for desk in [&slow, &fast] {
        assert_right(desk, "after both").await;
        desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
        assert_right(desk, "when all is folded").await;
        assert_eq!(folded_events(desk, "hourly").await, 130);
        assert_eq!(folded_events(desk, "daily").await, 130);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_fold_while_many_insert() {
    const WRITERS: i64 = 3;
    const ROUNDS: i64 = 8;
    let home = Arc::new(Home::new());
    home.desk().await.run(SCHEMA).await;
    let mut at_work = vec![];
    for writer in 0..WRITERS {
        let home = Arc::clone(&home);
        at_work.push(tokio::spawn(async move {
            let desk = home.desk().await;
            for round in 0..ROUNDS {
                let first = (writer * ROUNDS + round) * 10;
                desk.run(&insert(first, first + 10)).await;
                desk.run("REFRESH MATERIALIZED VIEW hourly").await;
                if round % 2 == writer % 2 {
                    desk.run("REFRESH MATERIALIZED VIEW daily").await;
                }
            }
        }));
    }
    let reader = tokio::spawn({
        let home = Arc::clone(&home);
        async move {
            let desk = home.desk().await;
            let mut last = 0;
            while last < WRITERS * ROUNDS * 10 {
                // One statement, one version of everything.
                let both = desk
                    .value(
                        "SELECT (SELECT sum(events) FROM daily), (SELECT sum(events) FROM hourly),
                                (SELECT count(*) FROM sales)",
                    )
                    .await;
                let counts: Vec<i64> = both.split(',').map(|n| n.parse().unwrap_or(0)).collect();
                assert!(counts.iter().all(|n| *n == counts[2]), "daily, hourly, events: {both}");
                assert!(counts[2] >= last, "{} events after {last}", counts[2]);
                last = counts[2];
            }
        }
    });
    for work in at_work {
        soon(work).await.unwrap();
    }
    soon(reader).await.unwrap();
    let desk = home.desk().await;
    desk.run("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await;
    assert_right(&desk, "at the end").await;
    let events = (WRITERS * ROUNDS * 10) as u64;
    assert_eq!((folded_events(&desk, "hourly").await, folded_events(&desk, "daily").await), (events, events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_dies_before_its_commit_leaves_nothing() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run(&insert(0, 50)).await;
    for rollup in ["hourly", "daily"] {
        let (dying, faults) = home.faulty_desk().await;
        let gate = Gate::new();
        faults.on_put(&format!("{rollup}/_delta_log"), [Fault::Pause(Arc::clone(&gate))]);
        let folding =
            tokio::spawn(async move { dying.run(&format!("REFRESH MATERIALIZED VIEW {rollup}")).await });
        gate.arrived().await;
        folding.abort();
        assert!(soon(folding).await.unwrap_err().is_cancelled());

        let orphans = std::fs::read_dir(home.path(rollup)).unwrap().filter(|f| {
            let name = f.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".parquet")
        });
        assert!(
            orphans.count() > desk.table(rollup).await.snapshot().files.len(),
            "the fold had written no file"
        );
        assert_right(&desk, "after the fold died").await;
        desk.run(&format!("REFRESH MATERIALIZED VIEW {rollup}")).await;
        assert_right(&desk, "after the next fold").await;
        assert_eq!(folded_events(&desk, rollup).await, 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_whose_commit_gets_no_answer_counts_once() {
    let home = Home::new();
    let (desk, faults) = home.faulty_desk().await;
    desk.run(SCHEMA).await;
    let sequences: [&[Fault]; 3] =
        [&[Fault::LoseAnswer], &[Fault::Refuse, Fault::LoseAnswer], &[Fault::LoseAnswer, Fault::LoseAnswer]];
    for (round, sequence) in sequences.into_iter().enumerate() {
        let first = round as i64 * 20;
        faults.on_put("sales/_delta_log", sequence.iter().cloned());
        desk.run(&insert(first, first + 10)).await;
        desk.run(&insert(first + 10, first + 20)).await;
        faults.on_put("hourly/_delta_log", sequence.iter().cloned());
        desk.run("REFRESH MATERIALIZED VIEW hourly").await;
        desk.run(&insert(first + 10_000, first + 10_001)).await;
        desk.run("REFRESH MATERIALIZED VIEW hourly").await;
        assert!(faults.is_spent(), "{sequence:?}");
        assert_right(&desk, "after lost answers").await;
        assert_eq!(folded_events(&desk, "hourly").await, 21 * (round as u64 + 1));
        assert_eq!(desk.value("SELECT count(*), count(DISTINCT event_id) FROM sales").await, {
            let n = 21 * (round + 1);
            format!("{n},{n}")
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaderboard_refreshed_by_two_has_each_row_once() {
    let home = Home::new();
    let fast = home.desk().await;
    fast.run(SCHEMA).await;
    fast.run(&insert(0, 60)).await;
    let definition =
        "SELECT product_id, sum(quantity) AS quantity FROM hourly GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10";
    fast.run(&format!("CREATE MATERIALIZED VIEW top_10 AS {definition}")).await;
    fast.run(&insert(60, 90)).await;

    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put("top_10/_delta_log", [Fault::Pause(Arc::clone(&gate))]);
    let refreshing = tokio::spawn({
        let slow = slow.clone();
        async move { slow.run("REFRESH MATERIALIZED VIEW top_10").await }
    });
    gate.arrived().await;
    fast.run("REFRESH MATERIALIZED VIEW top_10").await;
    gate.release();
    soon(refreshing).await.unwrap();
    let expected = fast.rows(definition).await;
    for desk in [&fast, &slow] {
        assert_eq!(desk.rows("SELECT * FROM top_10").await, expected);
    }

    // Without a script: many at once, with new rows in between.
    let mut at_work = vec![];
    for process in 0..4 {
        let desk = home.desk().await;
        at_work.push(tokio::spawn(async move {
            for round in 0..5 {
                let first = 1000 + (process * 5 + round) * 4;
                desk.run(&insert(first, first + 4)).await;
                desk.run("REFRESH MATERIALIZED VIEW top_10").await;
                assert_eq!(desk.value("SELECT count(*) - count(DISTINCT product_id) FROM top_10").await, "0");
            }
        }));
    }
    for work in at_work {
        soon(work).await.unwrap();
    }
    fast.run("REFRESH MATERIALIZED VIEW top_10").await;
    assert_eq!(fast.rows("SELECT * FROM top_10").await, fast.rows(definition).await);
}

/// `toplake sql` as a child process.
fn toplake_sql(home: &Home, sql: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
    command.args(["sql", "--quiet", "--warehouse", &home.location(), "-c", sql]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_may_be_killed_at_any_moment() {
    const KILLS: i64 = 20;
    const REFRESH: &str = "REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily; \
                           REFRESH MATERIALIZED VIEW top_10";
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let top =
        "SELECT product_id, sum(quantity) AS quantity FROM hourly GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10";
    desk.run(&format!("CREATE MATERIALIZED VIEW top_10 AS {top}")).await;
    desk.run(&insert(0, 500)).await;

    // One that may live says how long a refresh takes.
    let begun = Instant::now();
    let done = toplake_sql(&home, REFRESH).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let takes = begun.elapsed();

    let mut rng = StdRng::seed_from_u64(7);
    let mut killed = 0;
    for kill in 0..KILLS {
        let first = 500 + kill * 100;
        desk.run(&insert(first, first + 100)).await;
        let mut child = toplake_sql(&home, REFRESH).spawn().unwrap();
        tokio::time::sleep(takes.mul_f64(rng.random_range(0.0..1.0)) + Duration::from_millis(1)).await;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed += i64::from(!status.success());
        assert_right(&desk, "after a kill").await;
    }
    assert!(killed > KILLS / 4, "only {killed} of {KILLS} were killed before they were done");

    let done = toplake_sql(&home, REFRESH).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let events = 500 + KILLS as u64 * 100;
    for desk in [desk, home.desk().await] {
        assert_right(&desk, "at the end").await;
        assert_eq!(folded_events(&desk, "hourly").await, events);
        assert_eq!(folded_events(&desk, "daily").await, events);
        assert_eq!(desk.rows("SELECT * FROM top_10").await, desk.rows(top).await);
    }
}
