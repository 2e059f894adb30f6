//! `count_min_error` as a DataFusion function.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, Float64Builder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::weighted::Decoded;
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::{StateType, sketch_bytes_of};
use crate::sketch::weight::WeightType;

/// The function `count_min_error`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountMinError {
    signature: Signature,
}

/// The function `count_min_error`.
pub fn count_min_error_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(CountMinError { signature }))
    });
    Arc::clone(&INSTANCE)
}

impl ScalarUDFImpl for CountMinError {
    fn name(&self) -> &str {
        "count_min_error"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch] => StateType::of(sketch, self.name()).map(|_| types.to_vec()),
            _ => plan_err!("count_min_error takes a sketch, not {} arguments", types.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let state = StateType::of(&args.args[0].data_type(), self.name())?;
        let unit = match state.weight {
            WeightType::Decimal { scale, .. } => 10_f64.powi(-i32::from(scale)),
            _ => 1.0,
        };
        let sketches = sketch_bytes_of(&args.args[0].to_array(args.number_rows)?)?;
        let mut errors = Float64Builder::with_capacity(sketches.len());
        for bytes in &sketches {
            errors
                .append_option(bytes.map(|b| Decoded::read(b, None)).transpose()?.map(|d| d.error() * unit));
        }
        Ok(ColumnarValue::Array(Arc::new(errors.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns by how much an estimate of a count-min sketch may be wrong: eps · total weight, with the sketch's \
                 confidence. With weights below zero it may be wrong either way.",
                "count_min_error(sketch)",
            )
            .with_sql_example("```sql\nSELECT count_min_estimate(sketch, 42), count_min_error(sketch) FROM sketches;\n```")
            .with_argument("sketch", "A sketch of count_min_sketch or count_min_combine.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}
