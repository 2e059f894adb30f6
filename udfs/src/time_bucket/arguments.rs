//! A bucketing as the arguments of `time_bucket` say it.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;

use super::bucketing::Bucketing;
use super::width::{BucketWidth, MILLISECOND, SECOND};
use super::zone::Zone;

impl Bucketing {
    /// Reads the arguments of `time_bucket` but for the timestamp, which has type `ts_type`: the width and
    /// then, if given, the time zone and the origin. NULL for one of the latter stands for its default.
    pub fn from_args(args: &[ScalarValue], ts_type: &DataType) -> Result<Self> {
        let (width, zone, origin) = match args {
            [width] => (width, None, None),
            [width, zone] => (width, Some(zone), None),
            [width, zone, origin] => (width, Some(zone), Some(origin)),
            _ => {
                return plan_err!(
                    "time_bucket takes a width, a timestamp, and optionally a time zone and an origin"
                );
            }
        };
        let width = BucketWidth::try_from(width)?;
        let zone = match zone.filter(|zone| !zone.is_null()) {
            Some(zone) => Some(zone_from(zone)?),
            None => match ts_type {
                DataType::Timestamp(_, Some(name)) => Some(name.parse()?),
                _ => None,
            },
        };
        let origin = match origin.filter(|origin| !origin.is_null()) {
            Some(origin) => Some(instant_from(origin)?),
            None => None,
        };
        let bucketing = Self::new(width, zone, origin);
        bucketing.check_resolution(ts_type)?;
        Ok(bucketing)
    }
}

fn zone_from(value: &ScalarValue) -> Result<Zone> {
    match value.try_as_str() {
        Some(Some(name)) => name.parse(),
        _ => plan_err!(
            "the time zone of time_bucket must be a string such as 'Europe/Berlin', not of type {}: \
             an origin is the fourth argument, after a time zone or NULL",
            value.data_type()
        ),
    }
}

/// The instant that a timestamp stands for; a string or a date is cast to one first.
fn instant_from(value: &ScalarValue) -> Result<i64> {
    let micros = match value {
        ScalarValue::TimestampSecond(Some(value), _) => value.checked_mul(SECOND),
        ScalarValue::TimestampMillisecond(Some(value), _) => value.checked_mul(MILLISECOND),
        ScalarValue::TimestampMicrosecond(Some(value), _) => Some(*value),
        ScalarValue::TimestampNanosecond(Some(value), _) => (value % 1_000 == 0).then_some(value / 1_000),
        value
            if value.data_type().is_string()
                || matches!(value, ScalarValue::Date32(_) | ScalarValue::Date64(_)) =>
        {
            return instant_from(&value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))?);
        }
        _ => None,
    };
    match micros {
        Some(micros) => Ok(micros),
        None => plan_err!(
            "the origin of time_bucket must be a timestamp in whole microseconds, not {value} of type {}",
            value.data_type()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day_in(zone: &str, origin: Option<i64>) -> Bucketing {
        Bucketing::new(BucketWidth::parse("1 day").unwrap(), Some(zone.parse().unwrap()), origin)
    }

    #[test]
    fn arguments_are_read() {
        let timestamps = DataType::Timestamp(TimeUnit::Microsecond, None);
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
        let (day, utc) = (ScalarValue::from("1 day"), ScalarValue::from("UTC"));
        let read = |args: &[ScalarValue], ts_type| Bucketing::from_args(args, ts_type).unwrap();

        assert_eq!(read(std::slice::from_ref(&day), &timestamps), day_in("UTC", None));
        assert_eq!(read(std::slice::from_ref(&day), &zoned), day_in("Europe/Berlin", None));
        assert_eq!(read(&[day.clone(), ScalarValue::Utf8(None)], &zoned), day_in("Europe/Berlin", None));
        assert_eq!(read(&[day.clone(), utc.clone()], &zoned), day_in("UTC", None));
        let noon = day_in("UTC", Some(1_704_110_400_000_000));
        for origin in [
            ScalarValue::from("2024-01-01T12:00:00Z"),
            ScalarValue::TimestampSecond(Some(1_704_110_400), None),
            ScalarValue::TimestampNanosecond(Some(1_704_110_400_000_000_000), Some("Asia/Kolkata".into())),
        ] {
            assert_eq!(read(&[day.clone(), utc.clone(), origin], &timestamps), noon);
        }
    }
}
