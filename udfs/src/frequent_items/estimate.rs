//! `approx_top_k_estimate` and `approx_top_sum_estimate` as DataFusion functions.

use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::functions::Weights;
use super::key::{Key, Text};
use super::top_items::{Output, Top, TopItems, k_of, result_type};
use crate::sketch::item::{Form, ItemType};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::{StateType, sketch_bytes_of};
use crate::sketch::summary::Summary;

/// Reads the top items out of sketches.
#[derive(Debug, PartialEq, Eq)]
struct Estimate {
    weights: Weights,
    signature: Signature,
}

impl Hash for Estimate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// The function `approx_top_k_estimate`.
pub fn approx_top_k_estimate_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Estimate::new(Weights::No))));
    Arc::clone(&INSTANCE)
}

/// The function `approx_top_sum_estimate`.
pub fn approx_top_sum_estimate_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Estimate::new(Weights::Yes))));
    Arc::clone(&INSTANCE)
}

impl Estimate {
    fn new(weights: Weights) -> Self {
        Estimate { weights, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn lists<K: Key>(
        &self,
        state: StateType,
        item: ItemType,
        sketches: &BinaryArray,
        k: usize,
    ) -> Result<ArrayRef> {
        let output = Output::Top(k);
        let top = TopItems::<K> { item, state, lg_capacity: None, output, key: PhantomData };
        let mut read: Vec<Option<Top<K>>> = Vec::with_capacity(sketches.len());
        for bytes in sketches {
            read.push(match bytes {
                None => None,
                Some(bytes) => {
                    let mut sketch = top.empty()?;
                    sketch.merge(bytes, &top)?;
                    Some(sketch)
                }
            });
        }
        top.lists(read.into_iter(), k)
    }
}

impl ScalarUDFImpl for Estimate {
    fn name(&self) -> &str {
        match self.weights {
            Weights::No => "approx_top_k_estimate",
            Weights::Yes => "approx_top_sum_estimate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.weights.coerce_sketch(types, self.name())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(result_type(&self.weights.of_sketch(types, 1, self.name())?))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.name();
        let k = match args.args.get(1) {
            None => None,
            Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(k)))) => Some(*k),
            Some(_) => return exec_err!("the second argument of {name} has to be a constant whole number"),
        };
        let k = k_of(k, name)?;
        let column = args.args[0].to_array(args.number_rows)?;
        let state = self.weights.of_sketch(&[column.data_type().clone()], 1, name)?;
        let item = ItemType::try_new(&state.item, name)?;
        let sketches = sketch_bytes_of(&column)?;
        Ok(ColumnarValue::Array(match item.form() {
            Form::Long => self.lists::<i64>(state, item, &sketches, k)?,
            Form::Bytes => self.lists::<Text>(state, item, &sketches, k)?,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static OF_COUNTS: LazyLock<Documentation> =
            LazyLock::new(|| documentation("approx_top_k", "most frequent items"));
        static OF_SUMS: LazyLock<Documentation> =
            LazyLock::new(|| documentation("approx_top_sum", "items with the highest sums"));
        Some(match self.weights {
            Weights::No => &OF_COUNTS,
            Weights::Yes => &OF_SUMS,
        })
    }
}

fn documentation(family: &str, what: &str) -> Documentation {
    Documentation::builder(
        SKETCHES,
        format!("Returns the {what} of a sketch, as {family} does."),
        format!("{family}_estimate(sketch[, k])"),
    )
    .with_sql_example(format!("```sql\nSELECT {family}_estimate(sketch, 3) FROM sketches;\n```"))
    .with_argument("sketch", format!("A sketch of {family}_accumulate or {family}_combine."))
    .with_argument("k", "How many items to return; 10 if not given.")
    .build()
}
