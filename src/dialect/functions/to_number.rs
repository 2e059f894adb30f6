//! Numbers as text by PostgreSQL's patterns (`FM999,990.00`), and `to_number` for the way back.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{NUMBERS, Scalar, doc, exactly};
use super::to_char::ending_of;

/// Digits behind the point of what `to_number` gives.
const SCALE: i8 = 10;

pub(super) fn udf() -> Arc<ScalarUDF> {
    let function = Scalar {
        name: "to_number",
        takes: |types| exactly("to_number", types, &[DataType::Utf8, DataType::Utf8]),
        gives: |_| Ok(DataType::Decimal128(38, SCALE)),
        run: |args, _| {
            let rows = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>());
            let rows = rows.map(|(text, pattern)| match (text, pattern) {
                (Some(text), Some(_)) => read(text).map(Some),
                _ => Ok(None),
            });
            let rows = rows.collect::<Result<Decimal128Array>>()?;
            Ok(Arc::new(rows.with_precision_and_scale(38, SCALE)?) as ArrayRef)
        },
        doc: doc(
            NUMBERS,
            "The number that a text has by a pattern: its digits, point and sign.",
            "to_number(text, pattern)",
            "SELECT to_number('12,454.8-', '99G999D9S');  -- -12454.8",
        ),
    };
    function.udf()
}

fn read(text: &str) -> Result<i128> {
    let negative = text.contains('-') || text.contains('<');
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let fraction = format!("{:0<1$.1$}", fraction.replace('.', ""), SCALE as usize);
    let value: i128 =
        format!("0{whole}{fraction}").parse().map_err(|_| exec_datafusion_err!("\"{text}\" is no number"))?;
    Ok(if negative { -value } else { value })
}

/// A column of numbers as text.
pub(super) fn number_texts(values: &ArrayRef, patterns: &StringArray) -> Result<ArrayRef> {
    let mut out = StringBuilder::new();
    let mut known: Option<(String, Pattern)> = None;
    let digits = Digits::of(values)?;
    for row in 0..values.len() {
        if values.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let pattern = patterns.value(row);
        if known.as_ref().is_none_or(|(last, _)| last != pattern) {
            known = Some((pattern.to_owned(), Pattern::read(pattern)?));
        }
        if let Some((_, pattern)) = &known {
            out.append_value(pattern.text(&digits.at(row, pattern.decimals())));
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Numbers to be written with any count of decimals.
enum Digits {
    Exact(ArrayRef, i8),
    Float(ArrayRef),
}

impl Digits {
    fn of(values: &ArrayRef) -> Result<Self> {
        Ok(match values.data_type() {
            DataType::Decimal128(_, scale) if *scale >= 0 => {
                Digits::Exact(cast(values, &DataType::Decimal128(38, *scale))?, *scale)
            }
            t if t.is_integer() => Digits::Exact(cast(values, &DataType::Decimal128(38, 0))?, 0),
            _ => Digits::Float(cast(values, &DataType::Float64)?),
        })
    }

    /// Sign, and digits in front of and behind the point.
    fn at(&self, row: usize, decimals: usize) -> (bool, String, String) {
        match self {
            Digits::Float(values) => {
                let value = values.as_primitive::<Float64Type>().value(row);
                let text = format!("{:.decimals$}", value.abs());
                let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                (value < 0.0, whole.to_owned(), fraction.to_owned())
            }
            Digits::Exact(values, scale) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                let scale = *scale as usize;
                let mut magnitude = value.unsigned_abs();
                if scale > decimals {
                    // Half and more goes up.
                    let unit = 10_u128.pow((scale - decimals) as u32);
                    magnitude = (magnitude + unit / 2) / unit;
                }
                let kept = scale.min(decimals);
                let text = format!("{magnitude:0>width$}", width = kept + 1);
                let (whole, fraction) = text.split_at(text.len() - kept);
                (value < 0, whole.to_owned(), format!("{fraction:0<decimals$}"))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    /// A digit, or a blank where there is none.
    Digit,
    /// A digit always.
    Zero,
    Group,
    Point,
    Sign,
    /// A minus, or a blank.
    Minus,
    /// A plus, or a blank.
    Plus,
    Both,
    /// `PR`: negative numbers in angle brackets.
    Brackets,
    Ending(bool),
    Text(char),
}

#[derive(Debug)]
struct Pattern {
    items: Vec<Item>,
    bare: bool,
}

impl Pattern {
    fn read(pattern: &str) -> Result<Self> {
        let (mut items, mut bare, mut rest) = (vec![], false, pattern);
        while let Some(first) = rest.chars().next() {
            let two = rest.get(..2).unwrap_or_default().to_ascii_uppercase();
            let (item, taken) = match (two.as_str(), first.to_ascii_uppercase()) {
                ("FM", _) => {
                    bare = true;
                    rest = &rest[2..];
                    continue;
                }
                ("EE", _) | ("RN", _) => {
                    return exec_err!("to_char does not know the pattern '{pattern}' for numbers");
                }
                ("MI", _) => (Item::Minus, 2),
                ("PL", _) => (Item::Plus, 2),
                ("SG", _) => (Item::Both, 2),
                ("PR", _) => (Item::Brackets, 2),
                ("TH", _) => (Item::Ending(first.is_lowercase()), 2),
                (_, '"') => {
                    let inside = &rest[1..];
                    let end = inside.find('"').unwrap_or(inside.len());
                    items.extend(inside[..end].chars().map(Item::Text));
                    rest = inside.get(end + 1..).unwrap_or_default();
                    continue;
                }
                (_, '9') => (Item::Digit, 1),
                (_, '0') => (Item::Zero, 1),
                (_, ',' | 'G') => (Item::Group, 1),
                (_, '.' | 'D') => (Item::Point, 1),
                (_, 'S') => (Item::Sign, 1),
                (_, 'L') => (Item::Text(' '), 1),
                (_, _) => (Item::Text(first), first.len_utf8()),
            };
            items.push(item);
            rest = &rest[taken..];
        }
        Ok(Pattern { items, bare })
    }

    fn decimals(&self) -> usize {
        let behind = self.items.iter().skip_while(|i| **i != Item::Point);
        behind.filter(|i| matches!(i, Item::Digit | Item::Zero)).count()
    }

    fn text(&self, (negative, whole, fraction): &(bool, String, String)) -> String {
        let point = self.items.iter().position(|i| *i == Item::Point).unwrap_or(self.items.len());
        let room = self.items[..point].iter().filter(|i| matches!(i, Item::Digit | Item::Zero)).count();
        let whole = whole.trim_start_matches('0');
        let negative = *negative && !(whole.is_empty() && fraction.bytes().all(|b| b == b'0'));
        let overflow = whole.len() > room;
        // From the first place that has to be written on, all are; a 0 before the point only where the
        // pattern says so.
        let first_zero = self.items[..point]
            .iter()
            .filter(|i| matches!(i, Item::Digit | Item::Zero))
            .position(|i| *i == Item::Zero)
            .unwrap_or(room);
        let lone = whole.is_empty() && self.decimals() == 0;
        let begin = first_zero.min(room.saturating_sub(whole.len().max(usize::from(lone))));
        let padded = format!("{whole:0>room$}");
        // Behind the point FM leaves out zeros that a 9 stands for.
        let kept = match self.bare {
            true => {
                let behind: Vec<Item> = self.items[point..]
                    .iter()
                    .copied()
                    .filter(|i| matches!(i, Item::Digit | Item::Zero))
                    .collect();
                let needed = behind.iter().rposition(|i| *i == Item::Zero).map_or(0, |i| i + 1);
                fraction.trim_end_matches('0').len().max(needed)
            }
            false => fraction.len(),
        };
        let anchored = self
            .items
            .iter()
            .any(|i| matches!(i, Item::Sign | Item::Minus | Item::Both | Item::Plus | Item::Brackets));
        let (mut out, mut place, mut behind, mut signed) = (String::new(), 0, 0, false);
        for (at, item) in self.items.iter().enumerate() {
            let started = place >= begin;
            match item {
                Item::Digit | Item::Zero if at < point => {
                    if place == begin && !anchored && !signed {
                        signed = true;
                        out.push_str(sign(negative, self.bare));
                    }
                    match (place >= begin, overflow) {
                        (_, true) => out.push('#'),
                        (true, false) => out.push_str(padded.get(place..=place).unwrap_or("0")),
                        (false, false) if !self.bare => out.push(' '),
                        (false, false) => {}
                    }
                    place += 1;
                }
                Item::Digit | Item::Zero => {
                    if overflow {
                        out.push('#');
                    } else if behind < kept {
                        out.push_str(fraction.get(behind..=behind).unwrap_or("0"));
                    }
                    behind += 1;
                }
                Item::Group if started && place > begin => out.push(','),
                Item::Group if self.bare => {}
                Item::Group => out.push(' '),
                Item::Point => {
                    if begin >= room && !anchored && !signed {
                        signed = true;
                        out.push_str(sign(negative, self.bare));
                    }
                    out.push('.');
                }
                Item::Sign | Item::Both => out.push(if negative { '-' } else { '+' }),
                Item::Minus if negative => out.push('-'),
                Item::Plus if !negative => out.push('+'),
                Item::Minus | Item::Plus if self.bare => {}
                Item::Minus | Item::Plus => out.push(' '),
                Item::Brackets if negative => {
                    let digits = out.trim_start_matches(' ').len();
                    out.insert(out.len() - digits, '<');
                    out.push('>');
                }
                Item::Brackets if self.bare => {}
                Item::Brackets => out = format!(" {out} "),
                Item::Ending(lower) => {
                    let ending = ending_of(whole.parse().unwrap_or(0));
                    out.push_str(&if *lower { ending.to_lowercase() } else { ending.to_owned() });
                }
                Item::Text(c) => out.push(*c),
            }
        }
        out
    }
}

fn sign(negative: bool, bare: bool) -> &'static str {
    match (negative, bare) {
        (true, _) => "-",
        (false, true) => "",
        (false, false) => " ",
    }
}
