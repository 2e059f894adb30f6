//! `numeric`: decimals of any width, from their unscaled digits.

use std::fmt::Display;

use bytes::{BufMut, BytesMut};

use crate::pg::error::{Failure, state};

/// As text, with as many digits after the point as the scale says.
pub(super) fn text(unscaled: impl Display, scale: i8, out: &mut BytesMut) {
    let unscaled = unscaled.to_string();
    let (negative, digits) = sign(&unscaled);
    if negative {
        out.put_u8(b'-');
    }
    let scale = i32::from(scale);
    if scale <= 0 {
        out.put_slice(digits.as_bytes());
        if digits != "0" {
            out.put_bytes(b'0', scale.unsigned_abs() as usize);
        }
        return;
    }
    let scale = scale.unsigned_abs() as usize;
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.put_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    out.put_u8(b'.');
    out.put_bytes(b'0', scale - fraction.len());
    out.put_slice(fraction.as_bytes());
}

/// In binary form: digits to the base 10,000, the weight of the first, the sign, digits after the point.
pub(super) fn binary(unscaled: impl Display, scale: i8, out: &mut BytesMut) -> Result<(), Failure> {
    let unscaled = unscaled.to_string();
    let (negative, digits) = sign(&unscaled);
    let scale = i32::from(scale);
    // Digits up to the point, filled up on both sides so that groups of four meet at the point.
    let mut digits = digits.to_owned();
    if scale < 0 {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    let scale = scale.max(0).unsigned_abs() as usize;
    if digits.len() < scale {
        digits.insert_str(0, &"0".repeat(scale - digits.len()));
    }
    digits.extend(std::iter::repeat_n('0', (4 - scale % 4) % 4));
    let after = scale.div_ceil(4);
    let before = (digits.len() - 4 * after).div_ceil(4);
    digits.insert_str(0, &"0".repeat(4 * (before + after) - digits.len()));

    let groups: Result<Vec<i16>, _> =
        digits.as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c).parse::<i16>()).collect();
    let groups =
        groups.map_err(|e| Failure::new(state::NUMERIC_OUT_OF_RANGE, format!("numeric value: {e}")))?;
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|g| **g == 0).count();
    let kept = &groups[leading..groups.len() - trailing];
    let weight = match kept.is_empty() {
        true => 0,
        false => before as i16 - 1 - leading as i16,
    };
    out.put_i16(kept.len() as i16);
    out.put_i16(weight);
    out.put_u16(if negative && !kept.is_empty() { 0x4000 } else { 0 });
    out.put_u16(scale as u16);
    for group in kept {
        out.put_i16(*group);
    }
    Ok(())
}

fn sign(unscaled: &str) -> (bool, &str) {
    match unscaled.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unscaled),
    }
}
