//! `CALL replay_dead_letters`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};

use super::call::Arguments;
use super::run::Session;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Result};
use crate::ingest::replay::{Format, Replay, replay};

impl Session {
    /// `CALL replay_dead_letters(t [, from [, to [, reason [, format [, header [, delimiter [, transform]]]]]]])`
    pub(super) async fn replay_dead_letters(&self, arguments: &Arguments) -> Result<Vec<ArrayRef>> {
        let name = arguments.text(0)?;
        let Object::Table(events) = self.warehouse.require(name).await? else {
            return Err(Error::wrong_object_type(format!("'{name}' is a view, and has no dead letters")));
        };
        let instant = |place, otherwise| match arguments.has(place) {
            true => arguments.instant(place, true),
            false => Ok(otherwise),
        };
        let chosen = Replay {
            from: instant(1, i64::MIN)?,
            to: instant(2, i64::MAX)?,
            reason: arguments.optional_text(3).map(str::to_owned),
            format: format(
                arguments.optional_text(4),
                arguments.optional_text(5),
                arguments.optional_text(6),
            )?,
            transform: arguments.optional_text(7).map(str::to_owned),
        };
        let done = replay(&self.warehouse, &events, &chosen, &self.ctx.state()).await?;
        let number = |n: u64| Arc::new(Int64Array::from(vec![n as i64])) as ArrayRef;
        Ok(vec![
            Arc::new(StringViewArray::from_iter_values([name])),
            number(done.replayed),
            number(done.filtered),
            number(done.still_bad),
        ])
    }
}

/// What payloads are.
fn format(format: Option<&str>, header: Option<&str>, delimiter: Option<&str>) -> Result<Format> {
    let hint = "format may be 'json', or 'csv' with the header line of the file: header => 'a,b,c'";
    let refuse = |what: String| Err(Error::invalid_input(what).with_hint(hint));
    match (format.unwrap_or("json").to_lowercase().as_str(), header) {
        ("json", None) if delimiter.is_none() => Ok(Format::Json),
        ("json", _) => refuse("header and delimiter are for format 'csv'".to_owned()),
        ("csv", Some(header)) => match delimiter.unwrap_or(",").as_bytes() {
            [byte] if byte.is_ascii() => Ok(Format::Csv { header: header.to_owned(), delimiter: *byte }),
            _ => refuse("delimiter is not one character of ASCII".to_owned()),
        },
        ("csv", None) => refuse("csv needs the header line, which is no part of a letter".to_owned()),
        (other, _) => refuse(format!("format is '{other}'")),
    }
}
