//! Columns into the types of a table: whole columns at once, and where a value does not fit, which row it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{
    CastOptions, cast_with_options, concat, filter, filter_record_batch, is_null,
};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;

use crate::error::Result;

/// Characters of a value that a reason shows.
const SHOWN: usize = 60;

/// Rows on their way into a table.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// The rows.
    pub(super) batch: RecordBatch,
    /// Which row of the chunk each was.
    pub(super) origin: UInt32Array,
}

/// Why rows of a chunk cannot be stored; the first reason of each counts.
#[derive(Debug, Default)]
pub(super) struct Rejected(pub(super) BTreeMap<u32, String>);

impl Rejected {
    pub(super) fn add(&mut self, row: u32, reason: impl FnOnce() -> String) {
        self.0.entry(row).or_insert_with(reason);
    }
}

impl Rows {
    /// All rows of a chunk.
    pub(super) fn all(batch: RecordBatch) -> Self {
        let origin = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
        Rows { batch, origin }
    }

    /// The rows where `mask` is true.
    pub(super) fn filter(&self, mask: &BooleanArray) -> Result<Rows> {
        let origin = filter(&self.origin, mask)?;
        let origin = UInt32Array::from(origin.to_data());
        Ok(Rows { batch: filter_record_batch(&self.batch, mask)?, origin })
    }

    /// The rows that were not rejected.
    pub(super) fn without(self, rejected: &Rejected) -> Result<Rows> {
        let bad = |row: &u32| rejected.0.contains_key(row);
        if rejected.0.is_empty() || !self.origin.values().iter().any(bad) {
            return Ok(self);
        }
        let mask = self.origin.values().iter().map(|row| !bad(row)).collect::<Vec<_>>();
        self.filter(&BooleanArray::from(mask))
    }

    /// Casts to `schema`; `sources` says which column each comes from, and `None` stands for NULL. Rows with a value
    /// that does not fit, or NULL where none may be, are rejected and left out.
    pub(super) fn cast(
        self,
        schema: &SchemaRef,
        sources: &[Option<usize>],
        rejected: &mut Rejected,
    ) -> Result<Rows> {
        let mut columns = Vec::with_capacity(sources.len());
        for (field, source) in schema.fields().iter().zip(sources) {
            let column = match source {
                Some(index) => self.cast_column(self.batch.column(*index), field, rejected)?,
                None => new_null_array(field.data_type(), self.batch.num_rows()),
            };
            if !field.is_nullable() && column.logical_null_count() > 0 {
                for row in nulls(&column)? {
                    rejected
                        .add(self.origin.value(row), || format!("column '{}' may not be NULL", field.name()));
                }
            }
            columns.push(column);
        }
        // NOT NULL holds only once the rejected rows are gone.
        let open = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        let options = RecordBatchOptions::new().with_row_count(Some(self.batch.num_rows()));
        let open = Arc::new(datafusion::arrow::datatypes::Schema::new(open));
        let batch = RecordBatch::try_new_with_options(open, columns, &options)?;
        let Rows { batch, origin } = Rows { batch, origin: self.origin }.without(rejected)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?;
        Ok(Rows { batch, origin })
    }

    fn cast_column(&self, array: &ArrayRef, field: &Field, rejected: &mut Rejected) -> Result<ArrayRef> {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        let refuse = |row: usize, rejected: &mut Rejected| {
            rejected.add(self.origin.value(row), || does_not_fit(array, row, field));
        };
        if field.data_type().is_nested() {
            return cast_nested(array, 0, field.data_type(), &mut |row| refuse(row, rejected));
        }
        let lenient = CastOptions { safe: true, ..Default::default() };
        let cast = cast_with_options(array, field.data_type(), &lenient)?;
        if cast.logical_null_count() > array.logical_null_count() {
            let before = array.logical_nulls();
            for row in nulls(&cast)? {
                if before.as_ref().is_none_or(|n| n.is_valid(row)) {
                    refuse(row, rejected);
                }
            }
        }
        if array.data_type().is_floating() || is_decimal(array.data_type()) {
            // An integer would lose the fraction without a word.
            if field.data_type().is_integer() {
                let back = cast_with_options(&cast, array.data_type(), &lenient)?;
                let changed = datafusion::arrow::compute::kernels::cmp::distinct(&back, array)?;
                changed.values().set_indices().for_each(|row| refuse(row, rejected));
            }
        }
        Ok(cast)
    }
}

fn is_decimal(t: &DataType) -> bool {
    matches!(
        t,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

/// A value within a nested one that does not fit would only be NULL there: such columns are cast strictly, and halved to
/// find the row.
fn cast_nested(array: &ArrayRef, at: usize, t: &DataType, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..Default::default() };
    match cast_with_options(array, t, &strict) {
        Ok(cast) => Ok(cast),
        Err(_) if array.len() == 1 => {
            refuse(at);
            Ok(new_null_array(t, 1))
        }
        Err(_) => {
            let half = array.len() / 2;
            let left = cast_nested(&array.slice(0, half), at, t, refuse)?;
            let right = cast_nested(&array.slice(half, array.len() - half), at + half, t, refuse)?;
            Ok(concat(&[&left, &right])?)
        }
    }
}

fn nulls(array: &ArrayRef) -> Result<Vec<usize>> {
    let mask = is_null(array)?;
    Ok(mask.values().set_indices().collect())
}

pub(super) fn does_not_fit(array: &dyn Array, row: usize, field: &Field) -> String {
    let value = array_value_to_string(array, row).unwrap_or_default();
    let (name, t) = (field.name(), sql_name(field.data_type()));
    format!("column '{name}': '{}' does not fit {t}", shortened(&value))
}

/// As much of a value as a message shows.
pub(super) fn shortened(value: &str) -> String {
    let shown: String = value.chars().take(SHOWN).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    shown + more
}

/// What SQL calls a type.
pub(super) fn sql_name(t: &DataType) -> String {
    match t {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE PRECISION".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::List(_) | DataType::LargeList(_) => "a list".into(),
        DataType::Struct(_) => "a struct".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{AsArray, StringViewArray};
    use datafusion::arrow::datatypes::{Decimal128Type, Int64Type, Schema, TimeUnit};

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringViewArray::from_iter(values.iter().copied()))
    }

    fn cast(columns: Vec<ArrayRef>, fields: Vec<Field>) -> (Rows, Rejected) {
        let names =
            columns.iter().enumerate().map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(names.collect::<Vec<_>>())), columns).unwrap();
        let mut rejected = Rejected::default();
        let sources = (0..fields.len()).map(|i| (i < batch.num_columns()).then_some(i)).collect::<Vec<_>>();
        let rows = Rows::all(batch).cast(&Arc::new(Schema::new(fields)), &sources, &mut rejected).unwrap();
        (rows, rejected)
    }

    #[test]
    fn rows_that_do_not_fit_are_named() {
        let (rows, rejected) = cast(
            vec![
                text(&[Some("1"), Some("x"), Some("5.5"), Some("4"), None]),
                text(&[Some("1.25"), Some("2"), Some("3"), Some("99999999999999999999"), Some("-7.0001")]),
            ],
            vec![
                Field::new("n", DataType::Int64, true),
                Field::new("d", DataType::Decimal128(18, 4), false),
                Field::new("missing", DataType::Utf8View, true),
            ],
        );
        assert_eq!(rows.origin.values(), &[0, 4]);
        assert_eq!(
            rows.batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
            [Some(1), None]
        );
        assert_eq!(rows.batch.column(1).as_primitive::<Decimal128Type>().values(), &[12_500, -70_001]);
        let reasons = rejected.0.iter().map(|(row, reason)| (*row, reason.as_str())).collect::<Vec<_>>();
        assert_eq!(
            reasons,
            [
                (1, "column 'n': 'x' does not fit BIGINT"),
                (2, "column 'n': '5.5' does not fit BIGINT"),
                (3, "column 'd': '99999999999999999999' does not fit DECIMAL(18, 4)"),
            ]
        );
    }

    #[test]
    fn no_fraction_is_lost_in_an_integer() {
        let doubles =
            datafusion::arrow::array::Float64Array::from(vec![Some(5.0), Some(5.5), None, Some(1e30)]);
        let (rows, rejected) = cast(vec![Arc::new(doubles)], vec![Field::new("n", DataType::Int64, true)]);
        assert_eq!(rows.origin.values(), &[0, 2]);
        assert_eq!(rejected.0[&1], "column 'n': '5.5' does not fit BIGINT");
        assert!(rejected.0.contains_key(&3));
    }

    #[test]
    fn null_where_none_may_be_is_rejected() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let (rows, rejected) = cast(
            vec![text(&[Some("2011-10-06 16:20:00"), None, Some("no")])],
            vec![Field::new("t", time, false)],
        );
        assert_eq!(rows.batch.num_rows(), 1);
        assert_eq!(rejected.0[&1], "column 't' may not be NULL");
        assert_eq!(rejected.0[&2], "column 't': 'no' does not fit TIMESTAMP");
    }
}
