package toplake;

import static toplake.Checks.rows;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLFeatureNotSupportedException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/** DatabaseMetaData. */
record Metadata(Checks checks) {
    void run() {
        checks.over("metadata", "", this::everything);
        checks.over("metadata, answers", "", c -> answers(c.getMetaData()));
        checks.over("metadata, routines", "", c -> routines(c.getMetaData()));
        checks.over("metadata, keys and rights", "", c -> keysAndRights(c.getMetaData()));
        checks.over("metadata, simple protocol", "preferQueryMode=simple", c -> answers(c.getMetaData()));
    }

    /** Every method without a ResultSet, and every one with, once with names and once with patterns and nulls. */
    private void everything(Connection connection) throws Exception {
        var metadata = connection.getMetaData();
        var methods = Arrays.stream(DatabaseMetaData.class.getMethods())
            .filter(m -> m.getDeclaringClass() == DatabaseMetaData.class)
            .sorted(Comparator.comparing(Method::getName)).toList();
        for (var method : methods) {
            for (var relation : List.of("notes", "french_sales", "sales_hourly")) {
                call(metadata, method, relation);
                if (method.getReturnType() != ResultSet.class || method.getParameterCount() == 0) {
                    break;
                }
            }
            call(metadata, method, null);
        }
    }

    private void call(DatabaseMetaData metadata, Method method, String relation) throws IllegalAccessException {
        var arguments = new ArrayList<Object>();
        for (int i = 0; i < method.getParameterCount(); i++) {
            arguments.add(argument(method, i, relation));
        }
        try {
            if (method.invoke(metadata, arguments.toArray()) instanceof ResultSet result) {
                rows(result);
            }
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof SQLFeatureNotSupportedException)) {
                var what = method.getName() + arguments;
                checks.part(what, () -> { throw (Exception) e.getCause(); });
            }
        } catch (Exception e) {
            checks.part(method.getName() + arguments, () -> { throw e; });
        }
    }

    /** Catalog, schema and name come first in all of them; without a relation all are open. */
    private static Object argument(Method method, int position, String relation) {
        var type = method.getParameterTypes()[position];
        if (type == int.class) {
            return method.getName().equals("getBestRowIdentifier") ? DatabaseMetaData.bestRowSession : ResultSet.TYPE_FORWARD_ONLY;
        }
        if (type == boolean.class) {
            return relation != null;
        }
        if (type == String.class) {
            var names = relation == null
                ? new String[] {null, null, keyed(method) ? "notes" : null, null, null, null}
                : new String[] {"toplake", "public", relation, "%", relation, "%"};
            return names[position];
        }
        return type == Class.class ? Object.class : null;
    }

    /** pgJDBC cannot be asked for these of any table. */
    private static boolean keyed(Method method) {
        return List.of("getPrimaryKeys", "getIndexInfo", "getBestRowIdentifier", "getVersionColumns").contains(method.getName());
    }

    private void answers(DatabaseMetaData m) throws Exception {
        checks.same("product", m.getDatabaseProductName(), "PostgreSQL");
        checks.that("version 15", m.getDatabaseMajorVersion() == 15);
        checks.part("catalogs", () -> checks.that("toplake is a catalog", rows(m.getCatalogs(), "TABLE_CAT").contains("toplake")));
        checks.part("schemas", () -> {
            var schemas = rows(m.getSchemas(), "TABLE_SCHEM");
            for (var schema : List.of("information_schema", "pg_catalog", "public", "toplake")) {
                checks.that(schema + " is one of " + schemas, schemas.contains(schema));
            }
            checks.same("schemas like pub%", rows(m.getSchemas(null, "pub%"), "TABLE_SCHEM"), List.of("public"));
        });
        checks.part("table types", () -> {
            var types = rows(m.getTableTypes());
            checks.that("types are " + types, types.containsAll(List.of("TABLE", "VIEW", "MATERIALIZED VIEW")));
        });
        tables(m, "TABLE", "notes", "sales", "types");
        tables(m, "VIEW", "french_sales");
        tables(m, "MATERIALIZED VIEW", "sales_hourly", "top_products");
        checks.part("tables like", () ->
            checks.same("tables like sales%", rows(m.getTables("toplake", "pub%", "sales%", null), "TABLE_NAME", "TABLE_TYPE"),
                List.of("sales_hourly|MATERIALIZED VIEW", "sales|TABLE")));
        checks.part("an underscore", () ->
            checks.same("tables like sales\\_hourly", rows(m.getTables(null, "public", "sales\\_hourly", null), "TABLE_NAME"),
                List.of("sales_hourly")));
        checks.part("system tables", () ->
            checks.that("pg_class is a system table",
                rows(m.getTables(null, "pg_catalog", "pg_class", new String[] {"SYSTEM TABLE"}), "TABLE_NAME").equals(List.of("pg_class"))));
        columns(m, "types",
            "id|-5|int8|19|0|NO|1", "b|-7|bool|1|0|YES|2", "i2|5|int2|5|0|YES|3", "i4|4|int4|10|0|YES|4",
            "i8|-5|int8|19|0|YES|5", "f4|7|float4|8|8|YES|6", "f8|8|float8|17|17|YES|7", "n|2|numeric|18|4|YES|8",
            "t|12|text|2147483647|0|YES|9", "by|-2|bytea|2147483647|0|YES|10", "d|91|date|13|0|YES|11",
            "ts|93|timestamp|29|6|YES|12", "tz|93|timestamptz|35|6|YES|13", "i4s|2003|_int4|10|0|YES|14",
            "ts_list|2003|_text|2147483647|0|YES|15");
        columns(m, "french_sales", "event_time|93|timestamp|29|6|YES|1", "product_id|12|text|2147483647|0|YES|2",
            "quantity|-5|int8|19|0|YES|3");
        columns(m, "sales_hourly", "bucket|93|timestamp|29|6|YES|1", "product_id|12|text|2147483647|0|YES|2",
            "country|12|text|2147483647|0|YES|3", "quantity|-5|int8|19|0|YES|4", "events|-5|int8|19|0|YES|5");
        checks.part("one column", () ->
            checks.same("column pri%", rows(m.getColumns(null, null, "notes", "pri%"), "COLUMN_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS"),
                List.of("price|10|2")));
        checks.part("types", () -> {
            var types = rows(m.getTypeInfo(), "TYPE_NAME");
            checks.that("known types are " + types,
                types.containsAll(List.of("int8", "text", "timestamptz", "numeric", "bytea", "_int4")));
        });
        checks.part("user-defined types", () -> checks.same("types", rows(m.getUDTs(null, "public", "%", null)), List.of()));
        checks.part("search string", () -> checks.same("escape", m.getSearchStringEscape(), "\\"));
        checks.part("key words", () -> checks.that("some", m.getSQLKeywords().contains("analyze")));
        checks.part("name length", () -> checks.same("name length", m.getMaxTableNameLength(), 63));
        checks.part("functions", () -> {
            checks.that("numeric functions", !m.getNumericFunctions().isEmpty());
            checks.same("isolation", m.getDefaultTransactionIsolation(), Connection.TRANSACTION_READ_COMMITTED);
        });
    }

    private void tables(DatabaseMetaData m, String type, String... names) {
        checks.part("getTables " + type, () ->
            checks.same(type, rows(m.getTables(null, "public", "%", new String[] {type}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE")
                .stream().filter(row -> Arrays.stream(names).anyMatch(n -> row.contains("|" + n + "|"))).toList(),
                Arrays.stream(names).map(n -> "public|" + n + "|" + type).toList()));
    }

    private void columns(DatabaseMetaData m, String table, String... want) {
        checks.part("getColumns " + table, () ->
            checks.same("columns of " + table, rows(m.getColumns(null, "public", table, "%"), "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME",
                "COLUMN_SIZE", "DECIMAL_DIGITS", "IS_NULLABLE", "ORDINAL_POSITION"), List.of(want)));
    }

    private void keysAndRights(DatabaseMetaData m) throws Exception {
        for (var table : List.of("notes", "french_sales", "sales_hourly")) {
            checks.part(table, () -> {
                checks.same("primary key", rows(m.getPrimaryKeys(null, "public", table)), List.of());
                checks.same("imported keys", rows(m.getImportedKeys(null, "public", table)), List.of());
                checks.same("exported keys", rows(m.getExportedKeys(null, "public", table)), List.of());
                checks.same("indexes", rows(m.getIndexInfo(null, "public", table, false, true)), List.of());
                checks.same("row identifier", rows(m.getBestRowIdentifier(null, "public", table, DatabaseMetaData.bestRowSession, true)), List.of());
            });
        }
        checks.part("cross references", () ->
            checks.same("cross references", rows(m.getCrossReference(null, "public", "notes", null, "public", "sales")), List.of()));
        checks.part("rights on a table", () -> {
            var rights = rows(m.getTablePrivileges(null, "public", "notes"), "GRANTEE", "PRIVILEGE", "IS_GRANTABLE");
            checks.that("somebody may select: " + rights, rights.stream().anyMatch(r -> r.contains("|SELECT|")));
        });
        checks.part("rights on a column", () -> {
            var rights = rows(m.getColumnPrivileges(null, "public", "notes", "price"), "COLUMN_NAME", "PRIVILEGE");
            checks.that("somebody may select a column: " + rights, rights.contains("price|SELECT"));
        });
    }

    private void routines(DatabaseMetaData m) throws Exception {
        checks.part("functions", () -> {
            var functions = rows(m.getFunctions(null, null, "time_bucket"), "FUNCTION_NAME", "FUNCTION_TYPE");
            checks.that("time_bucket is a function: " + functions, functions.contains("time_bucket|1"));
            checks.same("functions of no name", rows(m.getFunctions(null, null, "no_such_function")), List.of());
        });
        checks.part("arguments of functions", () -> {
            var arguments = rows(m.getFunctionColumns(null, null, "watermark", "%"), "FUNCTION_NAME", "COLUMN_TYPE", "TYPE_NAME");
            checks.that("watermark takes a text and gives a timestamp: " + arguments,
                arguments.contains("watermark|1|text") && arguments.contains("watermark|4|timestamp"));
        });
        checks.part("procedures", () -> {
            var procedures = rows(m.getProcedures(null, null, "%"), "PROCEDURE_NAME");
            checks.that("what can be called: " + procedures, procedures.containsAll(List.of("compact", "expire", "recompute", "repair")));
        });
        checks.part("arguments of procedures", () -> {
            var arguments = rows(m.getProcedureColumns(null, null, "compact", "%"), "PROCEDURE_NAME", "COLUMN_TYPE", "TYPE_NAME");
            checks.that("compact takes a text: " + arguments, arguments.contains("compact|1|text"));
        });
    }
}
