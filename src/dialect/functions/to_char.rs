//! `to_char`: times, intervals and numbers as text, by PostgreSQL's patterns and, for times, those with `%`.

use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::pattern::{Case, DAYS, MONTHS, Part, Piece, is_strftime, parse};
use super::scalar::{INTERVAL, TIME, TIMESTAMP, doc, micros};
use super::timezone::named;
use super::to_number::number_texts;

pub(super) fn udf() -> Arc<ScalarUDF> {
    let doc = doc(
        TIME,
        "A time, an interval or a number as text, by a pattern.",
        "to_char(value, pattern)",
        "SELECT to_char(TIMESTAMP '2026-01-31 23:59:59', 'Dy DD Mon HH24:MI');  -- Sat 31 Jan 23:59",
    );
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(ToChar { signature, aliases: vec!["date_format".to_owned()], doc }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
    aliases: Vec<String>,
    doc: Documentation,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = types else { return plan_err!("function 'to_char' takes a value and a pattern") };
        let value = match value {
            t if t.is_numeric() => t.clone(),
            t @ (DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_)) => {
                t.clone()
            }
            t @ DataType::Timestamp(..) => t.clone(),
            DataType::Interval(_) => INTERVAL,
            DataType::Date64 | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => {
                TIMESTAMP
            }
            other => return plan_err!("function 'to_char' takes times, intervals and numbers, not {other}"),
        };
        Ok(vec![value, DataType::Utf8])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of_engine = match (&args.args[1], args.args[0].data_type()) {
            (_, DataType::Duration(_)) => true,
            (ColumnarValue::Scalar(ScalarValue::Utf8(Some(pattern))), _) => is_strftime(pattern),
            (ColumnarValue::Array(patterns), _) => {
                patterns.as_string::<i32>().iter().flatten().any(is_strftime)
            }
            _ => false,
        };
        if of_engine {
            return datetime::to_char().invoke_with_args(args);
        }
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let (values, patterns) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let texts = texts(&values, &patterns)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)),
            false => Ok(ColumnarValue::Array(texts)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.doc)
    }
}

fn texts(values: &ArrayRef, patterns: &ArrayRef) -> Result<ArrayRef> {
    let patterns = patterns.as_string::<i32>();
    if values.data_type().is_numeric() {
        return number_texts(values, patterns);
    }
    let mut out = StringBuilder::new();
    let mut known: Option<(String, Vec<Piece>)> = None;
    let moments = Moments::of(values)?;
    for row in 0..values.len() {
        if values.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let pattern = patterns.value(row);
        if known.as_ref().is_none_or(|(last, _)| last != pattern) {
            known = Some((pattern.to_owned(), parse(pattern)));
        }
        let pieces = known.as_ref().map_or(&[][..], |(_, pieces)| pieces);
        let Some(moment) = moments.at(row) else { return exec_err!("timestamp out of range") };
        out.append_value(moment.text(pieces));
    }
    Ok(Arc::new(out.finish()))
}

/// A zone, and whence it has its abbreviations.
struct Zone {
    clock: Tz,
    names: Option<chrono_tz::Tz>,
}

impl Zone {
    fn of(name: &str) -> Result<Self> {
        Ok(Zone { clock: named(name)?, names: name.parse().ok() })
    }
}

/// A column of times or intervals.
enum Moments {
    Times(ArrayRef, Option<Zone>),
    Intervals(ArrayRef),
}

impl Moments {
    fn of(values: &ArrayRef) -> Result<Self> {
        Ok(match values.data_type() {
            DataType::Interval(_) => Moments::Intervals(Arc::clone(values)),
            t @ DataType::Timestamp(_, Some(zone)) => {
                Moments::Times(cast(values, &micros(t))?, Some(Zone::of(zone)?))
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                let time = cast(values, &DataType::Time64(TimeUnit::Microsecond))?;
                Moments::Times(cast(&cast(&time, &DataType::Int64)?, &TIMESTAMP)?, None)
            }
            _ => Moments::Times(cast(values, &TIMESTAMP)?, None),
        })
    }

    fn at(&self, row: usize) -> Option<Moment> {
        match self {
            Moments::Intervals(values) => {
                Some(Moment::of_interval(values.as_primitive::<IntervalMonthDayNanoType>().value(row)))
            }
            Moments::Times(values, zone) => {
                let at = DateTime::<Utc>::from_timestamp_micros(
                    values.as_primitive::<TimestampMicrosecondType>().value(row),
                )?;
                let at = at.naive_utc();
                let Some(zone) = zone else { return Some(Moment::of(at, None)) };
                let seconds = zone.clock.offset_from_utc_datetime(&at).fix().local_minus_utc();
                let name = zone.names.map_or(String::new(), |z| z.offset_from_utc_datetime(&at).to_string());
                let shown = at.checked_add_signed(chrono::TimeDelta::seconds(i64::from(seconds)))?;
                Some(Moment::of(shown, Some((name, seconds))))
            }
        }
    }
}

/// A time, or an interval as if it were one.
struct Moment {
    date: Option<NaiveDate>,
    year: i32,
    month: u32,
    day: i32,
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
    zone: Option<(String, i32)>,
}

impl Moment {
    fn of(at: NaiveDateTime, zone: Option<(String, i32)>) -> Self {
        Moment {
            date: Some(at.date()),
            year: at.year(),
            month: at.month(),
            day: at.day() as i32,
            hour: i64::from(at.hour()),
            minute: i64::from(at.minute()),
            second: i64::from(at.second()),
            micro: i64::from(at.nanosecond() / 1000),
            zone,
        }
    }

    fn of_interval(of: IntervalMonthDayNano) -> Self {
        let micros = of.nanoseconds / 1000;
        Moment {
            date: None,
            year: of.months / 12,
            month: (of.months % 12).unsigned_abs(),
            day: of.days,
            hour: micros / 3_600_000_000,
            minute: micros / 60_000_000 % 60,
            second: micros / 1_000_000 % 60,
            micro: micros % 1_000_000,
            zone: None,
        }
    }

    fn text(&self, pieces: &[Piece]) -> String {
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text, _) => out.push_str(text),
                Piece::Part { part, case, bare, ending } => {
                    self.write(*part, *case, *bare, *ending, &mut out)
                }
            }
        }
        out
    }

    fn write(&self, part: Part, case: Case, bare: bool, ending: Option<Case>, out: &mut String) {
        let date = self.date.unwrap_or_default();
        let iso = date.iso_week();
        // There is no year 0: the year before 1 is 1 BC.
        let year = |year: i32| if self.date.is_some() && year <= 0 { 1 - year } else { year };
        let (offset, offset_sign) =
            self.zone.as_ref().map_or((0, '+'), |(_, s)| (s.abs(), if *s < 0 { '-' } else { '+' }));
        let (number, width) = match part {
            Part::Hour12 => (if self.hour % 12 == 0 { 12 } else { self.hour % 12 }, 2),
            Part::Hour24 => (self.hour, 2),
            Part::Minute => (self.minute, 2),
            Part::Second => (self.second, 2),
            Part::Millisecond => (self.micro / 1000, 3),
            Part::Microsecond => (self.micro, 6),
            Part::Fraction(digits) => (self.micro / 10_i64.pow(6 - digits as u32), digits),
            Part::SecondOfDay => (self.hour * 3600 + self.minute * 60 + self.second, 0),
            Part::Year(5) => {
                let year = year(self.year);
                let _ = write!(out, "{},{:03}", year / 1000, year % 1000);
                return;
            }
            Part::Year(digits) => (last_digits(year(self.year), digits), digits),
            Part::IsoYear(digits) => (last_digits(year(iso.year()), digits), digits),
            Part::Month => (i64::from(self.month), 2),
            Part::DayOfYear => (i64::from(date.ordinal()), 3),
            Part::IsoDayOfYear => (i64::from(iso.week0() * 7 + date.weekday().number_from_monday()), 3),
            Part::Day => (i64::from(self.day), 2),
            Part::DayOfWeek => (i64::from(date.weekday().number_from_sunday()), 0),
            Part::IsoDayOfWeek => (i64::from(date.weekday().number_from_monday()), 0),
            Part::WeekOfMonth => (i64::from((self.day - 1) / 7 + 1), 0),
            Part::WeekOfYear => (i64::from(date.ordinal0() / 7 + 1), 2),
            Part::IsoWeek => (i64::from(iso.week()), 2),
            Part::Century => (i64::from((year(self.year) - 1).div_euclid(100) + 1), 2),
            Part::JulianDay => (i64::from(date.num_days_from_ce()) + 1_721_425, 0),
            Part::Quarter => (i64::from((self.month.max(1) - 1) / 3 + 1), 0),
            Part::ZoneMinutes => (i64::from(offset / 60 % 60), 2),
            Part::ZoneHours => {
                let _ = write!(out, "{offset_sign}{:02}", offset / 3600);
                return;
            }
            Part::Offset => {
                let _ = write!(out, "{offset_sign}{:02}", offset / 3600);
                if offset % 3600 != 0 {
                    let _ = write!(out, ":{:02}", offset / 60 % 60);
                }
                return;
            }
            Part::HalfDay(dots) => {
                let word = match (self.hour % 24 >= 12, dots) {
                    (false, false) => "AM",
                    (true, false) => "PM",
                    (false, true) => "A.M.",
                    (true, true) => "P.M.",
                };
                return cased(word, if case == Case::Lower { Case::Lower } else { Case::Upper }, 0, out);
            }
            Part::Era(dots) => {
                let word = match (self.year <= 0, dots) {
                    (false, false) => "AD",
                    (true, false) => "BC",
                    (false, true) => "A.D.",
                    (true, true) => "B.C.",
                };
                return cased(word, if case == Case::Lower { Case::Lower } else { Case::Upper }, 0, out);
            }
            Part::MonthName => return cased(self.month_name(), case, if bare { 0 } else { 9 }, out),
            Part::MonthShort => return cased(self.month_name().get(..3).unwrap_or_default(), case, 0, out),
            Part::DayName => return cased(self.day_name(), case, if bare { 0 } else { 9 }, out),
            Part::DayShort => return cased(&self.day_name()[..3], case, 0, out),
            Part::RomanMonth => {
                let roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
                let word = roman.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or_default();
                let case = if case == Case::Lower { Case::Lower } else { Case::Upper };
                return cased(word, case, if bare { 0 } else { 4 }, out);
            }
            Part::Zone => {
                let name = self.zone.as_ref().map_or("", |(name, _)| name.as_str());
                let case = if case == Case::Lower { Case::Lower } else { Case::Upper };
                return cased(name, case, 0, out);
            }
        };
        // Fractions keep their zeros: they are digits behind a point.
        let fraction = matches!(part, Part::Millisecond | Part::Microsecond | Part::Fraction(_));
        let width = if bare && !fraction { 0 } else { width };
        let sign = if number < 0 { "-" } else { "" };
        let _ = write!(out, "{sign}{:0width$}", number.abs());
        if let Some(case) = ending {
            cased(ending_of(number), case, 0, out);
        }
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or_default()
    }

    fn day_name(&self) -> &'static str {
        DAYS[self.date.unwrap_or_default().weekday().num_days_from_sunday() as usize]
    }
}

fn last_digits(year: i32, digits: usize) -> i64 {
    let year = i64::from(year);
    if digits >= 4 { year } else { year % 10_i64.pow(digits as u32) }
}

pub(super) fn ending_of(number: i64) -> &'static str {
    match (number.abs() % 100, number.abs() % 10) {
        (11..=13, _) => "TH",
        (_, 1) => "ST",
        (_, 2) => "ND",
        (_, 3) => "RD",
        _ => "TH",
    }
}

fn cased(word: &str, case: Case, width: usize, out: &mut String) {
    let word = match case {
        Case::Upper => word.to_uppercase(),
        Case::Lower => word.to_lowercase(),
        Case::Title => word.to_owned(),
    };
    let _ = write!(out, "{word:<width$}");
}
