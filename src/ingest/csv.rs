//! CSV: a header line, then records. Every column is text; an empty field is NULL unless it is quoted.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use memchr::{memchr, memchr_iter};

use super::decode::{BadLine, Chunk, Payload, TextDecoder, text_of};
use super::lines::{RawChunk, closing_quote};
use crate::error::{Error, Result};

/// Decodes the records of one file.
pub(super) struct CsvDecoder {
    schema: SchemaRef,
    delimiter: u8,
    fields: Vec<Piece>,
}

/// A field within its record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// As it stands.
    Plain(Range<usize>),
    /// Between the quotes.
    Quoted(Range<usize>),
    /// With the quotes: some are doubled, or text follows the closing one.
    Escaped(Range<usize>),
}

impl CsvDecoder {
    /// Takes the header out of the first chunk.
    pub(super) fn new(first: &mut RawChunk, delimiter: u8) -> Result<Self> {
        if first.spans.is_empty() {
            let why = first.bad.first().map_or("there is none", |b| b.reason.as_str());
            return Err(Error::invalid_input(format!("the header line cannot be read: {why}")));
        }
        let header = first.spans.remove(0);
        let text = std::str::from_utf8(&first.bytes[header.range])
            .map_err(|_| Error::invalid_input("the header line is not valid UTF-8"))?;
        let mut pieces = vec![];
        split(text, delimiter, &mut pieces);
        let mut scratch = String::new();
        let mut names: Vec<String> = vec![];
        for piece in &pieces {
            let name = piece.text(text, &mut scratch);
            if name.is_empty() {
                return Err(Error::invalid_input(format!(
                    "column {} has no name in the header line",
                    names.len() + 1
                ))
                .with_hint("the first line must name the columns"));
            }
            if names.iter().any(|n| n == name) {
                return Err(Error::invalid_input(format!(
                    "two columns are named '{name}' in the header line"
                )));
            }
            names.push(name.to_owned());
        }
        Ok(CsvDecoder::of_names(names, delimiter))
    }

    /// For records without a header.
    pub(super) fn of_names(names: impl IntoIterator<Item = String>, delimiter: u8) -> Self {
        let fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8View, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        CsvDecoder { schema, delimiter, fields: vec![] }
    }
}

impl TextDecoder for CsvDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn typed(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, raw: RawChunk) -> Result<Chunk> {
        let RawChunk { bytes, spans, mut bad, position } = raw;
        let width = self.schema.fields().len();
        let mut columns: Vec<StringViewBuilder> =
            (0..width).map(|_| StringViewBuilder::with_capacity(spans.len())).collect();
        let (mut lines, mut kept) = (Vec::with_capacity(spans.len()), Vec::with_capacity(spans.len()));
        let mut scratch = String::new();
        for span in spans {
            if span.range.is_empty() {
                continue;
            }
            let mut refuse = |reason: String| {
                let payload = Some(text_of(&bytes, &span.range));
                bad.push(BadLine { line: span.line, reason, payload });
            };
            let Ok(text) = std::str::from_utf8(&bytes[span.range.clone()]) else {
                refuse("it is not valid UTF-8".to_owned());
                continue;
            };
            split(text, self.delimiter, &mut self.fields);
            if self.fields.len() != width {
                refuse(format!("it has {} fields where the header has {width}", self.fields.len()));
                continue;
            }
            for (column, piece) in columns.iter_mut().zip(&self.fields) {
                match piece {
                    Piece::Plain(range) if range.is_empty() => column.append_null(),
                    piece => column.append_value(piece.text(text, &mut scratch)),
                }
            }
            lines.push(span.line);
            kept.push(span.range);
        }
        let arrays: Vec<ArrayRef> = columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Chunk { batch, lines, payload: Payload::Text { bytes, spans: kept }, bad, position })
    }
}

impl Piece {
    /// The field's text; `scratch` holds it where it does not stand in the record as it is.
    fn text<'a>(&self, record: &'a str, scratch: &'a mut String) -> &'a str {
        match self {
            Piece::Plain(range) | Piece::Quoted(range) => &record[range.clone()],
            Piece::Escaped(range) => {
                let field = &record[range.clone()];
                let close = closing_quote(field.as_bytes(), 1).unwrap_or(field.len());
                scratch.clear();
                let mut rest = &field[1..close];
                while let Some(quote) = memchr(b'"', rest.as_bytes()) {
                    scratch.push_str(&rest[..=quote]);
                    rest = &rest[(quote + 2).min(rest.len())..];
                }
                scratch.push_str(rest);
                scratch.push_str(&field[(close + 1).min(field.len())..]);
                scratch
            }
        }
    }
}

/// Cuts a record into its fields.
fn split(record: &str, delimiter: u8, pieces: &mut Vec<Piece>) {
    pieces.clear();
    let bytes = record.as_bytes();
    let mut from = 0;
    if memchr(b'"', bytes).is_none() {
        for end in memchr_iter(delimiter, bytes) {
            pieces.push(Piece::Plain(from..end));
            from = end + 1;
        }
        pieces.push(Piece::Plain(from..bytes.len()));
        return;
    }
    loop {
        let close = if bytes.get(from) == Some(&b'"') { closing_quote(bytes, from + 1) } else { None };
        let search = close.map_or(from, |close| close + 1);
        let end = memchr(delimiter, &bytes[search..]).map_or(bytes.len(), |found| search + found);
        pieces.push(match close {
            None => Piece::Plain(from..end),
            Some(close) if close + 1 == end && memchr(b'"', &bytes[from + 1..close]).is_none() => {
                Piece::Quoted(from + 1..close)
            }
            Some(_) => Piece::Escaped(from..end),
        });
        if end == bytes.len() {
            return;
        }
        from = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(record: &str) -> Vec<String> {
        let mut pieces = vec![];
        split(record, b',', &mut pieces);
        let mut scratch = String::new();
        pieces.iter().map(|p| p.text(record, &mut scratch).to_owned()).collect()
    }

    #[test]
    fn quotes_in_every_place() {
        assert_eq!(
            fields(r#"a,"b,c","d ""e""",5" pipe,"f"g,"#),
            ["a", "b,c", "d \"e\"", "5\" pipe", "fg", ""]
        );
        assert_eq!(fields("\"\""), [""]);
        assert_eq!(fields(r#""a"#), ["\"a"]);
    }

    proptest! {
        /// What a CSV writer writes comes back, and every closed record is read as the `csv` crate reads it.
        #[test]
        fn reads_as_the_csv_crate_does(row in prop::collection::vec("[a\",\n é]{0,6}", 1..5)) {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(vec![]);
            writer.write_record(&row).unwrap();
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(fields(text.trim_end_matches('\n')), row);
        }

        #[test]
        fn reads_loose_quotes_as_the_csv_crate_does(text in "[a\", ]{1,12}") {
            let closed = fields(&text).iter().all(|f| !f.starts_with('"'));
            if closed {
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
                let record = reader.records().next().unwrap().unwrap();
                prop_assert_eq!(fields(&text), record.iter().map(str::to_owned).collect::<Vec<_>>());
            }
        }
    }
}
