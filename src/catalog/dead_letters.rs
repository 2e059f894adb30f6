//! `toplake.dead_letters`: input that could not be stored, with where it stood and why.
//!
//! A side table of all events tables: their commits name its files ([`outbox`](super::outbox)).

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::outbox::Route;
use super::side_table::Definition;
use crate::lake::schema::timestamp;

/// The name of the table in the schema `toplake`.
pub const NAME: &str = "dead_letters";

/// The column that says when a letter came.
const TIME: &str = "at";

/// What a dead letter is.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(TIME, timestamp(true), false),
        Field::new("table_name", DataType::Utf8View, false),
        Field::new("source", DataType::Utf8View, false),
        Field::new("position", DataType::Int64, false),
        Field::new("reason", DataType::Utf8View, false),
        Field::new("payload", DataType::Utf8View, true),
        // Where a message of Kafka stood; `position` is its offset then.
        Field::new("topic", DataType::Utf8View, true),
        Field::new("partition", DataType::Int64, true),
    ]))
});

/// The table.
pub(super) fn definition() -> Definition {
    Definition { name: NAME, time: TIME, schema: Arc::clone(&SCHEMA), route: Some(Route::DeadLetters) }
}
