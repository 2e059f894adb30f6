//! Where the rows of COPY's binary format begin and end: a count of fields, and each field with its length in front.

use super::format::SIGNATURE;
use crate::error::{Error, Kind, Result};

/// Flags that change how rows are read. Those below are for notes that a reader may not know.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tuple {
    /// A row of so many bytes.
    Row(usize),
    /// There are no more rows.
    End,
    /// Its end has not come yet.
    More,
}

/// The length of what stands in front of the rows; none until it has come.
pub(super) fn header(bytes: &[u8]) -> Result<Option<usize>> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(bad("COPY file signature not recognized"));
    }
    let at = SIGNATURE.len();
    let (Some(flags), Some(extension)) = (number(bytes, at), number(bytes, at + 4)) else { return Ok(None) };
    if flags as u32 & CRITICAL_FLAGS != 0 {
        return Err(bad("unrecognized critical flags in COPY file header"));
    }
    let extension = usize::try_from(extension).map_err(|_| bad("invalid COPY file header"))?;
    let length = at + 8 + extension;
    Ok((bytes.len() >= length).then_some(length))
}

/// The next row.
pub(super) fn row(bytes: &[u8]) -> Result<Tuple> {
    let Some(count) = bytes.first_chunk() else { return Ok(Tuple::More) };
    let count = match i16::from_be_bytes(*count) {
        -1 => return Ok(Tuple::End),
        count => usize::try_from(count).map_err(|_| bad("a row has a negative number of fields"))?,
    };
    let mut at = 2;
    for _ in 0..count {
        let Some(length) = number(bytes, at) else { return Ok(Tuple::More) };
        at += 4 + match length {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| bad("invalid field size"))?,
        };
    }
    Ok(if bytes.len() < at { Tuple::More } else { Tuple::Row(at) })
}

/// Takes a number of four bytes.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|four| i32::from_be_bytes(*four))
}

fn bad(what: &str) -> Error {
    Error::new(Kind::BadCopyFormat, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_however_much_has_come() {
        let begin = [SIGNATURE, &[0, 0, 0, 1, 0, 0, 0, 2, 7, 7]].concat();
        for n in 0..begin.len() {
            assert_eq!(header(&begin[..n]).unwrap(), None, "{n}");
        }
        assert_eq!(header(&[begin.as_slice(), b"more"].concat()).unwrap(), Some(begin.len()));
        let tuple = [0, 2, 255, 255, 255, 255, 0, 0, 0, 2, 1, 2];
        for n in 0..tuple.len() {
            assert_eq!(row(&tuple[..n]).unwrap(), Tuple::More, "{n}");
        }
        assert_eq!(row(&[&tuple[..], &[0, 9]].concat()).unwrap(), Tuple::Row(tuple.len()));
        assert_eq!(row(&[0, 0]).unwrap(), Tuple::Row(2));
        assert_eq!(row(&[255, 255, 1]).unwrap(), Tuple::End);
    }

    #[test]
    fn what_is_no_such_data_is_an_error() {
        for bytes in [b"1\t2\n".to_vec(), [SIGNATURE, &[0, 1, 0, 0, 0, 0, 0, 0]].concat()] {
            assert_eq!(header(&bytes).unwrap_err().kind(), Kind::BadCopyFormat);
        }
        assert!(header(&[SIGNATURE, &[0, 0, 0, 0, 255, 0, 0, 0]].concat()).is_err());
        assert!(row(&[255, 254]).is_err());
        assert!(row(&[0, 1, 255, 255, 255, 254]).is_err());
    }
}
