//! Which rows of a batch have these values in these columns: a hash table over the rows, encoded.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use hashbrown::HashMap;

use crate::error::Result;

/// Rows of a batch by the values of some of its columns.
#[derive(Debug)]
pub struct RowIndex {
    converter: RowConverter,
    rows: HashMap<OwnedRow, UInt32Array>,
}

impl RowIndex {
    /// Whether two values of a type are equal if and only if they are encoded in the same way.
    pub fn takes(t: &DataType) -> bool {
        t.is_integer()
            || matches!(
                t,
                DataType::Utf8
                    | DataType::Utf8View
                    | DataType::Boolean
                    | DataType::Date32
                    | DataType::Timestamp(_, _)
                    | DataType::Decimal128(_, _)
            )
    }

    /// An index of all rows by these columns, each of a type that it [takes](Self::takes).
    pub fn of(batch: &RecordBatch, columns: &[usize]) -> Result<Self> {
        let arrays: Vec<ArrayRef> = columns.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let encoded = converter.convert_columns(&arrays)?;
        let mut places: HashMap<OwnedRow, Vec<u32>> = HashMap::new();
        for (place, row) in encoded.iter().enumerate() {
            places.entry(row.owned()).or_default().push(place as u32);
        }
        let rows = places.into_iter().map(|(row, places)| (row, UInt32Array::from(places))).collect();
        Ok(RowIndex { converter, rows })
    }

    /// The places of the rows that have these values, arrays of one row, in the order of the batch.
    pub fn find(&self, values: &[ArrayRef]) -> Result<Option<&UInt32Array>> {
        let wanted = self.converter.convert_columns(values)?;
        Ok(self.rows.get(&wanted.row(0).owned()))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringViewArray};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn rows_are_found_by_their_values() {
        let schema = Schema::new(vec![
            Field::new("period", DataType::Utf8View, true),
            Field::new("rank", DataType::Int64, true),
        ]);
        let periods: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some("day"), Some("hour"), Some("day"), None, Some("day")]));
        let ranks: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(2), Some(1), Some(1)]));
        let batch = RecordBatch::try_new(Arc::new(schema), vec![periods, ranks]).unwrap();
        let index = RowIndex::of(&batch, &[1, 0]).unwrap();
        let find = |rank: i64, period: &str| {
            let values: [ArrayRef; 2] =
                [Arc::new(Int64Array::from(vec![rank])), Arc::new(StringViewArray::from(vec![period]))];
            index.find(&values).unwrap().map(|places| places.values().to_vec()).unwrap_or_default()
        };
        assert_eq!(find(1, "day"), [0, 4]);
        assert_eq!(find(2, "day"), [2]);
        assert_eq!((find(2, "hour"), find(1, "")), (vec![], vec![]));
    }
}
