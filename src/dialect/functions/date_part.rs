//! `date_part` and `extract` with the fraction of seconds, and with the parts that PostgreSQL has beside the engine's.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Utc};
use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::timezone::local;

pub(super) fn udf() -> Arc<ScalarUDF> {
    let signature = datetime::date_part().signature().clone();
    let signature = Signature::new(signature.type_signature, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(DatePart { signature, aliases: vec!["datepart".to_owned()] }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    signature: Signature,
    aliases: Vec<String>,
}

/// Parts that are made here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Own {
    /// Seconds, of which so many are one.
    Seconds(f64),
    Decade,
    Century,
    Millennium,
    Julian,
}

impl Own {
    fn of(part: &str) -> Option<Self> {
        Some(match part.to_ascii_lowercase().as_str() {
            "second" | "seconds" => Own::Seconds(1e6),
            "millisecond" | "milliseconds" => Own::Seconds(1e3),
            "decade" => Own::Decade,
            "century" => Own::Century,
            "millennium" => Own::Millennium,
            "julian" => Own::Julian,
            _ => return None,
        })
    }

    fn gives(self) -> DataType {
        match self {
            Own::Seconds(_) => DataType::Float64,
            _ => DataType::Int32,
        }
    }
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        "date_part"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        datetime::date_part().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten().and_then(|v| v.try_as_str().flatten());
        match part.and_then(Own::of) {
            Some(own) => {
                let nullable = args.arg_fields.get(1).is_none_or(|f| f.is_nullable());
                Ok(Arc::new(Field::new(self.name(), own.gives(), nullable)))
            }
            None => datetime::date_part().return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let part = match &args.args[0] {
            ColumnarValue::Scalar(part) => part.try_as_str().flatten().unwrap_or_default().to_owned(),
            ColumnarValue::Array(_) => String::new(),
        };
        match Own::of(&part) {
            Some(Own::Seconds(scale)) => seconds(args, scale),
            Some(own) => years(&args, own),
            None => datetime::date_part().invoke_with_args(args),
        }
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        // A year of instants begins when the session's clock says, which is not known here.
        match args.get(1).map(|time| info.get_data_type(time)) {
            Some(Ok(DataType::Timestamp(_, Some(_)))) => Ok(PreimageResult::None),
            _ => datetime::date_part().inner().preimage(args, literal, info),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        None
    }
}

/// The seconds of the minute with their fraction, times a thousand for milliseconds.
fn seconds(mut args: ScalarFunctionArgs, scale: f64) -> Result<ColumnarValue> {
    args.args[0] = ColumnarValue::Scalar(ScalarValue::from("microsecond"));
    let type_of = Field::new("microsecond", DataType::Int32, true);
    args.return_field = Arc::new(type_of);
    let micros = datetime::date_part().invoke_with_args(args)?;
    let constant = matches!(micros, ColumnarValue::Scalar(_));
    let micros = micros.into_array(1)?;
    let seconds: Float64Array = micros.as_primitive::<Int32Type>().unary(|m| f64::from(m) / scale);
    back(Arc::new(seconds), constant)
}

/// What is counted in years.
fn years(args: &ScalarFunctionArgs, own: Own) -> Result<ColumnarValue> {
    let constant = matches!(args.args[1], ColumnarValue::Scalar(_));
    let times = args.args[1].to_array(if constant { 1 } else { args.number_rows })?;
    let times = local(&times)?;
    let counted = times.as_primitive::<TimestampMicrosecondType>().iter().map(|time| {
        let date = DateTime::<Utc>::from_timestamp_micros(time?)?.date_naive();
        let year = date.year();
        Some(match own {
            Own::Decade => year.div_euclid(10),
            Own::Century => (year - 1).div_euclid(100) + 1,
            Own::Millennium => (year - 1).div_euclid(1000) + 1,
            _ => date.num_days_from_ce() + 1_721_425,
        })
    });
    back(Arc::new(counted.collect::<Int32Array>()), constant)
}

fn back(column: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?)),
        false => Ok(ColumnarValue::Array(column)),
    }
}
