//! The query string of a request: each name is known, each value is read once.

use std::collections::BTreeMap;

use url::form_urlencoded;

use crate::error::{Error, Result};

/// What a request asks for, by name. `filter[column]` comes apart from the rest.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    single: BTreeMap<String, String>,
    items: Vec<String>,
    filters: BTreeMap<String, Vec<String>>,
}

impl Parameters {
    /// Reads a query string. `known` are the names that may come once; others are errors, as they would be ignored
    /// silently.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self> {
        let mut read = Parameters::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if let Some(column) = name.strip_prefix("filter[").and_then(|rest| rest.strip_suffix(']')) {
                read.filters.entry(column.to_owned()).or_default().push(value.into_owned());
            } else if name == "item" && known.contains(&"item") {
                read.items.push(value.into_owned());
            } else if !known.contains(&name.as_ref()) {
                return Err(Error::invalid_input(format!("there is no parameter '{name}'"))
                    .with_hint(format!("those that there are: {}, filter[column]", known.join(", "))));
            } else if read.single.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Error::invalid_input(format!("the parameter '{name}' comes twice")));
            }
        }
        Ok(read)
    }

    /// A parameter that may be left out. An empty one is left out.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.single.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter that has to be there.
    pub(super) fn require(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::invalid_input(format!("the parameter '{name}' is missing")))
    }

    /// A number between two others.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(n) if (1..=most).contains(&n) => Ok(n),
            _ => Err(Error::invalid_input(format!(
                "the parameter '{name}' is '{text}', not a number from 1 to {most}"
            ))),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(Error::invalid_input(format!(
                "the parameter '{name}' is '{other}', neither true nor false"
            ))),
        }
    }

    /// The keys that are asked for.
    pub(super) fn items(&self) -> &[String] {
        &self.items
    }

    /// The values that each filtered column may have.
    pub(super) fn filters(&self) -> &BTreeMap<String, Vec<String>> {
        &self.filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let known = ["rollup", "n", "item", "previous"];
        let read = |query| Parameters::read(Some(query), &known);
        let good = read("rollup=a%20b&filter[c]=x&filter%5Bc%5D=y&n=7&item=1&item=2&previous=true").unwrap();
        assert_eq!(good.require("rollup").unwrap(), "a b");
        assert_eq!((good.number("n", 10, 9).unwrap(), good.flag("previous").unwrap()), (7, true));
        assert_eq!(
            (good.items(), &good.filters()["c"]),
            (&["1".into(), "2".into()][..], &vec!["x".into(), "y".into()])
        );
        assert!(good.number("n", 10, 6).is_err());
        for (query, what) in [("rolup=a", "rolup"), ("n=1&n=2", "twice"), ("filter=c", "filter")] {
            assert!(read(query).unwrap_err().message().contains(what), "{query}");
        }
        assert!(read("n=").unwrap().require("n").is_err());
        assert!(read("previous=perhaps").unwrap().flag("previous").is_err());
    }
}
