//! Tables, views, schemas, the database, and what is kept of them.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::Result;

use super::rows;
use crate::pg::catalog::relations::{OWNER, Relation, Seen};
use crate::pg::catalog::{conformed, static_tables};

/// The number of `pg_class` itself: what a comment is on.
const PG_CLASS: i32 = 1259;
/// Of the method by which tables are kept, and of that of indexes.
const HEAP: i32 = 2;
const BTREE: i32 = 403;
/// What PostgreSQL counts tables in.
const PAGE: u64 = 8192;
/// Files elsewhere: the wrapper and the server of foreign tables.
pub(super) const WRAPPER: (i32, &str) = (16_384, "files");
pub(super) const SERVER: (i32, &str) = (16_385, "files");

pub(super) fn pg_class(seen: &Seen) -> Result<RecordBatch> {
    let all = || seen.relations.iter();
    let method = |r: &Relation| match r.kind {
        "r" | "m" => HEAP,
        "i" => BTREE,
        _ => 0,
    };
    let indexed = |r: &Relation| {
        r.kind == "r"
            && seen
                .relations
                .iter()
                .any(|i| i.system.and_then(|s| s.index.as_ref()).is_some_and(|index| index.table == r.oid))
    };
    // Those of PostgreSQL are the same at any time.
    rows("pg_class", seen.relations.len())?
        .int4("oid", all().map(|r| r.oid))
        .text("relname", all().map(|r| &r.name))
        .int4("relnamespace", all().map(|r| r.schema_oid))
        .all(&["relowner"], OWNER)?
        .int4("relam", all().map(|r| method(r)))
        .int4("relfilenode", all().map(|r| if method(r) == 0 { 0 } else { r.oid }))
        .int4("relpages", all().map(|r| r.bytes.div_ceil(PAGE).try_into().unwrap_or(i32::MAX)))
        // -1 is a table whose rows nobody has counted.
        .float4(
            "reltuples",
            all().map(|r| r.rows.map_or(if method(r) == HEAP { -1.0 } else { 0.0 }, |n| n as f32)),
        )
        .bool("relhasindex", all().map(|r| !r.is_own() && indexed(r)))
        .all(&["relpersistence"], "p")?
        .text("relkind", all().map(|r| r.kind))
        .int2("relnatts", all().map(|r| r.columns.len() as i16))
        .bool("relhasrules", all().map(|r| r.kind == "v"))
        .all(&["relispopulated"], true)?
        .text("relreplident", all().map(|r| if r.is_own() && r.kind == "r" { "d" } else { "n" }))
        .texts("relacl", all().map(|r| (r.kind != "i").then(|| seen.acl(r))))
        .batch()
}

pub(super) fn pg_namespace(seen: &Seen) -> Result<RecordBatch> {
    let owner = seen.roles.owner();
    rows("pg_namespace", seen.schemas.len())?
        .int4("oid", seen.schemas.iter().map(|s| s.oid))
        .text("nspname", seen.schemas.iter().map(|s| &s.name))
        .all(&["nspowner"], OWNER)?
        .texts(
            "nspacl",
            seen.schemas.iter().map(|_| Some(vec![format!("{owner}=UC/{owner}"), format!("=U/{owner}")])),
        )
        .batch()
}

pub(super) fn pg_database(seen: &Seen) -> Result<RecordBatch> {
    rows("pg_database", 1)?
        .int4("oid", [seen.database_oid()])
        .text("datname", [&seen.database])
        .all(&["datdba"], OWNER)?
        .all(&["encoding"], 6)?
        .all(&["datlocprovider"], "c")?
        .all(&["datallowconn"], true)?
        .all(&["datconnlimit"], -1)?
        .all(&["dattablespace"], 1663)?
        .all(&["datcollate", "datctype"], "C")?
        .batch()
}

/// Those of PostgreSQL's own objects, and what `COMMENT ON` said.
pub(super) fn pg_description(seen: &Seen) -> Result<RecordBatch> {
    let mut found: Vec<(i32, i32, &str)> = vec![];
    for relation in seen.relations.iter().filter(|r| r.is_own()) {
        found.extend(relation.comment.as_deref().map(|text| (relation.oid, 0, text)));
        for (number, column) in (1..).zip(&relation.columns) {
            let comment = relation.column_comments.get(&column.name);
            found.extend(comment.map(|text| (relation.oid, number, text.as_str())));
        }
    }
    let own = rows("pg_description", found.len())?
        .int4("objoid", found.iter().map(|f| f.0))
        .all(&["classoid"], PG_CLASS)?
        .int4("objsubid", found.iter().map(|f| f.1))
        .text("description", found.iter().map(|f| f.2))
        .batch()?;
    let schema = own.schema();
    let mut batches = conformed(&static_tables()?.pg_description, &schema)?;
    batches.push(own);
    Ok(concat_batches(&schema, &batches)?)
}

pub(super) fn pg_foreign_data_wrapper(seen: &Seen) -> Result<RecordBatch> {
    let count = usize::from(has_foreign(seen));
    rows("pg_foreign_data_wrapper", count)?
        .int4("oid", std::iter::repeat_n(WRAPPER.0, count))
        .text("fdwname", std::iter::repeat_n(WRAPPER.1, count))
        .all(&["fdwowner"], OWNER)?
        .batch()
}

pub(super) fn pg_foreign_server(seen: &Seen) -> Result<RecordBatch> {
    let count = usize::from(has_foreign(seen));
    rows("pg_foreign_server", count)?
        .int4("oid", std::iter::repeat_n(SERVER.0, count))
        .text("srvname", std::iter::repeat_n(SERVER.1, count))
        .all(&["srvowner"], OWNER)?
        .all(&["srvfdw"], WRAPPER.0)?
        .batch()
}

pub(super) fn pg_foreign_table(seen: &Seen) -> Result<RecordBatch> {
    let found = seen.of_kinds(&["f"]);
    rows("pg_foreign_table", found.len())?
        .int4("ftrelid", found.iter().map(|r| r.oid))
        .all(&["ftserver"], SERVER.0)?
        .batch()
}

pub(super) fn has_foreign(seen: &Seen) -> bool {
    seen.relations.iter().any(|r| r.kind == "f")
}

pub(super) fn pg_tables(seen: &Seen) -> Result<RecordBatch> {
    let found = seen.of_kinds(&["r"]);
    rows("pg_tables", found.len())?
        .text("schemaname", found.iter().map(|r| &r.schema))
        .text("tablename", found.iter().map(|r| &r.name))
        .all(&["tableowner"], seen.roles.owner())?
        .bool("hasindexes", found.iter().map(|r| !r.is_own()))
        .all(&["hasrules", "hastriggers", "rowsecurity"], false)?
        .batch()
}

pub(super) fn pg_views(seen: &Seen) -> Result<RecordBatch> {
    let found = seen.of_kinds(&["v"]);
    rows("pg_views", found.len())?
        .text("schemaname", found.iter().map(|r| &r.schema))
        .text("viewname", found.iter().map(|r| &r.name))
        .all(&["viewowner"], seen.roles.owner())?
        .maybe_text("definition", found.iter().map(|r| r.definition.as_ref().map(|d| format!(" {d};"))))
        .batch()
}

pub(super) fn pg_matviews(seen: &Seen) -> Result<RecordBatch> {
    let found = seen.of_kinds(&["m"]);
    rows("pg_matviews", found.len())?
        .text("schemaname", found.iter().map(|r| &r.schema))
        .text("matviewname", found.iter().map(|r| &r.name))
        .all(&["matviewowner"], seen.roles.owner())?
        .all(&["hasindexes"], false)?
        .all(&["ispopulated"], true)?
        .maybe_text("definition", found.iter().map(|r| r.definition.as_ref().map(|d| format!(" {d};"))))
        .batch()
}

pub(super) fn pg_stat_all_tables(seen: &Seen) -> Result<RecordBatch> {
    stat_tables(seen, "pg_stat_all_tables", |_| true)
}

pub(super) fn pg_stat_user_tables(seen: &Seen) -> Result<RecordBatch> {
    stat_tables(seen, "pg_stat_user_tables", Relation::is_own)
}

pub(super) fn pg_stat_sys_tables(seen: &Seen) -> Result<RecordBatch> {
    stat_tables(seen, "pg_stat_sys_tables", |r| !r.is_own())
}

/// Of what is counted there we know how many rows there are.
fn stat_tables(seen: &Seen, name: &'static str, which: fn(&Relation) -> bool) -> Result<RecordBatch> {
    let all: Vec<&Arc<Relation>> = seen.of_kinds(&["r", "m"]).into_iter().filter(|r| which(r)).collect();
    let counts = [
        "seq_scan",
        "seq_tup_read",
        "n_tup_ins",
        "n_tup_upd",
        "n_tup_del",
        "n_tup_hot_upd",
        "n_dead_tup",
        "n_mod_since_analyze",
        "n_ins_since_vacuum",
        "vacuum_count",
        "autovacuum_count",
        "analyze_count",
        "autoanalyze_count",
    ];
    rows(name, all.len())?
        .int4("relid", all.iter().map(|r| r.oid))
        .text("schemaname", all.iter().map(|r| &r.schema))
        .text("relname", all.iter().map(|r| &r.name))
        .maybe_int8("n_live_tup", all.iter().map(|r| Some(r.rows.unwrap_or(0) as i64)))
        .all(&counts, 0i64)?
        .batch()
}
