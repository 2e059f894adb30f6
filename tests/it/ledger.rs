//! The ledger: what became of all that was consumed, each event once, whatever happens to logs and processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::error::Kind;
use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, Summary, ingest};
use toplake::lake::action::{CommitKind, LedgerEntry};
use toplake::lake::committer::Change;
use toplake::lake::log;
use toplake::lake::store::Store;
use toplake::lake::table::Table;
use toplake::maintain::compact::compact;
use toplake::maintain::needed::needed_from;
use toplake::maintain::target::Target;
use toplake::maintain::vacuum::{Horizon, vacuum};

use crate::harness::{Desk, Fault, Gate, Home, soon};

const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes', late = 'divert');";

/// Ingests a file of the warehouse's folder; nobody follows unless it is said.
async fn load(home: &Home, desk: &Desk, name: &str, lines: &[&str], options: &Options) -> Summary {
    let path = home.path(name);
    std::fs::write(&path, format!("event_id,event_time,product_id,quantity\n{}\n", lines.join("\n")))
        .unwrap();
    let files = find(&[path.to_str().unwrap().to_owned()], None, None).await.unwrap();
    ingest(&desk.engine, "sales", &files, options, &mut Progress::hidden()).await.unwrap()
}

fn unfollowed() -> Options {
    Options { follow: false, max_errors: "90%".parse().unwrap(), ..Options::default() }
}

fn consumed(partition: i64, from: i64, to: i64) -> LedgerEntry {
    let events = (to - from) as u64;
    LedgerEntry {
        source: "kafka:eu/sales/1".into(),
        partition: Some(partition),
        from,
        to,
        consumed: events,
        stored: events,
        ..Default::default()
    }
}

async fn commit(table: &Table, ledger: Vec<LedgerEntry>) -> toplake::error::Result<i64> {
    let mut change = Change::new(CommitKind::Append, "INGEST", &table.snapshot());
    change.ledger = ledger;
    table.commit(&change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_balance_is_not_committed() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    let before = table.snapshot().version;
    let lost = LedgerEntry { stored: 4, ..consumed(0, 0, 5) };
    let refused = commit(&table, vec![consumed(1, 0, 5), lost]).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Internal, "{refused}");
    assert!(refused.message().contains("does not balance"), "{refused}");
    let overflow = LedgerEntry { stored: u64::MAX, dead: 6, ..consumed(0, 0, 5) };
    assert_eq!(commit(&table, vec![overflow]).await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(home.desk().await.table("sales").await.snapshot().version, before);

    let every = LedgerEntry {
        duplicate: 1,
        dead: 2,
        late: 3,
        suspect: 4,
        filtered: 5,
        consumed: 20,
        gap: 7,
        newest: Some(8),
        end: Some(9),
        ..consumed(2, 10, 15)
    };
    assert_eq!(commit(&table, vec![every.clone()]).await.unwrap(), before + 1);
    assert_eq!(commit(&table, vec![]).await.unwrap(), before + 2);
    // As this process has it, and as another reads it.
    for table in [table, home.desk().await.table("sales").await] {
        let commits = table.commits(before, before + 2).await.unwrap();
        assert_eq!(commits[0].ledger.as_slice(), std::slice::from_ref(&every));
        assert_eq!((commits[0].operation.as_str(), commits[1].ledger.len()), ("INGEST", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_accounted_for_line_by_line_in_each_commit() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let first = ["1,2026-03-01 10:00:00,p,1", "2,never,p,1", "3,2026-03-01 10:00:00,p,2"];
    assert_eq!(load(&home, &desk, "a.csv", &first, &unfollowed()).await.rows, 2);
    // Of many lines in two commits every tenth is late, and the transform leaves out every fourth.
    let lines: Vec<String> = (0..30_000)
        .map(|i| format!("{i},2026-03-01 {}:00:00,p,{}", if i % 10 == 0 { "08" } else { "11" }, i % 4))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let options = Options {
        transform: Some(
            "SELECT event_id, event_time, product_id, quantity FROM input WHERE quantity > 0".into(),
        ),
        commit_lines: 12_000,
        ..unfollowed()
    };
    let done = load(&home, &desk, "b.csv", &lines, &options).await;
    assert_eq!((done.rows, done.late, done.filtered, done.commits), (21_000, 1500, 7500, 2));

    let table: Arc<Table> = home.desk().await.table("sales").await;
    let commits = table.commits(0, table.snapshot().version).await.unwrap();
    let entries: Vec<&LedgerEntry> = commits.iter().flat_map(|commit| &commit.ledger).collect();
    let [a, b, c] = entries[..] else { panic!("{entries:?}") };
    assert!(a.source.starts_with("file://") && a.source.ends_with("/a.csv"), "{a:?}");
    assert_eq!((a.from, a.to, a.consumed, a.stored, a.dead, a.partition), (0, 4, 3, 2, 1, None));
    // A line of the file is the header; where the first commit ends the second goes on.
    assert_eq!((b.from, c.from, c.to), (0, b.to, 30_001));
    assert_eq!(b.consumed + c.consumed, 30_000);
    assert_eq!((b.stored + c.stored, b.late + c.late, b.filtered + c.filtered), (21_000, 1500, 7500));
}

/// What stands in the ledger, in order.
async fn ledger(desk: &Desk) -> Vec<String> {
    desk.rows("SELECT table_name, partition, from_position, to_position, stored FROM toplake.ledger").await
}

async fn target(desk: &Desk, name: &str) -> Target {
    Target::find(desk.engine.warehouse(), name).await.unwrap()
}

/// As if nobody had the table open, and after a checkpoint: all of the log goes that nobody needs.
async fn vacuum_now(desk: &Desk, name: &str) {
    let target = target(desk, name).await;
    target.table().update().await.unwrap();
    target.table().checkpoint().await.unwrap();
    vacuum(desk.engine.warehouse(), &target, true, Some(Horizon(Duration::ZERO))).await.unwrap();
}

async fn follow(desk: &Desk, name: &str) {
    let table = desk.table(name).await;
    soon(desk.engine.warehouse().follow(&table)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_read_from_the_commits_and_from_the_side_table_alike() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    let entry = LedgerEntry {
        newest: Some(1_772_359_200_000_001),
        end: Some(90),
        gap: 3,
        dead: 1,
        stored: 4,
        ..consumed(7, 13, 18)
    };
    let version = commit(&table, vec![entry, consumed(8, 0, 2)]).await.unwrap();
    load(&home, &desk, "a.csv", &["1,2026-03-01 10:00:00,p,1", "2,never,p,1"], &unfollowed()).await;
    let all = "SELECT table_name, split_part(source, '/', -1) AS place, topic, partition, from_position, to_position,
                      version - (SELECT min(version) FROM toplake.ledger) AS version, operation, consumed, stored,
                      duplicate, dead, late, suspect, filtered, gap, newest_message, end_position,
                      committed_at BETWEEN now() - INTERVAL '1 hour' AND now() AS recent
               FROM toplake.ledger ORDER BY partition";
    let expected = [
        "sales,1,sales,7,13,18,0,INGEST,5,4,0,1,0,0,0,3,2026-03-01T10:00:00.000001Z,90,true",
        "sales,1,sales,8,0,2,0,INGEST,2,2,0,0,0,0,0,0,NULL,NULL,true",
        "sales,a.csv,NULL,NULL,0,3,1,INGEST,2,1,0,1,0,0,0,0,NULL,NULL,true",
    ];
    assert_eq!(desk.rows(all).await, expected);
    let of_dead = "SELECT table_name, sum(dead) FROM toplake.ledger WHERE dead > 0 AND partition IS NOT NULL GROUP BY 1";
    assert_eq!(desk.rows(of_dead).await, ["sales,1"]);
    assert_eq!(desk.value(&format!("SELECT min(version) = {version} FROM toplake.ledger")).await, "true");
    follow(&desk, "sales").await;
    follow(&desk, "sales").await;
    // Two commits, one file.
    let side = desk.engine.warehouse().ledger().table().await.unwrap().update().await.unwrap();
    assert_eq!((side.files.len(), side.rows()), (1, Some(3)));
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.rows(all).await, expected);
        assert_eq!(desk.rows(of_dead).await, ["sales,1"]);
    }
    // Part of them in the commits, part in the side table.
    commit(&table, vec![consumed(8, 2, 4)]).await.unwrap();
    assert_eq!(
        desk.value("SELECT count(*), sum(consumed), count(DISTINCT source) FROM toplake.ledger").await,
        "4,11,2"
    );
    let refused = desk.try_run("DELETE FROM toplake.ledger WHERE dead = 0").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotSupported, "{refused}");
}

/// A statement that reads both the events and the ledger sees them agree, whoever moves entries meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn events_and_ledger_agree_in_every_statement() {
    const WRITERS: usize = 2;
    const FILES: usize = 12;
    let home = Arc::new(Home::new());
    home.desk().await.run(SCHEMA).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut at_work = vec![];
    for writer in 0..WRITERS {
        let home = Arc::clone(&home);
        at_work.push(tokio::spawn(async move {
            let desk = home.desk().await;
            for file in 0..FILES {
                let lines: Vec<String> =
                    (0..=file).map(|n| format!("{n},2026-03-01 10:00:00,p,{writer}")).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                load(&home, &desk, &format!("{writer}-{file}.csv"), &lines, &unfollowed()).await;
            }
        }));
    }
    let mut followers = vec![];
    for _ in 0..2 {
        let (home, done) = (Arc::clone(&home), Arc::clone(&done));
        followers.push(tokio::spawn(async move {
            let desk = home.desk().await;
            while !done.load(Ordering::SeqCst) {
                follow(&desk, "sales").await;
            }
        }));
    }
    let all = WRITERS * FILES * (FILES + 1) / 2;
    let reader = tokio::spawn({
        let home = Arc::clone(&home);
        async move {
            let desk = home.desk().await;
            // The events stand first, and have to be pinned after the ledger all the same.
            let sql = "SELECT (SELECT count(*) FROM sales),
                              (SELECT coalesce(sum(stored), 0) FROM toplake.ledger),
                              (SELECT count(*) - count(DISTINCT source) FROM toplake.ledger)";
            let mut seen = String::new();
            while seen != format!("{all},{all},0") {
                seen = desk.value(sql).await;
                let numbers: Vec<usize> = seen.split(',').map(|n| n.parse().unwrap()).collect();
                assert!(numbers[0] == numbers[1] && numbers[2] == 0, "events, ledger, repeated: {seen}");
            }
        }
    });
    for work in at_work {
        soon(work).await.unwrap();
    }
    soon(reader).await.unwrap();
    done.store(true, Ordering::SeqCst);
    for follower in followers {
        soon(follower).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_dies_or_gets_no_answer_moves_each_entry_once() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    commit(&table, vec![consumed(0, 0, 5)]).await.unwrap();
    let (dying, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    // The first commit makes the side table.
    faults.on_put(
        "_toplake/ledger/_delta_log",
        [Fault::Delay(Duration::ZERO), Fault::Pause(Arc::clone(&gate))],
    );
    let following = tokio::spawn(async move { follow(&dying, "sales").await });
    gate.arrived().await;
    following.abort();
    assert!(soon(following).await.unwrap_err().is_cancelled());
    assert_eq!(ledger(&desk).await, ["sales,0,0,5,5"]);
    let (unlucky, faults) = home.faulty_desk().await;
    faults.on_put("_toplake/ledger/_delta_log", [Fault::LoseAnswer]);
    follow(&unlucky, "sales").await;
    assert!(faults.is_spent());
    follow(&desk, "sales").await;
    for desk in [&desk, &unlucky, &home.desk().await] {
        assert_eq!(ledger(desk).await, ["sales,0,0,5,5"]);
    }
}

/// Whatever happens to logs, tables and processes, in whatever order, the ledger has each entry once.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_has_each_entry_once_whatever_happens() {
    let seeds = std::env::var("TOPLAKE_LEDGER_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        soon(history(seed)).await;
    }
}

async fn history(seed: u64) {
    const TABLES: [&str; 2] = ["sales", "clicks"];
    let mut rng = StdRng::seed_from_u64(seed);
    let objects = Arc::new(InMemory::new());
    let open = || Desk::at(Store::with_object_store(Arc::clone(&objects) as _, "memory:///w").unwrap());
    let mut desks = vec![open().await, open().await];
    let create = |name: &str| format!("CREATE TABLE {name} (t TIMESTAMP NOT NULL) WITH (time_column = 't')");
    for name in TABLES {
        desks[0].run(&create(name)).await;
    }
    let (mut expected, mut next) = (vec![], 0);
    for step in 0..60 {
        let at = rng.random_range(0..desks.len());
        let name = TABLES[rng.random_range(0..2)];
        let desk = &desks[at];
        let what = match rng.random_range(0..100) {
            0..40 => {
                let table = desk.table(name).await;
                for _ in 0..rng.random_range(1..4) {
                    let entries: Vec<LedgerEntry> =
                        (0..rng.random_range(1..3)).map(|p| consumed(p, next, next + 1 + p)).collect();
                    let row = |e: &LedgerEntry| {
                        format!("{name},{},{},{},{}", e.partition.unwrap(), e.from, e.to, e.stored)
                    };
                    expected.extend(entries.iter().map(row));
                    next += 10;
                    commit(&table, entries).await.unwrap();
                }
                "commit"
            }
            40..60 => {
                follow(desk, name).await;
                "follow"
            }
            60..70 => {
                let table = desk.table(name).await;
                for _ in 0..rng.random_range(1..20) {
                    table.commit(&Change::new(CommitKind::Rewrite, "IDLE", &table.snapshot())).await.unwrap();
                }
                "idle"
            }
            70..80 => {
                vacuum_now(desk, name).await;
                "vacuum"
            }
            80..85 => {
                vacuum_now(desk, "toplake.ledger").await;
                "vacuum of the ledger"
            }
            85..90 => {
                compact(&target(desk, "toplake.ledger").await, &desk.engine.state()).await.unwrap();
                "compaction of the ledger"
            }
            90..95 => {
                desk.run(&format!("DROP TABLE {name}")).await;
                desk.run(&create(name)).await;
                "another table"
            }
            _ => {
                desks[at] = open().await;
                "another process"
            }
        };
        if step % 5 == 4 {
            expected.sort();
            for desk in &desks {
                assert_eq!(ledger(desk).await, expected, "seed {seed}, step {step}, after {what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_until_its_entries_are_moved() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let table = desk.table("sales").await;
    commit(&table, vec![consumed(0, 0, 1)]).await.unwrap();
    follow(&desk, "sales").await;
    let followed = table.snapshot().version;
    let sales = target(&desk, "sales").await;
    let needed = async || needed_from(desk.engine.warehouse(), &sales).await.unwrap();
    assert_eq!(needed().await, followed);
    commit(&table, vec![]).await.unwrap();
    assert_eq!(needed().await, followed + 1, "a commit without entries is no reason to keep the log");
    for n in 1..1205 {
        commit(&table, vec![consumed(0, n, n + 1)]).await.unwrap();
    }
    table.checkpoint().await.unwrap();
    assert_eq!(needed().await, followed);
    let removed = log::clean_up(table.store(), needed().await, Duration::ZERO).await.unwrap();
    assert_eq!(removed, 0);
    let fresh = home.desk().await;
    let sums = "SELECT count(*), sum(consumed), count(DISTINCT from_position) FROM toplake.ledger";
    assert_eq!(fresh.value(sums).await, "1205,1205,1205");
    vacuum_now(&fresh, "sales").await;
    assert!(table.store().get(&log::commit_path(table.store(), followed + 2)).await.unwrap().is_none());
    // No more than a bounded number of commits is taken in at once.
    let side = fresh.engine.warehouse().ledger().table().await.unwrap();
    assert_eq!(side.snapshot().files.len(), 3);
    for desk in [&desk, &home.desk().await] {
        assert_eq!(desk.value(sums).await, "1205,1205,1205");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_same_name_is_another() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run("CREATE TABLE ledger (n BIGINT); INSERT INTO ledger VALUES (1); INSERT INTO ledger VALUES (2)")
        .await;
    desk.run("CREATE TABLE dead_letters (n BIGINT); INSERT INTO dead_letters VALUES (1), (2), (3)").await;
    load(
        &home,
        &desk,
        "a.csv",
        &["1,2026-03-01 10:00:00,p,1", "2,never,p,1"],
        &Options { follow: true, ..unfollowed() },
    )
    .await;
    let sql = "SELECT (SELECT count(*) FROM ledger) AS a, (SELECT count(*) FROM toplake.ledger) AS b,
                      (SELECT count(*) FROM dead_letters) AS c, (SELECT count(*) FROM toplake.dead_letters) AS d";
    assert_eq!(desk.value(sql).await, "2,1,3,1");
}
