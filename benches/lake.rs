//! What a commit costs after many, what opening a table of many files costs, and following it by one commit.
//!
//! `cargo bench --bench lake` prints medians and 99th percentiles in milliseconds; `-- 500` takes 500 commits and files
//! where it would take 5,000 and 10,000.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use toplake::lake::action::{Add, CommitKind};
use toplake::lake::committer::{Change, Position};
use toplake::lake::schema::timestamp;
use toplake::lake::store::Store;
use toplake::lake::table::{NewTable, Table};
use toplake::lake::writer::FileWriter;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let most = std::env::args().filter_map(|a| a.parse::<usize>().ok()).next();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(commits(most.unwrap_or(5_000)))?;
    runtime.block_on(many_files(most.unwrap_or(10_000)))
}

fn new_table() -> NewTable {
    let schema = Schema::new(vec![
        Field::new("event_time", timestamp(false), false),
        Field::new("product_id", DataType::Utf8View, true),
        Field::new("quantity", DataType::Int64, true),
    ]);
    NewTable { schema, configuration: vec![], description: None }
}

fn batch(table: &Table, n: i64) -> Result<RecordBatch> {
    let base = 1_760_000_000_000_000 + n * 1_000_000;
    Ok(RecordBatch::try_new(
        Arc::clone(&table.snapshot().schema),
        vec![
            Arc::new((0..1000).map(|i| Some(base + i * 1000)).collect::<TimestampMicrosecondArray>()),
            Arc::new(
                (0..1000)
                    .map(|i| Some(format!("P{:06}", (i * 7919 + n) % 5000)))
                    .collect::<StringViewArray>(),
            ),
            Arc::new((0..1000).map(|i| Some(i % 5 + 1)).collect::<Int64Array>()),
        ],
    )?)
}

async fn create(folder: &tempfile::TempDir) -> Result<Table> {
    let store = Store::open(folder.path().to_str().ok_or("not a path")?)?;
    Table::create("bench", store.child("bench"), &new_table()).await?.ok_or_else(|| "there already".into())
}

/// A commit of one file of 1,000 rows and one position, again and again.
async fn commits(count: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let table = create(&folder).await?;
    let (mut logs, mut wholes) = (vec![], vec![]);
    for n in 0..count as i64 {
        let rows = batch(&table, n)?;
        let whole = Instant::now();
        let snapshot = table.update().await?;
        let mut writer = FileWriter::new(table.store(), Arc::clone(&snapshot.schema), None);
        writer.write(&rows).await?;
        let mut change = Change::new(CommitKind::Append, "WRITE", &snapshot);
        change.adds = writer.finish().await?;
        change.positions = vec![Position { app: "bench".into(), from: snapshot.position("bench"), to: n }];
        let log = Instant::now();
        table.commit(&change).await?;
        logs.push(ms(log));
        wholes.push(ms(whole));
    }
    println!("commit latency on a local disk (ms)         log put          with its Parquet file");
    for at in [10, 100, 1_000, 5_000] {
        if at <= count {
            let range = at - at.min(100)..at;
            println!(
                "  after {at:>5} commits            {}      {}",
                spread(&logs[range.clone()]),
                spread(&wholes[range])
            );
        }
    }
    Ok(())
}

/// A table of many files, of which only the log is there.
async fn many_files(count: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let table = create(&folder).await?;
    let mut written = FileWriter::new(table.store(), Arc::clone(&table.snapshot().schema), None);
    written.write(&batch(&table, 0)?).await?;
    let pattern = written.finish().await?.remove(0);
    let mut change = Change::new(CommitKind::Append, "WRITE", &table.snapshot());
    change.adds =
        (0..count).map(|i| Add { path: format!("part-{i:08}.parquet"), ..pattern.clone() }).collect();
    table.commit(&change).await?;
    table.checkpoint().await?;
    let mut opens = vec![];
    for _ in 0..20 {
        let begun = Instant::now();
        let opened = Table::open("bench", table.store().clone()).await?.ok_or("gone")?;
        opens.push(ms(begun));
        assert_eq!(opened.snapshot().files.len(), count);
    }
    let other = Table::open("bench", table.store().clone()).await?.ok_or("gone")?;
    let mut follows = vec![];
    for n in 0..200 {
        let snapshot = table.update().await?;
        let mut change = Change::new(CommitKind::Append, "WRITE", &snapshot);
        change.adds = vec![Add { path: format!("more-{n}.parquet"), ..pattern.clone() }];
        table.commit(&change).await?;
        let begun = Instant::now();
        other.update().await?;
        follows.push(ms(begun));
    }
    println!("a table of {count} files (ms)");
    println!("  opening it from a checkpoint     {}", spread(&opens));
    println!("  following it by one commit       {}", spread(&follows));
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
    format!("median {:>7.2}  p99 {:>7.2}", at(0.5), at(0.99))
}
