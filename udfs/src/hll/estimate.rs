//! `hll_sketch_estimate` and `hll_sketch_bounds` as DataFusion functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BinaryArray, Int64Array, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datasketches::common::NumStdDev;

use super::distinct::read;
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::{StateType, sketch_bytes_of};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Estimate,
    Bounds,
}

/// Reads distinct counts out of sketches.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HllSketchEstimate {
    answer: Answer,
    signature: Signature,
}

fn instance(answer: Answer) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(HllSketchEstimate { answer, signature }))
}

/// The function `hll_sketch_estimate`.
pub fn hll_sketch_estimate_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| instance(Answer::Estimate));
    Arc::clone(&INSTANCE)
}

/// The function `hll_sketch_bounds`.
pub fn hll_sketch_bounds_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| instance(Answer::Bounds));
    Arc::clone(&INSTANCE)
}

fn bounds_fields() -> Fields {
    ["estimate", "lower", "upper"].map(|name| Field::new(name, DataType::Int64, true)).to_vec().into()
}

fn estimates(sketches: &BinaryArray) -> Result<ArrayRef> {
    let estimate = |bytes: &[u8]| read(bytes).map(|(_, sketch)| sketch.estimate().round() as i64);
    let estimates = sketches.iter().map(|bytes| bytes.map(estimate).transpose());
    Ok(Arc::new(estimates.collect::<Result<Int64Array>>()?))
}

fn bounds(sketches: &BinaryArray, deviations: NumStdDev) -> Result<ArrayRef> {
    let mut columns: [Vec<i64>; 3] = Default::default();
    for bytes in sketches {
        let of_sketch = match bytes {
            None => [0; 3],
            Some(bytes) => {
                let (_, sketch) = read(bytes)?;
                let (lower, upper) = (sketch.lower_bound(deviations), sketch.upper_bound(deviations));
                [sketch.estimate().round(), lower.floor(), upper.ceil()].map(|v| v as i64)
            }
        };
        columns.iter_mut().zip(of_sketch).for_each(|(column, value)| column.push(value));
    }
    let columns = columns.map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).to_vec();
    let nulls: NullBuffer = sketches.iter().map(|bytes| bytes.is_some()).collect::<Vec<bool>>().into();
    Ok(Arc::new(StructArray::try_new(bounds_fields(), columns, Some(nulls))?))
}

impl ScalarUDFImpl for HllSketchEstimate {
    fn name(&self) -> &str {
        match self.answer {
            Answer::Estimate => "hll_sketch_estimate",
            Answer::Bounds => "hll_sketch_bounds",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.answer, types) {
            (_, [sketch]) => StateType::of(sketch, self.name()).map(|_| types.to_vec()),
            (Answer::Bounds, [sketch, _]) => {
                StateType::of(sketch, self.name()).map(|_| vec![sketch.clone(), DataType::Int64])
            }
            (Answer::Estimate, _) => {
                plan_err!("hll_sketch_estimate takes a sketch, not {} arguments", types.len())
            }
            (Answer::Bounds, _) => {
                plan_err!(
                    "hll_sketch_bounds takes a sketch, and optionally 1, 2 or 3, not {} arguments",
                    types.len()
                )
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.answer {
            Answer::Estimate => DataType::Int64,
            Answer::Bounds => DataType::Struct(bounds_fields()),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let deviations = match args.args.get(1) {
            None | Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(2)))) => NumStdDev::Two,
            Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(1)))) => NumStdDev::One,
            Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(3)))) => NumStdDev::Three,
            Some(_) => {
                return exec_err!(
                    "the second argument of hll_sketch_bounds is 1, 2 or 3 standard deviations"
                );
            }
        };
        let sketches = sketch_bytes_of(&args.args[0].to_array(args.number_rows)?)?;
        Ok(ColumnarValue::Array(match self.answer {
            Answer::Estimate => estimates(&sketches)?,
            Answer::Bounds => bounds(&sketches, deviations)?,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static OF_ESTIMATE: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns how many different items a sketch has seen, approximately.",
                "hll_sketch_estimate(sketch)",
            )
            .with_sql_example("```sql\nSELECT hll_sketch_estimate(hll_sketch_agg(user_id)) FROM clicks;\n```")
            .with_argument("sketch", "A sketch of hll_sketch_agg or hll_union_agg.")
            .build()
        });
        static OF_BOUNDS: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns `estimate`, `lower` and `upper`: the range that the number of different items lies in with 68, 95 or \
                 99.7 % confidence, for 1, 2 or 3 standard deviations.",
                "hll_sketch_bounds(sketch[, deviations])",
            )
            .with_sql_example("```sql\nSELECT hll_sketch_bounds(hll_sketch_agg(user_id), 2) FROM clicks;\n```")
            .with_argument("sketch", "A sketch of hll_sketch_agg or hll_union_agg.")
            .with_argument("deviations", "1, 2 or 3; 2 if not given.")
            .build()
        });
        Some(match self.answer {
            Answer::Estimate => &OF_ESTIMATE,
            Answer::Bounds => &OF_BOUNDS,
        })
    }
}
