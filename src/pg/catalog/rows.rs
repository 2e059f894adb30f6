//! The rows of a table of the catalog, column by column; what nobody says is what PostgreSQL has where there is nothing to
//! say.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::common::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;

use super::system::SystemRelation;
use crate::error::Error;

/// Rows that are being put together.
pub(super) struct Rows {
    relation: &'static SystemRelation,
    count: usize,
    columns: HashMap<&'static str, ArrayRef>,
}

impl Rows {
    pub(super) fn of(relation: &'static SystemRelation, count: usize) -> Self {
        Rows { relation, count, columns: HashMap::new() }
    }

    fn put(mut self, name: &'static str, array: ArrayRef) -> Self {
        self.columns.insert(name, array);
        self
    }

    pub(super) fn int4(self, name: &'static str, values: impl IntoIterator<Item = i32>) -> Self {
        self.put(name, Arc::new(Int32Array::from_iter_values(values)))
    }

    pub(super) fn maybe_int4(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = Option<i32>>,
    ) -> Self {
        self.put(name, Arc::new(Int32Array::from_iter(values)))
    }

    pub(super) fn int2(self, name: &'static str, values: impl IntoIterator<Item = i16>) -> Self {
        self.put(name, Arc::new(Int16Array::from_iter_values(values)))
    }

    pub(super) fn maybe_int8(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = Option<i64>>,
    ) -> Self {
        self.put(name, Arc::new(Int64Array::from_iter(values)))
    }

    pub(super) fn float4(self, name: &'static str, values: impl IntoIterator<Item = f32>) -> Self {
        self.put(name, Arc::new(Float32Array::from_iter_values(values)))
    }

    pub(super) fn bool(self, name: &'static str, values: impl IntoIterator<Item = bool>) -> Self {
        self.put(name, Arc::new(BooleanArray::from_iter(values.into_iter().map(Some))))
    }

    pub(super) fn text<T: AsRef<str>>(self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.put(name, Arc::new(StringArray::from_iter_values(values)))
    }

    pub(super) fn maybe_text<T: AsRef<str>>(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Self {
        self.put(name, Arc::new(StringArray::from_iter(values)))
    }

    /// Lists of texts.
    pub(super) fn texts(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = Option<Vec<String>>>,
    ) -> Self {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for value in values {
            lists.append_option(value.map(|texts| texts.into_iter().map(Some).collect::<Vec<_>>()));
        }
        self.put(name, Arc::new(lists.finish()))
    }

    /// Instants, in microseconds since 1970.
    pub(super) fn instants(self, name: &'static str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.maybe_int8(name, values)
    }

    /// The same in every row.
    pub(super) fn all(self, names: &[&'static str], value: impl Into<ScalarValue>) -> Result<Self> {
        let array = value.into().to_array_of_size(self.count)?;
        Ok(names.iter().fold(self, |rows, name| rows.put(name, Arc::clone(&array))))
    }

    pub(super) fn batch(mut self) -> Result<RecordBatch> {
        let (relation, count) = (self.relation, self.count);
        let columns =
            relation.arrow.fields().iter().map(|field| match self.columns.remove(field.name().as_str()) {
                Some(array) if array.data_type() == field.data_type() => Ok(array),
                Some(array) => Ok(cast(&array, field.data_type())?),
                None if field.is_nullable() => Ok(new_null_array(field.data_type(), count)),
                None => ScalarValue::new_default(field.data_type())?.to_array_of_size(count),
            });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        if let Some(name) = self.columns.keys().next() {
            let unknown = Error::internal(format!("{} has no column '{name}'", relation.name));
            return Err(DataFusionError::from(unknown));
        }
        Ok(RecordBatch::try_new(Arc::clone(&relation.arrow), columns)?)
    }
}
