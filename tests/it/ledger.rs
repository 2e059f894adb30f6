//! The ledger: what became of all that was consumed, each event once, whatever happens to logs and processes.

use std::sync::Arc;

use toplake::error::Kind;
use toplake::ingest::files::find;
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, Summary, ingest};
use toplake::lake::action::{CommitKind, LedgerEntry};
use toplake::lake::committer::Change;
use toplake::lake::table::Table;

use crate::harness::{Desk, Home};

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
