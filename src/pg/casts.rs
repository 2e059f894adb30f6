//! The types that a statement casts its parameters to, by PostgreSQL's names of them.
//!
//! The engine has fewer types: to it `$1::oid[]` is a list of integers, and a client that was told so would look for the
//! wrong type.

use std::collections::BTreeMap;

use pgwire::api::Type;

use super::types;
use crate::statement::split::{Item, words};

/// Types that the engine has no type of its own for.
fn named(name: &str) -> Option<Type> {
    Some(match name {
        "oid" => Type::OID,
        "name" => Type::NAME,
        "varchar" => Type::VARCHAR,
        "uuid" => Type::UUID,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        _ => return None,
    })
}

/// What `$1`, `$2`, … are cast to, by number, where it is such a type or an array of it.
pub(super) fn casts(statement: &str) -> BTreeMap<usize, Type> {
    let mut found = BTreeMap::new();
    if !statement.contains('$') {
        return found;
    }
    let items = words(statement);
    for (i, item) in items.iter().enumerate() {
        let Some(number) = item.text().strip_prefix('$').and_then(|n| n.parse().ok()) else { continue };
        let name = match &items[i + 1..] {
            [a, b, name @ ..] if a.is(":") && b.is(":") => name,
            [r#as, name @ ..] if r#as.is("as") && follows_cast(&items[..i]) => name,
            _ => continue,
        };
        let name = match name {
            [schema, dot, name @ ..] if schema.text() == "pg_catalog" && dot.is(".") => name,
            name => name,
        };
        let [Item::Word(word) | Item::Name(word), rest @ ..] = name else { continue };
        let array = matches!(rest, [open, close, ..] if open.is("[") && close.is("]"));
        let cast_to = named(word).and_then(|t| if array { types::array_of(&t) } else { Some(t) });
        if let Some(cast_to) = cast_to {
            found.entry(number).or_insert(cast_to);
        }
    }
    found
}

fn follows_cast(before: &[Item]) -> bool {
    matches!(before, [.., cast, open] if cast.is("cast") && open.is("("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_cast() {
        let sql = r#"SELECT '$9::oid', $1::oid[], CAST($2 AS pg_catalog.name), $3 ::"pg_catalog"."uuid", $4::int,
                            $5 AS json, cast($6 as jsonb)"#;
        let found: Vec<_> = casts(sql).into_iter().map(|(n, t)| (n, t.name().to_owned())).collect();
        let expected = [(1, "_oid"), (2, "name"), (3, "uuid"), (6, "jsonb")];
        assert_eq!(found, expected.map(|(n, t)| (n, t.to_owned())));
    }
}
