//! Where in a statement the name stands that an error is about, and what was probably meant.

use super::run::Session;
use super::split::tokens;
use crate::catalog::schemas::{CATALOG, PUBLIC};
use crate::error::{Error, Kind, nearest};

impl Session {
    /// Adds to an error what the statement's text and the warehouse say of it.
    pub(super) async fn blame(&self, e: Error, sql: &str) -> Error {
        let Some(name) = e.name().map(str::to_owned) else { return e };
        let hint = match (e.kind(), e.hint()) {
            (Kind::UndefinedTable, None) => self.table_like(&name).await,
            _ => None,
        };
        let e = match (e.position(), find(&name, sql)) {
            (None, Some(position)) => e.with_position(position),
            _ => e,
        };
        match hint {
            Some(near) => e.with_hint(format!("perhaps you meant '{near}'")),
            None => e,
        }
    }

    /// The table or view whose name is most like this one.
    async fn table_like(&self, name: &str) -> Option<String> {
        // A store that does not answer is no reason to say nothing.
        let _ = self.warehouse.list().await;
        let (schema, table) = name.rsplit_once('.').unwrap_or((PUBLIC, name));
        let catalog = self.ctx.catalog(CATALOG)?;
        let known = catalog.schema(schema).map(|s| s.table_names()).unwrap_or_default();
        let near = nearest(table, known.iter().map(String::as_str))?;
        Some(if schema == PUBLIC { near.to_owned() } else { format!("{schema}.{near}") })
    }
}

/// The 1-based number of the character where a name stands in a statement: with its parts, or if they do not stand there together,
/// the last one alone.
fn find(name: &str, sql: &str) -> Option<usize> {
    let tokens = tokens(sql);
    let texts: Vec<String> = tokens.iter().map(|range| meant(&sql[range.clone()])).collect();
    let parts: Vec<&str> = name.split('.').collect();
    let whole: Vec<&str> = parts.iter().flat_map(|part| [".", part]).skip(1).collect();
    let last = parts.last().map(|last| vec![*last]).unwrap_or_default();
    let at = [whole, last].into_iter().find_map(|wanted| {
        texts
            .windows(wanted.len())
            .position(|window| window.iter().zip(&wanted).all(|(text, want)| text == want))
    })?;
    Some(sql[..tokens[at].start].chars().count() + 1)
}

/// A name as it is meant; a string is none.
fn meant(token: &str) -> String {
    match token.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest).replace("\"\"", "\""),
        None if token.starts_with(['\'', '$']) => String::new(),
        None => token.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_strings_are_not() {
        for (name, sql, position) in [
            ("a", "SELECT 'a', \"b\", A FROM t", Some(18)),
            ("t.a", "SELECT a, t.a FROM t", Some(11)),
            ("t.a", "SELECT a FROM t", Some(8)),
            ("Ä b", "SELECT 'é', \"Ä b\"", Some(13)),
            ("a", "SELECT b -- a", None),
        ] {
            assert_eq!(find(name, sql), position, "{sql}");
        }
    }
}
