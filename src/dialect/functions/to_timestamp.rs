//! `to_timestamp` and `to_date` of text by PostgreSQL's patterns; anything else is the engine's.

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use datafusion::arrow::array::{ArrayRef, AsArray, Date32Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::functions::datetime;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;

use super::pattern::{DAYS, MONTHS, Part, Piece, is_strftime, parse};

pub(super) fn to_timestamp() -> Arc<ScalarUDF> {
    Arc::new(ByPattern::of(datetime::to_timestamp(&ConfigOptions::default()), false))
}

pub(super) fn to_date() -> Arc<ScalarUDF> {
    Arc::new(ByPattern::of(datetime::to_date(), true))
}

/// The engine's function, asked where a pattern is not PostgreSQL's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByPattern {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    dates: bool,
}

impl ByPattern {
    fn of(inner: Arc<ScalarUDF>, dates: bool) -> ScalarUDF {
        let signature = inner.signature().clone();
        ScalarUDF::new_from_impl(ByPattern { inner, signature, dates })
    }
}

impl ScalarUDFImpl for ByPattern {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(Self::of(Arc::new(inner), self.dates))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pattern = match args.args.as_slice() {
            [text, ColumnarValue::Scalar(pattern)] if is_text(&text.data_type()) => {
                pattern.try_as_str().flatten()
            }
            _ => None,
        };
        let Some(pattern) = pattern.filter(|p| !is_strftime(p)) else {
            return self.inner.invoke_with_args(args);
        };
        let pieces = parse(pattern);
        let constant = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(if constant { 1 } else { args.number_rows })?;
        let texts = datafusion::arrow::compute::cast(&texts, &DataType::Utf8)?;
        let column = read(texts.as_string::<i32>(), &pieces, self.dates)?;
        let column = datafusion::arrow::compute::cast(&column, args.return_field.data_type())?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?)),
            false => Ok(ColumnarValue::Array(column)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// Where nothing is said of a zone it is UTC; `session_zone` puts a session's in.
fn read(texts: &StringArray, pieces: &[Piece], dates: bool) -> Result<ArrayRef> {
    let read = texts.iter().map(|text| text.map(|text| Read::text(text, pieces)).transpose());
    if dates {
        let days = read.map(|r| Ok(r?.map(|r| r.day().to_epoch_days())));
        return Ok(Arc::new(days.collect::<Result<Date32Array>>()?));
    }
    let instants = read.map(|r| {
        let Some(r) = r? else { return Ok(None) };
        let shown = r.micros();
        let instant = match r.offset {
            Some(seconds) => shown.checked_sub(i64::from(seconds) * 1_000_000),
            None => Some(shown),
        };
        instant.map(Some).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))
    });
    Ok(Arc::new(instants.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

/// What was read of a text.
#[derive(Debug, Default)]
struct Read {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    ordinal: Option<u32>,
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
    afternoon: Option<bool>,
    before_christ: bool,
    offset: Option<i32>,
    date: Option<NaiveDate>,
}

impl Read {
    fn text(text: &str, pieces: &[Piece]) -> Result<Self> {
        let wrong = |what: &str| exec_datafusion_err!("invalid value \"{text}\": {what}");
        let mut read = Read::default();
        let mut rest = text.trim_start();
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(literal, quoted) => rest = past(rest, literal, *quoted),
                Piece::Part { part, .. } => {
                    rest = rest.trim_start();
                    // Digits without anything between them are told apart by their number.
                    let joined = matches!(pieces.get(at + 1), Some(Piece::Part { .. }));
                    rest =
                        read.part(*part, rest, joined).ok_or_else(|| wrong("it does not fit the pattern"))?;
                }
            }
        }
        read.finish().ok_or_else(|| wrong("there is no such date or time"))
    }

    fn part<'a>(&mut self, part: Part, rest: &'a str, joined: bool) -> Option<&'a str> {
        let digits = |most: usize| number(rest, if joined { most } else { most.max(9) });
        let (value, after) = match part {
            Part::MonthName | Part::MonthShort => {
                let (at, after) = name(rest, &MONTHS)?;
                self.month = Some(at as u32 + 1);
                return Some(after);
            }
            Part::DayName | Part::DayShort => return name(rest, &DAYS).map(|(_, after)| after),
            Part::HalfDay(dots) | Part::Era(dots) => {
                let word = rest.get(..if dots { 4 } else { 2 })?;
                match word.to_ascii_uppercase().replace('.', "").as_str() {
                    "AM" => self.afternoon = Some(false),
                    "PM" => self.afternoon = Some(true),
                    "BC" => self.before_christ = true,
                    "AD" => {}
                    _ => return None,
                }
                return Some(&rest[word.len()..]);
            }
            Part::ZoneHours | Part::Offset => {
                let negative = rest.starts_with('-');
                let (hours, mut after) = number(rest.trim_start_matches(['+', '-']), 2)?;
                let mut seconds = hours as i32 * 3600;
                if part == Part::Offset
                    && let Some(minutes) = after.strip_prefix(':')
                {
                    let (minutes, more) = number(minutes, 2)?;
                    (seconds, after) = (seconds + minutes as i32 * 60, more);
                }
                self.offset = Some(if negative { -seconds } else { seconds });
                return Some(after);
            }
            Part::Microsecond | Part::Millisecond | Part::Fraction(_) => {
                let width = match part {
                    Part::Millisecond => 3,
                    Part::Fraction(digits) => digits,
                    _ => 6,
                };
                let (value, after) = number(rest, width)?;
                let written = rest.len() - after.len();
                self.micro = value * 10_i64.pow(6_usize.checked_sub(written)? as u32);
                return Some(after);
            }
            Part::Year(width) => number(rest, if width < 4 || joined { width.min(4) } else { 9 })?,
            Part::DayOfYear | Part::IsoDayOfYear => digits(3)?,
            Part::SecondOfDay | Part::JulianDay => number(rest, 9)?,
            Part::Quarter | Part::DayOfWeek | Part::IsoDayOfWeek | Part::WeekOfMonth => number(rest, 1)?,
            Part::Zone | Part::RomanMonth => return None,
            _ => digits(2)?,
        };
        match part {
            // Two digits are those of the year that is nearest to 2020.
            Part::Year(width) if width < 4 => {
                self.year = Some(
                    value as i32
                        + if value < 70 {
                            2000
                        } else if value < 100 {
                            1900
                        } else {
                            1000
                        },
                );
            }
            Part::Year(_) => self.year = Some(value as i32),
            Part::Month => self.month = Some(value as u32),
            Part::Day => self.day = Some(value as u32),
            Part::DayOfYear => self.ordinal = Some(value as u32),
            Part::Hour12 | Part::Hour24 => self.hour = value,
            Part::Minute => self.minute = value,
            Part::Second => self.second = value,
            Part::SecondOfDay => {
                (self.hour, self.minute, self.second) = (value / 3600, value / 60 % 60, value % 60)
            }
            Part::ZoneMinutes => {
                let minutes = value as i32 * 60;
                self.offset = self.offset.map(|o| if o < 0 { o - minutes } else { o + minutes });
            }
            // Quarters, weeks and days of the week say nothing that the rest does not.
            _ => {}
        }
        Some(after)
    }

    fn finish(mut self) -> Option<Self> {
        if let Some(afternoon) = self.afternoon {
            (1..=12).contains(&self.hour).then_some(())?;
            self.hour = self.hour % 12 + if afternoon { 12 } else { 0 };
        }
        let in_range = self.hour < 24 && self.minute < 60 && self.second < 60;
        in_range.then_some(())?;
        let year = self.year.map_or(1, |year| if self.before_christ { 1 - year } else { year });
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(year, ordinal),
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        self.date = Some(date?);
        Some(self)
    }

    fn day(&self) -> NaiveDate {
        self.date.unwrap_or_default()
    }

    fn micros(&self) -> i64 {
        let time = TimeDelta::microseconds(
            ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micro,
        );
        (self.day().and_time(chrono::NaiveTime::MIN) + time).and_utc().timestamp_micros()
    }
}

/// Up to so many digits.
fn number(text: &str, most: usize) -> Option<(i64, &str)> {
    let end = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// A name, or its first three letters.
fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let begins = |word: &str| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let long = names.iter().enumerate().find(|(_, n)| begins(n)).map(|(i, n)| (i, n.len()));
    let (at, length) = long.or_else(|| names.iter().position(|n| begins(&n[..3])).map(|i| (i, 3)))?;
    Some((at, &text[length..]))
}

/// The text behind a literal of the pattern: what separates stands for anything that does.
fn past<'a>(text: &'a str, literal: &str, quoted: bool) -> &'a str {
    let mut rest = text;
    for c in literal.chars() {
        let Some(next) = rest.chars().next() else { break };
        if c.is_whitespace() {
            rest = rest.trim_start();
        } else if quoted || c.is_alphanumeric() || !next.is_alphanumeric() {
            rest = &rest[next.len_utf8()..];
        }
    }
    rest
}
