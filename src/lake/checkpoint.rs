//! Checkpoints: the whole state of a table as one Parquet file, so that opening it does not read every commit.
//!
//! The classic single-file form. Tombstones are left out: they serve only the VACUUM of other engines, and a table with
//! a commit every second would carry 86,400 of them.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use datafusion::arrow::json::{LineDelimitedWriter, ReaderBuilder};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;

use super::action::{Action, Add, Txn, format_lines, parse_lines};
use super::snapshot::Snapshot;
use crate::error::{Error, Result};

/// Rows that are encoded at once.
const BATCH: usize = 8192;

fn map_field(name: &str) -> Field {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    let entries = Field::new("key_value", DataType::Struct(entries), false);
    Field::new(name, DataType::Map(Arc::new(entries), false), true)
}

fn list_field(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true)
}

/// The columns of a checkpoint that we write.
fn schema() -> SchemaRef {
    let string = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let action = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    let format =
        Field::new("format", DataType::Struct(vec![string("provider"), map_field("options")].into()), true);
    Arc::new(Schema::new(vec![
        action(
            "protocol",
            vec![
                int("minReaderVersion"),
                int("minWriterVersion"),
                list_field("readerFeatures"),
                list_field("writerFeatures"),
            ],
        ),
        action(
            "metaData",
            vec![
                string("id"),
                string("name"),
                string("description"),
                format,
                string("schemaString"),
                list_field("partitionColumns"),
                map_field("configuration"),
                long("createdTime"),
            ],
        ),
        action("txn", vec![string("appId"), long("version"), long("lastUpdated")]),
        action(
            "add",
            vec![
                string("path"),
                map_field("partitionValues"),
                long("size"),
                long("modificationTime"),
                Field::new("dataChange", DataType::Boolean, true),
                string("stats"),
                map_field("tags"),
            ],
        ),
        action(
            "remove",
            vec![
                string("path"),
                long("deletionTimestamp"),
                Field::new("dataChange", DataType::Boolean, true),
            ],
        ),
    ]))
}

/// Key in the file's own metadata: how far event time had come. It is more than what the positions say, as it counts files
/// of foreign writers, also those that have left since.
const EVENT_TIMES: &str = "toplake.event_times";

/// What a checkpoint has.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its actions.
    pub actions: Vec<Action>,
    /// How far event time had come, as positions; `None` in a checkpoint of another writer.
    pub event_times: Option<Vec<(String, i64)>>,
}

/// The checkpoint of a snapshot; also the number of actions in it.
pub fn write(snapshot: &Snapshot) -> Result<(Bytes, usize)> {
    let schema = schema();
    let event_times = serde_json::to_string(&snapshot.event_times.positions(&snapshot.metadata.id))
        .map_err(|e| Error::internal(format!("cannot write event times: {e}")))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new(EVENT_TIMES.to_owned(), event_times)]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let head = [
        Action { protocol: Some(snapshot.protocol.as_ref().clone()), ..Default::default() },
        Action { meta_data: Some(snapshot.metadata.as_ref().clone()), ..Default::default() },
    ];
    let txns = snapshot.txns.iter().map(|(app, version)| Action {
        txn: Some(Txn { app_id: app.to_string(), version: *version, last_updated: None }),
        ..Default::default()
    });
    let adds = snapshot
        .files
        .values()
        .map(|f| Action { add: Some(Add { data_change: false, ..f.add.clone() }), ..Default::default() });
    let actions: Vec<Action> = head.into_iter().chain(txns).chain(adds).collect();
    for some in actions.chunks(BATCH) {
        let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(BATCH).build_decoder()?;
        let lines = format_lines(some)?;
        if decoder.decode(&lines)? != lines.len() {
            return Err(Error::internal("a checkpoint did not fit its batch"));
        }
        if let Some(batch) = decoder.flush()? {
            writer.write(&batch)?;
        }
    }
    Ok((writer.into_inner()?.into(), actions.len()))
}

/// Reads a checkpoint; `place` is for messages.
pub fn read(bytes: Bytes, place: &dyn std::fmt::Display) -> Result<Checkpoint> {
    let bad = |e: &dyn std::fmt::Display| Error::corrupt(format!("cannot read checkpoint {place}: {e}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| bad(&e))?;
    let own = reader.metadata().file_metadata().key_value_metadata();
    let event_times = own
        .and_then(|own| own.iter().find(|pair| pair.key == EVENT_TIMES)?.value.as_deref())
        .and_then(|json| serde_json::from_str(json).ok());
    let wanted = ["protocol", "metaData", "txn", "add"];
    let parquet = reader.parquet_schema();
    let mask = datafusion::parquet::arrow::ProjectionMask::roots(
        parquet,
        parquet
            .root_schema()
            .get_fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| wanted.contains(&f.name()))
            .map(|(i, _)| i),
    );
    let reader = reader.with_projection(mask).with_batch_size(BATCH).build().map_err(|e| bad(&e))?;
    let mut actions = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| bad(&e))?;
        rare_actions(&batch, &mut actions, place)?;
        if let Some(txns) = column(&batch, "txn") {
            read_txns(txns, &mut actions);
        }
        if let Some(adds) = column(&batch, "add") {
            read_adds(adds, &mut actions);
        }
    }
    Ok(Checkpoint { actions, event_times })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

/// Protocol and metadata, one row each: through JSON, which has all their fields.
fn rare_actions(batch: &RecordBatch, actions: &mut Vec<Action>, place: &dyn std::fmt::Display) -> Result<()> {
    for name in ["protocol", "metaData"] {
        let Some(array) = column(batch, name) else { continue };
        for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
            let one = Schema::new(vec![Field::new(name, array.data_type().clone(), true)]);
            let one = RecordBatch::try_new(Arc::new(one), vec![Arc::new(array.slice(row, 1))])?;
            let mut writer = LineDelimitedWriter::new(Vec::new());
            writer.write(&one)?;
            writer.finish()?;
            actions.extend(parse_lines(&writer.into_inner(), place)?);
        }
    }
    Ok(())
}

fn read_txns(array: &StructArray, actions: &mut Vec<Action>) {
    let (Some(apps), Some(versions)) = (strings(array, "appId"), longs(array, "version")) else { return };
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        let txn =
            Txn { app_id: apps.value(row).to_owned(), version: versions.value(row), last_updated: None };
        actions.push(Action { txn: Some(txn), ..Default::default() });
    }
}

fn read_adds(array: &StructArray, actions: &mut Vec<Action>) {
    let (Some(paths), Some(sizes)) = (strings(array, "path"), longs(array, "size")) else { return };
    let times = longs(array, "modificationTime");
    let stats = strings(array, "stats");
    let vectors = array.column_by_name("deletionVector");
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        let add = Add {
            path: paths.value(row).to_owned(),
            size: sizes.value(row),
            modification_time: times.map_or(0, |t| t.value(row)),
            stats: stats.filter(|s| s.is_valid(row)).map(|s| s.value(row).to_owned()),
            partition_values: map_at(array, "partitionValues", row).unwrap_or_default().into_iter().collect(),
            tags: map_at(array, "tags", row)
                .map(|m| m.into_iter().collect())
                .filter(|m: &std::collections::BTreeMap<_, _>| !m.is_empty()),
            deletion_vector: vectors.filter(|v| v.is_valid(row)).map(|_| serde_json::Value::Bool(true)),
            data_change: false,
        };
        actions.push(Action { add: Some(add), ..Default::default() });
    }
}

fn strings<'a>(array: &'a StructArray, name: &str) -> Option<&'a datafusion::arrow::array::StringArray> {
    array.column_by_name(name)?.as_string_opt::<i32>()
}

fn longs<'a>(array: &'a StructArray, name: &str) -> Option<&'a datafusion::arrow::array::Int64Array> {
    array.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

fn map_at(array: &StructArray, name: &str, row: usize) -> Option<Vec<(String, Option<String>)>> {
    let map = array.column_by_name(name)?.as_map_opt()?;
    if map.is_null(row) {
        return None;
    }
    let entries = map.value(row);
    let (keys, values) =
        (entries.column(0).as_string_opt::<i32>()?, entries.column(1).as_string_opt::<i32>()?);
    let value = |i: usize| values.is_valid(i).then(|| values.value(i).to_owned());
    Some((0..entries.len()).map(|i| (keys.value(i).to_owned(), value(i))).collect())
}
