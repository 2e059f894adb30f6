//! Users and roles.

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::rows;
use crate::pg::catalog::relations::{OWNER, Seen};
use crate::pg::catalog::roles::Member;

/// What stands for a password.
const HIDDEN: &str = "********";

pub(super) fn pg_authid(seen: &Seen) -> Result<RecordBatch> {
    role_rows(seen, "pg_authid")
}

pub(super) fn pg_roles(seen: &Seen) -> Result<RecordBatch> {
    role_rows(seen, "pg_roles")
}

fn role_rows(seen: &Seen, name: &'static str) -> Result<RecordBatch> {
    let all = || seen.roles.0.iter();
    rows(name, seen.roles.0.len())?
        .int4("oid", all().map(|m| m.oid))
        .text("rolname", all().map(|m| &m.name))
        .bool("rolsuper", all().map(Member::is_super))
        .all(&["rolinherit"], true)?
        .all(&["rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls"], false)?
        .bool("rolcanlogin", all().map(|m| m.login))
        .all(&["rolconnlimit"], -1)?
        .all(&["rolpassword"], HIDDEN)?
        .batch()
}

pub(super) fn pg_shadow(seen: &Seen) -> Result<RecordBatch> {
    users(seen, "pg_shadow")
}

pub(super) fn pg_user(seen: &Seen) -> Result<RecordBatch> {
    users(seen, "pg_user")
}

fn users(seen: &Seen, name: &'static str) -> Result<RecordBatch> {
    let all: Vec<&Member> = seen.roles.0.iter().filter(|m| m.login).collect();
    rows(name, all.len())?
        .int4("usesysid", all.iter().map(|m| m.oid))
        .text("usename", all.iter().map(|m| &m.name))
        .bool("usesuper", all.iter().map(|m| m.is_super()))
        .all(&["usecreatedb", "userepl", "usebypassrls"], false)?
        .all(&["passwd"], HIDDEN)?
        .batch()
}

pub(super) fn pg_group(seen: &Seen) -> Result<RecordBatch> {
    let all: Vec<&Member> = seen.roles.0.iter().filter(|m| !m.login).collect();
    rows("pg_group", all.len())?
        .text("groname", all.iter().map(|m| &m.name))
        .int4("grosysid", all.iter().map(|m| m.oid))
        .batch()
}

pub(super) fn pg_auth_members(seen: &Seen) -> Result<RecordBatch> {
    let all = seen.roles.memberships();
    rows("pg_auth_members", all.len())?
        .int4("roleid", all.iter().map(|(role, _)| role.oid))
        .int4("member", all.iter().map(|(_, user)| user.oid))
        .all(&["grantor"], OWNER)?
        .batch()
}
