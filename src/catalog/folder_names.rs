//! Which folder an object has: that of its name, with what a store or a shell might misread written as `=XX`.

use crate::error::{Error, Result};

/// Names that begin with `_` are ours, those with `.` are nobody's.
pub(super) fn name_of_folder(folder: &str) -> Option<String> {
    if folder.starts_with('_') || folder.starts_with('.') {
        return None;
    }
    decode_folder(folder)
}

/// A folder is named like the table; what a store or a shell might misread is written as `=XX`.
pub(super) fn folder_of_name(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(byte as char),
            other => folder.push_str(&format!("={other:02X}")),
        }
    }
    folder
}

fn decode_folder(folder: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'=' {
            let hex = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Refuses what cannot be the name of an object.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 63 || name.starts_with('_') {
        return Err(Error::invalid_input(format!("'{name}' cannot be the name of a table"))
            .with_hint("use 1 to 63 bytes that do not begin with an underscore"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_folder_of_its_own() {
        for name in ["sales", "Sales", "häl/lo", "a=b", "with space"] {
            assert_eq!(name_of_folder(&folder_of_name(name)).as_deref(), Some(name));
        }
        assert_eq!(folder_of_name("sales"), "sales");
        assert!(name_of_folder("_toplake").is_none());
    }
}
