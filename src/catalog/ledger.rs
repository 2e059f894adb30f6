//! `toplake.ledger`: what became of all that was consumed, commit by commit and partition by partition.
//!
//! The entries are part of the commits that consumed the input. A follower moves those of many commits into one file of a
//! side table, each once ([`outbox`](super::outbox)), so that they outlive the log; a reader sees what that table has and
//! what is not moved yet.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};

use super::outbox::Route;
use super::side_table::Definition;
use super::sources::topic_of;
use crate::error::Result;
use crate::lake::action::{Add, LedgerEntry};
use crate::lake::schema::timestamp;
use crate::lake::snapshot::Commit;
use crate::lake::table::Table;
use crate::lake::writer::FileWriter;

/// The name of the table in the schema `toplake`.
pub const NAME: &str = "ledger";

/// The column that says when the commit was made, by its writer's clock.
const TIME: &str = "committed_at";

/// A row of the ledger.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8View, false);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        text("table_name"),
        text("source"),
        text("topic").with_nullable(true),
        number("partition").with_nullable(true),
        number("from_position"),
        number("to_position"),
        number("version"),
        Field::new(TIME, timestamp(true), false),
        text("operation"),
        number("consumed"),
        number("stored"),
        number("duplicate"),
        number("dead"),
        number("late"),
        number("suspect"),
        number("filtered"),
        number("gap"),
        Field::new("newest_message", timestamp(true), true),
        number("end_position").with_nullable(true),
    ]))
});

/// The rows of a table's commits, in order.
pub(super) fn rows(table: &str, commits: &[Arc<Commit>]) -> Result<RecordBatch> {
    let entries: Vec<(&Commit, &LedgerEntry)> = commits
        .iter()
        .flat_map(|commit| commit.ledger.iter().map(|entry| (commit.as_ref(), entry)))
        .collect();
    let texts = |each: for<'a> fn(&'a Commit, &'a LedgerEntry) -> Option<&'a str>| -> ArrayRef {
        Arc::new(entries.iter().map(|(commit, entry)| each(commit, entry)).collect::<StringViewArray>())
    };
    let numbers = |each: fn(&Commit, &LedgerEntry) -> Option<i64>| -> Int64Array {
        entries.iter().map(|(commit, entry)| each(commit, entry)).collect()
    };
    let counts = |each: fn(&LedgerEntry) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(entries.iter().map(|(_, entry)| each(entry) as i64)))
    };
    let times = |each: fn(&Commit, &LedgerEntry) -> Option<i64>| -> ArrayRef {
        Arc::new(numbers(each).reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC"))
    };
    let names = StringViewArray::from_iter_values(entries.iter().map(|_| table));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(names),
        texts(|_, entry| Some(&entry.source)),
        texts(|_, entry| topic_of(&entry.source)),
        Arc::new(numbers(|_, entry| entry.partition)),
        Arc::new(numbers(|_, entry| Some(entry.from))),
        Arc::new(numbers(|_, entry| Some(entry.to))),
        Arc::new(numbers(|commit, _| Some(commit.version))),
        times(|commit, _| Some(commit.timestamp.saturating_mul(1000))),
        texts(|commit, _| Some(&commit.operation)),
        counts(|entry| entry.consumed),
        counts(|entry| entry.stored),
        counts(|entry| entry.duplicate),
        counts(|entry| entry.dead),
        counts(|entry| entry.late),
        counts(|entry| entry.suspect),
        counts(|entry| entry.filtered),
        counts(|entry| entry.gap),
        times(|_, entry| entry.newest),
        Arc::new(numbers(|_, entry| entry.end)),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}

/// Writes the rows of a table's commits into a file of the side table.
pub(super) async fn write(into: &Table, table: &str, commits: &[Arc<Commit>]) -> Result<Vec<Add>> {
    let mut writer = FileWriter::new(into.store(), Arc::clone(&SCHEMA), None);
    match writer.write(&rows(table, commits)?).await {
        Ok(()) => writer.finish().await,
        Err(e) => {
            writer.abandon().await;
            Err(e)
        }
    }
}

/// The table.
pub(super) fn definition() -> Definition {
    Definition { name: NAME, time: TIME, schema: Arc::clone(&SCHEMA), route: Some(Route::Ledger) }
}
