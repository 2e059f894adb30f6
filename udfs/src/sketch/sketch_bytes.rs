//! `sketch_bytes` as a DataFusion function.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, BinaryBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::envelope::Envelope;
use super::state_type::{StateType, sketch_bytes_of};

/// The section of the function reference that sketches are in.
pub(crate) const SKETCHES: DocSection =
    DocSection { include: true, label: "Sketch Functions", description: None };

/// The bare bytes of a sketch; see [the module](super).
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SketchBytes {
    signature: Signature,
}

/// The one instance of `sketch_bytes`.
pub fn sketch_bytes_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(SketchBytes {
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    Arc::clone(&INSTANCE)
}

impl ScalarUDFImpl for SketchBytes {
    fn name(&self) -> &str {
        "sketch_bytes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch] => {
                StateType::of(sketch, self.name())?;
                Ok(vec![sketch.clone()])
            }
            [sketch, part] if part.is_string() => {
                StateType::of(sketch, self.name())?;
                Ok(vec![sketch.clone(), DataType::Utf8])
            }
            _ => plan_err!("sketch_bytes takes a sketch, and optionally 'added', 'taken' or 'stored'"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let part = match args.args.get(1) {
            None => "added",
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(part)))) => part,
            Some(_) => "",
        };
        if !["added", "taken", "stored"].contains(&part) {
            return exec_err!("the second argument of sketch_bytes is 'added', 'taken' or 'stored'");
        }
        let column = args.args[0].to_array(args.number_rows)?;
        let sketches = sketch_bytes_of(&column)?;
        let mut builder = BinaryBuilder::with_capacity(sketches.len(), sketches.value_data().len());
        for bytes in &sketches {
            let envelope = bytes.map(Envelope::read_any).transpose()?;
            builder.append_option(envelope.and_then(|envelope| match part {
                "taken" => envelope.taken,
                "stored" => bytes,
                _ => Some(envelope.added),
            }));
        }
        Ok(ColumnarValue::Array(Arc::new(builder.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                SKETCHES,
                "Returns the sketch itself, in the serialisation of Apache DataSketches, for its Java, C++ and Python \
                 libraries. A sketch of weights of both signs is two sketches: what was `'added'` (the default) and what \
                 was `'taken'` off again; NULL if nothing was. `'stored'` is both, as a table keeps them.",
                "sketch_bytes(sketch[, part])",
            )
            .with_sql_example(
                "```sql\nSELECT sketch_bytes(approx_top_k_accumulate(product_id)) FROM sales;\n```",
            )
            .with_argument("sketch", "A sketch.")
            .with_argument("part", "`'added'`, `'taken'` or `'stored'`.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}
