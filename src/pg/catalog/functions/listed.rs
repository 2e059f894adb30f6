//! `pg_proc`: the functions that PostgreSQL has and those that the session has besides, and what each takes and gives.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int16Array, Int32Array, ListArray, ListBuilder, StringArray, StringBuilder,
    new_null_array,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Documentation, Signature};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::pg::catalog::fixed::{conformed, static_tables};
use crate::pg::catalog::format_type::format_type;
use crate::pg::catalog::names::quoted;
use crate::pg::catalog::relations::{Numbers, OWNER};
use crate::pg::catalog::{PG_CATALOG, system};
use crate::pg::types;
use crate::statement::procedures;

/// The functions of a session.
pub(in crate::pg::catalog) struct Listed {
    /// PostgreSQL's own and the session's.
    pub(in crate::pg::catalog) pg_proc: Arc<dyn TableProvider>,
    described: HashMap<i32, Described>,
}

/// What is known of a function.
struct Described {
    name: String,
    arguments: String,
    /// Not known of a function whose result hangs on its arguments' types.
    result: Option<String>,
    /// Volatility and whether NULL gives NULL, of PostgreSQL's own.
    builtin: Option<(String, bool)>,
}

impl Listed {
    /// Those of a session. Sessions of one engine have the same functions, so they are put together once.
    pub(in crate::pg::catalog) fn of(ctx: &SessionContext) -> Result<Arc<Self>> {
        static KNOWN: Mutex<Vec<(u64, Arc<Listed>)>> = Mutex::new(vec![]);
        let state = ctx.state_ref();
        let state = state.read();
        let mut names: Vec<&String> = state.scalar_functions().keys().collect();
        names.extend(state.aggregate_functions().keys());
        names.extend(state.window_functions().keys());
        names.sort_unstable();
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        let key = hasher.finish();
        if let Some((_, listed)) = KNOWN.lock().iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(listed));
        }
        drop(state);
        let listed = Arc::new(Self::new(ctx)?);
        KNOWN.lock().push((key, Arc::clone(&listed)));
        Ok(listed)
    }

    fn new(ctx: &SessionContext) -> Result<Self> {
        let relation =
            system::relation(PG_CATALOG, "pg_proc").ok_or_else(|| Error::internal("no pg_proc"))?;
        let schema = Arc::clone(&relation.arrow);
        let batches = conformed(&static_tables()?.pg_proc, &schema)?;
        let mut described = HashMap::new();
        batches.iter().try_for_each(|batch| builtin(batch, &mut described))?;
        let known: HashSet<&str> = described.values().map(|d: &Described| d.name.as_str()).collect();
        let state = ctx.state();
        let mut found = own(&state);
        found.retain(|f| !known.contains(f.name.as_str()));
        found.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        found.dedup_by(|a, b| a.name == b.name);

        let mut numbers = Numbers::default();
        let numbered: Vec<i32> = found.iter().map(|f| numbers.of("()", &f.name)).collect();
        let counts = Int16Array::from_iter_values(found.iter().map(Own::count));
        let columns = schema.fields().iter().map(|field| {
            let same = |value: ScalarValue| value.cast_to(field.data_type())?.to_array_of_size(found.len());
            let texts = |texts: Vec<&str>| cast(&StringArray::from(texts), field.data_type());
            match field.name().as_str() {
                "oid" => Ok(cast(&Int32Array::from(numbered.clone()), field.data_type())?),
                "proname" => Ok(texts(found.iter().map(|f| f.name.as_str()).collect())?),
                "prokind" => Ok(texts(found.iter().map(|f| f.kind).collect())?),
                "pronamespace" => same(ScalarValue::from(2200)),
                "pronargs" => Ok(cast(&counts, field.data_type())?),
                "proargtypes" => {
                    let lists = found.iter().map(|f| Some(f.takes.iter().map(|t| Some(oid_of(t)))));
                    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
                    Ok(cast(&lists, field.data_type())?)
                }
                "proargnames" => {
                    let mut lists = ListBuilder::new(StringBuilder::new());
                    for f in &found {
                        f.labels.iter().for_each(|label| lists.values().append_value(label));
                        lists.append(!f.labels.is_empty());
                    }
                    Ok(cast(&lists.finish(), field.data_type())?)
                }
                "prorettype" => {
                    let results = found.iter().map(|f| f.gives.as_ref().map_or(VOID, oid_of));
                    Ok(cast(&Int32Array::from_iter_values(results), field.data_type())?)
                }
                "proowner" => same(ScalarValue::from(OWNER)),
                "provolatile" => same(ScalarValue::from("s")),
                "proparallel" => same(ScalarValue::from("s")),
                "prolang" => same(ScalarValue::from(INTERNAL)),
                _ if field.is_nullable() => Ok(new_null_array(field.data_type(), found.len())),
                _ => ScalarValue::new_default(field.data_type())?.to_array_of_size(found.len()),
            }
        });
        let columns = columns.collect::<EngineResult<Vec<ArrayRef>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let all = concat_batches(&schema, batches.iter().chain([&batch]))?;
        let own = found.into_iter().zip(numbered).map(|(f, oid)| {
            let Own { name, arguments, .. } = f;
            (oid, Described { name, arguments, result: None, builtin: None })
        });
        let own: Vec<(i32, Described)> = own.collect();
        drop(known);
        described.extend(own);
        Ok(Listed { pg_proc: Arc::new(MemTable::try_new(schema, vec![vec![all]])?), described })
    }

    /// What stands in the brackets of `name(arguments)`.
    pub(super) fn arguments(&self, oid: i32) -> Option<String> {
        self.described.get(&oid).map(|d| d.arguments.clone())
    }

    /// The type of what it gives.
    pub(super) fn result(&self, oid: i32) -> Option<String> {
        self.described.get(&oid)?.result.clone()
    }

    /// A statement that would make it, of PostgreSQL's own.
    pub(super) fn definition(&self, oid: i32) -> Option<String> {
        let d = self.described.get(&oid)?;
        let (volatility, strict) = d.builtin.as_ref()?;
        let words = match volatility.as_str() {
            "i" => " IMMUTABLE",
            "s" => " STABLE",
            _ => "",
        };
        let strict = if *strict { " STRICT" } else { "" };
        Some(format!(
            "CREATE OR REPLACE FUNCTION pg_catalog.{}({})\n RETURNS {}\n LANGUAGE internal\n{words}{strict}\nAS \
             $function${}$function$\n",
            quoted(&d.name),
            d.arguments,
            d.result.as_deref().unwrap_or("void"),
            d.name,
        ))
    }
}

/// A function that PostgreSQL does not have, or a procedure.
struct Own {
    name: String,
    kind: &'static str,
    /// As its documentation has them.
    arguments: String,
    /// The types of one way to call it; none where they are not known.
    takes: Vec<DataType>,
    labels: Vec<&'static str>,
    gives: Option<DataType>,
}

impl Own {
    fn count(&self) -> i16 {
        let words = self.arguments.split(',').filter(|w| !w.trim().is_empty()).count();
        if self.takes.is_empty() { words as i16 } else { self.takes.len() as i16 }
    }
}

/// What the session has, under its aliases too: an alias is a name to call it by.
fn own(state: &SessionState) -> Vec<Own> {
    let function = |name: &str, kind, doc: Option<&Documentation>, takes: Vec<DataType>, gives| Own {
        name: name.to_owned(),
        kind,
        arguments: doc.map(arguments).unwrap_or_default(),
        takes,
        labels: vec![],
        gives,
    };
    let example = |signature: &Signature| {
        signature.type_signature.get_example_types().into_iter().next().unwrap_or_default()
    };
    let mut found = vec![];
    for (name, f) in state.scalar_functions() {
        let takes = example(f.signature());
        let gives = if takes.is_empty() { None } else { f.return_type(&takes).ok() };
        found.push(function(name, "f", f.documentation(), takes, gives));
    }
    for (name, f) in state.aggregate_functions() {
        let takes = example(f.signature());
        let gives = if takes.is_empty() { None } else { f.return_type(&takes).ok() };
        found.push(function(name, "a", f.documentation(), takes, gives));
    }
    for (name, f) in state.window_functions() {
        found.push(function(name, "w", f.documentation(), vec![], None));
    }
    for (name, parameters) in procedures() {
        let (labels, takes): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let arguments =
            labels.iter().zip(&takes).map(|(label, t)| format!("{label} {}", format_type(oid_of(t), None)));
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        found.push(Own { name: name.to_owned(), kind: "p", arguments, takes, labels, gives: None });
    }
    found
}

fn oid_of(data_type: &DataType) -> i32 {
    types::of_type(data_type).oid() as i32
}

/// The type of what gives nothing, or nothing that is known.
const VOID: i32 = 2278;

/// The language of functions that are part of the server.
const INTERNAL: i32 = 12;

/// What PostgreSQL's own functions take and give.
fn builtin(batch: &RecordBatch, into: &mut HashMap<i32, Described>) -> Result<()> {
    let column = |name: &str, ty: &DataType| -> Result<ArrayRef> {
        let column =
            batch.column_by_name(name).ok_or_else(|| Error::internal(format!("pg_proc has no {name}")))?;
        Ok(cast(column, ty)?)
    };
    let (number, text) = (DataType::Int32, DataType::Utf8);
    let (numbers, texts) =
        (DataType::new_list(DataType::Int32, true), DataType::new_list(DataType::Utf8, true));
    let (oids, names) = (column("oid", &number)?, column("proname", &text)?);
    let (results, sets) = (column("prorettype", &number)?, column("proretset", &DataType::Boolean)?);
    let (inputs, all) = (column("proargtypes", &numbers)?, column("proallargtypes", &numbers)?);
    let (modes, labels) = (column("proargmodes", &texts)?, column("proargnames", &texts)?);
    let (volatility, strict) = (column("provolatile", &text)?, column("proisstrict", &DataType::Boolean)?);
    let list = |lists: &ArrayRef, row: usize| {
        let lists = lists.as_list::<i32>();
        lists.is_valid(row).then(|| lists.value(row))
    };
    for row in 0..batch.num_rows() {
        let types = list(&all, row).or_else(|| list(&inputs, row));
        let types: Vec<i32> =
            types.map_or(vec![], |t| t.as_primitive::<Int32Type>().iter().flatten().collect());
        let words = |lists: &ArrayRef| -> Vec<String> {
            list(lists, row).map_or(vec![], |w| {
                w.as_string::<i32>().iter().map(|w| w.unwrap_or_default().to_owned()).collect()
            })
        };
        let (modes, labels) = (words(&modes), words(&labels));
        let mut columns = vec![];
        let arguments = types.iter().enumerate().filter_map(|(at, ty)| {
            let ty = format_type(*ty, None);
            let label = labels.get(at).filter(|l| !l.is_empty()).map(|l| quoted(l));
            let typed = label.map_or(ty.clone(), |label| format!("{label} {ty}"));
            match modes.get(at).map(String::as_str) {
                Some("o") => Some(format!("OUT {typed}")),
                Some("b") => Some(format!("INOUT {typed}")),
                Some("v") => Some(format!("VARIADIC {typed}")),
                Some("t") => {
                    columns.push(typed);
                    None
                }
                _ => Some(typed),
            }
        });
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        let result = format_type(results.as_primitive::<Int32Type>().value(row), None);
        let result = match (columns.as_slice(), sets.as_boolean().value(row)) {
            ([], true) => format!("SETOF {result}"),
            ([], false) => result,
            (columns, _) => format!("TABLE({})", columns.join(", ")),
        };
        let how = (volatility.as_string::<i32>().value(row).to_owned(), strict.as_boolean().value(row));
        let name = names.as_string::<i32>().value(row).to_owned();
        let known = Described { name, arguments, result: Some(result), builtin: Some(how) };
        into.insert(oids.as_primitive::<Int32Type>().value(row), known);
    }
    Ok(())
}

/// What stands in the brackets of `name(arguments)`.
fn arguments(documentation: &Documentation) -> String {
    let inner = documentation.syntax_example.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    inner.map(|i| i.0.to_owned()).unwrap_or_default()
}
