//! `count_min_estimate` as a DataFusion function.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::weighted::Decoded;
use crate::sketch::item::{ItemBytes, ItemType};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::{StateType, sketch_bytes_of};
use crate::sketch::weight::WeightType;

/// The function `count_min_estimate`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountMinEstimate {
    signature: Signature,
}

/// The function `count_min_estimate`.
pub fn count_min_estimate_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(CountMinEstimate { signature }))
    });
    Arc::clone(&INSTANCE)
}

impl ScalarUDFImpl for CountMinEstimate {
    fn name(&self) -> &str {
        "count_min_estimate"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch, _] => {
                let state = StateType::of(sketch, self.name())?;
                Ok(vec![sketch.clone(), state.item])
            }
            _ => plan_err!("count_min_estimate takes a sketch and an item, not {} arguments", types.len()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(StateType::of(&types[0], self.name())?.weight.sum_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let state = StateType::of(&args.args[0].data_type(), self.name())?;
        // One sketch asked for many items is decoded once.
        let one_sketch = matches!(args.args[0], ColumnarValue::Scalar(_));
        let sketches = sketch_bytes_of(&args.args[0].to_array(if one_sketch { 1 } else { rows })?)?;
        let column = args.args[1].to_array(rows)?;
        let mut items: Option<(ItemType, ItemBytes)> = None;
        let mut decoded: Option<Decoded<'_>> = None;
        let mut valid = Vec::with_capacity(rows);
        let mut estimates = Vec::with_capacity(rows);
        for row in 0..rows {
            let sketch = if one_sketch { 0 } else { row };
            if sketches.is_null(sketch) || column.is_null(row) {
                valid.push(false);
                estimates.push(0);
                continue;
            }
            if decoded.is_none() || !one_sketch {
                let like = decoded.as_ref().map(|d| d.added.shape.clone());
                decoded = Some(Decoded::read(sketches.value(sketch), like.as_ref())?);
            }
            let Some(decoded) = &decoded else { continue };
            let items = match &items {
                Some((item, items)) if *item == decoded.item => items,
                _ => &items.insert((decoded.item, item_bytes(decoded.item, &column, &state)?)).1,
            };
            valid.push(true);
            estimates.push(items.with(row, |item| decoded.estimate(item)));
        }
        let sums = match state.weight {
            WeightType::One => WeightType::Integer.sums(estimates)?,
            weight => weight.sums(estimates)?,
        };
        Ok(ColumnarValue::Array(with_nulls(&sums, valid)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns how often an item came, or its sum of weights, of a count-min sketch. Without weights below zero it \
                 is never too low, and at most `count_min_error(sketch)` too high with the sketch's confidence.",
                "count_min_estimate(sketch, item)",
            )
            .with_sql_example("```sql\nSELECT count_min_estimate(sketch, 42), count_min_error(sketch) FROM sketches;\n```")
            .with_argument("sketch", "A sketch of count_min_sketch or count_min_combine.")
            .with_argument("item", "What is asked for, of the type that was counted.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

/// The column of items as the type that the sketch was made of.
fn item_bytes(item: ItemType, column: &ArrayRef, state: &StateType) -> Result<ItemBytes> {
    let declared = ItemType::try_new(&state.item, "count_min_estimate")?;
    if declared.form() != item.form() {
        return exec_err!("expected a sketch of {declared} items, got one of {item}");
    }
    ItemBytes::new(item, column)
}

fn with_nulls(column: &ArrayRef, valid: Vec<bool>) -> Result<ArrayRef> {
    let nulls = NullBuffer::from(valid);
    if nulls.null_count() == 0 {
        return Ok(Arc::clone(column));
    }
    Ok(nullif(column, &BooleanArray::new(!nulls.inner(), None))?)
}
