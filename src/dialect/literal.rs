//! The texts that PostgreSQL writes for bytes, arrays, rows and intervals.

use datafusion::arrow::datatypes::IntervalMonthDayNano;

/// `\x` and hexadecimal digits, or the older form with octal escapes.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Option<Vec<u32>> =
            hex.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
        return Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                bytes.push(b'\\');
                tail
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    Some(bytes)
}

/// The items of `{a,"b c",NULL}`; one that is an array itself is given as it is written.
pub fn array(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() {
        return Some(vec![]);
    }
    let mut items = vec![];
    let mut rest = inner;
    loop {
        let (item, quoted, more) = match rest.trim_start() {
            nested if nested.starts_with('{') => {
                let length = nested_length(nested)?;
                let (item, behind) = nested.split_at(length);
                let more = match behind.trim() {
                    "" => None,
                    _ => Some(behind.trim_start().strip_prefix(',')?),
                };
                (item.to_owned(), true, more)
            }
            rest => part(rest, false)?,
        };
        items.push(match (quoted, item.as_str()) {
            (true, _) => Some(item),
            (false, "") => return None,
            (false, word) => (!word.eq_ignore_ascii_case("null")).then_some(item),
        });
        match more {
            Some(more) => rest = more,
            None => return Some(items),
        }
    }
}

/// The fields of `(a,"b c",)`.
pub fn record(text: &str) -> Option<Vec<Option<String>>> {
    let mut rest = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let mut fields = vec![];
    loop {
        let (field, quoted, more) = part(rest, true)?;
        fields.push((quoted || !field.is_empty()).then_some(field));
        match more {
            Some(more) => rest = more,
            None => return Some(fields),
        }
    }
}

/// An interval as PostgreSQL writes it: `1 year 2 mons -3 days +04:05:06.7`.
pub fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    let (mut months, mut days, mut nanoseconds) = (0i32, 0i32, 0i64);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let Some((hours, rest)) = word.split_once(':') else {
            let number: i32 = word.parse().ok()?;
            let months_each = match words.next()? {
                "year" | "years" => 12,
                "mon" | "mons" | "month" | "months" => 1,
                "day" | "days" => {
                    days = days.checked_add(number)?;
                    continue;
                }
                _ => return None,
            };
            months = months.checked_add(number.checked_mul(months_each)?)?;
            continue;
        };
        let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
        let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let whole = hours.trim_start_matches(['-', '+']).parse::<i64>().ok()?.checked_mul(3600)?
            + minutes.parse::<i64>().ok().filter(|m| *m < 60)? * 60
            + seconds.parse::<i64>().ok().filter(|s| *s < 60)?;
        let fraction: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let time = whole.checked_mul(1_000_000_000)?.checked_add(fraction)?;
        nanoseconds = nanoseconds.checked_add(if hours.starts_with('-') { -time } else { time })?;
    }
    Some(IntervalMonthDayNano { months, days, nanoseconds })
}

/// A text up to the next comma, whether some of it stood in quotes, and what follows the comma. Of rows, a doubled quote is one
/// and space counts.
fn part(text: &str, of_row: bool) -> Option<(String, bool, Option<&str>)> {
    let (mut part, mut quoted, mut within) = (String::new(), false, false);
    let mut kept = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                part.push(characters.next()?.1);
                kept = part.len();
            }
            '"' if within && of_row && characters.peek().is_some_and(|(_, c)| *c == '"') => {
                characters.next();
                part.push('"');
            }
            '"' => {
                (quoted, within) = (true, !within);
                kept = part.len();
            }
            ',' if !within => return Some((trimmed(part, kept, of_row), quoted, Some(&text[at + 1..]))),
            '{' | '}' if !within && !of_row => return None,
            c if !within && !of_row && c.is_whitespace() && part.is_empty() && !quoted => {}
            c => part.push(c),
        }
    }
    (!within).then(|| (trimmed(part, kept, of_row), quoted, None))
}

/// Without the space at its end, but for what stood in quotes.
fn trimmed(mut part: String, kept: usize, of_row: bool) -> String {
    if !of_row {
        let length = part.trim_end().len();
        part.truncate(length.max(kept));
    }
    part
}

/// The length of the array that a text begins with.
fn nested_length(text: &str) -> Option<usize> {
    let (mut depth, mut within) = (0usize, false);
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()?),
            '"' => within = !within,
            '{' if !within => depth += 1,
            '}' if !within => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(items: Option<Vec<Option<String>>>) -> Option<Vec<String>> {
        items.map(|items| items.into_iter().map(|i| i.unwrap_or_else(|| "<null>".into())).collect())
    }

    #[test]
    fn arrays() {
        for (text, items) in [
            ("{}", vec![]),
            (r#"{a, "b ,c" ,NULL,"null","q\"",x y }"#, vec!["a", "b ,c", "<null>", "null", "q\"", "x y"]),
            (r#"{"",\N," "}"#, vec!["", "N", " "]),
            (r#"{{1,2},{"}"},{}}"#, vec!["{1,2}", r#"{"}"}"#, "{}"]),
        ] {
            assert_eq!(shown(array(text)).unwrap(), items, "{text}");
        }
        for bad in ["", "{", "{a", "{a,}", "{\"a}", "{{1}", "{a{b}}", "{{1}2}"] {
            assert!(array(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn rows() {
        for (text, fields) in [
            ("()", vec!["<null>"]),
            (r#"(1, a,"","x ""y"" \\,",)"#, vec!["1", " a", "", "x \"y\" \\,", "<null>"]),
        ] {
            assert_eq!(shown(record(text)).unwrap(), fields, "{text}");
        }
        for bad in ["", "(", "1,2", "(\"a)"] {
            assert!(record(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn bytea() {
        assert_eq!(bytes("\\x00fF"), Some(vec![0, 255]));
        assert_eq!(bytes("a\\\\\\001"), Some(b"a\\\x01".to_vec()));
        for bad in ["\\x0", "\\xzz", "\\9"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
