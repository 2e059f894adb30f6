//! Rows in the formats of COPY, each a `CopyData` message.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;

use super::column::Column;
use super::{Style, set_length, write_value};
use crate::ingest::copy::format::{Format, FormatKind, Header, SIGNATURE};
use crate::pg::error::Failure;

/// Writes rows in one format.
pub(in crate::pg) struct Encoder<'a> {
    format: &'a Format,
    style: Style,
    begun: bool,
}

/// A batch that is ready to be written row by row.
pub(in crate::pg) struct CopyRows {
    columns: Vec<Column>,
    count: usize,
}

impl CopyRows {
    /// How many there are.
    pub(in crate::pg) fn len(&self) -> usize {
        self.count
    }
}

impl<'a> Encoder<'a> {
    pub(in crate::pg) fn new(format: &'a Format, style: Style) -> Self {
        Encoder { format, style, begun: false }
    }

    /// Writes what stands in front of the rows.
    pub(in crate::pg) fn begin(&self, schema: &Schema, out: &mut BytesMut) -> Result<(), Failure> {
        match self.format.kind {
            FormatKind::Binary => Ok(()),
            _ if self.format.header == Header::None => Ok(()),
            _ => message(out, |out| {
                for (i, field) in schema.fields().iter().enumerate() {
                    if i > 0 {
                        out.put_u8(self.format.delimiter);
                    }
                    let start = out.len();
                    out.put_slice(field.name().as_bytes());
                    self.escape(out, start, false, schema.fields().len() == 1);
                }
                out.put_u8(b'\n');
                Ok(())
            }),
        }
    }

    /// Prepares a batch.
    pub(in crate::pg) fn rows(&self, batch: &RecordBatch) -> Result<CopyRows, Failure> {
        let columns = batch.columns().iter().map(Column::new).collect::<Result<_, _>>()?;
        Ok(CopyRows { columns, count: batch.num_rows() })
    }

    /// Writes a row; nothing is written when a value cannot be.
    pub(in crate::pg) fn write(
        &mut self,
        rows: &CopyRows,
        row: usize,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        message(out, |out| {
            if self.format.kind == FormatKind::Binary {
                self.sign(out);
                out.put_i16(rows.columns.len() as i16);
                return rows.columns.iter().try_for_each(|c| write_value(c, row, true, self.style, out));
            }
            for (i, column) in rows.columns.iter().enumerate() {
                if i > 0 {
                    out.put_u8(self.format.delimiter);
                }
                if column.is_null(row) {
                    out.put_slice(self.format.null.as_bytes());
                    continue;
                }
                let start = out.len();
                column.text(row, self.style, out)?;
                let forced = self.format.force_quote.get(i) == Some(&true);
                self.escape(out, start, forced, rows.columns.len() == 1);
            }
            out.put_u8(b'\n');
            Ok(())
        })
    }

    /// Writes what stands behind the rows.
    pub(in crate::pg) fn end(&mut self, out: &mut BytesMut) -> Result<(), Failure> {
        match self.format.kind {
            FormatKind::Binary => message(out, |out| {
                self.sign(out);
                out.put_i16(-1);
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    /// Writes what a copy in binary begins with, once: the signature, no flags, no extension. It is in one message with what
    /// follows it, as there are drivers that take each message for a row.
    fn sign(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            out.put_slice(SIGNATURE);
            out.put_u64(0);
        }
    }

    /// Escapes or quotes the value that begins at `start`.
    fn escape(&self, out: &mut BytesMut, start: usize, forced: bool, alone: bool) {
        match self.format.kind {
            FormatKind::Csv => self.quote(out, start, forced, alone),
            _ => self.backslash(out, start),
        }
    }

    fn backslash(&self, out: &mut BytesMut, start: usize) {
        let delimiter = self.format.delimiter;
        let escaped = |byte: u8| match byte {
            8 => Some(b'b'),
            9 => Some(b't'),
            10 => Some(b'n'),
            11 => Some(b'v'),
            12 => Some(b'f'),
            13 => Some(b'r'),
            b'\\' => Some(b'\\'),
            byte if byte == delimiter => Some(byte),
            _ => None,
        };
        let Some(first) = out[start..].iter().position(|byte| escaped(*byte).is_some()) else { return };
        for byte in out.split_off(start + first) {
            match escaped(byte) {
                Some(letter) => out.put_slice(&[b'\\', letter]),
                None => out.put_u8(byte),
            }
        }
    }

    fn quote(&self, out: &mut BytesMut, start: usize, forced: bool, alone: bool) {
        let Format { delimiter, quote, escape, .. } = *self.format;
        let text = &out[start..];
        let special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        // A lone \. would end the data.
        let needed = text == self.format.null.as_bytes() || (alone && text == b"\\.");
        if !forced && !needed && !text.iter().any(special) {
            return;
        }
        let text = out.split_off(start);
        out.put_u8(quote);
        for byte in text {
            if byte == quote || byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(quote);
    }
}

/// A `CopyData` message; nothing of it stays when its body cannot be written.
fn message(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let start = out.len();
    out.put_u8(b'd');
    out.put_i32(0);
    let written = body(out).and_then(|()| set_length(out, start + 1, out.len() - start - 1));
    if written.is_err() {
        out.truncate(start);
    }
    written
}
