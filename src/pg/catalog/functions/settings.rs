//! What concerns the settings of the session.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::{Function, as_text, function, invalid, text, volatile};
use crate::error::Error;
use crate::pg::catalog::PG_CATALOG;
use crate::pg::{Client, Settings};

pub(super) fn all(client: &Client) -> Vec<Function> {
    let path = |settings: &Settings| {
        let mut path = settings.search_path();
        path.retain(|schema| schema != "$user");
        path
    };
    let settings = || Arc::clone(&client.settings);
    let (one, many, read, write) = (settings(), settings(), settings(), settings());
    let is_true = |value: &ScalarValue| {
        matches!(value.cast_to(&DataType::Boolean), Ok(ScalarValue::Boolean(Some(true))))
    };
    vec![
        volatile(function("set_config", &[3], DataType::Utf8, move |args| {
            let name = as_text(&args[0])?.unwrap_or_default();
            let set = write.set(&name, as_text(&args[1])?.as_deref(), is_true(&args[2]));
            set.map_err(|e| Error::invalid_input(e.message))?;
            Ok(ScalarValue::Utf8(write.get(&name)))
        })),
        function("current_schema", &[0], DataType::Utf8, move |_| {
            Ok(ScalarValue::Utf8(path(&one).first().cloned()))
        }),
        function("current_schemas", &[1], DataType::new_list(DataType::Utf8, true), move |args| {
            let implicit = is_true(&args[0]).then(|| PG_CATALOG.to_owned());
            let all: Vec<ScalarValue> = implicit.into_iter().chain(path(&many)).map(text).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&all, &DataType::Utf8)))
        }),
        function("current_setting", &[1, 2], DataType::Utf8, move |args| {
            let Some(name) = as_text(&args[0])? else { return Ok(ScalarValue::Utf8(None)) };
            match read.get(&name) {
                None if !args.get(1).is_some_and(is_true) => {
                    Err(invalid(format!("unrecognized configuration parameter \"{name}\"")))
                }
                value => Ok(ScalarValue::Utf8(value)),
            }
        }),
    ]
}
