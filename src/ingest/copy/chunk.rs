//! Some thousand rows: fields are collected by columns, and become columns of the table together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryViewBuilder, BooleanArray, RecordBatch, RecordBatchOptions, StringViewArray,
    StringViewBuilder, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{filter, filter_record_batch, is_null};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};

use super::super::cast::{does_not_fit, shortened, sql_name};
use super::super::decode::BadLine;
use super::fields::Fields;
use super::format::FormatKind;
use super::{Load, binary, values};
use crate::catalog::events::TimeCheck;
use crate::error::{Error, Kind, Result};

/// Rows that were read and not written yet.
pub(super) struct Chunk {
    columns: Columns,
    /// The line that each row begins on.
    lines: Vec<i64>,
    /// The rows as they came, where they may be needed for dead letters.
    raw: Option<Raw>,
    /// Rows that could not be read.
    bad: Vec<Problem>,
    bytes: usize,
}

/// Fields, as the format has them.
enum Columns {
    Text(Vec<StringViewBuilder>),
    Binary(Vec<BinaryViewBuilder>),
}

#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    rows: Vec<Range<usize>>,
}

/// Why a row cannot be stored.
#[derive(Debug)]
pub(super) struct Problem {
    line: i64,
    kind: Kind,
    reason: String,
    /// The column and what it was given, where one is to blame.
    column: Option<(String, Given)>,
    /// The row as it came.
    payload: Option<String>,
}

/// What a column was given.
#[derive(Debug)]
enum Given {
    Text(String),
    Null,
    /// Bytes, which nobody could read in a message.
    Binary,
}

impl Problem {
    /// The error of a load that ends with it.
    pub(super) fn error(&self, table: &str) -> Error {
        let what = match (&self.column, &self.payload) {
            (Some((column, Given::Text(value))), _) => format!(", column {column}: \"{}\"", shortened(value)),
            (Some((column, Given::Null)), _) => format!(", column {column}: null input"),
            (Some((column, Given::Binary)), _) => format!(", column {column}"),
            (None, Some(row)) => format!(": \"{}\"", shortened(row)),
            (None, None) => String::new(),
        };
        Error::new(self.kind, self.reason.as_str())
            .with_place(format!("COPY {table}, line {}{what}", self.line))
    }

    pub(super) fn into_letter(self) -> BadLine {
        BadLine { line: self.line, reason: self.reason, payload: self.payload }
    }
}

impl Chunk {
    pub(super) fn new(load: &Load) -> Self {
        let columns = load.columns.iter();
        Chunk {
            columns: match load.format.kind {
                FormatKind::Binary => Columns::Binary(columns.map(|_| BinaryViewBuilder::new()).collect()),
                _ => Columns::Text(columns.map(|_| StringViewBuilder::new()).collect()),
            },
            lines: vec![],
            raw: load.ignore_errors.then(Raw::default),
            bad: vec![],
            bytes: 0,
        }
    }

    /// Rows in it, also bad ones.
    pub(super) fn rows(&self) -> usize {
        self.lines.len() + self.bad.len()
    }

    /// Bytes that they came in.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a row could not be read.
    pub(super) fn has_bad(&self) -> bool {
        !self.bad.is_empty()
    }

    /// Adds a row.
    pub(super) fn add<'a>(
        &mut self,
        record: &[u8],
        line: i64,
        fields: Result<&Fields>,
        names: &dyn Fn(usize) -> &'a str,
    ) {
        self.bytes += record.len();
        if let Err(e) = fields.and_then(|fields| self.try_add(record, fields, names)) {
            let text = matches!(self.columns, Columns::Text(_));
            let payload = text.then(|| String::from_utf8_lossy(record).into_owned());
            let reason = e.message().to_owned();
            self.bad.push(Problem { line, kind: e.kind(), reason, column: None, payload });
            return;
        }
        self.lines.push(line);
        if let Some(raw) = &mut self.raw {
            let from = raw.bytes.len();
            raw.bytes.extend_from_slice(record);
            raw.rows.push(from..raw.bytes.len());
        }
    }

    fn try_add<'a>(
        &mut self,
        record: &[u8],
        fields: &Fields,
        names: &dyn Fn(usize) -> &'a str,
    ) -> Result<()> {
        let bad = |reason: String| Err(Error::new(Kind::BadCopyFormat, reason));
        let width = match &self.columns {
            Columns::Text(columns) => columns.len(),
            Columns::Binary(columns) => columns.len(),
        };
        if fields.len() < width {
            return bad(format!("missing data for column \"{}\"", names(fields.len())));
        }
        if fields.len() > width {
            return bad("extra data after last expected column".to_owned());
        }
        match &mut self.columns {
            Columns::Text(columns) => {
                // All of a row or nothing.
                fields.values(record).try_for_each(|value| value.map(drop))?;
                for (column, value) in columns.iter_mut().zip(fields.values(record)) {
                    column.append_option(value?);
                }
            }
            Columns::Binary(columns) => {
                let pairs = columns.iter_mut().zip(fields.bytes(record));
                pairs.for_each(|(column, value)| column.append_option(value));
            }
        }
        Ok(())
    }

    /// The rows that can be stored, and what is wrong with the others, in the order of their lines.
    pub(super) fn take(
        &mut self,
        schema: &SchemaRef,
        load: &Load,
        check: &TimeCheck,
    ) -> Result<(RecordBatch, Vec<Problem>)> {
        let lines = std::mem::take(&mut self.lines);
        let raw = self.raw.as_mut().map(std::mem::take);
        let mut bad = std::mem::take(&mut self.bad);
        self.bytes = 0;
        let mut found = Found { lines: &lines, raw: raw.as_ref(), problems: BTreeMap::new() };
        let mut columns: Vec<ArrayRef> =
            schema.fields().iter().map(|f| new_null_array(f.data_type(), 0)).collect();
        let mut given = vec![false; columns.len()];
        for (i, index) in load.columns.iter().enumerate() {
            let field = schema.field(*index);
            let column = match &mut self.columns {
                Columns::Text(columns) => {
                    let (text, mut unfit) = (columns[i].finish(), vec![]);
                    let column =
                        values::read(&text, field.data_type(), &load.zone, &mut |row| unfit.push(row))?;
                    unfit.into_iter().for_each(|row| found.unfit(row, &text, field));
                    column
                }
                Columns::Binary(columns) => {
                    let bytes = columns[i].finish();
                    binary::read(&bytes, field.data_type(), &mut |row, kind| {
                        found.unfit_binary(row, kind, field)
                    })?
                }
            };
            if !field.is_nullable() && column.null_count() > 0 {
                is_null(&column)?.values().set_indices().for_each(|row| found.null(row, field));
            }
            (columns[*index], given[*index]) = (column, true);
        }
        for ((column, field), _) in
            columns.iter_mut().zip(schema.fields()).zip(given).filter(|(_, given)| !given)
        {
            *column = new_null_array(field.data_type(), lines.len());
        }
        let mut batch = Rows::new(columns, schema, lines.len())?.without(&found.problems)?;
        let late = check.bad_rows(&batch.batch);
        for row in late {
            if let Err(e) = check.check(&batch.batch.slice(row, 1)) {
                found.other(batch.origin.value(row) as usize, &e);
            }
        }
        batch = batch.without(&found.problems)?;
        bad.extend(found.problems.into_values());
        bad.sort_by_key(|problem| problem.line);
        Ok((batch.finish(schema)?, bad))
    }
}

/// What is wrong with rows of a chunk; the first reason of each counts.
struct Found<'a> {
    lines: &'a [i64],
    raw: Option<&'a Raw>,
    problems: BTreeMap<u32, Problem>,
}

impl Found<'_> {
    fn add(&mut self, row: usize, kind: Kind, reason: String, column: Option<(String, Given)>) {
        let payload =
            self.raw.map(|raw| String::from_utf8_lossy(&raw.bytes[raw.rows[row].clone()]).into_owned());
        let line = self.lines[row];
        self.problems.entry(row as u32).or_insert(Problem { line, kind, reason, column, payload });
    }

    fn unfit(&mut self, row: usize, text: &StringViewArray, field: &Field) {
        let value = text.value(row);
        let digits = value.trim().trim_start_matches(['-', '+']);
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let kind = match number && field.data_type().is_numeric() {
            true => Kind::OutOfRange,
            false => Kind::InvalidValue,
        };
        let column = Some((field.name().clone(), Given::Text(value.to_owned())));
        self.add(row, kind, does_not_fit(text, row, field), column);
    }

    fn unfit_binary(&mut self, row: usize, kind: Kind, field: &Field) {
        let (name, sql) = (field.name(), sql_name(field.data_type()));
        let reason = match kind {
            Kind::OutOfRange => format!("column '{name}': the value does not fit {sql}"),
            Kind::NotText => format!("column '{name}': invalid byte sequence for encoding \"UTF8\""),
            Kind::NotNull => format!("column '{name}': an element of the array may not be NULL"),
            _ => format!("column '{name}': incorrect binary data format for {sql}"),
        };
        self.add(row, kind, reason, Some((name.clone(), Given::Binary)));
    }

    fn null(&mut self, row: usize, field: &Field) {
        let reason = format!("column '{}' may not be NULL", field.name());
        self.add(row, Kind::NotNull, reason, Some((field.name().clone(), Given::Null)));
    }

    fn other(&mut self, row: usize, e: &Error) {
        self.add(row, e.kind(), e.message().to_owned(), None);
    }
}

/// Rows, and which row of the chunk each was.
struct Rows {
    batch: RecordBatch,
    origin: UInt32Array,
}

impl Rows {
    /// NOT NULL holds only once bad rows are gone.
    fn new(columns: Vec<ArrayRef>, schema: &SchemaRef, rows: usize) -> Result<Self> {
        let open = schema.fields().iter().zip(&columns);
        let open = open.map(|(f, c)| Field::new(f.name(), c.data_type().clone(), true)).collect::<Vec<_>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(open)), columns, &options)?;
        Ok(Rows { batch, origin: UInt32Array::from_iter_values(0..rows as u32) })
    }

    fn without(self, problems: &BTreeMap<u32, Problem>) -> Result<Self> {
        if !self.origin.values().iter().any(|row| problems.contains_key(row)) {
            return Ok(self);
        }
        let good: BooleanArray =
            self.origin.values().iter().map(|row| Some(!problems.contains_key(row))).collect();
        let origin = UInt32Array::from(filter(&self.origin, &good)?.to_data());
        Ok(Rows { batch: filter_record_batch(&self.batch, &good)?, origin })
    }

    fn finish(self, schema: &SchemaRef) -> Result<RecordBatch> {
        crate::lake::writer::conform(&self.batch, schema)
    }
}
