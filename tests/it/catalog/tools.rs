//! What metadata tools ask, as short as it shows what their statements need of the engine.

use super::{Server, rows};

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_tools_have_the_right_rows() {
    let server = Server::start().await;
    let client = server.connect("tester").await;
    let nothing: &[&str] = &[];
    let statements: &[(&str, &[&str])] = &[
        // pgJDBC
        (
            "SELECT result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ FROM
               (SELECT ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, a.attnum AS A_ATTNUM,
                  (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ,
                  information_schema._pg_expandarray(i.indkey) AS KEYS
                FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
                JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)
                WHERE ct.relname = 'pg_class' AND i.indisprimary) result
             WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY 1",
            &["pg_class|oid|1"],
        ),
        (
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> 'pg_toast' AND
             (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1]) ORDER BY nspname",
            &["information_schema", "pg_catalog", "public", "toplake"],
        ),
        (
            "SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t
             JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1009",
            &["t|pg_catalog|_text"],
        ),
        // SQLAlchemy
        (
            "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class
             JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace
             WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['m']) AND pg_catalog.pg_class.relpersistence != 't'
               AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)
               AND pg_catalog.pg_namespace.nspname != 'pg_catalog' ORDER BY 1",
            &["hourly", "top"],
        ),
        (
            "SELECT pg_catalog.pg_attribute.attname AS name, CASE WHEN pg_catalog.pg_attribute.atthasdef THEN
               (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, pg_catalog.pg_attrdef.adrelid) AS e
                FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attribute.atthasdef
                  AND pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid) END AS \"default\"
             FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute
               ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attribute.attnum > 0
             WHERE pg_catalog.pg_class.relname IN ('notes') ORDER BY pg_catalog.pg_attribute.attnum",
            &["id|NULL", "note|NULL"],
        ),
        (
            "SELECT attr.conname, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols FROM
               (SELECT con.conname AS conname, con.ord AS ord, pg_catalog.pg_attribute.attname AS attname
                FROM pg_catalog.pg_attribute JOIN
                  (SELECT pg_catalog.pg_constraint.conrelid AS conrelid, pg_catalog.pg_constraint.conname AS conname,
                     unnest(pg_catalog.pg_constraint.conkey) AS attnum,
                     generate_subscripts(pg_catalog.pg_constraint.conkey, 1) AS ord
                   FROM pg_catalog.pg_constraint WHERE pg_catalog.pg_constraint.conrelid IN (1255)) AS con
                ON pg_catalog.pg_attribute.attnum = con.attnum AND pg_catalog.pg_attribute.attrelid = con.conrelid) AS attr
             GROUP BY attr.conname ORDER BY attr.conname",
            // As in PostgreSQL: those of pg_proc itself.
            &["pg_proc_oid_index|{oid}", "pg_proc_proname_args_nsp_index|{proname,proargtypes,pronamespace}"],
        ),
        // Subqueries of every kind: over equal columns, over others, of rows, of existence, of lists.
        (
            "SELECT c.relname, (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 1),
               (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = 1),
               EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'note'),
               ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum DESC),
               (SELECT max(d.relname) FROM pg_class d WHERE d.relname < c.relname AND d.relnamespace = 2200)
             FROM pg_class c WHERE c.relname IN ('notes', 'hourly') ORDER BY 1",
            &["hourly|1|bucket|f|{n,bucket}|elsewhere", "notes|1|id|t|{note,id}|hourly"],
        ),
        (
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 2200 AND (c.relkind = 'v' OR EXISTS
               (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'note')) ORDER BY 1",
            &["big", "notes"],
        ),
        // Grafana
        (
            "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) IN
               (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END
                FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                  array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
                  string_to_array(current_setting('search_path'),',') s) ORDER BY 1",
            &["big", "elsewhere", "notes", "sales"],
        ),
        // Metabase
        (
            "SELECT COL_DESCRIPTION(CAST(CAST(FORMAT('%I.%I', CAST(c.table_schema AS TEXT), CAST(c.table_name AS TEXT))
               AS REGCLASS) AS OID), c.ordinal_position) AS d FROM information_schema.columns AS c
             WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_name = 'notes'",
            &["NULL", "NULL"],
        ),
        // Npgsql
        (
            "SELECT t.typname, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE t.typtype END AS typtype,
               CASE WHEN proc.proname = 'array_recv' THEN t.typelem WHEN t.typtype = 'r' THEN rngsubtype END AS elem
             FROM pg_type AS t LEFT JOIN pg_proc AS proc ON proc.oid = t.typreceive
             LEFT JOIN pg_range ON (pg_range.rngtypid = t.oid)
             WHERE t.typname IN ('int8', '_text', 'int4range') ORDER BY 1",
            &["_text|a|25", "int4range|r|23", "int8|b|NULL"],
        ),
        // DBeaver
        (
            "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d
             ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass WHERE nspname = 'public'",
            &["2200|2200|public|10|{tester=UC/tester,=U/tester}|standard public schema"],
        ),
        // pgAdmin
        (
            "SELECT roles.rolname AS name, CASE WHEN 'pg_signal_backend' = ANY(ARRAY(WITH RECURSIVE cte AS (
                SELECT pg_roles.oid, pg_roles.rolname FROM pg_catalog.pg_roles WHERE pg_roles.oid = roles.oid
                UNION ALL SELECT m.roleid, pgr.rolname FROM cte cte_1
                  JOIN pg_catalog.pg_auth_members m ON m.member = cte_1.oid
                  JOIN pg_catalog.pg_roles pgr ON pgr.oid = m.roleid)
                SELECT rolname FROM cte)) THEN True ELSE False END AS can_signal_backend
             FROM pg_catalog.pg_roles AS roles WHERE rolname = current_user",
            &["tester|f"],
        ),
        ("SELECT setting FROM pg_catalog.pg_show_all_settings() WHERE name = 'bytea_output'", &["hex"]),
        ("SELECT count(*) FROM pg_catalog.pg_locks", &["0"]),
        ("SELECT conname FROM pg_constraint WHERE conrelid = 'sales'::regclass", nothing),
    ];
    for (sql, expected) in statements {
        assert_eq!(rows(&client, sql).await, *expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_stand_for_names() {
    let server = Server::start().await;
    let client = server.connect("tester").await;
    let by_name = "SELECT relname::text FROM pg_class WHERE oid = $1::regclass";
    let found = client.query(by_name, &[&"public.notes"]).await.unwrap();
    assert_eq!(found[0].get::<_, String>(0), "notes");
    // tokio-postgres asks for types that it does not know by itself, with their parts.
    let row =
        client.query_one("SELECT relkind, relacl FROM pg_class WHERE relname = 'notes'", &[]).await.unwrap();
    assert_eq!(row.get::<_, i8>(0), b'r' as i8);
}
