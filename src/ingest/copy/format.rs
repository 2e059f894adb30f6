//! How COPY writes rows as bytes.

/// What data in binary begins with. Flags and the length of an extension follow, of four bytes each.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The format, with its options; whoever reads and whoever writes go by the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Which one.
    pub kind: FormatKind,
    /// What separates fields: one byte of ASCII.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    /// The header line.
    pub header: Header,
    /// Of csv: what fields are put in.
    pub quote: u8,
    /// Of csv: what stands in front of a quote within a field.
    pub escape: u8,
    /// Of csv, by column: always written in quotes.
    pub force_quote: Vec<bool>,
    /// Of csv, by column: NULL also where it stands in quotes.
    pub force_null: Vec<bool>,
    /// Of csv, by column: never NULL.
    pub force_not_null: Vec<bool>,
}

/// Which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatKind {
    /// A line a row, with backslashes.
    Text,
    /// With quotes.
    Csv,
    /// PostgreSQL's own bytes.
    Binary,
}

/// What the first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A row like the others.
    None,
    /// The names of the columns, which nobody looks at.
    Present,
    /// The names of the columns, and they must be those of the statement.
    Match,
}

impl Format {
    /// A format with the options that it has if nothing is said.
    pub fn new(kind: FormatKind) -> Self {
        let csv = kind == FormatKind::Csv;
        Format {
            kind,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            header: Header::None,
            quote: b'"',
            escape: b'"',
            force_quote: vec![],
            force_null: vec![],
            force_not_null: vec![],
        }
    }
}
