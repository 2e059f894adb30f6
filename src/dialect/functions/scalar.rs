//! What the functions here have in common: a name, how types become others, and a computation of whole
//! columns.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

/// A computation of whole columns. The session's settings have its time zone.
pub(super) type Run = fn(&[ArrayRef], &ConfigOptions) -> Result<ArrayRef>;

/// A function.
pub(super) struct Scalar {
    pub(super) name: &'static str,
    /// What the arguments are cast to; an error says which the function takes.
    pub(super) takes: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// The type of the result, of arguments as they were cast.
    pub(super) gives: fn(&[DataType]) -> Result<DataType>,
    pub(super) run: Run,
    pub(super) doc: Documentation,
}

impl Scalar {
    /// The function as the engine takes it.
    pub(super) fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Defined {
            signature: Signature::user_defined(Volatility::Immutable),
            of: self,
        }))
    }
}

struct Defined {
    of: Scalar,
    signature: Signature,
}

impl fmt::Debug for Defined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar").field("name", &self.of.name).finish_non_exhaustive()
    }
}

// There is one function of a name.
impl PartialEq for Defined {
    fn eq(&self, other: &Self) -> bool {
        self.of.name == other.of.name
    }
}

impl Eq for Defined {}

impl Hash for Defined {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.name.hash(state);
    }
}

impl ScalarUDFImpl for Defined {
    fn name(&self) -> &str {
        self.of.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.of.takes)(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        (self.of.gives)(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = (self.of.run)(&arrays, &args.config_options)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.of.doc)
    }
}

/// What `docs/functions.md` says of a function.
pub(super) fn doc(section: &'static str, description: &str, syntax: &str, example: &str) -> Documentation {
    let section = DocSection { include: true, label: section, description: None };
    let doc = Documentation::builder(section, description, syntax);
    doc.with_sql_example(format!("```sql\n{example}\n```")).build()
}

/// The section of functions of time.
pub(super) const TIME: &str = "PostgreSQL: time";
/// The section of functions of numbers.
pub(super) const NUMBERS: &str = "PostgreSQL: numbers";
/// The section of functions of text.
pub(super) const TEXT: &str = "PostgreSQL: text";

/// A timestamp in microseconds, with the zone that it has.
pub(super) fn micros(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        _ => TIMESTAMP,
    }
}

/// TIMESTAMP.
pub(super) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// TIMESTAMPTZ, as tables have it.
pub(super) fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// INTERVAL.
pub(super) const INTERVAL: DataType =
    DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano);

/// Exactly these types, or what can be cast to them.
pub(super) fn exactly(name: &str, given: &[DataType], wanted: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != wanted.len() {
        return plan_err!("function '{name}' takes {} arguments, not {}", wanted.len(), given.len());
    }
    Ok(wanted.to_vec())
}
