//! The functions that statements about the catalog call, and the list of functions itself.

mod constants;
mod listed;
mod objects;
mod privileges;
mod reg;
mod sessions;
mod sets;
mod settings;
mod text;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::array_bounds_udf::{create_array_lower_udf, create_array_upper_udf};
use datafusion_pg_catalog::pg_catalog::quote_ident_udf::{create_parse_ident_udf, create_quote_ident_udf};

pub(super) use self::listed::Listed;
pub(super) use self::reg::CASTS;
pub(super) use self::sets::SETS;

use super::relations::Relations;
use crate::error::Error;
use crate::pg::Client;

type Run = dyn Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync;
type TypeOf = dyn Fn(&[DataType]) -> DataType + Send + Sync;

/// A function from the values of a row to a value.
struct Function {
    name: &'static str,
    signature: Signature,
    returns: Box<TypeOf>,
    run: Box<Run>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

// A session has one function of a name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok((self.returns)(arguments))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let returns = args.return_field.data_type();
        let constants: Option<Vec<ScalarValue>> = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Scalar(value) => Some(value.clone()),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        if let Some(values) = constants {
            return Ok(ColumnarValue::Scalar((self.run)(&values)?.cast_to(returns)?));
        }
        let rows = args.number_rows;
        let arrays =
            args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let values = (0..rows).map(|row| {
            let values = arrays.iter().map(|a| ScalarValue::try_from_array(a, row));
            (self.run)(&values.collect::<Result<Vec<_>>>()?)?.cast_to(returns)
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        match values.is_empty() {
            true => Ok(ColumnarValue::Array(datafusion::arrow::array::new_empty_array(returns))),
            false => Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?)),
        }
    }
}

/// Makes a function that takes so many arguments of any type.
fn function(
    name: &'static str,
    arguments: &[usize],
    returns: DataType,
    run: impl Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync + 'static,
) -> Function {
    let each = arguments.iter().map(|n| match n {
        0 => TypeSignature::Nullary,
        n => TypeSignature::Any(*n),
    });
    let signature = Signature::one_of(each.collect(), Volatility::Stable);
    Function { name, signature, returns: Box::new(move |_| returns.clone()), run: Box::new(run) }
}

/// The same, which gives NULL where an argument is NULL.
fn strict(
    name: &'static str,
    arguments: &[usize],
    returns: DataType,
    run: impl Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync + 'static,
) -> Function {
    function(name, arguments, returns, move |values| match values.iter().any(ScalarValue::is_null) {
        true => Ok(ScalarValue::Null),
        false => run(values),
    })
}

/// A function that gives the same in every row.
fn constant(name: &'static str, arguments: &[usize], value: ScalarValue) -> Function {
    function(name, arguments, value.data_type(), move |_| Ok(value.clone()))
}

/// The same that may have done something each time.
fn volatile(function: Function) -> Function {
    let type_signature = function.signature.type_signature.clone();
    Function { signature: Signature::new(type_signature, Volatility::Volatile), ..function }
}

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

/// An argument as text.
fn as_text(value: &ScalarValue) -> Result<Option<String>> {
    match value.cast_to(&DataType::Utf8)? {
        ScalarValue::Utf8(text) => Ok(text),
        _ => Ok(None),
    }
}

/// An argument that is a number; none of a text that is not one.
fn as_number(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

fn is_text(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::LargeUtf8(_))
}

/// Those that are the same in all sessions.
fn shared() -> &'static [ScalarUDF] {
    static SHARED: OnceLock<Vec<ScalarUDF>> = OnceLock::new();
    SHARED.get_or_init(|| {
        let own = constants::all().into_iter().chain(text::all()).chain(sets::all());
        let mut all: Vec<ScalarUDF> = own.map(ScalarUDF::new_from_impl).collect();
        all.extend([
            create_quote_ident_udf(),
            create_parse_ident_udf(),
            create_array_upper_udf(),
            create_array_lower_udf(),
        ]);
        all
    })
}

/// Adds the functions to a session.
pub(super) fn register(
    ctx: &SessionContext,
    relations: &Arc<Relations>,
    listed: &Arc<Listed>,
    client: &Client,
) {
    for function in shared() {
        ctx.register_udf(function.clone());
    }
    let of_session = settings::all(client)
        .into_iter()
        .chain(objects::all(relations, listed))
        .chain(reg::all(relations))
        .chain(privileges::all(relations))
        .chain(sessions::all(relations, client));
    for function in of_session {
        ctx.register_udf(ScalarUDF::new_from_impl(function));
    }
}

fn invalid(message: impl Into<String>) -> datafusion::common::DataFusionError {
    Error::invalid_input(message).into()
}
