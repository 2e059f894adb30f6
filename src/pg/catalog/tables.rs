//! The tables of `pg_catalog` that say what is here, as functions from what was seen to rows.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DataFusionError;
use datafusion_pg_catalog::pg_catalog::oid_field::{self, kind};
use pgwire::api::Type;

use super::relations::{OWNER, Relation, Seen};
use crate::pg::types;

/// Makes a table's rows.
pub(super) type Make = fn(&Seen) -> Result<RecordBatch, DataFusionError>;

/// The tables by name.
pub(super) static LIVE: &[(&str, Make)] = &[
    ("pg_class", pg_class),
    ("pg_attribute", pg_attribute),
    ("pg_namespace", pg_namespace),
    ("pg_database", pg_database),
    ("pg_tables", pg_tables),
    ("pg_views", pg_views),
    ("pg_matviews", pg_matviews),
    ("pg_roles", pg_roles),
    ("pg_user", pg_user),
    ("pg_settings", pg_settings),
    ("pg_extension", pg_extension),
];

/// Columns that are being put together.
struct Columns {
    rows: usize,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn of(rows: usize) -> Self {
        Columns { rows, fields: vec![], arrays: vec![] }
    }

    fn add(mut self, field: Field, array: ArrayRef) -> Self {
        self.fields.push(field);
        self.arrays.push(array);
        self
    }

    /// A column of numbers of objects.
    fn oid(self, name: &str, kind: &'static str, values: impl Iterator<Item = i32>) -> Self {
        self.add(oid_field::oid_field(name, kind, false), Arc::new(Int32Array::from_iter_values(values)))
    }

    fn text<'a>(self, name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        self.add(Field::new(name, DataType::Utf8, true), Arc::new(StringArray::from_iter_values(values)))
    }

    fn maybe<'a>(self, name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        self.add(Field::new(name, DataType::Utf8, true), Arc::new(StringArray::from_iter(values)))
    }

    fn int4(self, name: &str, values: impl Iterator<Item = i32>) -> Self {
        self.add(Field::new(name, DataType::Int32, true), Arc::new(Int32Array::from_iter_values(values)))
    }

    fn int2(self, name: &str, values: impl Iterator<Item = i16>) -> Self {
        self.add(Field::new(name, DataType::Int16, true), Arc::new(Int16Array::from_iter_values(values)))
    }

    fn bool(self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        let values: Vec<bool> = values.collect();
        self.add(Field::new(name, DataType::Boolean, true), Arc::new(BooleanArray::from(values)))
    }

    /// Columns that are the same in every row.
    fn texts(self, names: &[&str], value: &str) -> Self {
        let rows = self.rows;
        names.iter().fold(self, |c, name| c.text(name, std::iter::repeat_n(value, rows)))
    }

    fn nulls(self, names: &[&str]) -> Self {
        let rows = self.rows;
        names.iter().fold(self, |c, name| c.maybe(name, std::iter::repeat_n(None, rows)))
    }

    /// Lists that are NULL: privileges and options.
    fn no_lists(self, names: &[&str]) -> Self {
        let list = DataType::new_list(DataType::Utf8, true);
        let rows = self.rows;
        names
            .iter()
            .fold(self, |c, name| c.add(Field::new(*name, list.clone(), true), new_null_array(&list, rows)))
    }

    fn int4s(self, names: &[&str], value: i32) -> Self {
        let rows = self.rows;
        names.iter().fold(self, |c, name| c.int4(name, std::iter::repeat_n(value, rows)))
    }

    fn oids(self, names: &[&str], value: i32) -> Self {
        let rows = self.rows;
        names.iter().fold(self, |c, name| c.oid(name, kind::OID, std::iter::repeat_n(value, rows)))
    }

    fn bools(self, names: &[&str], value: bool) -> Self {
        let rows = self.rows;
        names.iter().fold(self, |c, name| c.bool(name, std::iter::repeat_n(value, rows)))
    }

    fn batch(self) -> Result<RecordBatch, DataFusionError> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)?)
    }
}

fn pg_class(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let all = || seen.relations.iter();
    Columns::of(seen.relations.len())
        .oid("oid", kind::OID, all().map(|r| r.oid))
        .text("relname", all().map(|r| r.name.as_str()))
        .oid("relnamespace", kind::REGNAMESPACE, all().map(|r| r.schema_oid))
        .oids(&["reltype", "reloftype"], 0)
        .oids(&["relowner"], OWNER)
        .oids(&["relam", "relfilenode", "reltablespace"], 0)
        .int4s(&["relpages"], 0)
        // Not known, as PostgreSQL says of a table that was never analyzed.
        .add(
            Field::new("reltuples", DataType::Float32, true),
            Arc::new(Float32Array::from(vec![-1.0; seen.relations.len()])),
        )
        .int4s(&["relallvisible"], 0)
        .oids(&["reltoastrelid"], 0)
        .bools(&["relhasindex", "relisshared"], false)
        .texts(&["relpersistence"], "p")
        .text("relkind", all().map(|r| r.kind))
        .int2("relnatts", all().map(|r| r.columns.fields().len() as i16))
        .int2("relchecks", all().map(|_| 0))
        .bool("relhasrules", all().map(|r| r.kind != "r"))
        .bools(&["relhastriggers", "relhassubclass", "relrowsecurity", "relforcerowsecurity"], false)
        .bools(&["relispopulated"], true)
        .texts(&["relreplident"], "d")
        .bools(&["relispartition"], false)
        .oids(&["relrewrite"], 0)
        .int4s(&["relfrozenxid", "relminmxid"], 0)
        .no_lists(&["relacl", "reloptions"])
        .nulls(&["relpartbound"])
        .batch()
}

fn pg_attribute(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let columns: Vec<(&Relation, i16, &Arc<Field>, Type)> = seen
        .relations
        .iter()
        .flat_map(|r| r.columns.fields().iter().zip(1..).map(move |(f, n)| (r, n, f, types::of_field(f))))
        .collect();
    let all = || columns.iter();
    let is_array = |ty: &Type| types::element_of(ty).is_some();
    Columns::of(columns.len())
        .oid("attrelid", kind::REGCLASS, all().map(|c| c.0.oid))
        .text("attname", all().map(|c| c.2.name().as_str()))
        .oid("atttypid", kind::REGTYPE, all().map(|c| c.3.oid() as i32))
        .int4s(&["attstattarget"], -1)
        .int2("attlen", all().map(|c| types::width(&c.3)))
        .int2("attnum", all().map(|c| c.1))
        .int4("attndims", all().map(|c| i32::from(is_array(&c.3))))
        .int4s(&["attcacheoff"], -1)
        .int4("atttypmod", all().map(|c| types::modifier(c.2.data_type())))
        .bool("attbyval", all().map(|c| (1..=8).contains(&types::width(&c.3))))
        .text("attalign", all().map(|c| align(types::width(&c.3))))
        .text("attstorage", all().map(|c| if types::width(&c.3) < 0 { "x" } else { "p" }))
        .texts(&["attcompression"], "")
        .bool("attnotnull", all().map(|c| !c.2.is_nullable()))
        .bools(&["atthasdef", "atthasmissing"], false)
        .texts(&["attidentity", "attgenerated"], "")
        .bools(&["attisdropped"], false)
        .bools(&["attislocal"], true)
        .int4s(&["attinhcount"], 0)
        .oids(&["attcollation"], 0)
        .no_lists(&["attacl", "attoptions", "attfdwoptions"])
        .nulls(&["attmissingval"])
        .batch()
}

fn align(width: i16) -> &'static str {
    match width {
        1 => "c",
        2 => "s",
        8 | 16 => "d",
        _ => "i",
    }
}

fn pg_namespace(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    Columns::of(seen.schemas.len())
        .oid("oid", kind::OID, seen.schemas.iter().map(|s| s.oid))
        .text("nspname", seen.schemas.iter().map(|s| s.name.as_str()))
        .oids(&["nspowner"], OWNER)
        .no_lists(&["nspacl"])
        .batch()
}

fn pg_database(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let mut numbers = super::relations::Numbers::default();
    let name = seen.database.as_str();
    Columns::of(1)
        .oid("oid", kind::OID, std::iter::once(numbers.of("", name)))
        .texts(&["datname"], name)
        .oids(&["datdba"], OWNER)
        .int4s(&["encoding"], 6)
        .texts(&["datlocprovider"], "c")
        .bools(&["datistemplate"], false)
        .bools(&["datallowconn"], true)
        .int4s(&["datconnlimit"], -1)
        .int4s(&["datfrozenxid", "datminmxid"], 0)
        .oids(&["dattablespace"], 1663)
        .texts(&["datcollate", "datctype"], "C")
        .nulls(&["daticulocale", "datcollversion"])
        .no_lists(&["datacl"])
        .batch()
}

fn pg_tables(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let found = of_kind(seen, "r");
    Columns::of(found.len())
        .text("schemaname", found.iter().map(|r| r.schema.as_str()))
        .text("tablename", found.iter().map(|r| r.name.as_str()))
        .texts(&["tableowner"], &seen.client.user)
        .nulls(&["tablespace"])
        .bools(&["hasindexes", "hasrules", "hastriggers", "rowsecurity"], false)
        .batch()
}

fn pg_views(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let found = of_kind(seen, "v");
    Columns::of(found.len())
        .text("schemaname", found.iter().map(|r| r.schema.as_str()))
        .text("viewname", found.iter().map(|r| r.name.as_str()))
        .texts(&["viewowner"], &seen.client.user)
        .maybe("definition", found.iter().map(|r| r.definition.as_deref()))
        .batch()
}

fn pg_matviews(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let found = of_kind(seen, "m");
    Columns::of(found.len())
        .text("schemaname", found.iter().map(|r| r.schema.as_str()))
        .text("matviewname", found.iter().map(|r| r.name.as_str()))
        .texts(&["matviewowner"], &seen.client.user)
        .nulls(&["tablespace"])
        .bools(&["hasindexes"], false)
        .bools(&["ispopulated"], true)
        .maybe("definition", found.iter().map(|r| r.definition.as_deref()))
        .batch()
}

fn of_kind<'a>(seen: &'a Seen, kind: &str) -> Vec<&'a Relation> {
    seen.relations.iter().filter(|r| r.kind == kind).collect()
}

fn pg_roles(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    Columns::of(1)
        .texts(&["rolname"], &seen.client.user)
        .bools(&["rolsuper", "rolinherit"], true)
        .bools(&["rolcreaterole", "rolcreatedb"], false)
        .bools(&["rolcanlogin"], true)
        .bools(&["rolreplication"], false)
        .int4s(&["rolconnlimit"], -1)
        .texts(&["rolpassword"], "********")
        .nulls(&["rolvaliduntil"])
        .bools(&["rolbypassrls"], false)
        .no_lists(&["rolconfig"])
        .oids(&["oid"], OWNER)
        .batch()
}

fn pg_user(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    Columns::of(1)
        .texts(&["usename"], &seen.client.user)
        .oids(&["usesysid"], OWNER)
        .bools(&["usecreatedb"], false)
        .bools(&["usesuper"], true)
        .bools(&["userepl", "usebypassrls"], false)
        .texts(&["passwd"], "********")
        .nulls(&["valuntil"])
        .no_lists(&["useconfig"])
        .batch()
}

/// There are none; clients ask which there are.
fn pg_extension(_: &Seen) -> Result<RecordBatch, DataFusionError> {
    Columns::of(0)
        .oids(&["oid"], 0)
        .texts(&["extname"], "")
        .oids(&["extowner", "extnamespace"], 0)
        .bools(&["extrelocatable"], false)
        .texts(&["extversion"], "")
        .no_lists(&["extconfig", "extcondition"])
        .batch()
}

fn pg_settings(seen: &Seen) -> Result<RecordBatch, DataFusionError> {
    let settings = seen.client.settings.all();
    Columns::of(settings.len())
        .text("name", settings.iter().map(|s| s.0))
        .text("setting", settings.iter().map(|s| s.1.as_str()))
        .nulls(&["unit"])
        .texts(&["category", "short_desc"], "")
        .nulls(&["extra_desc"])
        .texts(&["context"], "user")
        .texts(&["vartype"], "string")
        .texts(&["source"], "session")
        .nulls(&["min_val", "max_val", "enumvals"])
        .text("boot_val", settings.iter().map(|s| s.1.as_str()))
        .text("reset_val", settings.iter().map(|s| s.1.as_str()))
        .nulls(&["sourcefile"])
        .int4s(&["sourceline"], 0)
        .bools(&["pending_restart"], false)
        .batch()
}
