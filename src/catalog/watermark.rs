//! `watermark('sales')`: the event time up to which a table is taken to be complete, `last_event_time('sales')`, and
//! `complete_through('sales_hourly')`: the end of the last bucket of a rollup that the watermark has passed.
//!
//! Event time, never the clock; [`event_times`](crate::lake::event_times) has the rule. It is read at the version that the
//! statement has pinned, so that an answer never calls complete what it did not count. All are known
//! when a statement is planned, so a filter on one of them prunes files as a literal does.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as EngineResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::prelude::Expr;

use super::access::Access;
use super::options::keys;
use super::privileges::Privilege;
use super::warehouse::{Object, Warehouse};
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::Snapshot;
use crate::rollup::view::Rollup;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Watermark,
    LastEventTime,
    CompleteThrough,
}

/// The functions over a warehouse. Without anybody's access they are for the definitions of views.
pub fn udfs(warehouse: &Arc<Warehouse>, access: Option<&Access>) -> [Arc<ScalarUDF>; 3] {
    [Which::Watermark, Which::LastEventTime, Which::CompleteThrough]
        .map(|which| Arc::new(ScalarUDF::from(Watermark::new(warehouse, which, access))))
}

#[derive(Debug)]
struct Watermark {
    which: Which,
    warehouse: Arc<Warehouse>,
    /// Whose session it is for.
    access: Option<Access>,
    signature: Signature,
    documentation: Documentation,
}

impl Watermark {
    fn new(warehouse: &Arc<Warehouse>, which: Which, access: Option<&Access>) -> Self {
        let (description, syntax) = match which {
            Which::Watermark => (
                "Returns the event time up to which a table is taken to be complete: the highest event time seen (of \
                 streams that of the active partition which is least far), less the table's allowed_lateness. It never \
                 falls. NULL if the table never had an event.",
                "watermark(table)",
            ),
            Which::LastEventTime => (
                "Returns the highest event time seen in a table, also if the event was deleted since. NULL if the table \
                 never had one.",
                "last_event_time(table)",
            ),
            Which::CompleteThrough => (
                "Returns the end of the last bucket of a rollup that the watermark of its events has passed: no event \
                 is expected for it any more. NULL if there are no events.",
                "complete_through(rollup)",
            ),
        };
        let section = DocSection { include: true, label: "Completeness", description: None };
        let documentation = Documentation::builder(section, description, syntax)
            .with_argument("table", "Name of an events table, or of a rollup, as a string literal.")
            .build();
        let signature = Signature::string(1, Volatility::Stable);
        Watermark {
            which,
            warehouse: Arc::clone(warehouse),
            access: access.cloned(),
            signature,
            documentation,
        }
    }
}

impl PartialEq for Watermark {
    fn eq(&self, other: &Self) -> bool {
        self.which == other.which
            && self.access == other.access
            && Arc::ptr_eq(&self.warehouse, &other.warehouse)
    }
}

impl Eq for Watermark {}

impl Hash for Watermark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.which.hash(state);
        self.access.hash(state);
        Arc::as_ptr(&self.warehouse).hash(state);
    }
}

impl ScalarUDFImpl for Watermark {
    fn name(&self) -> &str {
        match self.which {
            Which::Watermark => "watermark",
            Which::LastEventTime => "last_event_time",
            Which::CompleteThrough => "complete_through",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(timestamp(false))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [ColumnarValue::Scalar(name)] = args.args.as_slice() else {
            return Err(
                Error::invalid_input(format!("{} needs a name as a string literal", self.name())).into()
            );
        };
        let Some(name) = name.try_as_str().flatten() else { return Ok(ColumnarValue::Scalar(null())) };
        if let Some(access) = &self.access {
            access.check(Privilege::Select, &self.warehouse, name)?;
        }
        let pins = args.config_options.extensions.get::<Pins>();
        let snapshot = |name: &str| match pins.and_then(|pins| pins.get(name)) {
            Some(snapshot) => Ok(snapshot),
            None => self.warehouse.opened(name).ok_or_else(|| {
                Error::undefined_table(format!("{}: there is no open table '{name}'", self.name()))
            }),
        };
        let micros = match self.which {
            Which::Watermark => of(name, &*snapshot(name)?)?,
            Which::LastEventTime => last_event_time(name, &*snapshot(name)?)?,
            Which::CompleteThrough => match self.warehouse.built(name) {
                Some(Object::Rollup(table)) => {
                    complete_through(table.rollup(), &*snapshot(table.rollup().events().name())?)?
                }
                _ => of(name, &*snapshot(name)?)?,
            },
        };
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(micros, None)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn null() -> ScalarValue {
    ScalarValue::TimestampMicrosecond(None, None)
}

/// The watermark of a table at one version, in microseconds; `None` if nothing says how far its events have come.
pub fn of(name: &str, snapshot: &Snapshot) -> Result<Option<i64>> {
    check_has_time(name, snapshot)?;
    Ok(snapshot.event_times.watermark())
}

/// The highest event time seen in a table at one version, in microseconds; `None` as for [`of`].
pub fn last_event_time(name: &str, snapshot: &Snapshot) -> Result<Option<i64>> {
    check_has_time(name, snapshot)?;
    Ok(snapshot.event_times.highest())
}

fn check_has_time(name: &str, snapshot: &Snapshot) -> Result<()> {
    match snapshot.option(keys::TIME_COLUMN) {
        Some(_) => Ok(()),
        None => Err(Error::wrong_object_type(format!(
            "table '{name}' has no time_column, so no time is its latest"
        ))),
    }
}

/// The end of the last bucket of a rollup that the watermark of its events has passed, in microseconds; `None` as for
/// [`of`].
pub fn complete_through(rollup: &Rollup, events: &Snapshot) -> Result<Option<i64>> {
    let watermark = of(rollup.events().name(), events)?;
    Ok(watermark.map(|t| rollup.definition.bucketing().start(t)))
}

/// Whether a function is one of these: what it gives depends on the pinned version alone.
pub fn is_one(function: &ScalarUDF) -> bool {
    (function.inner().as_ref() as &dyn Any).is::<Watermark>()
}

/// Whether an expression calls one of these.
pub fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if is_one(&call.func))
}

/// The tables and rollups whose completeness an expression asks for, each with its warehouse.
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
