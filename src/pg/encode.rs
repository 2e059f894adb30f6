//! Result rows: record batches into `DataRow` messages, text or binary, straight into the connection's buffer.
//!
//! A batch is prepared column by column (types and downcasts are settled once), then written row by row. Arrow has
//! many types for one PostgreSQL type; a rare one is cast to the usual one first, so that there is one way to write
//! each PostgreSQL type.

mod column;
pub(super) mod copy;
mod datetime;
mod numeric;
mod text;

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use chrono_tz::Tz;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::data::{FieldDescription, NoData, RowDescription};

use self::column::Column;
use super::error::{Failure, state};
use super::types;

/// Formats of columns as Bind has them: none (text), one for all, or one each.
#[derive(Debug, Clone, Default)]
pub(super) struct Formats(pub(super) Vec<i16>);

impl Formats {
    /// Whether a column is to be binary.
    pub(super) fn binary(&self, column: usize) -> bool {
        match self.0.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(column) == Some(&1),
        }
    }

    /// Codes are 0 and 1, and as many as there are columns.
    pub(super) fn check(&self, columns: usize, what: &str) -> Result<(), Failure> {
        if let Some(code) = self.0.iter().find(|c| !matches!(c, 0 | 1)) {
            return Err(Failure::new(
                state::INVALID_PARAMETER_VALUE,
                format!("unsupported format code: {code}"),
            ));
        }
        if self.0.len() > 1 && self.0.len() != columns {
            return Err(Failure::new(
                state::PROTOCOL_VIOLATION,
                format!("bind message has {} {what} formats but there are {columns}", self.0.len()),
            ));
        }
        Ok(())
    }
}

/// The description of a result's columns; `NoData` when it has none.
pub(super) fn description(schema: Option<&Schema>, formats: &Formats) -> Backend {
    let Some(schema) = schema else { return Backend::NoData(NoData::new()) };
    let fields = schema.fields().iter().enumerate().map(|(i, field)| {
        let ty = types::of_field(field);
        FieldDescription::new(
            field.name().clone(),
            0,
            0,
            ty.oid(),
            types::width(&ty),
            types::modifier(field.data_type()),
            i16::from(formats.binary(i)),
        )
    });
    Backend::RowDescription(RowDescription::new(fields.collect()))
}

/// How values are written: what the session's settings say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// The zone of timestamps with time zone, in text form.
    pub(super) zone: Tz,
}

/// A batch that is ready to be written row by row.
pub(super) struct Rows {
    columns: Vec<(Column, bool)>,
    count: usize,
    style: Style,
}

impl Rows {
    /// Prepares a batch. The client was told of the types in `described`, so a column of another PostgreSQL type is
    /// cast to what was told.
    pub(super) fn new(
        batch: &RecordBatch,
        described: &Schema,
        formats: &Formats,
        style: Style,
    ) -> Result<Self, Failure> {
        if batch.num_columns() != described.fields().len() {
            return Err(Failure::new("0A000", "cached plan must not change result type"));
        }
        let columns = batch.columns().iter().zip(batch.schema_ref().fields()).zip(described.fields());
        let columns = columns.enumerate().map(|(i, ((array, field), told))| {
            let binary = formats.binary(i);
            let mut array = as_told(array, field, told)?;
            if !binary && types::is_vector(told) {
                array = spaced(&array)?;
            }
            Ok((Column::new(&array)?, binary))
        });
        Ok(Rows { columns: columns.collect::<Result<_, Failure>>()?, count: batch.num_rows(), style })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds the `DataRow` of a row; nothing is added when a value cannot be written.
    pub(super) fn write(&self, row: usize, out: &mut BytesMut) -> Result<(), Failure> {
        let start = out.len();
        let result = self.write_row(row, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn write_row(&self, row: usize, out: &mut BytesMut) -> Result<(), Failure> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        out.put_i16(self.columns.len() as i16);
        for (column, binary) in &self.columns {
            write_value(column, row, *binary, self.style, out)?;
        }
        // The length counts itself and not the type.
        set_length(out, start + 1, out.len() - start - 1)
    }
}

/// Writes a value with its length in front.
fn write_value(
    column: &Column,
    row: usize,
    binary: bool,
    style: Style,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    if column.is_null(row) {
        out.put_i32(-1);
        return Ok(());
    }
    let start = out.len();
    out.put_i32(0);
    match binary {
        true => column.binary(row, style, out)?,
        false => column.text(row, style, out)?,
    }
    set_length(out, start, out.len() - start - 4)
}

fn set_length(out: &mut BytesMut, at: usize, length: usize) -> Result<(), Failure> {
    let length = i32::try_from(length)
        .map_err(|_| Failure::new("54000", "a row or value is larger than the protocol can carry (2 GB)"))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The column as the client expects it.
fn as_told(array: &ArrayRef, field: &Field, told: &Field) -> Result<ArrayRef, Failure> {
    if types::of_field(field).oid() == types::of_field(told).oid() {
        return Ok(Arc::clone(array));
    }
    // A parameter of unknown type was told as text.
    let target = match told.data_type() {
        DataType::Null => &DataType::Utf8,
        other => other,
    };
    Ok(cast(array, target)?)
}

/// The catalog's vectors as texts: numbers with spaces between.
fn spaced(lists: &ArrayRef) -> Result<ArrayRef, Failure> {
    let lists = cast(lists, &DataType::new_list(DataType::Utf8, true))?;
    let texts = lists.as_list::<i32>().iter().map(|numbers| {
        let numbers = numbers?;
        Some(numbers.as_string::<i32>().iter().flatten().collect::<Vec<_>>().join(" "))
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests;
