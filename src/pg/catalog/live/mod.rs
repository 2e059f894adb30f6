//! The tables that say what is here, as functions from what was seen to rows.

mod activity;
mod columns;
mod information;
mod privileges;
mod relations;
mod roles;
mod settings;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};

use super::relations::Seen;
use super::rows::Rows;
use super::{INFORMATION_SCHEMA, PG_CATALOG, system};
use crate::error::Error;

/// Makes a table's rows.
pub(super) type Make = fn(&Seen) -> Result<RecordBatch>;

/// The tables by schema and name.
static LIVE: &[(&str, &str, Make)] = &[
    (PG_CATALOG, "pg_class", relations::pg_class),
    (PG_CATALOG, "pg_attribute", columns::pg_attribute),
    (PG_CATALOG, "pg_namespace", relations::pg_namespace),
    (PG_CATALOG, "pg_database", relations::pg_database),
    (PG_CATALOG, "pg_description", relations::pg_description),
    (PG_CATALOG, "pg_foreign_data_wrapper", relations::pg_foreign_data_wrapper),
    (PG_CATALOG, "pg_foreign_server", relations::pg_foreign_server),
    (PG_CATALOG, "pg_foreign_table", relations::pg_foreign_table),
    (PG_CATALOG, "pg_tables", relations::pg_tables),
    (PG_CATALOG, "pg_views", relations::pg_views),
    (PG_CATALOG, "pg_matviews", relations::pg_matviews),
    (PG_CATALOG, "pg_stat_all_tables", relations::pg_stat_all_tables),
    (PG_CATALOG, "pg_stat_user_tables", relations::pg_stat_user_tables),
    (PG_CATALOG, "pg_stat_sys_tables", relations::pg_stat_sys_tables),
    (PG_CATALOG, "pg_authid", roles::pg_authid),
    (PG_CATALOG, "pg_roles", roles::pg_roles),
    (PG_CATALOG, "pg_shadow", roles::pg_shadow),
    (PG_CATALOG, "pg_user", roles::pg_user),
    (PG_CATALOG, "pg_group", roles::pg_group),
    (PG_CATALOG, "pg_auth_members", roles::pg_auth_members),
    (PG_CATALOG, "pg_settings", settings::pg_settings),
    (PG_CATALOG, "pg_prepared_statements", activity::pg_prepared_statements),
    (PG_CATALOG, "pg_stat_activity", activity::pg_stat_activity),
    (PG_CATALOG, "pg_stat_database", activity::pg_stat_database),
    (PG_CATALOG, "pg_stat_ssl", activity::pg_stat_ssl),
    (PG_CATALOG, "pg_stat_gssapi", activity::pg_stat_gssapi),
    (INFORMATION_SCHEMA, "tables", information::tables),
    (INFORMATION_SCHEMA, "views", information::views),
    (INFORMATION_SCHEMA, "columns", columns::columns),
    (INFORMATION_SCHEMA, "column_udt_usage", columns::column_udt_usage),
    (INFORMATION_SCHEMA, "element_types", columns::element_types),
    (INFORMATION_SCHEMA, "schemata", information::schemata),
    (INFORMATION_SCHEMA, "character_sets", information::character_sets),
    (INFORMATION_SCHEMA, "information_schema_catalog_name", information::catalog_name),
    (INFORMATION_SCHEMA, "foreign_tables", information::foreign_tables),
    (INFORMATION_SCHEMA, "foreign_servers", information::foreign_servers),
    (INFORMATION_SCHEMA, "foreign_data_wrappers", information::foreign_data_wrappers),
    (INFORMATION_SCHEMA, "enabled_roles", privileges::enabled_roles),
    (INFORMATION_SCHEMA, "applicable_roles", privileges::applicable_roles),
    (INFORMATION_SCHEMA, "table_privileges", privileges::table_privileges),
    (INFORMATION_SCHEMA, "role_table_grants", privileges::role_table_grants),
    (INFORMATION_SCHEMA, "column_privileges", privileges::column_privileges),
    (INFORMATION_SCHEMA, "role_column_grants", privileges::role_column_grants),
];

/// The table of this name, if it is one of these.
pub(super) fn find(schema: &str, name: &str) -> Option<Make> {
    LIVE.iter().find(|t| (t.0, t.1) == (schema, name)).map(|t| t.2)
}

/// Rows of a table of `pg_catalog`.
fn rows(name: &'static str, count: usize) -> Result<Rows> {
    rows_of(PG_CATALOG, name, count)
}

fn rows_of(schema: &'static str, name: &'static str, count: usize) -> Result<Rows> {
    let relation = system::relation(schema, name);
    let unknown = || DataFusionError::from(Error::internal(format!("no relation {schema}.{name}")));
    relation.map(|relation| Rows::of(relation, count)).ok_or_else(unknown)
}

/// `YES` or `NO`, as information_schema has it.
fn yes_or_no(yes: bool) -> &'static str {
    if yes { "YES" } else { "NO" }
}
