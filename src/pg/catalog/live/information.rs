//! What information_schema says of tables, views and schemas.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::relations::{SERVER, WRAPPER, has_foreign};
use super::{rows_of, yes_or_no};
use crate::catalog::privileges::Privilege;
use crate::pg::catalog::INFORMATION_SCHEMA;
use crate::pg::catalog::relations::{Relation, Seen};
use crate::pg::catalog::rows::Rows;

fn rows(name: &'static str, count: usize) -> Result<Rows> {
    rows_of(INFORMATION_SCHEMA, name, count)
}

/// Tables and views that whoever asks may do anything with. Materialized views are not known to the standard, and
/// PostgreSQL leaves them out.
pub(super) fn listed(seen: &Seen) -> Vec<&Arc<Relation>> {
    let me = seen.roles.named(&seen.client.user);
    let mut all = seen.of_kinds(&["r", "v", "f"]);
    all.retain(|r| Privilege::ALL.iter().any(|right| seen.may(me, *right, r)));
    all
}

pub(super) fn tables(seen: &Seen) -> Result<RecordBatch> {
    let all = listed(seen);
    let kind = |r: &Relation| match r.kind {
        "v" => "VIEW",
        "f" => "FOREIGN",
        _ => "BASE TABLE",
    };
    rows("tables", all.len())?
        .all(&["table_catalog"], seen.database.as_str())?
        .text("table_schema", all.iter().map(|r| &r.schema))
        .text("table_name", all.iter().map(|r| &r.name))
        .text("table_type", all.iter().map(|r| kind(r)))
        .text("is_insertable_into", all.iter().map(|r| yes_or_no(r.is_own() && r.kind == "r")))
        .all(&["is_typed"], "NO")?
        .batch()
}

pub(super) fn views(seen: &Seen) -> Result<RecordBatch> {
    let mut all = listed(seen);
    all.retain(|r| r.kind == "v");
    rows("views", all.len())?
        .all(&["table_catalog"], seen.database.as_str())?
        .text("table_schema", all.iter().map(|r| &r.schema))
        .text("table_name", all.iter().map(|r| &r.name))
        .maybe_text("view_definition", all.iter().map(|r| r.definition.as_ref().map(|d| format!(" {d};"))))
        .all(&["check_option"], "NONE")?
        .all(
            &[
                "is_updatable",
                "is_insertable_into",
                "is_trigger_updatable",
                "is_trigger_deletable",
                "is_trigger_insertable_into",
            ],
            "NO",
        )?
        .batch()
}

pub(super) fn schemata(seen: &Seen) -> Result<RecordBatch> {
    rows("schemata", seen.schemas.len())?
        .all(&["catalog_name"], seen.database.as_str())?
        .text("schema_name", seen.schemas.iter().map(|s| &s.name))
        .all(&["schema_owner"], seen.roles.owner())?
        .batch()
}

pub(super) fn character_sets(seen: &Seen) -> Result<RecordBatch> {
    rows("character_sets", 1)?
        .all(&["character_set_name", "form_of_use"], "UTF8")?
        .all(&["character_repertoire"], "UCS")?
        .all(&["default_collate_catalog"], seen.database.as_str())?
        .batch()
}

pub(super) fn catalog_name(seen: &Seen) -> Result<RecordBatch> {
    rows("information_schema_catalog_name", 1)?.text("catalog_name", [&seen.database]).batch()
}

pub(super) fn foreign_tables(seen: &Seen) -> Result<RecordBatch> {
    let all = seen.of_kinds(&["f"]);
    let database = seen.database.as_str();
    rows("foreign_tables", all.len())?
        .all(&["foreign_table_catalog", "foreign_server_catalog"], database)?
        .text("foreign_table_schema", all.iter().map(|r| &r.schema))
        .text("foreign_table_name", all.iter().map(|r| &r.name))
        .all(&["foreign_server_name"], SERVER.1)?
        .batch()
}

pub(super) fn foreign_servers(seen: &Seen) -> Result<RecordBatch> {
    let database = seen.database.as_str();
    rows("foreign_servers", usize::from(has_foreign(seen)))?
        .all(&["foreign_server_catalog", "foreign_data_wrapper_catalog"], database)?
        .all(&["foreign_server_name"], SERVER.1)?
        .all(&["foreign_data_wrapper_name"], WRAPPER.1)?
        .all(&["authorization_identifier"], seen.roles.owner())?
        .batch()
}

pub(super) fn foreign_data_wrappers(seen: &Seen) -> Result<RecordBatch> {
    rows("foreign_data_wrappers", usize::from(has_foreign(seen)))?
        .all(&["foreign_data_wrapper_catalog"], seen.database.as_str())?
        .all(&["foreign_data_wrapper_name"], WRAPPER.1)?
        .all(&["authorization_identifier"], seen.roles.owner())?
        .batch()
}
