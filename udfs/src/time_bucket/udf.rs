//! `time_bucket` as a DataFusion function.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion::arrow::array::{Array, ArrayRef, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::cast::as_primitive_array;
use datafusion::common::{ScalarValue, exec_datafusion_err, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_DATETIME;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::bucketing::Bucketing;
use super::width::{BucketWidth, MILLISECOND, SECOND};

/// The position of the timestamp among the arguments; the others are constants.
const TS: usize = 1;

/// The function `time_bucket`; see the [module](super) for what it does.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeBucket {
    signature: Signature,
}

/// The one instance of `time_bucket`.
pub fn time_bucket_udf() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(TimeBucket::new())));
    Arc::clone(&INSTANCE)
}

impl TimeBucket {
    /// A new instance; [`time_bucket_udf`] is ready to be registered.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for TimeBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=4).contains(&arg_types.len()) {
            return plan_err!(
                "time_bucket takes a width, a timestamp, and optionally a time zone and an origin, \
                 not {} arguments",
                arg_types.len()
            );
        }
        // What constants may be is for `Bucketing::from_args` to say, which can name their value too.
        let coerced = arg_types.iter().enumerate().map(|(i, arg_type)| match (i, arg_type) {
            (TS, DataType::Timestamp(_, _)) => Ok(arg_type.clone()),
            (TS, DataType::Date32 | DataType::Date64 | DataType::Null) => Ok(MICROSECONDS),
            (TS, arg_type) if arg_type.is_string() => Ok(MICROSECONDS),
            (TS, arg_type) => {
                plan_err!(
                    "time_bucket needs a timestamp or a date as its second argument: \
                     cast the {arg_type} to one"
                )
            }
            (_, arg_type) => Ok(arg_type.clone()),
        });
        coerced.collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args should be called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let ts = &args.arg_fields[TS];
        let constants = constants(args.scalar_arguments.iter().map(|value| value.cloned()));
        match (constants, args.scalar_arguments[0]) {
            (Some(constants), _) => _ = Bucketing::from_args(&constants, ts.data_type())?,
            // A constant such as TIMESTAMP '2024-01-01' is a cast until the plan is simplified.
            (None, Some(width)) => _ = BucketWidth::try_from(width)?,
            (None, None) => {}
        }
        Ok(Arc::new(Field::new(self.name(), ts.data_type().clone(), ts.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constants = constants(args.args.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        }));
        let ts = &args.args[TS];
        let Some(constants) = constants else {
            return not_constant();
        };
        let bucketing = Bucketing::from_args(&constants, &ts.data_type())?;
        match ts {
            ColumnarValue::Array(ts) => Ok(ColumnarValue::Array(starts(&bucketing, ts)?)),
            ColumnarValue::Scalar(ts) => {
                let starts = starts(&bucketing, &ts.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&starts, 0)?))
            }
        }
    }

    /// Only reports arguments that would fail on the first row, since types do not tell constants from
    /// columns.
    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if args.iter().enumerate().any(|(i, arg)| i != TS && (arg.any_column_refs() || arg.is_volatile())) {
            return not_constant();
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    /// Turns a comparison of the bucket with a constant into a range of timestamps.
    ///
    /// A constant at which no bucket starts is equal to no bucket, and less than the buckets that start after
    /// it: its range is empty and begins at the next bucket, which is right for every comparison.
    fn preimage(&self, args: &[Expr], lit_expr: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let Some(ts) = args.get(TS) else {
            return Ok(PreimageResult::None);
        };
        let ts_type = info.get_data_type(ts)?;
        let constants = constants(args.iter().map(|arg| arg.as_literal().cloned()));
        let (Some(constants), Some(literal)) = (constants, lit_expr.as_literal()) else {
            return Ok(PreimageResult::None);
        };
        let bucketing = Bucketing::from_args(&constants, &ts_type)?;
        match preimage_of(&bucketing, literal, &ts_type) {
            Some((lower, upper)) => Ok(PreimageResult::Range {
                expr: ts.clone(),
                interval: Box::new(Interval::try_new(lower, upper)?),
            }),
            None => Ok(PreimageResult::None),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        if self.preserves_lex_ordering(inputs)? {
            Ok(inputs[TS].sort_properties)
        } else {
            Ok(SortProperties::Unordered)
        }
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        let constant = |input: &ExprProperties| input.sort_properties == SortProperties::Singleton;
        Ok(inputs.iter().enumerate().all(|(i, input)| i == TS || constant(input)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_DATETIME,
                "Returns the start of the time bucket that a timestamp falls into. \
                 Buckets of months, weeks and days follow the calendar of a time zone, \
                 also when its clocks change.",
                "time_bucket(width, ts [, timezone [, origin]])",
            )
            .with_sql_example(
                "```sql\n\
                 > SELECT time_bucket(INTERVAL '15 minutes', TIMESTAMP '2024-05-15 10:42:00') AS bucket;\n\
                 +---------------------+\n\
                 | bucket              |\n\
                 +---------------------+\n\
                 | 2024-05-15T10:30:00 |\n\
                 +---------------------+\n\
                 > SELECT time_bucket('1 day', TIMESTAMP '2024-05-15 10:42:00', 'Asia/Kolkata') AS bucket;\n\
                 +---------------------+\n\
                 | bucket              |\n\
                 +---------------------+\n\
                 | 2024-05-14T18:30:00 |\n\
                 +---------------------+\n\
                 ```",
            )
            .with_argument("width", "Constant interval or string, such as '1 hour': months, days, or a time.")
            .with_argument("ts", "Timestamp or date. Without a time zone it is in UTC.")
            .with_argument(
                "timezone",
                "Optional constant time zone, such as 'Europe/Berlin' or '+05:30'. \
                 The default is that of the type of ts, or UTC.",
            )
            .with_argument(
                "origin",
                "Optional constant timestamp at which a bucket starts. \
                 The default is 2000-01-01 for months and Monday, 2000-01-03 for all else.",
            )
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

const MICROSECONDS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The arguments other than the timestamp, if they all have a value.
fn constants(args: impl Iterator<Item = Option<ScalarValue>>) -> Option<Vec<ScalarValue>> {
    args.enumerate().filter(|(i, _)| *i != TS).map(|(_, value)| value).collect()
}

fn not_constant<T>() -> Result<T> {
    plan_err!(
        "the width, time zone and origin of time_bucket must be constants: \
         only its second argument may vary by row"
    )
}

fn starts(bucketing: &Bucketing, ts: &ArrayRef) -> Result<ArrayRef> {
    match ts.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => starts_of::<TimestampSecondType>(bucketing, ts),
        DataType::Timestamp(TimeUnit::Millisecond, _) => starts_of::<TimestampMillisecondType>(bucketing, ts),
        DataType::Timestamp(TimeUnit::Microsecond, _) => starts_of::<TimestampMicrosecondType>(bucketing, ts),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => starts_of::<TimestampNanosecondType>(bucketing, ts),
        other => internal_err!("time_bucket got {other} instead of a timestamp"),
    }
}

fn starts_of<T: ArrowTimestampType>(bucketing: &Bucketing, ts: &ArrayRef) -> Result<ArrayRef> {
    let ts: &PrimitiveArray<T> = as_primitive_array(ts)?;
    let starts = bucketing.starts();
    let result: PrimitiveArray<T> = ts.try_unary(|value| {
        let micros = to_micros(T::UNIT, value).ok_or_else(|| {
            exec_datafusion_err!(
                "time_bucket cannot place a timestamp beyond the year 290000: filter such rows out"
            )
        })?;
        Ok::<_, datafusion::error::DataFusionError>(from_micros(T::UNIT, starts.of(micros)))
    })?;
    Ok(Arc::new(result.with_timezone_opt(ts.timezone())))
}

/// The timestamps `[lower, upper)` whose bucket is `bucket`.
fn preimage_of(
    bucketing: &Bucketing,
    bucket: &ScalarValue,
    ts_type: &DataType,
) -> Option<(ScalarValue, ScalarValue)> {
    let (ScalarValue::TimestampSecond(Some(value), _)
    | ScalarValue::TimestampMillisecond(Some(value), _)
    | ScalarValue::TimestampMicrosecond(Some(value), _)
    | ScalarValue::TimestampNanosecond(Some(value), _)) = bucket
    else {
        return None;
    };
    let DataType::Timestamp(unit, zone) = ts_type else {
        return None;
    };
    if bucket.data_type() != *ts_type {
        return None;
    }
    let (start, end) = bucketing.bounds(to_micros(*unit, *value)?);
    let (start, end) = (from_micros(*unit, start), from_micros(*unit, end));
    if end == i64::MAX {
        return None;
    }
    let lower = if start == *value { start } else { end };
    let timestamp = |value| match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(value), zone.clone()),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(value), zone.clone()),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(value), zone.clone()),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(value), zone.clone()),
    };
    Some((timestamp(lower), timestamp(end)))
}

/// The microsecond that a timestamp is in, unless that is out of range.
#[inline]
fn to_micros(unit: TimeUnit, value: i64) -> Option<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(SECOND),
        TimeUnit::Millisecond => value.checked_mul(MILLISECOND),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    }
}

/// The inverse, for the bounds of buckets; what nanoseconds cannot hold becomes their minimum or maximum.
#[inline]
fn from_micros(unit: TimeUnit, micros: i64) -> i64 {
    match unit {
        TimeUnit::Second => micros.div_euclid(SECOND),
        TimeUnit::Millisecond => micros.div_euclid(MILLISECOND),
        TimeUnit::Microsecond => micros,
        TimeUnit::Nanosecond => micros.saturating_mul(1_000),
    }
}
