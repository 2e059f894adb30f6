//! The SQL type of a sketch.
//!
//! A sketch is `STRUCT<sketch BINARY, item T [, weight W]>`: the bytes, and beside them a field of the items' type that is
//! always NULL. So the type of what comes out of a sketch is known when a query is planned, also after the sketch was kept
//! in a Parquet or Delta table, where a type is all that survives; the NULLs cost a few bytes a file.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StructArray, new_null_array,
};
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{exec_datafusion_err, plan_err};
use datafusion::error::Result;

use super::item::{ItemType, cast, item_column_type};
use super::weight::WeightType;

/// The types that a sketch's type carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateType {
    /// The column type of the items.
    pub(crate) item: DataType,
    /// What items count.
    pub(crate) weight: WeightType,
}

impl StateType {
    pub(crate) fn new(item: &DataType, weight: WeightType) -> Self {
        StateType { item: item_column_type(item).clone(), weight }
    }

    /// Reads the type of an argument that should be a sketch; `function` is for the message.
    pub(crate) fn of(argument: &DataType, function: &str) -> Result<Self> {
        let not_a_sketch = || {
            plan_err!(
                "{function} takes a sketch, STRUCT<sketch BINARY, item …>, as the _accumulate and _combine \
                 functions and count_min_sketch make it, not {argument}"
            )
        };
        let DataType::Struct(fields) = argument else { return not_a_sketch() };
        let (sketch, item, weight) = match fields.iter().map(|f| f.as_ref()).collect::<Vec<_>>()[..] {
            [sketch, item] => (sketch, item, None),
            [sketch, item, weight] => (sketch, item, Some(weight)),
            _ => return not_a_sketch(),
        };
        if sketch.name() != "sketch" || item.name() != "item" || !is_binary(sketch.data_type()) {
            return not_a_sketch();
        }
        ItemType::try_new(item.data_type(), function)?;
        let weight = match weight {
            None => WeightType::One,
            Some(weight) if weight.name() == "weight" => WeightType::try_new(weight.data_type(), function)?,
            Some(_) => return not_a_sketch(),
        };
        Ok(StateType::new(item.data_type(), weight))
    }

    fn fields(&self) -> Fields {
        let mut fields =
            vec![Field::new("sketch", DataType::Binary, true), Field::new("item", self.item.clone(), true)];
        if self.weight != WeightType::One {
            fields.push(Field::new("weight", self.weight.column_type(), true));
        }
        fields.into()
    }

    pub(crate) fn data_type(&self) -> DataType {
        DataType::Struct(self.fields())
    }

    /// A column of sketches of their bytes.
    pub(crate) fn column(&self, bytes: BinaryArray) -> Result<ArrayRef> {
        let (rows, fields) = (bytes.len(), self.fields());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(bytes)];
        columns.extend(fields.iter().skip(1).map(|f| new_null_array(f.data_type(), rows)));
        Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
    }
}

/// The bytes of a column of sketches; a NULL sketch has none.
pub(crate) fn sketch_bytes_of(column: &ArrayRef) -> Result<BinaryArray> {
    let bytes = match column.as_struct_opt() {
        Some(sketches) => {
            let nulls = sketches.logical_nulls();
            let bytes = cast(sketches.column(0), &DataType::Binary)?;
            match nulls {
                None => bytes,
                Some(nulls) => nullif(&bytes, &BooleanArray::new(!nulls.inner(), None))?,
            }
        }
        None => cast(column, &DataType::Binary)?,
    };
    let bytes = bytes.as_binary_opt::<i32>();
    bytes.cloned().ok_or_else(|| exec_datafusion_err!("a column of sketches is not of bytes"))
}

pub(crate) fn is_binary(t: &DataType) -> bool {
    matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}
