//! Columns of PostgreSQL's binary values into columns of the table's types. A value has to be of its column's own type, as in
//! PostgreSQL.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryViewArray, BinaryViewBuilder, BooleanArray, ListArray,
    PrimitiveArray, StringViewBuilder,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};

use super::tuples::number;
use crate::error::{Error, Kind, Result};

/// From 1970-01-01, where days and microseconds begin, to PostgreSQL's 2000-01-01.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

/// Whether values of a type can be read.
pub(super) fn is_known(wanted: &DataType) -> bool {
    match wanted {
        DataType::List(item) => element(item.data_type()).is_some(),
        wanted => element(wanted).is_some(),
    }
}

/// The number that PostgreSQL knows the type of an array's element by.
fn element(wanted: &DataType) -> Option<i32> {
    Some(match wanted {
        DataType::Boolean => 16,
        DataType::BinaryView => 17,
        DataType::Int64 => 20,
        DataType::Int8 | DataType::Int16 => 21,
        DataType::Int32 => 23,
        DataType::Utf8View => 25,
        DataType::Float32 => 700,
        DataType::Float64 => 701,
        DataType::Date32 => 1082,
        DataType::Timestamp(TimeUnit::Microsecond, None) => 1114,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => 1184,
        DataType::Decimal128(_, scale) if *scale >= 0 => 1700,
        _ => return None,
    })
}

/// Text, and its kin, come in the same bytes.
fn is_element(sent: i32, wanted: &DataType) -> bool {
    const VARCHAR: i32 = 1043;
    element(wanted) == Some(sent) || (*wanted == DataType::Utf8View && sent == VARCHAR)
}

/// Reads a column; values that do not fit are NULL in it, and `unfit` is told of their rows and what they are.
pub(super) fn read(
    bytes: &BinaryViewArray,
    wanted: &DataType,
    unfit: &mut dyn FnMut(usize, Kind),
) -> Result<ArrayRef> {
    let array: ArrayRef = match wanted {
        DataType::BinaryView => Arc::new(bytes.clone()),
        DataType::Boolean => {
            let values = each(bytes, unfit, |[byte]: [u8; 1]| Some(byte != 0));
            Arc::new(values.into_iter().collect::<BooleanArray>())
        }
        DataType::Int8 => fixed::<Int8Type, 2>(bytes, unfit, |b| i8::try_from(i16::from_be_bytes(b)).ok()),
        DataType::Int16 => fixed::<Int16Type, 2>(bytes, unfit, |b| Some(i16::from_be_bytes(b))),
        DataType::Int32 => fixed::<Int32Type, 4>(bytes, unfit, |b| Some(i32::from_be_bytes(b))),
        DataType::Int64 => fixed::<Int64Type, 8>(bytes, unfit, |b| Some(i64::from_be_bytes(b))),
        DataType::Float32 => fixed::<Float32Type, 4>(bytes, unfit, |b| Some(f32::from_be_bytes(b))),
        DataType::Float64 => fixed::<Float64Type, 8>(bytes, unfit, |b| Some(f64::from_be_bytes(b))),
        DataType::Date32 => fixed::<Date32Type, 4>(bytes, unfit, |b| match i32::from_be_bytes(b) {
            // The infinities.
            i32::MIN | i32::MAX => None,
            days => days.checked_add(DAYS_TO_2000),
        }),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = each(bytes, unfit, |b| match i64::from_be_bytes(b) {
                i64::MIN | i64::MAX => None,
                micros => micros.checked_add(MICROS_TO_2000),
            });
            let array: PrimitiveArray<TimestampMicrosecondType> = values.into_iter().collect();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Decimal128(precision, scale) => {
            let limit = 10i128.pow(u32::from(*precision));
            let values = decoded(bytes, unfit, |value| {
                let unscaled = decimal(value, u32::from(scale.unsigned_abs()))?;
                if unscaled.abs() < limit { Ok(unscaled) } else { Err(Kind::OutOfRange) }
            });
            let array: PrimitiveArray<Decimal128Type> = values.into_iter().collect();
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8View => {
            let mut texts = StringViewBuilder::with_capacity(bytes.len());
            for (row, value) in bytes.iter().enumerate() {
                let text = value.map(std::str::from_utf8);
                if matches!(text, Some(Err(_))) {
                    unfit(row, Kind::NotText);
                }
                texts.append_option(text.and_then(std::result::Result::ok));
            }
            Arc::new(texts.finish())
        }
        DataType::List(item) => list(bytes, item, unfit)?,
        other => return Err(Error::internal(format!("no binary form of {other} is known"))),
    };
    Ok(array)
}

/// Reads values that `decode` may find unfit.
fn decoded<T>(
    bytes: &BinaryViewArray,
    unfit: &mut dyn FnMut(usize, Kind),
    decode: impl Fn(&[u8]) -> std::result::Result<T, Kind>,
) -> Vec<Option<T>> {
    let rows = bytes.iter().enumerate();
    rows.map(|(row, value)| match decode(value?) {
        Ok(value) => Some(value),
        Err(kind) => {
            unfit(row, kind);
            None
        }
    })
    .collect()
}

/// Reads values of so many bytes each.
fn each<T, const WIDTH: usize>(
    bytes: &BinaryViewArray,
    unfit: &mut dyn FnMut(usize, Kind),
    decode: impl Fn([u8; WIDTH]) -> Option<T>,
) -> Vec<Option<T>> {
    decoded(bytes, unfit, |value| {
        let value = value.try_into().map_err(|_| Kind::InvalidBinary)?;
        decode(value).ok_or(Kind::OutOfRange)
    })
}

fn fixed<T: ArrowPrimitiveType, const WIDTH: usize>(
    bytes: &BinaryViewArray,
    unfit: &mut dyn FnMut(usize, Kind),
    decode: impl Fn([u8; WIDTH]) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(each(bytes, unfit, decode)))
}

/// A numeric without its point at this scale: groups of four decimal digits, rounded where it has more of them.
fn decimal(value: &[u8], scale: u32) -> std::result::Result<i128, Kind> {
    let (words, rest) = value.as_chunks::<2>();
    let [count, weight, sign, _, groups @ ..] = words else { return Err(Kind::InvalidBinary) };
    let weight = i16::from_be_bytes(*weight);
    if !rest.is_empty() || usize::from(u16::from_be_bytes(*count)) != groups.len() {
        return Err(Kind::InvalidBinary);
    }
    let negative = match u16::from_be_bytes(*sign) {
        0 => false,
        0x4000 => true,
        // Infinities, and what is no number.
        0xc000 | 0xd000 | 0xf000 => return Err(Kind::OutOfRange),
        _ => return Err(Kind::InvalidBinary),
    };
    let mut unscaled = 0i128;
    for (i, group) in groups.iter().enumerate() {
        let group = i128::from(u16::from_be_bytes(*group));
        if group > 9_999 {
            return Err(Kind::InvalidBinary);
        }
        // Places that its last digit stands in front of the last one kept.
        let places = 4 * (i64::from(weight) - i as i64) + i64::from(scale);
        let part = match u32::try_from(places) {
            Ok(places) if group > 0 => {
                10i128.checked_pow(places).and_then(|ten| ten.checked_mul(group)).ok_or(Kind::OutOfRange)?
            }
            Ok(_) => 0,
            // Of five and more the last one kept is one higher.
            Err(_) if places >= -4 => {
                let ten = 10i128.pow(places.unsigned_abs() as u32);
                (group + ten / 2) / ten
            }
            Err(_) => 0,
        };
        unscaled = unscaled.checked_add(part).ok_or(Kind::OutOfRange)?;
    }
    Ok(if negative { -unscaled } else { unscaled })
}

/// Arrays of one dimension: the items of all rows are one column.
fn list(bytes: &BinaryViewArray, item: &FieldRef, unfit: &mut dyn FnMut(usize, Kind)) -> Result<ArrayRef> {
    let mut items = BinaryViewBuilder::new();
    let (mut lengths, mut valid, mut row_of) = (vec![], vec![], vec![]);
    for (row, value) in bytes.iter().enumerate() {
        let found = value.map(|value| elements(value, item));
        if let Some(Err(kind)) = found {
            unfit(row, kind);
        }
        let found = found.and_then(std::result::Result::ok);
        valid.push(found.is_some());
        let found = found.unwrap_or_default();
        lengths.push(found.len());
        for value in found {
            items.append_option(value);
            row_of.push(row);
        }
    }
    let values = read(&items.finish(), item.data_type(), &mut |i, kind| unfit(row_of[i], kind))?;
    // A row that does not fit is left out; until then its items may be NULL where none may be.
    let field = Arc::new(item.as_ref().clone().with_nullable(true));
    let array = ListArray::try_new(
        field,
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(NullBuffer::from(valid)),
    )?;
    Ok(Arc::new(array))
}

/// The elements of an array.
fn elements<'a>(value: &'a [u8], item: &FieldRef) -> std::result::Result<Vec<Option<&'a [u8]>>, Kind> {
    let at = |at: usize| number(value, at).ok_or(Kind::InvalidBinary);
    let (dimensions, sent) = (at(0)?, at(8)?);
    if !is_element(sent, item.data_type()) || !(0..=1).contains(&dimensions) {
        return Err(Kind::InvalidBinary);
    }
    if dimensions == 0 {
        return Ok(vec![]);
    }
    let mut rest = value.get(20..).ok_or(Kind::InvalidBinary)?;
    let mut found = vec![];
    for _ in 0..at(12)? {
        let length = number(rest, 0).ok_or(Kind::InvalidBinary)?;
        rest = &rest[4..];
        found.push(match length {
            -1 if item.is_nullable() => None,
            -1 => return Err(Kind::NotNull),
            length => {
                let length = usize::try_from(length).map_err(|_| Kind::InvalidBinary)?;
                let (element, behind) = rest.split_at_checked(length).ok_or(Kind::InvalidBinary)?;
                rest = behind;
                Some(element)
            }
        });
    }
    if rest.is_empty() { Ok(found) } else { Err(Kind::InvalidBinary) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use datafusion::arrow::util::display::array_value_to_string;

    fn words(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn one(wanted: &DataType, value: &[u8]) -> std::result::Result<String, Kind> {
        let mut why = None;
        let column = BinaryViewArray::from_iter([Some(value)]);
        let read = read(&column, wanted, &mut |_, kind| why = Some(kind)).unwrap();
        assert!(is_known(wanted));
        why.map_or_else(|| Ok(array_value_to_string(&read, 0).unwrap()), Err)
    }

    #[test]
    fn decimals_keep_every_digit_of_their_scale() {
        for (value, scale, expected) in [
            (words(&[0, 0, 0, 0]), 2, Ok(0)),
            (words(&[4, 2, 0, 4, 1, 2345, 6789, 1234]), 4, Ok(1_2345_6789_1234)),
            (words(&[1, -1, 0x4000, 4, 1]), 4, Ok(-1)),
            (words(&[2, 0, 0, 4, 1, 2350]), 1, Ok(12)),
            (words(&[2, 0, 0x4000, 4, 1, 2500]), 1, Ok(-13)),
            (words(&[3, 0, 0, 8, 1, 49, 9999]), 2, Ok(100)),
            (words(&[1, -1, 0, 4, 5000]), 0, Ok(1)),
            (words(&[1, -2, 0, 8, 9999]), 0, Ok(0)),
            (words(&[1, 9, 0, 0, 100]), 0, Ok(100 * 10i128.pow(36))),
            (words(&[1, 100, 0, 0, 1]), 0, Err(Kind::OutOfRange)),
            (words(&[0, 0, 0xc000u16 as i16, 0]), 0, Err(Kind::OutOfRange)),
            (words(&[1, 0, 0, 0, 10_000]), 0, Err(Kind::InvalidBinary)),
            (words(&[2, 0, 0, 0, 1]), 0, Err(Kind::InvalidBinary)),
            (words(&[1, 0, 0]), 0, Err(Kind::InvalidBinary)),
        ] {
            assert_eq!(decimal(&value, scale), expected, "{value:?} at {scale}");
        }
        let money = DataType::Decimal128(4, 2);
        assert_eq!(one(&money, &words(&[1, 0, 0, 0, 99])), Ok("99.00".into()));
        assert_eq!(one(&money, &words(&[1, 0, 0, 0, 100])), Err(Kind::OutOfRange));
    }

    #[test]
    fn values_of_every_kind() {
        let ints = DataType::new_list(DataType::Int32, true);
        let array = |n: i32, rest: &[u8]| {
            [&1i32.to_be_bytes(), &[0; 4], &23i32.to_be_bytes(), &n.to_be_bytes(), &1i32.to_be_bytes(), rest]
                .concat()
        };
        let head = |dimensions: i32, oid: i32| [dimensions.to_be_bytes(), [0; 4], oid.to_be_bytes()].concat();
        for (wanted, value, expected) in [
            (DataType::Boolean, vec![1], Ok("true")),
            (DataType::Boolean, vec![1, 1], Err(Kind::InvalidBinary)),
            (DataType::Int8, vec![1, 0], Err(Kind::OutOfRange)),
            (DataType::Int32, (-7i32).to_be_bytes().to_vec(), Ok("-7")),
            (DataType::Int64, vec![0, 0, 0, 7], Err(Kind::InvalidBinary)),
            (DataType::Date32, vec![0, 0, 0, 1], Ok("2000-01-02")),
            (DataType::Date32, i32::MAX.to_be_bytes().to_vec(), Err(Kind::OutOfRange)),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                1i64.to_be_bytes().to_vec(),
                Ok("2000-01-01T00:00:00.000001"),
            ),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                i64::MIN.to_be_bytes().to_vec(),
                Err(Kind::OutOfRange),
            ),
            (DataType::Utf8View, "é".into(), Ok("é")),
            (DataType::Utf8View, vec![0xff], Err(Kind::NotText)),
            (DataType::BinaryView, vec![0xff], Ok("ff")),
            (ints.clone(), head(0, 23), Ok("[]")),
            (ints.clone(), head(2, 23), Err(Kind::InvalidBinary)),
            (ints.clone(), head(0, 20), Err(Kind::InvalidBinary)),
            (ints.clone(), array(2, &[0, 0, 0, 4, 0, 0, 0, 5, 255, 255, 255, 255]), Ok("[5, ]")),
            (ints.clone(), array(2, &[0, 0, 0, 4, 0, 0, 0, 5]), Err(Kind::InvalidBinary)),
            (ints.clone(), array(1, &[0, 0, 0, 2, 0, 5]), Err(Kind::InvalidBinary)),
            (ints, array(i32::MAX, &[0, 0, 0, 9]), Err(Kind::InvalidBinary)),
        ] {
            assert_eq!(one(&wanted, &value), expected.map(str::to_owned), "{wanted}: {value:?}");
        }
        let pairs = DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into());
        assert!(!is_known(&pairs) && !is_known(&DataType::new_list(pairs.clone(), true)));
    }
}
