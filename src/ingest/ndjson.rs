//! NDJSON: an object a line.
//!
//! Numbers are taken over as text and cast later, strictly: `5.5` for a BIGINT is bad input, not 5, and no digit of a
//! DECIMAL is lost.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use super::decode::{BadLine, Chunk, Payload, TextDecoder, Wanted, text_of};
use super::lines::{RawChunk, Span};
use crate::error::{Error, Result};

/// Decodes the lines of one file.
pub(super) struct NdjsonDecoder {
    schema: SchemaRef,
    typed: SchemaRef,
    /// Whether a key without a column is bad input.
    strict: bool,
}

impl NdjsonDecoder {
    /// Looks at the first chunk for names, and where a transform has to know them, for types.
    pub(super) fn new(first: &RawChunk, wanted: Wanted) -> Result<Self> {
        let objects = first.spans.iter().filter_map(|span| {
            let value = serde_json::from_slice::<Value>(&first.bytes[span.range.clone()]).ok()?;
            value.is_object().then_some(value)
        });
        match wanted {
            Wanted::Columns(table) => {
                let mut keys: BTreeSet<String> = BTreeSet::new();
                for object in objects {
                    let found = object.as_object().into_iter().flatten().map(|(key, _)| key);
                    for key in found {
                        if !keys.contains(key) {
                            keys.insert(key.clone());
                        }
                    }
                }
                let schema = Arc::new(columns_of(&keys, &table));
                Ok(NdjsonDecoder { typed: Arc::clone(&schema), schema, strict: true })
            }
            Wanted::Input => {
                let inferred = infer_json_schema_from_iterator(objects.map(Ok)).map_err(|e| {
                    Error::invalid_input(format!("the types of the first lines disagree: {e}"))
                        .with_hint("give each key one kind of value: scalar, list or object")
                })?;
                let fields = |t: fn(&DataType) -> DataType| {
                    let fields = inferred.fields().iter();
                    Arc::new(Schema::new(
                        fields.map(|f| Field::new(f.name(), t(f.data_type()), true)).collect::<Vec<_>>(),
                    ))
                };
                Ok(NdjsonDecoder { schema: fields(text_leaves), typed: fields(top_level), strict: false })
            }
        }
    }

    /// For objects of which these keys are wanted, whatever the first of them have. `typed` are the columns that they stand
    /// for, one for each key. A key that is not among them is passed over, or bad input where `strict` says so.
    pub(super) fn of_keys<'a>(keys: impl Iterator<Item = &'a str>, typed: SchemaRef, strict: bool) -> Self {
        let fields =
            keys.zip(typed.fields()).map(|(key, f)| Field::new(key, text_leaves(f.data_type()), true));
        NdjsonDecoder { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), typed, strict }
    }

    fn decode_lines(&self, bytes: &[u8], spans: &[Span]) -> Result<RecordBatch, Stop> {
        let mut decoder = ReaderBuilder::new(Arc::clone(&self.schema))
            .with_batch_size(spans.len() + 1)
            .with_coerce_primitive(true)
            .with_strict_mode(self.strict)
            .build_decoder()
            .map_err(|e| Stop::Rows(e.to_string()))?;
        for (i, span) in spans.iter().enumerate() {
            let line = &bytes[span.range.clone()];
            let taken = decoder.decode(line).map_err(|e| Stop::Line(i, reason(&e.to_string())))?;
            if taken != line.len() || decoder.has_partial_record() || decoder.len() != i + 1 {
                return Err(Stop::Line(i, "it is not one JSON object".to_owned()));
            }
        }
        match decoder.flush() {
            Ok(Some(batch)) => Ok(batch),
            Ok(None) => Ok(RecordBatch::new_empty(Arc::clone(&self.schema))),
            Err(e) => Err(Stop::Rows(reason(&e.to_string()))),
        }
    }

    /// Decodes what can be decoded of these lines; halves them where it is not known which one is bad.
    fn decode_all(&self, bytes: &[u8], spans: &[Span], out: &mut Decoded) {
        let mut rest = spans;
        while !rest.is_empty() {
            match self.decode_lines(bytes, rest) {
                Ok(batch) => {
                    out.batches.push(batch);
                    out.good.extend(rest.iter().map(|s| (s.line, s.range.clone())));
                    return;
                }
                Err(Stop::Line(i, reason)) => {
                    self.decode_all(bytes, &rest[..i], out);
                    out.refuse(bytes, &rest[i], reason);
                    rest = &rest[i + 1..];
                }
                Err(Stop::Rows(reason)) if rest.len() == 1 => {
                    out.refuse(bytes, &rest[0], reason);
                    return;
                }
                Err(Stop::Rows(_)) => {
                    let (left, right) = rest.split_at(rest.len() / 2);
                    self.decode_all(bytes, left, out);
                    rest = right;
                }
            }
        }
    }
}

/// Why lines could not be decoded.
enum Stop {
    /// This line is not JSON.
    Line(usize, String),
    /// One of the rows does not fit the columns.
    Rows(String),
}

#[derive(Default)]
struct Decoded {
    batches: Vec<RecordBatch>,
    good: Vec<(i64, Range<usize>)>,
    bad: Vec<BadLine>,
}

impl Decoded {
    fn refuse(&mut self, bytes: &[u8], span: &Span, reason: String) {
        self.bad.push(BadLine { line: span.line, reason, payload: Some(text_of(bytes, &span.range)) });
    }
}

impl TextDecoder for NdjsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn typed(&self) -> &SchemaRef {
        &self.typed
    }

    fn decode(&mut self, raw: RawChunk) -> Result<Chunk> {
        let RawChunk { bytes, mut spans, bad, position } = raw;
        spans.retain(|s| !bytes[s.range.clone()].trim_ascii().is_empty());
        let mut out = Decoded { bad, ..Default::default() };
        self.decode_all(&bytes, &spans, &mut out);
        let batch = match out.batches.len() {
            1 => out.batches.remove(0),
            _ => concat_batches(&self.schema, &out.batches)?,
        };
        let (lines, spans) = out.good.into_iter().unzip();
        Ok(Chunk { batch, lines, payload: Payload::Text { bytes, spans }, bad: out.bad, position })
    }
}

/// The decoder's words, without its own preface.
fn reason(message: &str) -> String {
    message.trim_start_matches("Json error: ").to_owned()
}

/// The columns of a table under the names that the file has for them. Keys that the table has not are there too, so
/// that they can be named.
fn columns_of(keys: &BTreeSet<String>, table: &Schema) -> Schema {
    let same = |field: &FieldRef, key: &str| field.name().eq_ignore_ascii_case(key);
    let mut fields: Vec<Field> = vec![];
    for key in keys {
        let known = table.fields().iter().find(|f| same(f, key));
        fields.push(Field::new(key, known.map_or(DataType::Utf8View, |f| text_leaves(f.data_type())), true));
    }
    let absent = table.fields().iter().filter(|f| !keys.iter().any(|key| same(f, key)));
    fields.extend(absent.map(|f| Field::new(f.name(), text_leaves(f.data_type()), true)));
    Schema::new(fields)
}

/// The same shape with text in it.
fn text_leaves(t: &DataType) -> DataType {
    let text = |f: &FieldRef| Arc::new(Field::new(f.name(), text_leaves(f.data_type()), true));
    match t {
        DataType::List(f) | DataType::LargeList(f) => DataType::List(text(f)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(text).collect()),
        _ => DataType::Utf8View,
    }
}

/// Scalars as they were inferred; what is nested stays text.
fn top_level(t: &DataType) -> DataType {
    match t {
        DataType::Int64 | DataType::Float64 | DataType::Boolean => t.clone(),
        _ => text_leaves(t),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::{Limits, Records};
    use super::*;
    use datafusion::arrow::array::AsArray;

    fn decode(text: &'static str, wanted: Wanted) -> Chunk {
        let mut records = Records::new(Box::new(text.as_bytes()), None, Limits::default());
        let first = records.next_chunk().unwrap().unwrap();
        NdjsonDecoder::new(&first, wanted).unwrap().decode(first).unwrap()
    }

    #[test]
    fn bad_lines_do_not_spoil_their_neighbours() {
        let text = "{\"a\":1}\nnonsense\n{\"a\":2}{\"a\":3}\n\n{\n}\n{\"a\":{\"b\":1}}\n{\"a\":5.5}\n7\n{\"a\":null}\n{\"b\":1}";
        let table = Schema::new(vec![Field::new("A", DataType::Int64, true)]);
        let chunk = decode(text, Wanted::Columns(Arc::new(table)));
        // The key b is known from the first chunk: that the table has no such column is said elsewhere.
        assert_eq!(chunk.lines, [1, 8, 10, 11]);
        let values = chunk.batch.column_by_name("a").unwrap().as_string_view().iter().collect::<Vec<_>>();
        assert_eq!(values, [Some("1"), Some("5.5"), None, None]);
        assert_eq!(chunk.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [2, 3, 5, 6, 7, 9]);
        assert_eq!(chunk.payload(1).as_deref(), Some("{\"a\":5.5}"));
    }

    #[test]
    fn types_are_inferred_for_a_transform() {
        let text =
            "{\"n\":1,\"x\":1,\"s\":\"é\",\"o\":{\"q\":7},\"l\":[1,2]}\n{\"n\":2,\"x\":2.5,\"later\":true}\n";
        let mut records = Records::new(Box::new(text.as_bytes()), None, Limits::default());
        let first = records.next_chunk().unwrap().unwrap();
        let decoder = NdjsonDecoder::new(&first, Wanted::Input).unwrap();
        let t = |name: &str| decoder.typed().field_with_name(name).unwrap().data_type().clone();
        assert_eq!(
            (t("n"), t("x"), t("s"), t("later")),
            (DataType::Int64, DataType::Float64, DataType::Utf8View, DataType::Boolean)
        );
        assert!(matches!(t("o"), DataType::Struct(f) if f[0].data_type() == &DataType::Utf8View));
    }
}
