//! `toplake.recent_keys`: what the guards of streams remember of the events that came in ([`ingest::guards`]).
//!
//! A side table of all events tables: the commit that stores the events names the file that remembers them
//! ([`outbox`](super::outbox)), so that both stand or fall together. It is for whoever takes a partition over; nobody queries it.
//!
//! [`ingest::guards`]: crate::ingest::guards

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::outbox::Route;
use super::side_table::Definition;
use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::schema::timestamp;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::table::Table;

/// The name of the table in the schema `toplake`, for upkeep.
pub const NAME: &str = "recent_keys";

/// The column that its rows are ordered by: an event time.
pub const TIME: &str = "time";

/// Times that a reader looks again after falling too far behind.
const TRIES: usize = 20;

/// What is remembered.
///
/// A row with a `key` is an event, with its time, or a count of events, with the time at which their bucket begins. A row
/// without one says how far its partition had come (`time`) when the rows beside it were written, and for how long before that
/// the guard remembers (`count`, in microseconds).
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("table_name", DataType::Utf8View, false),
        Field::new("table_id", DataType::Utf8View, false),
        Field::new("source", DataType::Utf8View, false),
        Field::new("partition", DataType::Int64, false),
        Field::new("guard", DataType::Utf8View, false),
        Field::new("key", DataType::BinaryView, true),
        Field::new(TIME, timestamp(true), false),
        Field::new("count", DataType::Int64, true),
    ]))
});

/// The table.
pub(super) fn definition() -> Definition {
    Definition { name: NAME, time: TIME, schema: Arc::clone(&SCHEMA), route: Some(Route::RecentKeys) }
}

/// What an events table has named until its newest version, added or not, and that version.
pub async fn named_by(events: &Table, warehouse: &Warehouse) -> Result<(Vec<Arc<File>>, Arc<Snapshot>)> {
    let table = warehouse.recent_keys().table().await?;
    let mut lost = None;
    for _ in 0..TRIES {
        // The side table first: what a follower adds after that is still named by the commits read below.
        let mine = table.update().await?;
        let now = events.update().await?;
        match Route::RecentKeys.pending(&mine, events, &now).await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            Err(e) => return Err(e),
            Ok(pending) => {
                let mut files: Vec<Arc<File>> = mine.files.values().cloned().collect();
                files.extend(pending.into_iter().map(|add| Arc::new(File::new(add))));
                return Ok((files, now));
            }
        }
    }
    Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
}
