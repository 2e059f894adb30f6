//! Columns of text into columns of the table's types: whole columns at once, and where a value does not fit, which row it is.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewBuilder, ListArray, StringViewArray, StringViewBuilder, StructArray,
    new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{
    CastOptions, cast_with_options, is_not_null, is_null, kernels::boolean::and,
};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit, TimestampMicrosecondType};

use crate::dialect::literal;
use crate::error::Result;

/// Reads a column; values that do not fit are NULL in it, and `unfit` is told of their rows. A time without a zone of its own
/// is one in `zone`, where the type has a zone.
pub(super) fn read(
    text: &StringViewArray,
    wanted: &DataType,
    zone: &str,
    unfit: &mut dyn FnMut(usize),
) -> Result<ArrayRef> {
    Ok(match wanted {
        DataType::Utf8View => Arc::new(text.clone()),
        DataType::BinaryView => {
            let mut builder = BinaryViewBuilder::with_capacity(text.len());
            for (row, value) in text.iter().enumerate() {
                let bytes = value.map(literal::bytes);
                if matches!(bytes, Some(None)) {
                    unfit(row);
                }
                builder.append_option(bytes.flatten());
            }
            Arc::new(builder.finish())
        }
        DataType::List(item) => list(text, item, zone, unfit)?,
        DataType::Struct(fields) => rows(text, fields, zone, unfit)?,
        DataType::Timestamp(TimeUnit::Microsecond, Some(stored)) => {
            let local = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
            let times = scalar(text, &local, unfit)?;
            let times = times.as_primitive::<TimestampMicrosecondType>().clone();
            Arc::new(times.with_timezone(Arc::clone(stored)))
        }
        wanted => scalar(text, wanted, unfit)?,
    })
}

fn scalar(text: &StringViewArray, wanted: &DataType, unfit: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let lenient = CastOptions { safe: true, ..Default::default() };
    let cast = |text: &StringViewArray| cast_with_options(text, wanted, &lenient);
    let mut read = cast(text)?;
    if read.null_count() > text.null_count() {
        // Space around a value is no part of it.
        read = cast(&text.iter().map(|value| value.map(str::trim)).collect::<StringViewArray>())?;
    }
    if read.null_count() > text.null_count() {
        let lost = and(&is_null(&read)?, &is_not_null(text)?)?;
        lost.values().set_indices().for_each(unfit);
    }
    Ok(read)
}

/// `{1,2}`: the items of all rows are one column.
fn list(
    text: &StringViewArray,
    item: &FieldRef,
    zone: &str,
    unfit: &mut dyn FnMut(usize),
) -> Result<ArrayRef> {
    let mut items = StringViewBuilder::new();
    let (mut lengths, mut valid, mut row_of) = (vec![], vec![], vec![]);
    for (row, value) in text.iter().enumerate() {
        let found = value.map(literal::array);
        if matches!(found, Some(None)) {
            unfit(row);
        }
        let found = found.flatten();
        valid.push(found.is_some());
        let found = found.unwrap_or_default();
        lengths.push(found.len());
        for value in found {
            if value.is_none() && !item.is_nullable() {
                unfit(row);
            }
            items.append_option(value);
            row_of.push(row);
        }
    }
    let values = read(&items.finish(), item.data_type(), zone, &mut |i| unfit(row_of[i]))?;
    // A row that does not fit is left out; until then its items may be NULL where none may be.
    let field = Arc::new(item.as_ref().clone().with_nullable(true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = ListArray::try_new(field, offsets, values, Some(NullBuffer::from(valid)))?;
    Ok(Arc::new(array))
}

/// `(1,a)`: the fields of all rows are a column each.
fn rows(
    text: &StringViewArray,
    fields: &Fields,
    zone: &str,
    unfit: &mut dyn FnMut(usize),
) -> Result<ArrayRef> {
    let mut columns: Vec<StringViewBuilder> = fields.iter().map(|_| StringViewBuilder::new()).collect();
    let mut valid = vec![];
    for (row, value) in text.iter().enumerate() {
        let found = value.map(|text| literal::record(text).filter(|found| found.len() == fields.len()));
        if matches!(found, Some(None)) {
            unfit(row);
        }
        let found = found.flatten();
        valid.push(found.is_some());
        let mut found = found.unwrap_or_default().into_iter();
        for (column, field) in columns.iter_mut().zip(fields) {
            let value = found.next().flatten();
            if value.is_none() && !field.is_nullable() && valid[row] {
                unfit(row);
            }
            column.append_option(value);
        }
    }
    let mut arrays: Vec<ArrayRef> = vec![];
    for (column, field) in columns.iter_mut().zip(fields) {
        arrays.push(read(&column.finish(), field.data_type(), zone, unfit)?);
    }
    let open: Fields = fields
        .iter()
        .zip(&arrays)
        .map(|(f, a)| f.as_ref().clone().with_nullable(true).with_data_type(a.data_type().clone()))
        .collect();
    if arrays.is_empty() {
        return Ok(new_null_array(&DataType::Struct(open), text.len()));
    }
    Ok(Arc::new(StructArray::try_new(open, arrays, Some(NullBuffer::from(valid)))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use datafusion::arrow::util::display::array_value_to_string;

    fn column(wanted: DataType, values: &[&str]) -> (Vec<String>, Vec<usize>) {
        let text = StringViewArray::from_iter(values.iter().map(|v| (*v != "NULL").then_some(*v)));
        let mut unfit = vec![];
        let read = read(&text, &wanted, "Asia/Kolkata", &mut |row| unfit.push(row)).unwrap();
        unfit.sort_unstable();
        unfit.dedup();
        ((0..read.len()).map(|i| array_value_to_string(&read, i).unwrap()).collect(), unfit)
    }

    #[test]
    fn values_of_every_kind() {
        let list = |t| DataType::List(Arc::new(Field::new("item", t, true)));
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let pair = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8View, false)];
        for (wanted, values, expected, bad) in [
            (
                DataType::Int16,
                vec!["1", " -2 ", "+3", "40000", "x", ""],
                vec!["1", "-2", "3", "", "", ""],
                vec![3, 4, 5],
            ),
            (DataType::Boolean, vec!["t", "off", "NULL", "2"], vec!["true", "false", "", ""], vec![3]),
            (
                DataType::Float64,
                vec!["Infinity", "-inf", "NaN", "1e3"],
                vec!["inf", "-inf", "NaN", "1000.0"],
                vec![],
            ),
            (DataType::Decimal128(5, 2), vec!["1.5", "1234.5", "-0.05"], vec!["1.50", "", "-0.05"], vec![1]),
            (
                utc,
                vec!["2024-07-01 02:00:00", "2024-07-01 02:00:00+05:30", "2024-07-01T00:00:00Z", "?"],
                vec!["2024-06-30T20:30:00Z", "2024-06-30T20:30:00Z", "2024-07-01T00:00:00Z", ""],
                vec![3],
            ),
            (
                list(DataType::Int64),
                vec!["{1,NULL}", "NULL", "{}", "{1,x}", "1"],
                vec!["[1, ]", "", "[]", "[1, ]", ""],
                vec![3, 4],
            ),
            (list(list(DataType::Boolean)), vec!["{{t},{}}"], vec!["[[true], []]"], vec![]),
            (DataType::BinaryView, vec!["\\x0aff", "\\x0"], vec!["0aff", ""], vec![1]),
            (
                DataType::Struct(pair.into()),
                vec!["(1,\"a b\")", "(1)", "(,)", "NULL"],
                vec!["{a: 1, b: a b}", "", "{a: , b: }", ""],
                vec![1, 2],
            ),
        ] {
            let (read, unfit) = column(wanted.clone(), &values);
            assert_eq!((read, unfit), (expected.iter().map(|s| s.to_string()).collect(), bad), "{wanted}");
        }
    }
}
