//! One column of a batch, ready to write any of its values.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Decimal256Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, LargeStringArray, ListArray, StringArray, StringViewArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::text::{digits, float4, float8, quote_element, quote_field};
use super::{Style, datetime, numeric, write_value};
use crate::pg::error::{Failure, state};
use crate::pg::types;

/// A column, by what PostgreSQL type its values are written as.
pub(super) enum Column {
    Null,
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    BytesView(BinaryViewArray),
    Numeric(Decimal128Array, i8),
    WideNumeric(Decimal256Array, i8),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Timestamptz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List {
        array: ListArray,
        items: Box<Column>,
        oid: u32,
        nested: bool,
    },
    Record {
        array: StructArray,
        fields: Vec<(Column, u32)>,
    },
    /// A type without a counterpart, as Arrow prints it.
    Other(ArrayRef),
}

impl Column {
    /// Prepares a column.
    pub(super) fn new(array: &ArrayRef) -> Result<Self, Failure> {
        use DataType as D;
        let usual = |to: DataType| -> Result<Column, Failure> { Column::new(&cast(array, &to)?) };
        Ok(match array.data_type() {
            D::Null => Column::Null,
            D::Boolean => Column::Bool(array.as_boolean().clone()),
            D::Int16 => Column::Int2(array.as_primitive::<Int16Type>().clone()),
            D::Int32 => Column::Int4(array.as_primitive::<Int32Type>().clone()),
            D::Int64 => Column::Int8(array.as_primitive::<Int64Type>().clone()),
            D::Float32 => Column::Float4(array.as_primitive::<Float32Type>().clone()),
            D::Float64 => Column::Float8(array.as_primitive::<Float64Type>().clone()),
            D::Utf8 => Column::Text(array.as_string().clone()),
            D::LargeUtf8 => Column::LargeText(array.as_string().clone()),
            D::Utf8View => Column::TextView(array.as_string_view().clone()),
            D::Binary => Column::Bytes(array.as_binary().clone()),
            D::BinaryView => Column::BytesView(array.as_binary_view().clone()),
            D::Decimal128(_, s) => Column::Numeric(array.as_primitive::<Decimal128Type>().clone(), *s),
            D::Decimal256(_, s) => Column::WideNumeric(array.as_primitive::<Decimal256Type>().clone(), *s),
            D::Date32 => Column::Date(array.as_primitive::<Date32Type>().clone()),
            D::Time64(TimeUnit::Microsecond) => {
                Column::Time(array.as_primitive::<Time64MicrosecondType>().clone())
            }
            D::Timestamp(TimeUnit::Microsecond, None) => {
                Column::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            D::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Column::Timestamptz(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            D::Interval(IntervalUnit::MonthDayNano) => {
                Column::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            D::List(item) => Column::List {
                array: array.as_list().clone(),
                items: Box::new(Column::new(array.as_list::<i32>().values())?),
                oid: types::of_field(item).oid(),
                nested: matches!(item.data_type(), D::List(_) | D::LargeList(_) | D::FixedSizeList(..)),
            },
            D::Struct(fields) => {
                let array = array.as_struct();
                let fields = array.columns().iter().zip(fields);
                let fields = fields.map(|(a, f)| Ok((Column::new(a)?, types::of_field(f).oid())));
                Column::Record { fields: fields.collect::<Result<_, Failure>>()?, array: array.clone() }
            }
            D::Int8 | D::UInt8 => usual(D::Int16)?,
            D::UInt16 => usual(D::Int32)?,
            D::UInt32 => usual(D::Int64)?,
            D::UInt64 => usual(D::Decimal128(20, 0))?,
            D::Float16 => usual(D::Float32)?,
            D::Decimal32(p, s) | D::Decimal64(p, s) => usual(D::Decimal128(*p, *s))?,
            D::FixedSizeBinary(_) | D::LargeBinary => usual(D::BinaryView)?,
            D::Date64 => usual(D::Date32)?,
            D::Time32(_) | D::Time64(_) => usual(D::Time64(TimeUnit::Microsecond))?,
            D::Timestamp(_, zone) => usual(D::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
            D::Interval(_) | D::Duration(_) => usual(D::Interval(IntervalUnit::MonthDayNano))?,
            D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item) => {
                usual(D::List(item.clone()))?
            }
            D::Dictionary(_, values) => usual((**values).clone())?,
            D::RunEndEncoded(_, values) => usual(values.data_type().clone())?,
            D::Map(..) | D::Union(..) => Column::Other(array.clone()),
        })
    }

    fn array(&self) -> Option<&dyn Array> {
        Some(match self {
            Column::Null => return None,
            Column::Bool(a) => a,
            Column::Int2(a) => a,
            Column::Int4(a) => a,
            Column::Int8(a) => a,
            Column::Float4(a) => a,
            Column::Float8(a) => a,
            Column::Text(a) => a,
            Column::LargeText(a) => a,
            Column::TextView(a) => a,
            Column::Bytes(a) => a,
            Column::BytesView(a) => a,
            Column::Numeric(a, _) => a,
            Column::WideNumeric(a, _) => a,
            Column::Date(a) => a,
            Column::Time(a) => a,
            Column::Timestamp(a) | Column::Timestamptz(a) => a,
            Column::Interval(a) => a,
            Column::List { array, .. } => array,
            Column::Record { array, .. } => array,
            Column::Other(a) => a,
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array().is_none_or(|a| a.is_null(row))
    }

    /// Writes a value that is not NULL as text.
    pub(super) fn text(&self, row: usize, style: Style, out: &mut BytesMut) -> Result<(), Failure> {
        match self {
            Column::Null => {}
            Column::Bool(a) => out.put_u8(if a.value(row) { b't' } else { b'f' }),
            Column::Int2(a) => digits(i64::from(a.value(row)), out),
            Column::Int4(a) => digits(i64::from(a.value(row)), out),
            Column::Int8(a) => digits(a.value(row), out),
            Column::Float4(a) => float4(a.value(row), out),
            Column::Float8(a) => float8(a.value(row), out),
            Column::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Column::LargeText(a) => out.put_slice(a.value(row).as_bytes()),
            Column::TextView(a) => out.put_slice(a.value(row).as_bytes()),
            Column::Bytes(a) => hex(a.value(row), out),
            Column::BytesView(a) => hex(a.value(row), out),
            Column::Numeric(a, scale) => numeric::text(a.value(row), *scale, out),
            Column::WideNumeric(a, scale) => numeric::text(a.value(row), *scale, out),
            Column::Date(a) => datetime::date_text(a.value(row), out)?,
            Column::Time(a) => datetime::time_text(a.value(row), out),
            Column::Timestamp(a) => datetime::timestamp_text(a.value(row), out)?,
            Column::Timestamptz(a) => datetime::timestamptz_text(a.value(row), style.zone, out)?,
            Column::Interval(a) => datetime::interval_text(a.value(row), out),
            Column::List { array, items, nested, .. } => {
                out.put_u8(b'{');
                for (n, i) in range(array, row).enumerate() {
                    if n > 0 {
                        out.put_u8(b',');
                    }
                    if items.is_null(i) {
                        out.put_slice(b"NULL");
                        continue;
                    }
                    let start = out.len();
                    items.text(i, style, out)?;
                    if !nested {
                        quote_element(out, start);
                    }
                }
                out.put_u8(b'}');
            }
            Column::Record { fields, .. } => {
                out.put_u8(b'(');
                for (n, (field, _)) in fields.iter().enumerate() {
                    if n > 0 {
                        out.put_u8(b',');
                    }
                    if !field.is_null(row) {
                        let start = out.len();
                        field.text(row, style, out)?;
                        quote_field(out, start);
                    }
                }
                out.put_u8(b')');
            }
            Column::Other(a) => {
                let formatter = ArrayFormatter::try_new(a, &FormatOptions::default())?;
                out.put_slice(formatter.value(row).to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// Writes a value that is not NULL in binary form.
    pub(super) fn binary(&self, row: usize, style: Style, out: &mut BytesMut) -> Result<(), Failure> {
        match self {
            Column::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Column::Int2(a) => out.put_i16(a.value(row)),
            Column::Int4(a) => out.put_i32(a.value(row)),
            Column::Int8(a) => out.put_i64(a.value(row)),
            Column::Float4(a) => out.put_f32(a.value(row)),
            Column::Float8(a) => out.put_f64(a.value(row)),
            Column::Bytes(a) => out.put_slice(a.value(row)),
            Column::BytesView(a) => out.put_slice(a.value(row)),
            Column::Numeric(a, scale) => numeric::binary(a.value(row), *scale, out)?,
            Column::WideNumeric(a, scale) => numeric::binary(a.value(row), *scale, out)?,
            Column::Date(a) => datetime::date_binary(a.value(row), out)?,
            Column::Time(a) => out.put_i64(a.value(row)),
            Column::Timestamp(a) | Column::Timestamptz(a) => datetime::timestamp_binary(a.value(row), out)?,
            Column::Interval(a) => datetime::interval_binary(a.value(row), out),
            Column::List { nested: true, .. } => {
                return Err(Failure::new(
                    state::NOT_SUPPORTED,
                    "arrays of several dimensions have no binary form here",
                )
                .with_hint("ask for the result in text format"));
            }
            Column::List { array, items, oid, .. } => {
                let range = range(array, row);
                let nulls = range.clone().any(|i| items.is_null(i));
                out.put_i32(i32::from(!range.is_empty()));
                out.put_i32(i32::from(nulls));
                out.put_u32(*oid);
                if !range.is_empty() {
                    out.put_i32(range.len() as i32);
                    out.put_i32(1);
                }
                for i in range {
                    write_value(items, i, true, style, out)?;
                }
            }
            Column::Record { fields, .. } => {
                out.put_i32(fields.len() as i32);
                for (field, oid) in fields {
                    out.put_u32(*oid);
                    write_value(field, row, true, style, out)?;
                }
            }
            // Text is the same in both forms.
            Column::Null
            | Column::Text(_)
            | Column::LargeText(_)
            | Column::TextView(_)
            | Column::Other(_) => {
                self.text(row, style, out)?;
            }
        }
        Ok(())
    }
}

/// Where the items of a list stand.
fn range(array: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = array.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn hex(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}
