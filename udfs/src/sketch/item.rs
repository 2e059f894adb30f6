//! Items: what a sketch counts.
//!
//! Every type of item is one of two things to a sketch: a 64-bit integer or a string of bytes. Integers of every width,
//! booleans, dates, timestamps and short decimals are the first, as DataSketches' sketches of longs; strings, binary and
//! long decimals are the second.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::types::{Decimal128Type, Int64Type, UInt64Type};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanArray, Int64Array, PrimitiveArray,
};
use datafusion::arrow::buffer::{Buffer, ScalarBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;

/// Numbers of more digits than this do not fit 64 bits.
const SHORT_DECIMAL: u8 = 18;

/// How a sketch holds an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A 64-bit integer.
    Long,
    /// A string of bytes.
    Bytes,
}

/// The type of a sketch's items, as its bytes name it: without what does not change the item itself, such as a
/// dictionary, a time zone or the layout of a string column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemType {
    code: u8,
    /// Precision of a decimal, unit of a timestamp.
    detail: u8,
    /// Scale of a decimal.
    scale: i8,
}

/// The codes of the types; they are stored and never change.
mod code {
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const INT8: u8 = 2;
    pub(super) const INT16: u8 = 3;
    pub(super) const INT32: u8 = 4;
    pub(super) const INT64: u8 = 5;
    pub(super) const UINT8: u8 = 6;
    pub(super) const UINT16: u8 = 7;
    pub(super) const UINT32: u8 = 8;
    pub(super) const UINT64: u8 = 9;
    pub(super) const DATE32: u8 = 10;
    pub(super) const DATE64: u8 = 11;
    pub(super) const TIMESTAMP: u8 = 12;
    pub(super) const DECIMAL: u8 = 13;
    pub(super) const STRING: u8 = 14;
    pub(super) const BINARY: u8 = 15;
}

const UNITS: [TimeUnit; 4] =
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

/// The type of column that items of type `t` come in: of a dictionary, that of its values.
pub(crate) fn item_column_type(t: &DataType) -> &DataType {
    match t {
        DataType::Dictionary(_, values) => item_column_type(values),
        other => other,
    }
}

/// The column type that items are read as.
pub(crate) fn plain_item(t: &DataType) -> DataType {
    match item_column_type(t) {
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        other => other.clone(),
    }
}

impl ItemType {
    /// Fails where items of this type cannot be counted; `function` is for the message.
    pub(crate) fn try_new(t: &DataType, function: &str) -> Result<Self> {
        let plain = |code| Ok(ItemType { code, detail: 0, scale: 0 });
        match item_column_type(t) {
            DataType::Boolean => plain(code::BOOLEAN),
            DataType::Int8 => plain(code::INT8),
            DataType::Int16 => plain(code::INT16),
            DataType::Int32 => plain(code::INT32),
            DataType::Int64 => plain(code::INT64),
            DataType::UInt8 => plain(code::UINT8),
            DataType::UInt16 => plain(code::UINT16),
            DataType::UInt32 => plain(code::UINT32),
            DataType::UInt64 => plain(code::UINT64),
            DataType::Date32 => plain(code::DATE32),
            DataType::Date64 => plain(code::DATE64),
            DataType::Timestamp(unit, _) => {
                let unit = UNITS.iter().position(|u| u == unit).unwrap_or_default() as u8;
                Ok(ItemType { code: code::TIMESTAMP, detail: unit, scale: 0 })
            }
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                Ok(ItemType { code: code::DECIMAL, detail: *p, scale: *s })
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => plain(code::STRING),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => plain(code::BINARY),
            other => plan_err!(
                "{function} cannot count items of type {other}: cast them to an integer, a DECIMAL or a string"
            ),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; 3] {
        [self.code, self.detail, self.scale as u8]
    }

    pub(crate) fn from_bytes([code, detail, scale]: [u8; 3]) -> Result<Self> {
        let scale = scale as i8;
        let known = match code {
            code::TIMESTAMP => usize::from(detail) < UNITS.len() && scale == 0,
            code::DECIMAL => (1..=38).contains(&detail) && scale.unsigned_abs() <= detail,
            code::BOOLEAN..=code::BINARY => detail == 0 && scale == 0,
            _ => false,
        };
        if !known {
            return exec_err!(
                "the sketch is corrupt: it has items of the unknown type {code}/{detail}/{scale}"
            );
        }
        Ok(ItemType { code, detail, scale })
    }

    pub(crate) fn form(self) -> Form {
        match self.code {
            code::STRING | code::BINARY => Form::Bytes,
            code::DECIMAL if self.detail > SHORT_DECIMAL => Form::Bytes,
            _ => Form::Long,
        }
    }

    /// The column type that holds these items in the first place.
    fn column_type(self) -> DataType {
        match self.code {
            code::BOOLEAN => DataType::Boolean,
            code::INT8 => DataType::Int8,
            code::INT16 => DataType::Int16,
            code::INT32 => DataType::Int32,
            code::INT64 => DataType::Int64,
            code::UINT8 => DataType::UInt8,
            code::UINT16 => DataType::UInt16,
            code::UINT32 => DataType::UInt32,
            code::UINT64 => DataType::UInt64,
            code::DATE32 => DataType::Date32,
            code::DATE64 => DataType::Date64,
            code::TIMESTAMP => {
                let unit = UNITS.get(usize::from(self.detail)).copied().unwrap_or(TimeUnit::Microsecond);
                DataType::Timestamp(unit, None)
            }
            code::DECIMAL => DataType::Decimal128(self.detail, self.scale),
            code::STRING => DataType::Utf8View,
            _ => DataType::BinaryView,
        }
    }

    /// The order of two items that are held as integers.
    pub(crate) fn order_longs(self, a: i64, b: i64) -> Ordering {
        match self.code {
            code::UINT64 => (a as u64).cmp(&(b as u64)),
            _ => a.cmp(&b),
        }
    }

    /// The integers of a column of such items. Positions that are null hold anything.
    pub(crate) fn longs(self, column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
        let column = self.of_this_type(column)?;
        if let Some(unsigned) = column.as_primitive_opt::<UInt64Type>() {
            return Ok(ScalarBuffer::from(unsigned.values().inner().clone()));
        }
        if let Some(decimal) = column.as_primitive_opt::<Decimal128Type>() {
            return Ok(decimal.values().iter().map(|v| *v as i64).collect());
        }
        let longs = match column.data_type() {
            DataType::Date32 => cast(&cast(&column, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(&column, &DataType::Int64)?,
        };
        Ok(longs.as_primitive::<Int64Type>().values().clone())
    }

    /// The strings of a column of such items.
    pub(crate) fn strings(self, column: &ArrayRef) -> Result<Strings> {
        let column = self.of_this_type(column)?;
        let column = match column.as_primitive_opt::<Decimal128Type>() {
            Some(decimal) => {
                let mut builder = BinaryViewBuilder::with_capacity(decimal.len());
                decimal.values().iter().for_each(|v| builder.append_value(sortable(*v)));
                Arc::new(builder.finish()) as ArrayRef
            }
            None => column,
        };
        let (views, buffers) = match column.as_string_view_opt() {
            Some(strings) => (strings.views().clone(), strings.data_buffers().to_vec()),
            None => {
                let binary = column.as_binary_view_opt().ok_or_else(|| {
                    exec_datafusion_err!("expected strings of bytes, got {}", column.data_type())
                })?;
                (binary.views().clone(), binary.data_buffers().to_vec())
            }
        };
        Ok(Strings { views, buffers })
    }

    fn of_this_type(self, column: &ArrayRef) -> Result<ArrayRef> {
        // A time zone is not part of an item; a cast would take it for one.
        let column = match column.data_type() {
            DataType::Timestamp(unit, Some(_)) => {
                cast(&cast(column, &DataType::Int64)?, &DataType::Timestamp(*unit, None))?
            }
            _ => Arc::clone(column),
        };
        cast(&column, &self.column_type())
    }

    /// A column of type `wanted` of items that are held as integers.
    pub(crate) fn longs_to_column(self, items: Vec<i64>, wanted: &DataType) -> Result<ArrayRef> {
        let column: ArrayRef = match self.column_type() {
            DataType::Boolean => Arc::new(items.iter().map(|v| Some(*v != 0)).collect::<BooleanArray>()),
            DataType::UInt64 => {
                Arc::new(PrimitiveArray::<UInt64Type>::new(ScalarBuffer::from(Buffer::from_vec(items)), None))
            }
            DataType::Decimal128(p, s) => {
                let values: ScalarBuffer<i128> = items.iter().map(|v| i128::from(*v)).collect();
                Arc::new(PrimitiveArray::<Decimal128Type>::new(values, None).with_precision_and_scale(p, s)?)
            }
            DataType::Date32 => {
                let days = cast(&(Arc::new(Int64Array::from(items)) as ArrayRef), &DataType::Int32)?;
                cast(&days, &DataType::Date32)?
            }
            other => cast(&(Arc::new(Int64Array::from(items)) as ArrayRef), &other)?,
        };
        to_declared(&column, wanted)
    }

    /// A column of type `wanted` of items that are held as strings of bytes.
    pub(crate) fn strings_to_column(self, strings: BinaryViewArray, wanted: &DataType) -> Result<ArrayRef> {
        let column: ArrayRef = match self.column_type() {
            DataType::Decimal128(p, s) => {
                let values = strings.iter().map(|v| from_sortable(v.unwrap_or_default()));
                let values = values.collect::<Result<ScalarBuffer<i128>>>()?;
                Arc::new(PrimitiveArray::<Decimal128Type>::new(values, None).with_precision_and_scale(p, s)?)
            }
            // Checks that what should be text is UTF-8.
            canonical => cast(&(Arc::new(strings) as ArrayRef), &canonical)?,
        };
        to_declared(&column, wanted)
    }
}

impl std::fmt::Display for ItemType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.column_type())
    }
}

/// What a table kept as another type than it was made of, such as an unsigned integer as a wider signed one.
fn to_declared(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match wanted {
        DataType::Timestamp(unit, Some(_)) => {
            let instants = cast(&cast(column, &DataType::Timestamp(*unit, None))?, &DataType::Int64)?;
            cast(&instants, wanted)
        }
        _ => cast(column, wanted),
    }
}

/// A cast that fails where a value does not fit.
pub(crate) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    Ok(cast_with_options(column, to, &strict)?)
}

/// Sixteen bytes whose order is that of the numbers.
fn sortable(value: i128) -> [u8; 16] {
    (value ^ i128::MIN).to_be_bytes()
}

fn from_sortable(bytes: &[u8]) -> Result<i128> {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(i128::from_be_bytes(bytes) ^ i128::MIN),
        Err(_) => exec_err!("the sketch is corrupt: a DECIMAL item has {} bytes, not 16", bytes.len()),
    }
}

/// A column of strings of bytes, as Arrow's views: the bytes themselves where there are at most 12.
#[derive(Debug, Clone)]
pub(crate) struct Strings {
    views: ScalarBuffer<u128>,
    buffers: Vec<Buffer>,
}

impl Strings {
    /// The view and, where the string is longer than a view, its bytes.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> (u128, &[u8]) {
        let view = self.views[row];
        let length = view as u32 as usize;
        if length <= 12 {
            return (view, &[]);
        }
        let (buffer, offset) = ((view >> 64) as u32 as usize, (view >> 96) as u32 as usize);
        (view, &self.buffers[buffer][offset..offset + length])
    }
}

impl Strings {
    /// Hands on the bytes of one string, also where they stand in the view itself.
    pub(crate) fn with_bytes<T>(&self, row: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        let (view, long) = self.get(row);
        match long.is_empty() {
            true => f(&view.to_le_bytes()[4..4 + (view as u32 as usize).min(12)]),
            false => f(long),
        }
    }
}

/// A column of items as the bytes that are hashed: the 8 bytes of an integer, or a string.
pub(crate) enum ItemBytes {
    Longs(ScalarBuffer<i64>),
    Strings(Strings),
}

impl ItemBytes {
    pub(crate) fn new(item: ItemType, column: &ArrayRef) -> Result<Self> {
        Ok(match item.form() {
            Form::Long => ItemBytes::Longs(item.longs(column)?),
            Form::Bytes => ItemBytes::Strings(item.strings(column)?),
        })
    }

    #[inline]
    pub(crate) fn with<T>(&self, row: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            ItemBytes::Longs(longs) => f(&longs[row].to_le_bytes()),
            ItemBytes::Strings(strings) => strings.with_bytes(row, f),
        }
    }
}
