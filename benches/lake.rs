//! What a commit costs after many, what opening a table of many files costs, and following it by one commit; and opening
//! a table and planning a query over it after a week of a commit every second; and planning one for four workers over a table of 100,000
//! files and a million commits.
//!
//! `cargo bench --bench lake` prints medians and 99th percentiles in milliseconds; `-- 500` takes 500 commits and files
//! where it would take 5,000 and 10,000, and as many seconds instead of a week; `-- scale` does the last only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use tokio::net::TcpListener;
use tokio::sync::watch;
use toplake::cluster::{self, Cluster, Fallback, Trust, Worker, WorkerOptions};
use toplake::lake::action::{Action, Add, CommitInfo, CommitKind, format_lines};
use toplake::lake::checkpoint;
use toplake::lake::committer::{Change, Position};
use toplake::lake::log;
use toplake::lake::schema::timestamp;
use toplake::lake::snapshot::Replay;
use toplake::lake::store::Store;
use toplake::lake::table::{NewTable, Table};
use toplake::lake::writer::FileWriter;
use toplake::rollup::view::Rollup;
use toplake::session;
use toplake::statement::Session;
use toplake::workload::Resources;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let most = std::env::args().filter_map(|a| a.parse::<usize>().ok()).next();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().any(|a| a == "scale") {
        return runtime.block_on(spread_plan(most.unwrap_or(100_000), 1_000_000));
    }
    runtime.block_on(commits(most.unwrap_or(5_000)))?;
    runtime.block_on(many_files(most.unwrap_or(10_000)))?;
    runtime.block_on(long_log(most.unwrap_or(7 * 86_400) as i64))?;
    runtime.block_on(spread_plan(most.unwrap_or(100_000), 1_000_000))
}

fn new_table() -> NewTable {
    let schema = Schema::new(vec![
        Field::new("event_time", timestamp(false), false),
        Field::new("product_id", DataType::Utf8View, true),
        Field::new("quantity", DataType::Int64, true),
    ]);
    let configuration = vec![("toplake.time_column".to_owned(), "event_time".to_owned())];
    NewTable { schema, configuration, description: None }
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
    let (begun, mut watermark) = (Instant::now(), None);
    for _ in 0..1000 {
        watermark = std::hint::black_box(toplake::catalog::watermark::of("bench", &other.snapshot())?);
    }
    let asked = ms(begun) / 1000.0;
    assert!(watermark.is_some());
    println!("a table of {count} files (ms)");
    println!("  opening it from a checkpoint     {}", spread(&opens));
    println!("  following it by one commit       {}", spread(&follows));
    println!("  asking for its watermark         mean   {asked:>7.5}");
    Ok(())
}

/// A log with a commit of one file every second, in which each minute's files and then each hour's are merged, and nothing
/// was ever cleaned up. Only the log is there.
async fn long_log(commits: i64) -> Result<()> {
    const SQL: &str = "
        CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
          WITH (time_column = 'event_time');
        CREATE MATERIALIZED VIEW hourly AS SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id,
          sum(quantity) AS quantity FROM sales GROUP BY 1, 2;";
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("not a path")?;
    let engine = session::open(location).await?;
    Session::new(engine.context(), Arc::clone(engine.warehouse())).sql(SQL).await?;
    let table = engine.warehouse().table("sales").await?.ok_or("gone")?;
    write_log(&table, commits).await?;

    // Folded up to a minute ago.
    let rollup = engine.warehouse().rollup("hourly").await?;
    let on = rollup.table.update().await?;
    let app = Rollup::fold_app(&on);
    let mut change = Change::new(CommitKind::Append, "FOLD", &on);
    change.positions = vec![Position { from: on.position(&app), to: commits - 60, app }];
    rollup.table.commit(&change).await?;

    let (mut opens, mut plans) = (vec![], vec![]);
    for _ in 0..20 {
        let begun = Instant::now();
        let opened = Table::open("sales", table.store().clone()).await?.ok_or("gone")?;
        opens.push(ms(begun));
        assert_eq!(opened.snapshot().version, commits);
        // A new process: it opens both tables, and plans.
        let engine = session::open(location).await?;
        let begun = Instant::now();
        let plan = engine.context().sql("SELECT product_id, sum(quantity) FROM hourly GROUP BY 1").await?;
        plan.create_physical_plan().await?;
        plans.push(ms(begun));
    }
    let files = Table::open("sales", table.store().clone()).await?.ok_or("gone")?.snapshot().files.len();
    println!("after {commits} commits, {files} files (ms)");
    println!("  opening the table                {}", spread(&opens));
    println!("  a new process plans a query      {}", spread(&plans));
    Ok(())
}

/// Writes commits `1..=commits` and the checkpoints that would have been made beside them.
async fn write_log(table: &Table, commits: i64) -> Result<()> {
    let start = 1_760_000_000_000_000_i64;
    let add = |name: String, from: i64, to: i64, rows: i64| {
        let at = |second: i64| {
            let time =
                chrono::DateTime::from_timestamp_micros(start + second * 1_000_000).unwrap_or_default();
            time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
        };
        let (low, high) = (at(from), at(to));
        let stats = format!(
            r#"{{"numRecords":{rows},"minValues":{{"event_time":"{low}","product_id":"P0","quantity":1}},"maxValues":{{"event_time":"{high}","product_id":"P9","quantity":9}},"nullCount":{{"event_time":0,"product_id":0,"quantity":0}}}}"#
        );
        Add { path: format!("{name}.parquet"), size: rows * 20, stats: Some(stats), ..Default::default() }
    };
    let mut snapshot = table.snapshot().as_ref().clone();
    for version in 1..=commits {
        let (kind, prefix, span) = match version {
            v if v % 3600 == 0 => (CommitKind::Rewrite, "minute-", 3600),
            v if v % 60 == 0 => (CommitKind::Rewrite, "second-", 60),
            _ => (CommitKind::Append, "", 0),
        };
        let merged = snapshot.files.iter().filter(|(path, _)| !prefix.is_empty() && path.starts_with(prefix));
        let removes: Vec<_> = merged.map(|(_, file)| Arc::clone(file)).collect();
        let name = match span {
            3600 => format!("hour-{version:08}"),
            60 => format!("minute-{version:08}"),
            _ => format!("second-{version:08}"),
        };
        let info = CommitInfo { timestamp: 1, kind: Some(kind), ..Default::default() };
        let mut actions = vec![Action { commit_info: Some(info), ..Default::default() }];
        actions.extend(
            removes.iter().map(|f| Action { remove: Some(f.remove(1, false)), ..Default::default() }),
        );
        let added = add(name, version - span, version, 1000 * span.max(1));
        actions.push(Action { add: Some(added), ..Default::default() });
        let path = format!("/{}", log::commit_path(table.store(), version));
        std::fs::write(path, format_lines(&actions)?)?;
        let mut replay = Replay::from_snapshot(&snapshot);
        replay.commit(version, actions);
        snapshot = replay.finish("bench")?;
        if version % 100 == 0 {
            let (body, actions) = checkpoint::write(&snapshot)?;
            table.store().put(&log::checkpoint_path(table.store(), version), body).await?;
            log::write_hint(table.store(), version, Some(actions)).await?;
        }
    }
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

/// A query that is planned for four workers over a table of so many files and commits, of which only the log is there. EXPLAIN plans it
/// twice: as it is, and in stages.
async fn spread_plan(files: usize, commits: i64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("not a path")?;
    let engine = session::open(location).await?;
    let sql = Session::new(engine.context(), Arc::clone(engine.warehouse()));
    sql.sql(
        "CREATE TABLE bench (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
           WITH (time_column = 'event_time')",
    )
    .await?;
    let table = engine.warehouse().table("bench").await?.ok_or("gone")?;
    let mut written = FileWriter::new(table.store(), Arc::clone(&table.snapshot().schema), None);
    written.write(&batch(&table, 0)?).await?;
    let pattern = written.finish().await?.remove(0);
    let mut change = Change::new(CommitKind::Append, "WRITE", &table.snapshot());
    change.adds = (0..files)
        .map(|i| Add {
            path: format!("part-{i:08}.parquet"),
            size: pattern.size + (i % 1000) as i64 * 1000,
            ..pattern.clone()
        })
        .collect();
    table.commit(&change).await?;
    table.checkpoint().await?;
    // The same checkpoint, as it would be after so many commits whose log has been cleaned up.
    let log = folder.path().join("bench/_delta_log");
    let version = table.snapshot().version;
    std::fs::rename(
        log.join(format!("{version:020}.checkpoint.parquet")),
        log.join(format!("{commits:020}.checkpoint.parquet")),
    )?;
    for v in 0..=version {
        std::fs::remove_file(log.join(format!("{v:020}.json")))?;
    }
    std::fs::write(log.join("_last_checkpoint"), format!(r#"{{"version":{commits},"size":{files}}}"#))?;

    let mut addresses = vec![];
    for _ in 0..4 {
        let resources = Resources::with_memory(256 << 20);
        let compute = tokio::runtime::Handle::current();
        let options = WorkerOptions { resources, trust: Trust::default(), drain: Duration::ZERO, compute };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let (forever, stopping) = watch::channel(false);
        let worker = Worker::new(options)?;
        tokio::spawn(async move {
            let _forever = forever;
            worker.serve(listener, stopping).await
        });
    }
    let options = cluster::Options {
        workers: addresses.join(",").parse()?,
        trust: Trust::default(),
        fallback: Fallback::Refuse,
        bytes_per_task: cluster::Options::BYTES_PER_TASK,
    };
    let cluster = Cluster::new(options)?;
    let resources = Resources::with_memory(1 << 30);
    let engine = session::open_extended(location, &resources, |sessions| cluster.plug(sessions)).await?;
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(Arc::clone(&cluster).watch_over(Arc::clone(engine.warehouse()), stopping));
    if !cluster.wait_for(4, Duration::from_secs(60)).await {
        return Err("the workers take no part".into());
    }
    let sql = Session::new(engine.context(), Arc::clone(engine.warehouse()));
    let explain = "EXPLAIN SELECT product_id, sum(quantity) FROM bench GROUP BY 1 ORDER BY 2 DESC LIMIT 1000";
    let begun = Instant::now();
    let first = sql.sql(explain).await?;
    let opened = ms(begun);
    let text = pretty_format_batches(&first)?.to_string();
    assert!(text.contains("tasks=4"), "{text}");
    let mut plans = vec![];
    for _ in 0..10 {
        let begun = Instant::now();
        sql.sql(explain).await?;
        plans.push(ms(begun));
    }
    println!("a table of {files} files at version {commits}, four workers (ms)");
    println!("  opening it and planning          {opened:>7.1}");
    println!("  planning again (EXPLAIN, twice)  {}", crate::spread(&plans));
    Ok(())
}
