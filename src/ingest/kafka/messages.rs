//! Messages of one partition on their way from the broker, one after another in one stretch of memory.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringViewArray, StringViewBuilder, TimestampMicrosecondArray,
    UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::value::RawValue;

use crate::error::Result;
use crate::ingest::decode::{BadLine, text_of};
use crate::ingest::lines::{RawChunk, Span};
use crate::lake::schema::timestamp;

/// What is known of a message beside its fields, as columns that a transform may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Key,
    Value,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl Known {
    /// All of it.
    pub(super) const ALL: [Known; 7] = [
        Known::Key,
        Known::Value,
        Known::Topic,
        Known::Partition,
        Known::Offset,
        Known::Timestamp,
        Known::Headers,
    ];

    /// The column's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Known::Key => "key",
            Known::Value => "value",
            Known::Topic => "topic",
            Known::Partition => "partition",
            Known::Offset => "offset",
            Known::Timestamp => "timestamp",
            Known::Headers => "headers",
        }
    }

    /// The column.
    pub(super) fn field(self) -> Field {
        match self {
            Known::Key | Known::Value | Known::Headers => Field::new(self.name(), DataType::Utf8View, true),
            Known::Topic => Field::new(self.name(), DataType::Utf8View, false),
            Known::Partition => Field::new(self.name(), DataType::Int32, false),
            Known::Offset => Field::new(self.name(), DataType::Int64, false),
            Known::Timestamp => Field::new(self.name(), timestamp(true), true),
        }
    }
}

/// Messages of one partition in the order of their offsets.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Messages without a value.
    empty: Vec<BadLine>,
    /// Offsets of all messages.
    offsets: Vec<i64>,
    /// The broker's time of each, in microseconds.
    timestamps: Vec<Option<i64>>,
    /// Key and headers of each, if somebody asks for them.
    keys: Option<Vec<Option<String>>>,
    headers: Option<Vec<Option<String>>>,
    /// Bytes that this takes.
    size: usize,
}

/// Which parts of messages are kept beside their values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    pub(super) keys: bool,
    pub(super) headers: bool,
}

impl Messages {
    pub(super) fn new(kept: Kept) -> Self {
        Messages {
            keys: kept.keys.then(Vec::new),
            headers: kept.headers.then(Vec::new),
            ..Default::default()
        }
    }

    /// Adds one and says how many bytes more this takes now.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let offset = message.offset();
        let before = self.size;
        match message.payload() {
            Some(value) => {
                let from = self.bytes.len();
                self.bytes.extend_from_slice(value);
                self.spans.push(Span { range: from..self.bytes.len(), line: offset });
                self.size += value.len();
            }
            None => {
                let reason = "the message has no value".to_owned();
                self.empty.push(BadLine { line: offset, reason, payload: None });
            }
        }
        self.offsets.push(offset);
        self.timestamps.push(message.timestamp().to_millis().map(|ms| ms.saturating_mul(1000)));
        if let Some(keys) = &mut self.keys {
            let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
            self.size += key.as_ref().map_or(0, String::len);
            keys.push(key);
        }
        if let Some(headers) = &mut self.headers {
            let text = message.headers().map(as_json);
            self.size += text.as_ref().map_or(0, String::len);
            headers.push(text);
        }
        self.size += PER_MESSAGE;
        self.size - before
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes that this takes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The offset behind the last one.
    pub(super) fn next(&self) -> Option<i64> {
        self.offsets.last().map(|last| last + 1)
    }

    /// The broker's time of the newest one, in microseconds.
    pub(super) fn newest(&self) -> Option<i64> {
        self.timestamps.iter().copied().max().flatten()
    }

    /// Takes the values out, as records on lines whose numbers are the offsets. Where a value is a JSON array, each of its
    /// elements is a record, if `arrays` says so.
    pub(super) fn take_records(&mut self, arrays: bool) -> RawChunk {
        let bytes = std::mem::take(&mut self.bytes);
        let mut bad = std::mem::take(&mut self.empty);
        let mut spans = std::mem::take(&mut self.spans);
        let is_array = |span: &Span| bytes[span.range.clone()].trim_ascii_start().first() == Some(&b'[');
        if arrays && spans.iter().any(is_array) {
            let mut all = Vec::with_capacity(spans.len());
            for span in spans {
                if !is_array(&span) {
                    all.push(span);
                    continue;
                }
                match elements(&bytes, &span.range) {
                    Ok(ranges) => all.extend(ranges.into_iter().map(|range| Span { range, line: span.line })),
                    Err(e) => bad.push(BadLine {
                        line: span.line,
                        reason: format!("it is not a JSON array: {e}"),
                        payload: Some(text_of(&bytes, &span.range)),
                    }),
                }
            }
            spans = all;
        }
        // A decoder of lines passes over blank ones; here each was a message.
        spans.retain(|span| {
            let blank = bytes[span.range.clone()].trim_ascii().is_empty();
            if blank {
                bad.push(BadLine {
                    line: span.line,
                    reason: "the message is empty".to_owned(),
                    payload: None,
                });
            }
            !blank
        });
        RawChunk { bytes, spans, bad, position: self.offsets.last().map_or(0, |last| last + 1) }
    }

    /// What is known of the messages that rows with these offsets (rising) come from, as columns; `value` gives the text of a
    /// row.
    pub(super) fn known(
        &self,
        wanted: &[Known],
        (topic, partition): (&str, i32),
        rows: &[i64],
        value: impl Fn(usize) -> Option<String>,
    ) -> Result<Vec<ArrayRef>> {
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let mut message = 0;
        let of_row = UInt64Array::from_iter_values(rows.iter().map(|offset| {
            while self.offsets.get(message).is_some_and(|there| there < offset) {
                message += 1;
            }
            message as u64
        }));
        let texts = |texts: &Option<Vec<Option<String>>>| {
            let all: ArrayRef =
                Arc::new(StringViewArray::from_iter(texts.iter().flatten().map(Option::as_deref)));
            take(&all, &of_row, None)
        };
        let columns = wanted.iter().map(|known| {
            Ok(match known {
                Known::Key => texts(&self.keys)?,
                Known::Headers => texts(&self.headers)?,
                Known::Value => Arc::new(StringViewArray::from_iter((0..rows.len()).map(&value))) as ArrayRef,
                Known::Topic => {
                    let mut names = StringViewBuilder::with_capacity(rows.len()).with_deduplicate_strings();
                    (0..rows.len()).for_each(|_| names.append_value(topic));
                    Arc::new(names.finish())
                }
                Known::Partition => Arc::new(Int32Array::from_value(partition, rows.len())),
                Known::Offset => Arc::new(Int64Array::from_iter_values(rows.iter().copied())),
                Known::Timestamp => {
                    let all: ArrayRef = Arc::new(
                        TimestampMicrosecondArray::from_iter(self.timestamps.iter().copied())
                            .with_timezone("UTC"),
                    );
                    take(&all, &of_row, None)?
                }
            })
        });
        columns.collect()
    }
}

/// What a message takes beside its value, in bytes.
const PER_MESSAGE: usize = size_of::<Span>() + size_of::<i64>() + size_of::<Option<i64>>();

/// Where the elements of a JSON array stand.
fn elements(bytes: &[u8], within: &Range<usize>) -> serde_json::Result<Vec<Range<usize>>> {
    let elements: Vec<&RawValue> = serde_json::from_slice(&bytes[within.clone()])?;
    let begin = bytes.as_ptr() as usize;
    let range = |element: &&RawValue| {
        let from = element.get().as_ptr() as usize - begin;
        from..from + element.get().len()
    };
    Ok(elements.iter().map(range).collect())
}

/// Headers as a JSON object; of two with one name the last counts.
fn as_json<H: Headers>(headers: &H) -> String {
    let object: serde_json::Map<String, serde_json::Value> = headers
        .iter()
        .map(|header| {
            let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
            (header.key.to_owned(), value.map_or(serde_json::Value::Null, serde_json::Value::String))
        })
        .collect();
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(values: &[&str]) -> Messages {
        let mut messages = Messages::default();
        for (i, value) in values.iter().enumerate() {
            let from = messages.bytes.len();
            messages.bytes.extend_from_slice(value.as_bytes());
            messages.spans.push(Span { range: from..messages.bytes.len(), line: 10 + 2 * i as i64 });
            messages.offsets.push(10 + 2 * i as i64);
            messages.timestamps.push(Some(i as i64));
        }
        messages
    }

    #[test]
    fn elements_of_arrays_are_records_of_their_own() {
        let mut messages =
            messages(&["{\"a\":1}", " [ {\"a\":2} ,{\"a\":[3]}]", "[1", " ", "[]", "{\"a\":4}"]);
        let raw = messages.take_records(true);
        let text: Vec<_> = raw.spans.iter().map(|s| (s.line, text_of(&raw.bytes, &s.range))).collect();
        let expected = [(10, "{\"a\":1}"), (12, "{\"a\":2}"), (12, "{\"a\":[3]}"), (20, "{\"a\":4}")];
        assert_eq!(text, expected.map(|(offset, text)| (offset, text.to_owned())));
        assert_eq!(raw.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [14, 16]);
        assert_eq!((messages.next(), raw.position), (Some(21), 21));
    }

    #[test]
    fn rows_know_their_messages() {
        let messages = messages(&["a", "b", "c"]);
        let wanted = [Known::Offset, Known::Timestamp, Known::Topic, Known::Value];
        let columns = messages.known(&wanted, ("t", 3), &[10, 14, 14], |row| Some(row.to_string())).unwrap();
        let shown = |i: usize| {
            let column: &ArrayRef = &columns[i];
            (0..3)
                .map(|row| datafusion::arrow::util::display::array_value_to_string(column, row).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(0), ["10", "14", "14"]);
        assert_eq!(shown(1)[1], "1970-01-01T00:00:00.000002Z");
        assert_eq!((shown(2), shown(3)), (vec!["t".to_owned(); 3], vec!["0".into(), "1".into(), "2".into()]));
    }
}
