//! Functions that say the same to everybody: there is none of what they are asked for, or everything is allowed.

use datafusion::scalar::ScalarValue;

use super::{Function, constant, function, text};
use crate::pg::SERVER_VERSION;

pub(super) fn all() -> Vec<Function> {
    let always = [
        "has_foreign_data_wrapper_privilege",
        "has_function_privilege",
        "has_language_privilege",
        "has_parameter_privilege",
        "has_sequence_privilege",
        "has_server_privilege",
        "has_tablespace_privilege",
        "has_type_privilege",
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
        "pg_get_constraintdef",
        "pg_get_expr",
        "pg_get_function_sqlbody",
        "pg_get_function_arg_default",
        "pg_get_partition_constraintdef",
        "pg_get_partkeydef",
        "pg_get_ruledef",
        "pg_get_serial_sequence",
        "pg_get_statisticsobjdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_triggerdef",
        "pg_tablespace_location",
        "pg_describe_object",
    ];
    let zero = ["pg_stat_get_numscans", "pg_tablespace_size", "pg_indexes_size"];
    let no = ScalarValue::from(false);
    let list = |of| ScalarValue::List(ScalarValue::new_list_nullable(&[], &of));
    let mut functions = vec![
        constant("pg_is_in_recovery", &[0], no.clone()),
        constant("pg_is_other_temp_schema", &[1], no.clone()),
        constant("pg_relation_is_publishable", &[1], no.clone()),
        constant("pg_index_column_has_property", &[3], no),
        constant("pg_my_temp_schema", &[0], ScalarValue::from(0i32)),
        constant("pg_relation_is_updatable", &[2], ScalarValue::from(0i32)),
        constant("pg_sequence_last_value", &[1], ScalarValue::Int64(None)),
        constant("pg_client_encoding", &[0], text("UTF8")),
        // Nobody has a lock.
        constant("pg_advisory_unlock_all", &[0], text("")),
        constant("getdatabaseencoding", &[0], text("UTF8")),
        function("pg_char_to_encoding", &[1], datafusion::arrow::datatypes::DataType::Int32, |args| {
            let utf8 = super::as_text(&args[0])?.is_some_and(|name| name.eq_ignore_ascii_case("utf8"));
            Ok(ScalarValue::from(if utf8 { 6i32 } else { -1 }))
        }),
        constant("pg_blocking_pids", &[1], list(datafusion::arrow::datatypes::DataType::Int32)),
        constant("txid_current", &[0], ScalarValue::from(1i64)),
        constant(
            "version",
            &[0],
            text(format!("PostgreSQL {SERVER_VERSION} (toplake {})", env!("CARGO_PKG_VERSION"))),
        ),
        function("pg_encoding_to_char", &[1], datafusion::arrow::datatypes::DataType::Utf8, |args| {
            Ok(text(if super::as_number(&args[0]) == Some(6) { "UTF8" } else { "" }))
        }),
    ];
    functions.extend(always.map(|name| constant(name, &[1, 2, 3, 4], ScalarValue::from(true))));
    functions.extend(no_text.map(|name| constant(name, &[1, 2, 3], ScalarValue::Utf8(None))));
    functions.extend(zero.map(|name| constant(name, &[1, 2], ScalarValue::from(0i64))));
    functions
}
