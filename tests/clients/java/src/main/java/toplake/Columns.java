package toplake;

import java.sql.Connection;
import java.sql.ResultSetMetaData;
import java.util.ArrayList;
import java.util.List;

/** ResultSetMetaData: what a result says of its columns. */
record Columns(Checks checks) {
    // Of base tables and nullability the server says nothing: they are empty and unknown.
    private static final List<String> WANT = List.of(
        "id java.lang.Long int8 19 0   2", "text java.lang.String text 2147483647 0   2",
        "price java.math.BigDecimal numeric 10 2   2", "at java.sql.Timestamp timestamptz 35 6   2",
        "sum java.lang.Long int8 19 0   2");

    void run() {
        var query = "SELECT id, note AS text, price, \"at\", id + 1 AS sum FROM notes";
        for (var mode : List.of("simple", "extended", "extendedForPrepared")) {
            checks.over("result metadata, " + mode, "preferQueryMode=" + mode, connection -> {
                try (var statement = connection.createStatement(); var result = statement.executeQuery(query)) {
                    checks.same("columns", described(result.getMetaData()), WANT);
                }
            });
        }
        checks.over("prepared metadata", "", connection -> {
            try (var statement = connection.prepareStatement(query + " WHERE id = ? AND note LIKE ?")) {
                checks.same("columns", described(statement.getMetaData()), WANT);
                var parameters = statement.getParameterMetaData();
                checks.same("parameters", parameters.getParameterCount(), 2);
                checks.same("type", parameters.getParameterTypeName(1) + " " + parameters.getParameterTypeName(2), "int8 text");
            }
        });
        checks.over("updatable results", "", this::updatable);
    }

    private static List<String> described(ResultSetMetaData m) throws Exception {
        var columns = new ArrayList<String>();
        var pg = m.unwrap(org.postgresql.PGResultSetMetaData.class);
        for (int i = 1; i <= m.getColumnCount(); i++) {
            columns.add(String.join(" ", m.getColumnLabel(i), m.getColumnClassName(i), m.getColumnTypeName(i),
                "" + m.getPrecision(i), "" + m.getScale(i), pg.getBaseTableName(i), pg.getBaseColumnName(i), "" + m.isNullable(i)));
            if (m.isAutoIncrement(i)) {
                columns.add("auto increment");
            }
        }
        return columns;
    }

    /** Without a primary key a result cannot be updated; the driver finds that out by itself. */
    private void updatable(Connection connection) throws Exception {
        try (var statement = connection.createStatement(java.sql.ResultSet.TYPE_SCROLL_INSENSITIVE, java.sql.ResultSet.CONCUR_UPDATABLE);
                var result = statement.executeQuery("SELECT id, t FROM types WHERE id = 1")) {
            checks.that("a row", result.next());
            checks.that("the last row", result.last());
            checks.fails("an update", "24000", () -> {
                result.updateString("t", "other");
                result.updateRow();
            });
        }
    }
}
