//! `date_trunc` by the clock of a zone that is named.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::scalar::{TIMESTAMP, micros};

pub(super) fn udf() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(DateTrunc { signature, aliases: vec!["datetrunc".to_owned()] }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let time = match types {
            [_, t] | [_, t, _] => t,
            _ => return plan_err!("function 'date_trunc' takes a unit, a timestamp, and maybe a time zone"),
        };
        let time = match time {
            t @ (DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_)) if types.len() == 2 => {
                t.clone()
            }
            t @ DataType::Timestamp(_, Some(_)) => micros(t),
            DataType::Date32
            | DataType::Date64
            | DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
            | DataType::Null => TIMESTAMP,
            other => return plan_err!("function 'date_trunc' takes a timestamp, not {other}"),
        };
        let mut wanted = vec![DataType::Utf8, time];
        wanted.extend(types.get(2).map(|_| DataType::Utf8));
        Ok(wanted)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        datetime::date_trunc().return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match args.args.get(2) {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone)))) => Some(zone.clone()),
            Some(_) => return exec_err!("the time zone of date_trunc has to be the same for all rows"),
            None => None,
        };
        args.args.truncate(2);
        args.arg_fields.truncate(2);
        let whole = args.args[1].data_type();
        if let (DataType::Timestamp(unit, Some(own)), Some(zone)) = (&whole, zone)
            && **own != *zone
        {
            let there = DataType::Timestamp(*unit, Some(zone.into()));
            args.args[1] = args.args[1].cast_to(&there, None)?;
            args.return_field = Arc::new(Field::new(self.name(), there, true));
            return datetime::date_trunc().invoke_with_args(args)?.cast_to(&whole, None);
        }
        datetime::date_trunc().invoke_with_args(args)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        datetime::date_trunc().output_ordering(&input[..2])
    }

    fn documentation(&self) -> Option<&Documentation> {
        None
    }
}
