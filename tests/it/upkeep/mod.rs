//! Upkeep on the real thing: compaction, DELETE, vacuum and retention, beside each other and beside ingest, folds and queries.

mod archive;
mod compaction;
mod deletion;
mod retention;
mod server;
mod vacuum;

use std::path::Path;
use std::sync::Arc;

use toplake::catalog::dead_letters;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::table::Table;
use toplake::lake::writer::FileWriter;
use toplake::maintain::compact::{Compacted, compact};
use toplake::maintain::target::Target;
use toplake::maintain::vacuum::{Horizon, Vacuumed, vacuum};

use crate::harness::Desk;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '0 seconds', retention = '2 days');
    CREATE MATERIALIZED VIEW hourly WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity,
             count(*) AS events
      FROM sales GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily WITH (refresh_mode = 'incremental') AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity, sum(events) AS events
      FROM hourly GROUP BY 1;";

pub(crate) const FOLD: &str = "REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily";

const HOURLY: &str = "SELECT bucket, product_id, quantity, events FROM hourly";
const DAILY: &str = "SELECT bucket, quantity, events FROM daily";
/// Over any table of events.
fn hourly_of(events: &str) -> String {
    format!(
        "SELECT date_trunc('hour', event_time), product_id, sum(quantity), count(*) FROM {events} GROUP BY 1, 2"
    )
}
fn daily_of(events: &str) -> String {
    format!("SELECT date_trunc('day', event_time), sum(quantity), count(*) FROM {events} GROUP BY 1")
}

/// Both rollups equal their definitions over the events.
async fn assert_right(desk: &Desk, when: &str) {
    assert_equals(desk, "sales", when).await;
}

/// The same over a copy of the events, where some are gone from the table itself.
async fn assert_equals(desk: &Desk, events: &str, when: &str) {
    assert_eq!(desk.rows(HOURLY).await, desk.rows(&hourly_of(events)).await, "hourly {when}");
    assert_eq!(desk.rows(DAILY).await, desk.rows(&daily_of(events)).await, "daily {when}");
}

/// Rows number `from` to `to` of an endless list of sales, as an INSERT into a table. Each hundred is a day.
fn insert_into(table: &str, from: i64, to: i64) -> String {
    let rows = (from..to).map(|i| {
        let (day, hour, minute) = (1 + i / 100, (i * 7) % 24, i % 60);
        format!("({i}, '2026-03-{day:02} {hour:02}:{minute:02}:00', 'p{}', {})", i % 5, i % 11 - 2)
    });
    format!("INSERT INTO {table} VALUES {}", rows.collect::<Vec<_>>().join(", "))
}

fn insert(from: i64, to: i64) -> String {
    insert_into("sales", from, to)
}

async fn target(desk: &Desk, name: &str) -> Target {
    Target::find(desk.engine.warehouse(), name).await.unwrap()
}

async fn compact_all(desk: &Desk, name: &str) -> Compacted {
    compact(&target(desk, name).await, &desk.engine.state()).await.unwrap()
}

/// As if nobody had the table open.
async fn vacuum_now(desk: &Desk, name: &str, full: bool) -> Vacuumed {
    let horizon = Some(Horizon(std::time::Duration::ZERO));
    vacuum(desk.engine.warehouse(), &target(desk, name).await, full, horizon).await.unwrap()
}

/// Data files in a table's folder, active or not.
fn files_in(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    files.filter(|f| f.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".parquet")).count()
}

async fn active_files(desk: &Desk, name: &str) -> usize {
    let table: Arc<Table> = desk.table(name).await;
    table.snapshot().files.len()
}

/// Dead letters that came so many days ago.
async fn write_letters(desk: &Desk, days_ago: &[i64]) {
    let table = desk.engine.warehouse().dead_letters().table().await.unwrap();
    for days in days_ago {
        let at = chrono::Utc::now().timestamp_micros() - days * 86_400_000_000;
        let sql = format!(
            "SELECT to_timestamp_micros({at}), 't', 'file', {days}, 'why', NULL AS payload, NULL AS topic, NULL AS partition FROM (VALUES (1)) AS v"
        );
        let mut writer = FileWriter::new(table.store(), Arc::clone(&dead_letters::SCHEMA), None);
        for batch in desk.try_run(&sql).await.unwrap() {
            writer.write(&batch).await.unwrap();
        }
        let mut change = Change::new(CommitKind::Append, "OUTBOX", &table.snapshot());
        change.adds = writer.finish().await.unwrap();
        table.commit(&change).await.unwrap();
    }
}
