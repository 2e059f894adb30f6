//! Who may do what, as information_schema has it.

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::{rows_of, yes_or_no};
use crate::pg::catalog::INFORMATION_SCHEMA;
use crate::pg::catalog::relations::{Relation, Seen};
use crate::pg::catalog::roles::Member;

/// A right that somebody has on a table.
struct Right<'a> {
    grantee: Option<&'a str>,
    right: &'static str,
    on: &'a Relation,
}

/// The rights that concern whoever asks. A right of a role or of everybody is not listed in `role_…` of others.
fn rights<'a>(seen: &'a Seen, of_everybody: bool) -> Vec<Right<'a>> {
    let me = seen.roles.named(&seen.client.user);
    let concerns = |grantee: Option<&str>| match (grantee, me) {
        (None, _) => of_everybody,
        (Some(_), Some(me)) if me.is_super() => true,
        (Some(grantee), Some(me)) => grantee == me.name || grantee == me.role.name(),
        (Some(_), None) => false,
    };
    let own = seen.relations.iter().filter(|r| matches!(r.kind, "r" | "v" | "f"));
    let mut all = vec![];
    for relation in own {
        for (grantee, names) in seen.granted(relation) {
            if concerns(grantee) {
                all.extend(names.into_iter().map(|right| Right { grantee, right, on: relation }));
            }
        }
    }
    all
}

fn granted(seen: &Seen, name: &'static str, of_everybody: bool) -> Result<RecordBatch> {
    let all = rights(seen, of_everybody);
    let owner = seen.roles.owner();
    rows_of(INFORMATION_SCHEMA, name, all.len())?
        .all(&["grantor"], owner)?
        .text("grantee", all.iter().map(|r| r.grantee.unwrap_or("PUBLIC")))
        .all(&["table_catalog"], seen.database.as_str())?
        .text("table_schema", all.iter().map(|r| &r.on.schema))
        .text("table_name", all.iter().map(|r| &r.on.name))
        .text("privilege_type", all.iter().map(|r| r.right))
        .text("is_grantable", all.iter().map(|r| yes_or_no(r.grantee == Some(owner))))
        .text("with_hierarchy", all.iter().map(|r| yes_or_no(r.right == "SELECT")))
        .batch()
}

pub(super) fn table_privileges(seen: &Seen) -> Result<RecordBatch> {
    granted(seen, "table_privileges", true)
}

pub(super) fn role_table_grants(seen: &Seen) -> Result<RecordBatch> {
    granted(seen, "role_table_grants", false)
}

/// A right on a table is one on each of its columns, where columns can have it.
fn granted_on_columns(seen: &Seen, name: &'static str, of_everybody: bool) -> Result<RecordBatch> {
    let of_columns = ["SELECT", "INSERT", "UPDATE", "REFERENCES"];
    let rights = rights(seen, of_everybody);
    let rights = rights.iter().filter(|r| of_columns.contains(&r.right));
    let all: Vec<_> = rights.flat_map(|r| r.on.columns.iter().map(move |c| (r, c))).collect();
    let owner = seen.roles.owner();
    rows_of(INFORMATION_SCHEMA, name, all.len())?
        .all(&["grantor"], owner)?
        .text("grantee", all.iter().map(|(r, _)| r.grantee.unwrap_or("PUBLIC")))
        .all(&["table_catalog"], seen.database.as_str())?
        .text("table_schema", all.iter().map(|(r, _)| &r.on.schema))
        .text("table_name", all.iter().map(|(r, _)| &r.on.name))
        .text("column_name", all.iter().map(|(_, c)| &c.name))
        .text("privilege_type", all.iter().map(|(r, _)| r.right))
        .text("is_grantable", all.iter().map(|(r, _)| yes_or_no(r.grantee == Some(owner))))
        .batch()
}

pub(super) fn column_privileges(seen: &Seen) -> Result<RecordBatch> {
    granted_on_columns(seen, "column_privileges", true)
}

pub(super) fn role_column_grants(seen: &Seen) -> Result<RecordBatch> {
    granted_on_columns(seen, "role_column_grants", false)
}

/// The roles that whoever asks has.
pub(super) fn enabled_roles(seen: &Seen) -> Result<RecordBatch> {
    let me = seen.roles.named(&seen.client.user);
    let has = |m: &&Member| {
        me.is_some_and(|me| me.is_super() || m.oid == me.oid || (!m.login && m.role == me.role))
    };
    let all: Vec<&Member> = seen.roles.0.iter().filter(has).collect();
    rows_of(INFORMATION_SCHEMA, "enabled_roles", all.len())?
        .text("role_name", all.iter().map(|m| &m.name))
        .batch()
}

pub(super) fn applicable_roles(seen: &Seen) -> Result<RecordBatch> {
    let mut all = seen.roles.memberships();
    all.retain(|(_, user)| user.name == seen.client.user);
    rows_of(INFORMATION_SCHEMA, "applicable_roles", all.len())?
        .text("grantee", all.iter().map(|(_, user)| &user.name))
        .text("role_name", all.iter().map(|(role, _)| &role.name))
        .all(&["is_grantable"], "NO")?
        .batch()
}
