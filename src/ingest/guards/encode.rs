//! Keys as bytes: the values of a row's key columns, one after the other. Two keys are equal where their bytes are.
//!
//! The bytes are kept in the warehouse, so they may not change from version to version; the engine's own row format may. A
//! fixed-width value is its bytes in little-endian order, a text is its length in four bytes and then itself; the last column
//! needs no length.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, RecordBatch, StringViewArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::downcast_primitive_array;

use crate::error::{Error, Kind, Result};

/// The columns that a key is made of.
#[derive(Debug)]
pub(super) struct KeyColumns(Vec<usize>);

impl KeyColumns {
    /// Finds them in a table.
    pub(super) fn new(option: &str, names: &[String], schema: &Schema, table: &str) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::invalid_input(format!("{option} names no column")));
        }
        let mut found = vec![];
        for name in names {
            let Ok(index) = schema.index_of(name) else {
                return Err(Error::new(
                    Kind::UndefinedColumn,
                    format!("{option}: table '{table}' has no column '{name}'"),
                ));
            };
            let t = schema.field(index).data_type();
            if !is_exact(t) {
                return Err(Error::not_supported(format!(
                    "{option}: column '{name}' is {t}, which is no key"
                ))
                .with_hint("take a column of text, integers, DECIMAL, a date or a time"));
            }
            if found.contains(&index) {
                return Err(Error::invalid_input(format!("{option} names column '{name}' twice")));
            }
            found.push(index);
        }
        Ok(KeyColumns(found))
    }

    /// Bytes that a key is likely to take in memory: a text is taken for a UUID.
    pub(super) fn usual_bytes(&self, schema: &Schema) -> usize {
        let of_column = |index: &usize| schema.field(*index).data_type().primitive_width().unwrap_or(36);
        self.0.iter().map(of_column).sum::<usize>() + 24
    }

    /// The keys of rows of the table.
    pub(super) fn encode(&self, rows: &RecordBatch) -> Result<Keys> {
        let columns = self.0.iter().map(|index| Column::of(rows.column(*index)));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut ends = vec![0; rows.num_rows()];
        let last = columns.len().saturating_sub(1);
        for (i, column) in columns.iter().enumerate() {
            column.measure(i < last, &mut ends);
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut bytes = vec![0; total];
        // Each is the place that its row has come to.
        for (i, column) in columns.iter().enumerate() {
            column.write(i < last, &mut bytes, &mut ends);
        }
        let nulls = self.0.iter().fold(None, |nulls: Option<NullBuffer>, index| {
            NullBuffer::union(nulls.as_ref(), rows.column(*index).nulls())
        });
        Ok(Keys { bytes, ends, nulls })
    }
}

/// Whether values that are equal are so to the last bit.
fn is_exact(t: &DataType) -> bool {
    match t {
        DataType::Utf8View | DataType::BinaryView | DataType::Boolean => true,
        t => t.is_integer() || t.is_decimal() || t.is_temporal(),
    }
}

/// The keys of a batch.
pub(super) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Keys {
    /// The key of a row; `None` where a column is NULL.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[begin..self.ends[row]])
    }
}

/// The values of a column.
enum Column<'a> {
    Fixed { bytes: &'a [u8], width: usize },
    Text(&'a StringViewArray),
    Binary(&'a BinaryViewArray),
    Boolean(&'a BooleanArray),
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self> {
        let array = array.as_ref();
        Ok(downcast_primitive_array! {
            array => Column::Fixed {
                bytes: array.values().inner().as_slice(),
                width: array.data_type().primitive_width().unwrap_or_default(),
            },
            DataType::Utf8View => Column::Text(array.as_string_view()),
            DataType::BinaryView => Column::Binary(array.as_binary_view()),
            DataType::Boolean => Column::Boolean(array.as_boolean()),
            other => return Err(Error::internal(format!("a key of type {other}")))
        })
    }

    /// Adds the bytes that each row's value takes.
    fn measure(&self, with_length: bool, lengths: &mut [usize]) {
        let prefix = if with_length { PREFIX } else { 0 };
        match self {
            Column::Fixed { width, .. } => lengths.iter_mut().for_each(|length| *length += width),
            Column::Boolean(_) => lengths.iter_mut().for_each(|length| *length += 1),
            Column::Text(array) => add_lengths(array.lengths(), prefix, lengths),
            Column::Binary(array) => add_lengths(array.lengths(), prefix, lengths),
        }
    }

    /// Writes each row's value at the row's place, which moves behind it.
    fn write(&self, with_length: bool, out: &mut [u8], places: &mut [usize]) {
        match self {
            Column::Fixed { bytes, width } => {
                for (value, place) in bytes.chunks_exact(*width).zip(places) {
                    put(out, place, value);
                }
            }
            Column::Boolean(array) => {
                for (row, place) in places.iter_mut().enumerate() {
                    put(out, place, &[u8::from(array.value(row))]);
                }
            }
            Column::Text(array) => {
                for (row, place) in places.iter_mut().enumerate() {
                    put_text(out, place, array.value(row).as_bytes(), with_length);
                }
            }
            Column::Binary(array) => {
                for (row, place) in places.iter_mut().enumerate() {
                    put_text(out, place, array.value(row), with_length);
                }
            }
        }
    }
}

/// Bytes of a length.
const PREFIX: usize = 4;

fn add_lengths(of_values: impl Iterator<Item = u32>, prefix: usize, lengths: &mut [usize]) {
    for (length, value) in lengths.iter_mut().zip(of_values) {
        *length += prefix + value as usize;
    }
}

fn put(out: &mut [u8], place: &mut usize, value: &[u8]) {
    out[*place..*place + value.len()].copy_from_slice(value);
    *place += value.len();
}

fn put_text(out: &mut [u8], place: &mut usize, value: &[u8], with_length: bool) {
    if with_length {
        put(out, place, &(value.len() as u32).to_le_bytes());
    }
    put(out, place, value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Date32Array, Decimal128Array, Int64Array};
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
    }

    fn columns(batch: &RecordBatch, names: &[&str]) -> Result<KeyColumns> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        KeyColumns::new("dedup_key", &names, &batch.schema(), "clicks")
    }

    /// These bytes are in warehouses: they may not change.
    #[test]
    fn the_bytes_of_a_key_are_what_they_were() {
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(258), None, Some(-1)]))),
            ("name", Arc::new(StringViewArray::from(vec![Some("ab"), Some("x"), None]))),
            ("day", Arc::new(Date32Array::from(vec![1, 2, 3]))),
            ("yes", Arc::new(BooleanArray::from(vec![true, false, true]))),
            (
                "price",
                Arc::new(Decimal128Array::from(vec![7, 8, 9]).with_precision_and_scale(18, 4).unwrap()),
            ),
            ("raw", Arc::new(BinaryViewArray::from(vec![Some(b"\xff\x00".as_slice()), None, None]))),
        ]);
        let keys = |names: &[&str]| columns(&rows, names).unwrap().encode(&rows).unwrap();
        assert_eq!(keys(&["id"]).get(0).unwrap(), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!((keys(&["id"]).get(1), keys(&["id"]).get(2)), (None, Some([255; 8].as_slice())));
        assert_eq!(keys(&["name"]).get(0).unwrap(), b"ab");
        assert_eq!(keys(&["name", "day", "yes"]).get(0).unwrap(), b"\x02\0\0\0ab\x01\0\0\0\x01");
        assert_eq!(keys(&["raw", "name"]).get(0).unwrap(), b"\x02\0\0\0\xff\0ab");
        assert_eq!(keys(&["price"]).get(1).unwrap(), [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(keys(&["id", "name"]).get(1), None);
    }

    #[test]
    fn texts_side_by_side_do_not_run_together() {
        let text = |values: [&str; 2]| Arc::new(StringViewArray::from_iter_values(values)) as ArrayRef;
        let rows = batch(vec![("a", text(["ab", "a"])), ("b", text(["c", "bc"]))]);
        let keys = columns(&rows, &["a", "b"]).unwrap().encode(&rows).unwrap();
        assert_ne!(keys.get(0), keys.get(1));
    }

    #[test]
    fn a_slice_has_the_keys_of_its_rows() {
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("name", Arc::new(StringViewArray::from(vec!["one", "two", "three"]))),
        ]);
        let keys = columns(&rows, &["name", "id"]).unwrap();
        let (all, part) = (keys.encode(&rows).unwrap(), keys.encode(&rows.slice(1, 2)).unwrap());
        assert_eq!((part.get(0), part.get(1)), (all.get(1), all.get(2)));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let schema = Schema::new(vec![
            Field::new("price", DataType::Float64, true),
            Field::new("id", DataType::Int64, true),
        ]);
        let refused = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            KeyColumns::new("dedup_key", &names, &schema, "clicks").unwrap_err()
        };
        assert_eq!(refused(&["ip"]).kind(), Kind::UndefinedColumn);
        assert!(refused(&["ip"]).message().contains("'clicks' has no column 'ip'"));
        assert!(refused(&["price"]).message().contains("'price' is Float64"));
        assert!(refused(&["id", "id"]).message().contains("twice"));
        assert!(refused(&[]).message().contains("no column"));
    }
}
