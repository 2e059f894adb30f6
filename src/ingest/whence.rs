//! Where rows of a file come from, as columns that a transform may read.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, StringViewArray, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Field};

/// The file's address, as a column of `input`.
const INPUT_FILE: &str = "input_file";

/// The row's 1-based line or row number, as a column of `input`.
const INPUT_LINE: &str = "input_line";

/// Makes the columns of one file.
pub(super) struct Whence {
    url: String,
    /// The file's address, as often as a chunk had rows so far.
    names: StringViewArray,
}

impl Whence {
    pub(super) fn new(url: &str) -> Self {
        Whence { url: url.to_owned(), names: StringViewArray::from(Vec::<&str>::new()) }
    }

    /// What the columns are.
    pub(super) fn fields() -> Vec<Field> {
        vec![
            Field::new(INPUT_FILE, DataType::Utf8View, false),
            Field::new(INPUT_LINE, DataType::Int64, false),
        ]
    }

    /// The columns for rows of these lines.
    pub(super) fn of(&mut self, lines: &[i64]) -> Vec<ArrayRef> {
        if self.names.len() < lines.len() {
            let mut names = StringViewBuilder::with_capacity(lines.len()).with_deduplicate_strings();
            (0..lines.len()).for_each(|_| names.append_value(&self.url));
            self.names = names.finish();
        }
        vec![
            Arc::new(self.names.slice(0, lines.len())),
            Arc::new(Int64Array::from_iter_values(lines.iter().copied())),
        ]
    }
}
