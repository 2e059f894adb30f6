//! Compaction changes files and nothing else, whoever is at the table meanwhile.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{FOLD, SCHEMA, active_files, assert_right, compact_all, files_in, insert, insert_into};
use crate::harness::{Desk, Fault, Gate, Home, soon};
use toplake::maintain::compact::Compacted;

/// A warehouse with many small files, folded one by one.
async fn crumbs(desk: &Desk, inserts: i64) {
    desk.run(SCHEMA).await;
    for n in 0..inserts {
        desk.run(&insert(n * 10, n * 10 + 10)).await;
        desk.run(FOLD).await;
    }
}

async fn partial_rows(desk: &Desk, rollup: &str) -> u64 {
    desk.table(rollup).await.snapshot().rows().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_files_and_one_row_for_each_bucket_and_key() {
    let home = Home::new();
    let desk = home.desk().await;
    crumbs(&desk, 40).await;
    let distinct: u64 = desk.value("SELECT count(*) FROM hourly").await.parse().unwrap();
    for rollup in ["hourly", "daily"] {
        assert!(partial_rows(&desk, rollup).await >= 40);
    }
    for table in ["sales", "hourly", "daily"] {
        assert_eq!(active_files(&desk, table).await, 40);
        let done = compact_all(&desk, table).await;
        assert_eq!(
            done.files_removed as usize - done.files_added as usize + active_files(&desk, table).await,
            40
        );
        assert!(active_files(&desk, table).await < 4, "{table}: {done:?}");
        assert_eq!(compact_all(&desk, table).await, Compacted::default(), "{table} is compacted again");
        assert_right(&desk, &format!("after {table}")).await;
    }
    assert_eq!(partial_rows(&desk, "hourly").await, distinct);
    assert_eq!(desk.value("SELECT count(*), count(DISTINCT event_id) FROM sales").await, "400,400");

    // A process that knew the old files goes on as well.
    desk.run(&insert(400, 420)).await;
    let other = home.desk().await;
    for desk in [&desk, &other] {
        assert_right(desk, "with new rows").await;
        desk.run(FOLD).await;
        assert_right(desk, "when they are folded").await;
    }

    // Rows are in order of bucket and key, and keys can be looked up.
    let (table, folder) = (desk.table("hourly").await, home.path("hourly"));
    let biggest = table.snapshot().files.values().max_by_key(|f| f.add.size).cloned().unwrap();
    let file = std::fs::File::open(folder.join(&biggest.add.path)).unwrap();
    let group = SerializedFileReader::new(file).unwrap().metadata().row_group(0).clone();
    assert!(group.column(1).bloom_filter_offset().is_some(), "{}", group.column(1).column_path());
    assert!(group.column(2).bloom_filter_offset().is_none(), "measures have none");
    let read = format!(
        "CREATE EXTERNAL TABLE one STORED AS PARQUET LOCATION '{}'",
        folder.join(&biggest.add.path).display()
    );
    desk.run(&read).await;
    let rows = desk.try_run("SELECT bucket, product_id FROM one").await.unwrap();
    let order: Vec<String> = rows
        .iter()
        .flat_map(|b| (0..b.num_rows()).map(|i| crate::harness::rows(&[b.slice(i, 1)]).remove(0)))
        .collect();
    assert!(order.is_sorted() && order.len() as u64 == distinct, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_time_keeps_its_rows() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE plain (id BIGINT, name VARCHAR)").await;
    for n in 0..9 {
        desk.run(&format!("INSERT INTO plain VALUES ({n}, 'n{n}'), (NULL, NULL)")).await;
    }
    let before = desk.rows("SELECT * FROM plain").await;
    assert_eq!(compact_all(&desk, "plain").await.files_added, 1);
    assert_eq!(desk.rows("SELECT * FROM plain").await, before);
}

/// Starts a compaction of `table` that stands before its first commit, and gives what lets it go on.
async fn stand_still(
    home: &Home,
    table: &'static str,
) -> (Arc<Gate>, tokio::task::JoinHandle<Compacted>, Desk) {
    let (slow, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put(&format!("{table}/_delta_log"), [Fault::Pause(Arc::clone(&gate))]);
    let working = tokio::spawn({
        let slow = slow.clone();
        async move { compact_all(&slow, table).await }
    });
    gate.arrived().await;
    (gate, working, slow)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_and_are_folded_meanwhile_stay() {
    for table in ["sales", "hourly", "daily"] {
        let home = Home::new();
        let desk = home.desk().await;
        crumbs(&desk, 8).await;
        let (gate, working, slow) = stand_still(&home, table).await;
        desk.run(&insert(80, 100)).await;
        desk.run(FOLD).await;
        desk.run(&insert(100, 110)).await;
        gate.release();
        assert_eq!(soon(working).await.unwrap().files_removed, 8, "{table}");
        for desk in [&desk, &slow] {
            assert_right(desk, table).await;
        }
        desk.run(FOLD).await;
        assert_right(&desk, table).await;
        assert_eq!(desk.value("SELECT sum(events) FROM daily").await, "110");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_compactions_of_the_same_files_one_counts() {
    for table in ["sales", "hourly"] {
        let home = Home::new();
        let desk = home.desk().await;
        crumbs(&desk, 8).await;
        let (gate, working, slow) = stand_still(&home, table).await;
        assert_eq!(compact_all(&desk, table).await.files_removed, 8);
        gate.release();
        assert_eq!(
            soon(working).await.unwrap(),
            Compacted::default(),
            "{table}: it loses and has nothing to do"
        );
        for desk in [&desk, &slow] {
            assert_right(desk, table).await;
            assert_eq!(active_files(desk, table).await, 1);
        }
        // What the loser had written is gone.
        assert_eq!(files_in(&home.path(table)), 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_deleted_meanwhile_do_not_come_back() {
    let home = Home::new();
    let desk = home.desk().await;
    crumbs(&desk, 8).await;
    let (gate, working, slow) = stand_still(&home, "sales").await;
    desk.run("DELETE FROM sales WHERE product_id = 'p3'").await;
    gate.release();
    soon(working).await.unwrap();
    for desk in [&desk, &slow] {
        assert_right(desk, "after a deletion").await;
        assert_eq!(desk.value("SELECT count(*), count(DISTINCT product_id) FROM sales").await, "64,4");
    }
    // The same for buckets that a fold replaces.
    for n in 8..14 {
        desk.run(FOLD).await;
        desk.run(&insert(n * 10, n * 10 + 10)).await;
    }
    desk.run(FOLD).await;
    let (gate, working, slow) = stand_still(&home, "hourly").await;
    desk.run("DELETE FROM sales WHERE product_id = 'p2'").await;
    desk.run(FOLD).await;
    gate.release();
    soon(working).await.unwrap();
    for desk in [&desk, &slow] {
        assert_right(desk, "after buckets were replaced").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_or_gets_no_answer_changes_nothing() {
    let home = Home::new();
    let desk = home.desk().await;
    crumbs(&desk, 8).await;
    let (_gate, working, _slow) = stand_still(&home, "hourly").await;
    working.abort();
    assert!(soon(working).await.unwrap_err().is_cancelled());
    assert_right(&desk, "after it died").await;
    let (slow, faults) = home.faulty_desk().await;
    faults.on_put("hourly/_delta_log", [Fault::Refuse, Fault::LoseAnswer]);
    assert_eq!(compact_all(&slow, "hourly").await.files_added, 1);
    assert!(faults.is_spent());
    assert_right(&desk, "after a lost answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_may_be_killed_at_any_moment() {
    const KILLS: i64 = 12;
    const COMPACT: &str = "CALL compact('sales'); CALL compact('hourly'); CALL compact('daily')";
    let home = Home::new();
    let desk = home.desk().await;
    crumbs(&desk, 8).await;
    let toplake = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_toplake"));
        command.args(["sql", "--quiet", "--warehouse", &home.location(), "-c", COMPACT]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let begun = Instant::now();
    let done = toplake().output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let takes = begun.elapsed();
    assert_eq!(active_files(&desk, "hourly").await, 1, "it compacts");

    let mut rng = StdRng::seed_from_u64(11);
    for kill in 0..KILLS {
        for n in 0..4 {
            let from = 80 + (kill * 4 + n) * 10;
            desk.run(&insert(from, from + 10)).await;
            desk.run(FOLD).await;
        }
        let mut child = toplake().spawn().unwrap();
        tokio::time::sleep(takes.mul_f64(rng.random_range(0.0..1.0))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_right(&desk, "after a kill").await;
    }
    assert!(toplake().status().unwrap().success());
    for desk in [desk, home.desk().await] {
        assert_right(&desk, "at the end").await;
        assert_eq!(desk.value("SELECT sum(events) FROM daily").await, (80 + KILLS * 40).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_at_once() {
    const ROUNDS: i64 = 12;
    let home = Arc::new(Home::new());
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run(&insert_into("sales", 0, 5)).await;
    let mut at_work = vec![];
    for worker in 0..4 {
        let home = Arc::clone(&home);
        at_work.push(tokio::spawn(async move {
            let desk = home.desk().await;
            for round in 0..ROUNDS {
                match worker {
                    0 => desk.run(&insert(100 + round * 10, 110 + round * 10)).await,
                    1 => desk.run(FOLD).await,
                    _ => {
                        for table in ["sales", "hourly", "daily"] {
                            compact_all(&desk, table).await;
                        }
                    }
                }
                // One statement, one version of everything.
                let counts = desk
                    .value(
                        "SELECT (SELECT sum(events) FROM daily), (SELECT sum(events) FROM hourly),
                                count(*), count(DISTINCT event_id) FROM sales",
                    )
                    .await;
                let counts: Vec<&str> = counts.split(',').collect();
                assert!(counts.iter().all(|n| *n == counts[0]), "{counts:?}");
            }
        }));
    }
    for work in at_work {
        soon(work).await.unwrap();
    }
    desk.run(FOLD).await;
    assert_right(&desk, "at the end").await;
    assert_eq!(desk.value("SELECT sum(events) FROM daily").await, (5 + ROUNDS * 10).to_string());
}
