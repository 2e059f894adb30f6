//! The keys of a sketch's counters: a 64-bit integer, or a string of bytes.

use std::cmp::Ordering;
use std::fmt::Debug;

use datafusion::arrow::array::{ArrayRef, BinaryViewBuilder};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;

use crate::sketch::bytes::Reader;
use crate::sketch::item::{ItemType, Strings};

/// A key as it stands in a counter. What does not fit there is kept in an arena beside the counters.
pub(crate) trait Key: Copy + Default + Debug + Send + Sync + 'static {
    /// An item as it is given to a sketch.
    type Item<'a>: Copy;
    /// A column of items.
    type Column: Send;
    /// A column of items that grows.
    type Builder: Default;

    /// The items of a column.
    fn column(item: ItemType, array: &ArrayRef) -> Result<Self::Column>;
    fn get(column: &Self::Column, row: usize) -> Self::Item<'_>;

    fn hash(item: Self::Item<'_>) -> u64;
    fn is(self, item: Self::Item<'_>, arena: &[u8]) -> bool;
    /// The key of a new item.
    fn intern(item: Self::Item<'_>, arena: &mut Vec<u8>) -> Self;
    fn item<'a>(self, arena: &'a [u8]) -> Self::Item<'a>;
    /// Bytes of the arena that this key holds.
    fn arena_bytes(self) -> usize;

    /// As Apache DataSketches writes an item of this form.
    fn write(item: Self::Item<'_>, out: &mut Vec<u8>);
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Self::Item<'a>>;

    fn order(item_type: ItemType, a: Self::Item<'_>, b: Self::Item<'_>) -> Ordering;

    /// Adds an item to a column of results.
    fn append(column: &mut Self::Builder, item: Self::Item<'_>);
    /// The column of results, as type `wanted`.
    fn finish(column: Self::Builder, item_type: ItemType, wanted: &DataType) -> Result<ArrayRef>;
}

/// Spreads two words over one: the halves of their 128-bit product, folded together (the mixing step of wyhash).
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xE703_7ED1_A0B4_28DB);
    (product >> 64) as u64 ^ product as u64
}

impl Key for i64 {
    type Item<'a> = i64;
    type Column = ScalarBuffer<i64>;
    type Builder = Vec<i64>;

    fn column(item: ItemType, array: &ArrayRef) -> Result<Self::Column> {
        item.longs(array)
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> i64 {
        column[row]
    }

    #[inline]
    fn hash(item: i64) -> u64 {
        fold(item as u64, 0)
    }

    #[inline]
    fn is(self, item: i64, _: &[u8]) -> bool {
        self == item
    }

    fn intern(item: i64, _: &mut Vec<u8>) -> Self {
        item
    }

    #[inline]
    fn item(self, _: &[u8]) -> i64 {
        self
    }

    fn arena_bytes(self) -> usize {
        0
    }

    fn write(item: i64, out: &mut Vec<u8>) {
        out.extend(item.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<i64> {
        Ok(reader.u64("an item")? as i64)
    }

    fn order(item_type: ItemType, a: i64, b: i64) -> Ordering {
        item_type.order_longs(a, b)
    }

    fn append(column: &mut Vec<i64>, item: i64) {
        column.push(item);
    }

    fn finish(column: Vec<i64>, item_type: ItemType, wanted: &DataType) -> Result<ArrayRef> {
        item_type.longs_to_column(column, wanted)
    }
}

/// A string of bytes in two words: its length (32 bits) and its first 12 bytes; of a longer one the length, 4 bytes and
/// where the whole string stands in the arena. The first form is that of Arrow's views.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Text {
    low: u64,
    high: u64,
}

/// A string of bytes as it is given to a sketch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextItem<'a> {
    low: u64,
    /// Bytes 4 to 12 of a short string.
    high: u64,
    /// The whole of a long string.
    long: &'a [u8],
}

/// The longest string that stands in its key.
const SHORT: usize = 12;

impl<'a> TextItem<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut words = [0; 16];
        words[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        let long = match bytes.len() {
            0..=SHORT => {
                words[4..4 + bytes.len()].copy_from_slice(bytes);
                &[]
            }
            _ => {
                words[4..8].copy_from_slice(&bytes[..4]);
                bytes
            }
        };
        let view = u128::from_le_bytes(words);
        TextItem { low: view as u64, high: (view >> 64) as u64, long }
    }
}

/// The bytes of a string, also where they are in the words themselves.
fn with_bytes<T>(item: TextItem<'_>, f: impl FnOnce(&[u8]) -> T) -> T {
    if !item.long.is_empty() {
        return f(item.long);
    }
    let words = (u128::from(item.high) << 64 | u128::from(item.low)).to_le_bytes();
    f(&words[4..4 + (item.low as u32 as usize).min(SHORT)])
}

impl Key for Text {
    type Item<'a> = TextItem<'a>;
    type Column = Strings;
    type Builder = BinaryViewBuilder;

    fn column(item: ItemType, array: &ArrayRef) -> Result<Self::Column> {
        item.strings(array)
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> TextItem<'_> {
        let (view, long) = column.get(row);
        TextItem { low: view as u64, high: if long.is_empty() { (view >> 64) as u64 } else { 0 }, long }
    }

    #[inline]
    fn hash(item: TextItem<'_>) -> u64 {
        let mut hash = fold(item.low, item.high);
        let (words, rest) = item.long.as_chunks::<16>();
        for word in words {
            let word = u128::from_le_bytes(*word);
            hash = fold(hash ^ word as u64, (word >> 64) as u64);
        }
        if !rest.is_empty() {
            let mut last = [0; 16];
            last[..rest.len()].copy_from_slice(rest);
            let last = u128::from_le_bytes(last);
            hash = fold(hash ^ last as u64, (last >> 64) as u64);
        }
        hash
    }

    #[inline]
    fn is(self, item: TextItem<'_>, arena: &[u8]) -> bool {
        if self.low != item.low {
            return false;
        }
        match item.long.len() {
            0 => self.high == item.high,
            length => arena.get(self.high as usize..self.high as usize + length) == Some(item.long),
        }
    }

    fn intern(item: TextItem<'_>, arena: &mut Vec<u8>) -> Self {
        if item.long.is_empty() {
            return Text { low: item.low, high: item.high };
        }
        let at = arena.len() as u64;
        arena.extend(item.long);
        Text { low: item.low, high: at }
    }

    #[inline]
    fn item<'a>(self, arena: &'a [u8]) -> TextItem<'a> {
        match self.arena_bytes() {
            0 => TextItem { low: self.low, high: self.high, long: &[] },
            length => {
                let long = arena.get(self.high as usize..self.high as usize + length).unwrap_or_default();
                TextItem { low: self.low, high: 0, long }
            }
        }
    }

    fn arena_bytes(self) -> usize {
        match self.low as u32 as usize {
            0..=SHORT => 0,
            length => length,
        }
    }

    fn write(item: TextItem<'_>, out: &mut Vec<u8>) {
        out.extend((item.low as u32).to_le_bytes());
        with_bytes(item, |bytes| out.extend(bytes));
    }

    fn read<'a>(reader: &mut Reader<'a>) -> Result<TextItem<'a>> {
        let length = reader.u32("the length of an item")?;
        Ok(TextItem::new(reader.take(length as usize, "an item")?))
    }

    fn order(_: ItemType, a: TextItem<'_>, b: TextItem<'_>) -> Ordering {
        with_bytes(a, |a| with_bytes(b, |b| a.cmp(b)))
    }

    fn append(column: &mut BinaryViewBuilder, item: TextItem<'_>) {
        with_bytes(item, |bytes| column.append_value(bytes));
    }

    fn finish(mut column: BinaryViewBuilder, item_type: ItemType, wanted: &DataType) -> Result<ArrayRef> {
        item_type.strings_to_column(column.finish(), wanted)
    }
}
