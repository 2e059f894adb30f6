//! `information_schema`, and what `pg_class` and `pg_attribute` say of relations.

use super::{Server, rows};

#[tokio::test(flavor = "multi_thread")]
async fn information_schema_is_as_the_standard_has_it() {
    let server = Server::start().await;
    let client = server.connect("tester").await;
    let tables =
        "SELECT table_catalog, table_name, table_type, is_insertable_into FROM information_schema.tables
                  WHERE table_schema = 'public' ORDER BY table_name";
    let expected = [
        "toplake|big|VIEW|NO",
        "toplake|elsewhere|FOREIGN|NO",
        "toplake|notes|BASE TABLE|YES",
        "toplake|sales|BASE TABLE|YES",
    ];
    assert_eq!(rows(&client, tables).await, expected);
    let columns = "SELECT ordinal_position, column_name, data_type, udt_name, is_nullable, numeric_precision,
                          numeric_precision_radix, numeric_scale, datetime_precision, column_default, is_identity
                   FROM INFORMATION_SCHEMA.columns WHERE table_name = 'sales' ORDER BY 1";
    let expected = [
        "1|event_id|bigint|int8|NO|64|2|0|NULL|NULL|NO",
        "2|event_time|timestamp without time zone|timestamp|NO|NULL|NULL|NULL|6|NULL|NO",
        "3|product_id|text|text|YES|NULL|NULL|NULL|NULL|NULL|NO",
        "4|unit_price|numeric|numeric|YES|18|10|4|NULL|NULL|NO",
        "5|tags|ARRAY|_text|YES|NULL|NULL|NULL|NULL|NULL|NO",
    ];
    assert_eq!(rows(&client, columns).await, expected);
    let elements =
        "SELECT object_name, collection_type_identifier, data_type FROM information_schema.element_types
                    WHERE object_schema = 'public'";
    assert_eq!(rows(&client, elements).await, ["sales|5|text"]);
    let schemata = "SELECT schema_name FROM information_schema.schemata ORDER BY 1";
    assert_eq!(rows(&client, schemata).await, ["information_schema", "pg_catalog", "public", "toplake"]);
    let views = "SELECT table_name, view_definition LIKE ' SELECT event_id%' FROM information_schema.views
                 WHERE table_schema = 'public'";
    assert_eq!(rows(&client, views).await, ["big|t"]);
    for (empty, column) in [
        ("key_column_usage", "position_in_unique_constraint"),
        ("table_constraints", "enforced"),
        ("referential_constraints", "delete_rule"),
        ("constraint_column_usage", "constraint_name"),
        ("routines", "routine_definition"),
        ("parameters", "parameter_mode"),
        ("sequences", "cycle_option"),
        ("triggers", "action_statement"),
    ] {
        let sql = format!("SELECT {column} FROM information_schema.{empty}");
        assert!(rows(&client, &sql).await.is_empty(), "{empty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_class_has_everything_and_what_it_keeps() {
    let server = Server::start().await;
    let client = server.connect("tester").await;
    let kinds = "SELECT relname, relkind, reltuples, relpages > 0, pg_relation_size(oid) > 0 FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let expected = [
        "big|v|0|f|f",
        "elsewhere|f|0|f|f",
        "hourly|m|2|t|t",
        "notes|r|0|f|f",
        "sales|r|2|t|t",
        "top|m|2|t|t",
    ];
    assert_eq!(rows(&client, kinds).await, expected);
    let system =
        "SELECT c.relname, n.nspname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = 'pg_class'::regclass OR c.relname IN ('columns', 'dead_letters') ORDER BY 1";
    let expected = ["columns|information_schema|v", "dead_letters|toplake|r", "pg_class|pg_catalog|r"];
    assert_eq!(rows(&client, system).await, expected);
    let columns = "SELECT attname, atttypid::regtype, format_type(atttypid, atttypmod), attnotnull
                   FROM pg_attribute WHERE attrelid = 'public.sales'::regclass AND attnum > 0 ORDER BY attnum";
    let expected = [
        "event_id|bigint|bigint|t",
        "event_time|timestamp without time zone|timestamp without time zone|t",
        "product_id|text|text|f",
        "unit_price|numeric|numeric(18,4)|f",
        "tags|text[]|text[]|f",
    ];
    assert_eq!(rows(&client, columns).await, expected);
    let of_system = "SELECT attname, atttypid::regtype FROM pg_attribute
                     WHERE attrelid = 'pg_class'::regclass AND attnum <= 2 ORDER BY attnum";
    assert_eq!(rows(&client, of_system).await, ["oid|oid", "relname|name"]);
    let sizes = "SELECT pg_total_relation_size('sales') = pg_table_size('sales'), pg_relation_size('sales', 'fsm'),
                 pg_database_size('toplake') > pg_relation_size('sales'), pg_size_pretty(pg_relation_size('big'))";
    assert_eq!(rows(&client, sizes).await, ["t|0|t|0 bytes"]);
    let live = "SELECT relname, n_live_tup FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY 1";
    assert_eq!(rows(&client, live).await, ["hourly|2", "notes|0", "sales|2", "top|2"]);
    let names =
        "SELECT 'sales'::regclass::text, 'toplake.jobs'::regclass, 1259::regclass, to_regclass('nowhere'),
                 2200::regnamespace, 'numeric(10,2)'::regtype::oid, 0::oid::regclass";
    assert_eq!(rows(&client, names).await, ["sales|toplake.jobs|pg_class|NULL|public|1700|-"]);
    // What this statement's session has just made is there.
    client.batch_execute("CREATE TABLE fresh (a INT)").await.unwrap();
    assert_eq!(rows(&client, "SELECT relname FROM pg_class WHERE relname = 'fresh'").await, ["fresh"]);
    let settings = "SELECT name, setting, unit, vartype, boot_val, reset_val FROM pg_settings
                    WHERE name IN ('statement_timeout', 'DateStyle', 'geqo', 'max_index_keys') ORDER BY name";
    client.batch_execute("SET statement_timeout = '90s'").await.unwrap();
    let expected = [
        "DateStyle|ISO, MDY|NULL|string|ISO, MDY|ISO, MDY",
        "geqo|on|NULL|bool|on|on",
        "max_index_keys|32|NULL|integer|32|32",
        "statement_timeout|90000|ms|integer|0|0",
    ];
    assert_eq!(rows(&client, settings).await, expected);
}
