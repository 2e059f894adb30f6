//! Who may do what: `has_table_privilege` and its like, by the rule that statements are checked with.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;

use super::objects::relation_of;
use super::{Function, as_number, as_text, invalid, is_text, strict};
use crate::catalog::privileges::{PUBLIC, Privilege};
use crate::error::{Error, Kind};
use crate::pg::catalog::relations::{Relation, Relations, Seen};
use crate::pg::catalog::roles::Member;

/// Of whom a right is asked; none is everybody.
type Who<'a> = Option<&'a Member>;

pub(super) fn all(relations: &Arc<Relations>) -> Vec<Function> {
    vec![
        check("has_table_privilege", relations, 2, |seen, who, on, rights| {
            of_table(seen, who, &on[0], rights, &TABLE_RIGHTS)
        }),
        check("has_any_column_privilege", relations, 2, |seen, who, on, rights| {
            of_table(seen, who, &on[0], rights, &COLUMN_RIGHTS)
        }),
        check("has_column_privilege", relations, 3, |seen, who, on, rights| {
            let Some(relation) = relation_of(seen, &on[0])? else { return Ok(None) };
            if !has_column(&relation, &on[1])? {
                return Ok(None);
            }
            of_table(seen, who, &on[0], rights, &COLUMN_RIGHTS)
        }),
        check("has_schema_privilege", relations, 2, |seen, who, on, rights| {
            let known = match is_text(&on[0]) {
                true => {
                    let name = as_text(&on[0])?.unwrap_or_default();
                    let found = seen.schemas.iter().any(|s| s.name == name);
                    let missing =
                        || Error::new(Kind::UndefinedObject, format!("schema \"{name}\" does not exist"));
                    found.then_some(()).ok_or_else(missing)?;
                    true
                }
                false => as_number(&on[0]).is_some_and(|oid| seen.schema(oid as i32).is_some()),
            };
            let held = any(rights, |right| match right {
                "USAGE" => Some(true),
                "CREATE" => Some(who.is_some_and(Member::is_super)),
                _ => None,
            })?;
            Ok(known.then_some(held))
        }),
        check("has_database_privilege", relations, 2, |_, who, _, rights| {
            let held = any(rights, |right| match right {
                "CONNECT" => Some(true),
                "CREATE" | "TEMP" | "TEMPORARY" => Some(who.is_some_and(Member::is_super)),
                _ => None,
            })?;
            Ok(Some(held))
        }),
        check("pg_has_role", relations, 2, |seen, who, on, rights| {
            let Some(role) = member(seen, &on[0])? else { return Ok(None) };
            let has = who.is_some_and(|who| {
                who.is_super() || who.oid == role.oid || (!role.login && role.role == who.role)
            });
            Ok(Some(any(rights, |right| matches!(right, "MEMBER" | "USAGE" | "SET").then_some(has))?))
        }),
    ]
}

type Check = fn(&Seen, Who<'_>, &[ScalarValue], &str) -> Result<Option<bool>>;

/// A function of `on` arguments, the last of which names rights, or with the user in front.
fn check(name: &'static str, relations: &Arc<Relations>, on: usize, check: Check) -> Function {
    let relations = Arc::clone(relations);
    strict(name, &[on, on + 1], DataType::Boolean, move |args| {
        let seen = relations.last();
        let (who, rest) = match args.len() > on {
            true => (user(&seen, &args[0])?, &args[1..]),
            false => (seen.roles.named(&seen.client.user), args),
        };
        let rights = rest.last().map_or(Ok(None), as_text)?.unwrap_or_default();
        Ok(ScalarValue::Boolean(check(&seen, who, rest, &rights)?))
    })
}

/// The user or role that an argument names; none for `public`.
fn user<'a>(seen: &'a Seen, value: &ScalarValue) -> Result<Who<'a>> {
    if is_text(value) && as_text(value)?.as_deref() == Some(PUBLIC) || as_number(value) == Some(0) {
        return Ok(None);
    }
    member(seen, value)
}

fn member<'a>(seen: &'a Seen, value: &ScalarValue) -> Result<Who<'a>> {
    if !is_text(value) {
        return Ok(as_number(value).and_then(|oid| seen.roles.numbered(oid as i32)));
    }
    let name = as_text(value)?.unwrap_or_default();
    let missing = || Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist"));
    Ok(Some(seen.roles.named(&name).ok_or_else(missing)?))
}

const TABLE_RIGHTS: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
const COLUMN_RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "REFERENCES"];

fn of_table(
    seen: &Seen,
    who: Who<'_>,
    table: &ScalarValue,
    rights: &str,
    known: &[&str],
) -> Result<Option<bool>> {
    let Some(relation) = relation_of(seen, table)? else { return Ok(None) };
    let held = any(rights, |right| {
        let privilege = Privilege::ALL.into_iter().find(|p| p.name() == right);
        known.contains(&right).then(|| match privilege {
            Some(privilege) => seen.may(who, privilege, &relation),
            // Nobody can be given it.
            None => who.is_some_and(Member::is_super),
        })
    })?;
    Ok(Some(held))
}

/// Whether one of the rights in a list is held; which are there, `held` knows.
fn any(rights: &str, held: impl Fn(&str) -> Option<bool>) -> Result<bool> {
    let mut found = false;
    for right in rights.split(',') {
        let name = right.trim().to_uppercase();
        let name = name
            .strip_suffix(" WITH GRANT OPTION")
            .or(name.strip_suffix(" WITH ADMIN OPTION"))
            .unwrap_or(&name);
        found |= held(name)
            .ok_or_else(|| invalid(format!("unrecognized privilege type: \"{}\"", right.trim())))?;
    }
    Ok(found)
}

/// Whether a relation has the column that an argument names; a name that it has not is an error.
fn has_column(relation: &Relation, value: &ScalarValue) -> Result<bool> {
    if !is_text(value) {
        let number = as_number(value).and_then(|n| usize::try_from(n).ok());
        return Ok(number.is_some_and(|n| (1..=relation.columns.len()).contains(&n)));
    }
    let name = as_text(value)?.unwrap_or_default();
    match relation.columns.iter().any(|c| c.name == name) {
        true => Ok(true),
        false => Err(Error::undefined_column(format!(
            "column \"{name}\" of relation \"{}\" does not exist",
            relation.name
        ))
        .into()),
    }
}
