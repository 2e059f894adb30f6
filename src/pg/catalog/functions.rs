//! The functions that catalog queries call, and the list of functions itself.
//!
//! Where there is nothing to tell (comments, indexes, sizes) a function gives NULL.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, StringArray, new_null_array,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::ArrowTable;
use datafusion_pg_catalog::pg_catalog::array_bounds_udf::{create_array_lower_udf, create_array_upper_udf};
use datafusion_pg_catalog::pg_catalog::format_type::create_format_type_udf;
use datafusion_pg_catalog::pg_catalog::quote_ident_udf::{create_parse_ident_udf, create_quote_ident_udf};

use super::relations::{Numbers, OWNER, Relations};
use crate::error::Error;
use crate::pg::{Client, SERVER_VERSION};

type Run = dyn Fn(&[ArrayRef], usize) -> EngineResult<ArrayRef> + Send + Sync;

/// A function of a session.
struct Function {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    run: Box<Run>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

// A session has one function of a name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let rows = args.number_rows;
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = args.args.into_iter().map(|a| a.into_array(if constant { 1 } else { rows }));
        let result = (self.run)(&arrays.collect::<EngineResult<Vec<_>>>()?, if constant { 1 } else { rows })?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// Makes a function that takes so many arguments of any type.
fn function(
    name: &'static str,
    arguments: &[usize],
    returns: DataType,
    run: impl Fn(&[ArrayRef], usize) -> EngineResult<ArrayRef> + Send + Sync + 'static,
) -> Function {
    let each = arguments.iter().map(|n| match n {
        0 => TypeSignature::Nullary,
        n => TypeSignature::Any(*n),
    });
    let signature = Signature::one_of(each.collect(), Volatility::Stable);
    Function { name, signature, returns, run: Box::new(run) }
}

/// A function that gives the same in every row.
fn constant(name: &'static str, arguments: &[usize], value: ScalarValue) -> Function {
    function(name, arguments, value.data_type(), move |_, rows| value.to_array_of_size(rows))
}

/// A function from the number of an object to text.
fn of_object(
    name: &'static str,
    arguments: &[usize],
    text: impl Fn(i32) -> Option<String> + Send + Sync + 'static,
) -> Function {
    function(name, arguments, DataType::Utf8, move |args, _| {
        let oids = cast(&args[0], &DataType::Int32)?;
        let texts = oids.as_primitive::<Int32Type>().iter().map(|oid| text(oid?));
        Ok(Arc::new(texts.collect::<StringArray>()) as ArrayRef)
    })
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::from(value)
}

/// Adds the functions to a session.
pub(super) fn register(ctx: &SessionContext, relations: &Arc<Relations>, listed: Listed, client: &Client) {
    let always = [
        "has_any_column_privilege",
        "has_column_privilege",
        "has_database_privilege",
        "has_function_privilege",
        "has_language_privilege",
        "has_schema_privilege",
        "has_sequence_privilege",
        "has_table_privilege",
        "has_tablespace_privilege",
        "has_type_privilege",
        "pg_has_role",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_function_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_opfamily_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "pg_type_is_visible",
    ];
    let no_text = [
        "col_description",
        "obj_description",
        "shobj_description",
        "pg_get_constraintdef",
        "pg_get_expr",
        "pg_get_function_sqlbody",
        "pg_get_functiondef",
        "pg_get_indexdef",
        "pg_get_partkeydef",
        "pg_get_ruledef",
        "pg_get_serial_sequence",
        "pg_get_statisticsobjdef_columns",
        "pg_get_triggerdef",
        "pg_partition_ancestors",
        "pg_tablespace_location",
    ];
    let no_number = [
        "pg_database_size",
        "pg_indexes_size",
        "pg_relation_size",
        "pg_stat_get_numscans",
        "pg_table_size",
        "pg_tablespace_size",
        "pg_total_relation_size",
    ];
    let no = ScalarValue::from(false);
    let mut functions = vec![
        constant("pg_is_in_recovery", &[0], no.clone()),
        constant("pg_is_other_temp_schema", &[1], no.clone()),
        constant("pg_relation_is_publishable", &[1], no),
        constant("pg_my_temp_schema", &[0], ScalarValue::from(0i32)),
        constant("pg_backend_pid", &[0], ScalarValue::from(client.pid)),
        constant("current_database", &[0], text(&relations.nothing().database)),
        constant("session_user", &[0], text(&client.user)),
        constant("pg_get_userbyid", &[1], text(&client.user)),
        constant(
            "version",
            &[0],
            text(&format!("PostgreSQL {SERVER_VERSION} (toplake {})", env!("CARGO_PKG_VERSION"))),
        ),
        of_object("pg_encoding_to_char", &[1], |encoding| {
            Some(if encoding == 6 { "UTF8" } else { "" }.to_owned())
        }),
        function("pg_size_pretty", &[1], DataType::Utf8, |args, _| {
            let sizes = cast(&args[0], &DataType::Int64)?;
            let texts = sizes.as_primitive::<Int64Type>().iter().map(|n| n.map(pretty_size));
            Ok(Arc::new(texts.collect::<StringArray>()) as ArrayRef)
        }),
    ];
    functions.extend(always.map(|name| constant(name, &[1, 2, 3, 4], ScalarValue::from(true))));
    functions.extend(no_text.map(|name| constant(name, &[1, 2, 3], ScalarValue::Utf8(None))));
    functions.extend(no_number.map(|name| constant(name, &[1, 2], ScalarValue::Int64(None))));
    functions.extend(of_relations(relations));
    functions.extend(of_settings(client));
    functions.extend(listed.functions());
    for function in functions {
        ctx.register_udf(ScalarUDF::new_from_impl(function));
    }
    ctx.register_udf(create_format_type_udf());
    ctx.register_udf(create_quote_ident_udf());
    ctx.register_udf(create_parse_ident_udf());
    ctx.register_udf(create_array_upper_udf());
    ctx.register_udf(create_array_lower_udf());
}

/// As PostgreSQL does: the next unit from ten times its size on.
fn pretty_size(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size.abs() >= 10_240.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{} {}", size.round(), units[unit])
}

/// What concerns tables and views: from when they were last looked at, which the same query just did.
fn of_relations(relations: &Arc<Relations>) -> Vec<Function> {
    let (visible, defined) = (Arc::clone(relations), Arc::clone(relations));
    vec![
        function("pg_table_is_visible", &[1], DataType::Boolean, move |args, _| {
            let seen = visible.last();
            let hidden: HashSet<i32> = seen.relations.iter().filter(|r| !r.visible).map(|r| r.oid).collect();
            let oids = cast(&args[0], &DataType::Int32)?;
            let answers =
                oids.as_primitive::<Int32Type>().iter().map(|oid| oid.map(|oid| !hidden.contains(&oid)));
            Ok(Arc::new(answers.collect::<BooleanArray>()) as ArrayRef)
        }),
        of_object("pg_get_viewdef", &[1, 2], move |oid| {
            let seen = defined.last();
            let found = seen.relations.iter().find(|r| r.oid == oid)?;
            found.definition.as_ref().map(|d| format!(" {d};"))
        }),
    ]
}

/// What concerns settings.
fn of_settings(client: &Client) -> Vec<Function> {
    let path = |settings: &crate::pg::Settings| {
        let mut path = settings.search_path();
        path.retain(|schema| schema != "$user");
        path
    };
    let (one, many, read, write) = (
        Arc::clone(&client.settings),
        Arc::clone(&client.settings),
        Arc::clone(&client.settings),
        Arc::clone(&client.settings),
    );
    let set_config = function("set_config", &[3], DataType::Utf8, move |args, _| {
        let (names, values) = (cast(&args[0], &DataType::Utf8)?, cast(&args[1], &DataType::Utf8)?);
        let locals = cast(&args[2], &DataType::Boolean)?;
        let each = names.as_string::<i32>().iter().zip(values.as_string::<i32>()).zip(locals.as_boolean());
        let texts = each.map(|((name, value), local)| {
            let name = name.unwrap_or_default();
            let set = write.set(name, value, local.unwrap_or(false));
            set.map_err(|e| DataFusionError::from(Error::invalid_input(e.message)))?;
            Ok(write.get(name))
        });
        Ok(Arc::new(texts.collect::<EngineResult<StringArray>>()?) as ArrayRef)
    });
    vec![
        function("current_schema", &[0], DataType::Utf8, move |_, rows| {
            ScalarValue::Utf8(path(&one).first().cloned()).to_array_of_size(rows)
        }),
        function("current_schemas", &[1], DataType::new_list(DataType::Utf8, true), move |args, rows| {
            let implicit = cast(&args[0], &DataType::Boolean)?;
            let implicit = !implicit.is_empty() && implicit.as_boolean().value(0);
            let all = implicit.then(|| super::PG_CATALOG.to_owned()).into_iter().chain(path(&many));
            let all: Vec<ScalarValue> = all.map(ScalarValue::from).collect();
            ScalarValue::List(ScalarValue::new_list_nullable(&all, &DataType::Utf8)).to_array_of_size(rows)
        }),
        function("current_setting", &[1, 2], DataType::Utf8, move |args, _| {
            let names = cast(&args[0], &DataType::Utf8)?;
            let missing_ok = match args.get(1) {
                Some(arg) => cast(arg, &DataType::Boolean)?.as_boolean().iter().all(|b| b == Some(true)),
                None => false,
            };
            let texts = names.as_string::<i32>().iter().map(|name| {
                let Some(name) = name else { return Ok(None) };
                match read.get(name) {
                    None if !missing_ok => {
                        let message = format!("unrecognized configuration parameter \"{name}\"");
                        Err(DataFusionError::from(Error::invalid_input(message)))
                    }
                    value => Ok(value),
                }
            });
            Ok(Arc::new(texts.collect::<EngineResult<StringArray>>()?) as ArrayRef)
        }),
        Function { signature: Signature::any(3, Volatility::Volatile), ..set_config },
    ]
}

/// The functions of the session that PostgreSQL does not have, as `\df` lists them.
pub(super) struct Listed {
    /// PostgreSQL's own and these.
    pub(super) pg_proc: Arc<dyn TableProvider>,
    /// As the documentation of each has them.
    arguments: Arc<HashMap<i32, String>>,
}

impl Listed {
    /// Looks at the functions that the session has.
    pub(super) fn new(ctx: &SessionContext, builtin: &ArrowTable) -> Result<Self, Error> {
        let state = ctx.state();
        let schema = builtin.schema();
        let known: HashSet<String> = builtin
            .data()
            .iter()
            .filter_map(|batch| batch.column_by_name("proname"))
            .flat_map(|names| {
                let names = names.as_string_opt::<i32>().into_iter().flatten();
                names.flatten().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        // Under an alias too: that is a name to call it by.
        let mut found: Vec<(&str, &str, Option<&Documentation>)> = Vec::new();
        found.extend(state.scalar_functions().iter().map(|(n, f)| (n.as_str(), "f", f.documentation())));
        found.extend(state.aggregate_functions().iter().map(|(n, f)| (n.as_str(), "a", f.documentation())));
        found.extend(state.window_functions().iter().map(|(n, f)| (n.as_str(), "w", f.documentation())));
        found.retain(|(name, ..)| !known.contains(*name));
        found.sort_by_key(|(name, kind, _)| (*name, *kind));
        found.dedup_by_key(|(name, ..)| *name);

        let mut numbers = Numbers::default();
        let numbered: Vec<i32> = found.iter().map(|(name, ..)| numbers.of("()", name)).collect();
        let arguments: Vec<String> =
            found.iter().map(|(_, _, d)| d.map(arguments).unwrap_or_default()).collect();
        let counts = arguments.iter().map(|a| a.split(',').filter(|w| !w.trim().is_empty()).count() as i16);
        let counts = Int16Array::from_iter_values(counts);
        let columns = schema.fields().iter().map(|field| {
            let same = |value: ScalarValue| value.cast_to(field.data_type())?.to_array_of_size(found.len());
            let texts = |texts: Vec<&str>| cast(&StringArray::from(texts), field.data_type());
            match field.name().as_str() {
                "oid" => Ok(cast(&Int32Array::from(numbered.clone()), field.data_type())?),
                "proname" => Ok(texts(found.iter().map(|f| f.0).collect())?),
                "prokind" => Ok(texts(found.iter().map(|f| f.1).collect())?),
                "pronamespace" => same(ScalarValue::from(2200)),
                "pronargs" => Ok(cast(&counts, field.data_type())?),
                "proowner" => same(ScalarValue::from(OWNER)),
                _ if field.is_nullable() => Ok(new_null_array(field.data_type(), found.len())),
                _ => ScalarValue::new_default(field.data_type())?.to_array_of_size(found.len()),
            }
        });
        let columns = columns.collect::<EngineResult<Vec<ArrayRef>>>()?;
        let own = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let all = concat_batches(&schema, builtin.data().iter().chain([&own]))?;
        Ok(Listed {
            arguments: Arc::new(numbered.iter().copied().zip(arguments).collect()),
            pg_proc: Arc::new(MemTable::try_new(schema, vec![vec![all]])?),
        })
    }

    fn functions(self) -> Vec<Function> {
        let (arguments, identity) = (Arc::clone(&self.arguments), self.arguments);
        vec![
            of_object("pg_get_function_arguments", &[1], move |oid| arguments.get(&oid).cloned()),
            of_object("pg_get_function_identity_arguments", &[1], move |oid| identity.get(&oid).cloned()),
            // It hangs on the arguments' types.
            of_object("pg_get_function_result", &[1], |_| None),
        ]
    }
}

/// What stands in the brackets of `name(arguments)`.
fn arguments(documentation: &Documentation) -> String {
    let inner = documentation.syntax_example.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    inner.map(|i| i.0.to_owned()).unwrap_or_default()
}
