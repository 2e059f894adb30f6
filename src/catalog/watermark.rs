//! `watermark('sales')`: the event time up to which a table is taken to be complete.
//!
//! The highest event time seen, less the table's `allowed_lateness`. Event time, never the clock. It is read at the
//! version that the statement has pinned, so that an answer never calls complete what it did not count.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as EngineResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::Expr;

use super::options::TableOptions;
use super::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::Snapshot;

/// The function's name.
pub const NAME: &str = "watermark";

/// The function over a warehouse.
pub fn udf(warehouse: Arc<Warehouse>) -> ScalarUDF {
    let documentation = Documentation::builder(
        datafusion::logical_expr::DocSection { include: true, label: "Completeness", description: None },
        "Returns the event time up to which a table is taken to be complete: the highest event time seen, less the \
         table's allowed_lateness. NULL if the table is empty.",
        "watermark(table)",
    )
    .with_argument("table", "Name of an events table, as a string literal.")
    .build();
    ScalarUDF::from(Watermark { warehouse, signature: Signature::string(1, Volatility::Stable), documentation })
}

#[derive(Debug)]
struct Watermark {
    warehouse: Arc<Warehouse>,
    signature: Signature,
    documentation: Documentation,
}

impl PartialEq for Watermark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.warehouse, &other.warehouse)
    }
}

impl Eq for Watermark {}

impl Hash for Watermark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.warehouse).hash(state);
    }
}

impl ScalarUDFImpl for Watermark {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(timestamp(false))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [ColumnarValue::Scalar(name)] = args.args.as_slice() else {
            return Err(Error::invalid_input("watermark needs the name of a table as a string literal").into());
        };
        let Some(name) = name.try_as_str().flatten() else { return Ok(ColumnarValue::Scalar(null())) };
        let pinned = args.config_options.extensions.get::<Pins>().and_then(|pins| pins.get(name));
        let snapshot = match pinned {
            Some(snapshot) => snapshot,
            None => self.warehouse.opened(name).ok_or_else(|| {
                Error::undefined_table(format!("watermark: there is no open table '{name}'"))
            })?,
        };
        let micros = of(name, &snapshot)?;
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(micros, None)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn null() -> ScalarValue {
    ScalarValue::TimestampMicrosecond(None, None)
}

/// The watermark of a table at one version, in microseconds; `None` if it has no events, or files without statistics.
pub fn of(name: &str, snapshot: &Snapshot) -> Result<Option<i64>> {
    let options = TableOptions::from_configuration(&snapshot.metadata.configuration);
    let Some(column) = &options.time_column else {
        return Err(Error::wrong_object_type(format!("watermark: table '{name}' has no time_column")));
    };
    let highest = snapshot.files.values().map(|f| f.stats(&snapshot.schema).highest_time_seen(column));
    let highest = highest.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    Ok(highest.map(|t| t - options.allowed_lateness))
}

/// The tables whose watermark an expression asks for, each with its warehouse.
pub fn calls_in(expr: &Expr) -> Vec<(Arc<Warehouse>, String)> {
    let mut calls = vec![];
    let found = expr.apply(|e| {
        if let Expr::ScalarFunction(call) = e
            && let Some(watermark) = (call.func.inner().as_ref() as &dyn Any).downcast_ref::<Watermark>()
            && let Some(Expr::Literal(name, _)) = call.args.first()
            && let Some(name) = name.try_as_str().flatten()
        {
            calls.push((Arc::clone(&watermark.warehouse), name.to_owned()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(found.is_ok(), "the walk has no way to fail");
    calls
}
