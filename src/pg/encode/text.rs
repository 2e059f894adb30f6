//! Numbers as text, and the quotes of arrays and records.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

/// A whole number.
pub(super) fn digits(value: i64, out: &mut BytesMut) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.put_slice(&buffer[at..]);
}

/// The shortest digits that read back as the same float; an exponent from `1e+06` on, as PostgreSQL has it.
pub(super) fn float4(value: f32, out: &mut BytesMut) {
    match value.is_finite() {
        true => shortest(&format!("{value:e}"), 6, out),
        false => special(f64::from(value), out),
    }
}

/// The shortest digits that read back as the same float; an exponent from `1e+15` on, as PostgreSQL has it.
pub(super) fn float8(value: f64, out: &mut BytesMut) {
    match value.is_finite() {
        true => shortest(&format!("{value:e}"), 15, out),
        false => special(value, out),
    }
}

fn special(value: f64, out: &mut BytesMut) {
    out.put_slice(match value {
        v if v.is_nan() => b"NaN",
        v if v > 0.0 => b"Infinity",
        _ => b"-Infinity",
    });
}

/// Writes digits given in the form `-1.25e3`.
fn shortest(scientific: &str, limit: i32, out: &mut BytesMut) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    out.put_slice(sign.as_bytes());
    if !(-4..limit).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        out.put_slice(first.as_bytes());
        if !rest.is_empty() {
            out.put_u8(b'.');
            out.put_slice(rest.as_bytes());
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', exponent.unsigned_abs() as usize - 1);
        out.put_slice(digits.as_bytes());
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.put_slice(digits.as_bytes());
            out.put_bytes(b'0', whole - digits.len());
        } else {
            out.put_slice(&digits.as_bytes()[..whole]);
            out.put_u8(b'.');
            out.put_slice(&digits.as_bytes()[whole..]);
        }
    }
}

/// Puts quotes around the array element that begins at `start`, if it needs them.
pub(super) fn quote_element(out: &mut BytesMut, start: usize) {
    let text = &out[start..];
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || is_space(*b);
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        quote(out, start, |b| if matches!(b, b'"' | b'\\') { Some(b'\\') } else { None });
    }
}

/// Puts quotes around the record field that begins at `start`, if it needs them.
pub(super) fn quote_field(out: &mut BytesMut, start: usize) {
    let text = &out[start..];
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || is_space(*b);
    if text.is_empty() || text.iter().any(special) {
        quote(out, start, |b| if matches!(b, b'"' | b'\\') { Some(b) } else { None });
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn quote(out: &mut BytesMut, start: usize, escape: impl Fn(u8) -> Option<u8>) {
    let text = out.split_off(start);
    out.put_u8(b'"');
    for byte in text {
        if let Some(escape) = escape(byte) {
            out.put_u8(escape);
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}
