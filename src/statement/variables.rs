//! `:'name'` and `:"name"` in a script stand for the value of a variable, as in psql.

use std::collections::BTreeMap;

use super::split::tokens;
use crate::error::{Error, Result};

/// Puts values in the place of variables: as a string for `:'name'`, as a name for `:"name"`. Strings and comments stay as
/// they are. A variable without a value is an error.
pub fn substitute(sql: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut text = String::with_capacity(sql.len());
    let (mut copied, mut colon) = (0, None);
    for token in tokens(sql) {
        let quote = sql[token.clone()].chars().next().unwrap_or_default();
        if matches!(quote, '\'' | '"') && colon == Some(token.start) {
            let name = sql[token.clone()].trim_matches(quote);
            let value = variables.get(name).ok_or_else(|| {
                let position = sql[..token.start].chars().count();
                Error::syntax(format!("variable '{name}' has no value"))
                    .with_hint(format!("give it one with -v {name}=…"))
                    .with_position(position)
            })?;
            text.push_str(&sql[copied..token.start - 1]);
            text.push(quote);
            text.push_str(&value.replace(quote, &format!("{quote}{quote}")));
            text.push(quote);
            copied = token.end;
        }
        // Two of them are a cast.
        let alone = &sql[token.clone()] == ":" && colon != Some(token.start);
        colon = alone.then_some(token.end);
    }
    text.push_str(&sql[copied..]);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_day(sql: &str) -> Result<String> {
        let variables = [("day", "2026-03-01"), ("who", "O'Hara \"x\"")];
        substitute(sql, &variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn values_are_quoted_as_they_stand() {
        assert_eq!(with_day("CALL f('r', :'day')").unwrap(), "CALL f('r', '2026-03-01')");
        assert_eq!(
            with_day("SELECT :'who', :\"who\" é").unwrap(),
            "SELECT 'O''Hara \"x\"', \"O'Hara \"\"x\"\"\" é"
        );
    }

    #[test]
    fn strings_comments_and_casts_stay() {
        for sql in
            ["SELECT ':''day'''", "SELECT 1 -- :'day'\n", "SELECT '1'::int, x::\"day\"", "SELECT $$:'day'$$"]
        {
            assert_eq!(with_day(sql).unwrap(), sql);
        }
    }

    #[test]
    fn a_variable_without_a_value_is_named() {
        let e = with_day("SELECT 1,\n :'night'").unwrap_err();
        assert!(e.message().contains("'night'") && e.position() == Some(12), "{e:?}");
    }
}
