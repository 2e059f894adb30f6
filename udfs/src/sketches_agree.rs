//! `sketches_agree` as a DataFusion function: for an audit of sketches that were made of the same rows in other ways.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, BooleanBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::frequent_items::agree::agree as top_items_agree;
use crate::hll::distinct::read as read_distinct;
use crate::sketch::envelope::{Envelope, Kind};
use crate::sketch::sketch_bytes::SKETCHES;
use crate::sketch::state_type::{StateType, is_binary, sketch_bytes_of};

/// The function `sketches_agree`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchesAgree {
    signature: Signature,
}

/// The function `sketches_agree`.
pub fn sketches_agree_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(SketchesAgree { signature }))
    });
    Arc::clone(&INSTANCE)
}

/// Whether two stored sketches may be of the same rows.
fn agree(a: &[u8], b: &[u8]) -> Result<bool> {
    let (a_bytes, b_bytes) = (a, b);
    let (a, b) = (Envelope::read_any(a)?, Envelope::read_any(b)?);
    if a.header != b.header {
        return Ok(false);
    }
    match a.header.kind {
        Kind::FrequentItems => top_items_agree(&a, &b),
        // Counters add up to the same in any order.
        Kind::CountMin => Ok(a.added == b.added && a.taken == b.taken),
        // Registers too, and this estimate is of nothing but them.
        Kind::Distinct => {
            let ((_, a), (_, b)) = (read_distinct(a_bytes)?, read_distinct(b_bytes)?);
            Ok(a.lg_config_k() == b.lg_config_k() && a.composite_estimate() == b.composite_estimate())
        }
    }
}

impl ScalarUDFImpl for SketchesAgree {
    fn name(&self) -> &str {
        "sketches_agree"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [a, b] = types else {
            return plan_err!("sketches_agree takes two sketches, not {} arguments", types.len());
        };
        for t in [a, b] {
            if !is_binary(t) {
                StateType::of(t, self.name())?;
            }
        }
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let a = sketch_bytes_of(&args.args[0].to_array(args.number_rows)?)?;
        let b = sketch_bytes_of(&args.args[1].to_array(args.number_rows)?)?;
        let mut result = BooleanBuilder::with_capacity(a.len());
        for (a, b) in a.iter().zip(&b) {
            result.append_value(match (a, b) {
                (Some(a), Some(b)) => agree(a, b)?,
                (a, b) => a.is_none() && b.is_none(),
            });
        }
        Ok(ColumnarValue::Array(Arc::new(result.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns whether two sketches may be of the same rows, however those were grouped and merged: count-min and \
                 distinct sketches have to be equal, top items have to have the same total weight and bounds that overlap for every \
                 item. Two NULLs agree.",
                "sketches_agree(sketch, sketch)",
            )
            .with_sql_example("```sql\nSELECT sketches_agree(a.users, b.users) FROM a JOIN b USING (bucket);\n```")
            .with_argument("sketch", "A sketch, or the bytes of its field `sketch`.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}
