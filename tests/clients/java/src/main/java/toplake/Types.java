package toplake;

import static toplake.Checks.rows;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Timestamp;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/** Values of every type, there and back. */
record Types(Checks checks) {
    private static final String SELECT =
        "SELECT id, b, i2, i4, i8, f4, f8, n, t, \"by\", d, ts, tz, i4s, ts_list FROM types WHERE id = ?";
    private static final String INSERT =
        "INSERT INTO types (id, b, i2, i4, i8, f4, f8, n, t, \"by\", d, ts, tz, i4s, ts_list) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    private static final List<String> ROWS = List.of(
        "1|true|32767|2147483647|9223372036854775807|1.5|0.1|12345678901234.5678|Zoë's \"tea\"|00ff10|2026-01-31|"
            + "2026-01-31T23:59:59.123456|2026-01-31T23:59:59.123456Z|[1, 2, 3]|[a, b c]",
        "2|false|-32768|-2147483648|-9223372036854775808|-1.5|-0.1|-0.0001|||1969-07-20|"
            + "1969-07-20T20:17:40|1969-07-20T20:17:40Z|[-1]|[]",
        "3|null|null|null|null|null|null|null|null|null|null|null|null|null|null");

    void run() {
        checks.check("types", () -> {
            for (var options : List.of("prepareThreshold=0", "prepareThreshold=1", "prepareThreshold=-1",
                    "preferQueryMode=simple", "preferQueryMode=extended", "preferQueryMode=extendedForPrepared",
                    "preferQueryMode=extendedCacheEverything", "binaryTransfer=false&prepareThreshold=1", "prepareThreshold=1&stringtype=unspecified")) {
                checks.part(options, () -> {
                    try (var connection = Database.connect(options)) {
                        types(connection);
                    }
                });
            }
        });
        checks.over("parameters", "", c -> parameters(c, false));
        checks.over("parameters, binary", "prepareThreshold=-1", c -> parameters(c, false));
        checks.over("parameters, simple", "preferQueryMode=simple", c -> parameters(c, true));
        checks.over("bytea", "", this::bytea);
    }

    private void types(Connection connection) throws Exception {
        try (var select = connection.prepareStatement(SELECT); var insert = connection.prepareStatement(INSERT);
                var delete = connection.createStatement()) {
            for (int i = 0; i < ROWS.size(); i++) {
                // Several times: binary comes with the second.
                for (int time = 0; time < 3; time++) {
                    checks.same("row", shown(read(select, i + 1)), ROWS.get(i));
                }
                int id = 11 + i;
                var values = read(select, i + 1);
                checks.part("insert of row " + (i + 1), () -> {
                    write(connection, insert, values, id);
                    checks.same("again", shown(read(select, id)).substring(2), ROWS.get(id - 11).substring(1));
                });
            }
            delete.executeUpdate("DELETE FROM types WHERE id BETWEEN 10 AND 99");
        }
    }

    private static List<Object> read(PreparedStatement select, long id) throws Exception {
        select.setLong(1, id);
        try (var result = select.executeQuery()) {
            if (!result.next()) {
                throw new Checks.Wrong("no row " + id);
            }
            var values = new ArrayList<Object>();
            for (int i = 1; i <= 15; i++) {
                values.add(switch (i) {
                    case 11 -> result.getObject(i, LocalDate.class);
                    case 12 -> result.getObject(i, LocalDateTime.class);
                    case 13 -> result.getObject(i, OffsetDateTime.class);
                    case 14, 15 -> result.getArray(i) == null ? null : result.getArray(i).getArray();
                    default -> result.getObject(i);
                });
            }
            return values;
        }
    }

    private static String shown(List<Object> values) {
        return String.join("|", values.stream().map(value -> {
            if (value instanceof byte[] bytes) {
                return HexFormat.of().formatHex(bytes);
            }
            return value instanceof Object[] items ? Arrays.toString(items) : String.valueOf(value);
        }).toList());
    }

    private static void write(Connection connection, PreparedStatement insert, List<Object> values, long id) throws Exception {
        for (int i = 1; i <= 15; i++) {
            var value = values.get(i - 1);
            if (i == 1) {
                insert.setLong(1, id);
            } else if (value instanceof Object[] items) {
                insert.setArray(i, connection.createArrayOf(i == 14 ? "int4" : "text", items));
            } else if (value instanceof byte[] bytes) {
                insert.setBytes(i, bytes);
            } else {
                insert.setObject(i, value);
            }
        }
        if (insert.executeUpdate() != 1) {
            throw new Checks.Wrong("not one row");
        }
    }

    /** Values of parameters, and how they come back. In the simple protocol they are texts in the statement. */
    private void parameters(Connection connection, boolean simple) throws Exception {
        var at = LocalDateTime.of(2026, 3, 29, 1, 30, 0, 1000);
        same(connection, "bigint", Long.MIN_VALUE, Long.class);
        same(connection, "int", Integer.MAX_VALUE, Integer.class);
        same(connection, "double precision", 1e-7, Double.class);
        same(connection, "real", 0.25f, Float.class);
        same(connection, "boolean", true, Boolean.class);
        same(connection, "text", "'; DROP TABLE notes; -- \\ \" € 😀 ?", String.class);
        same(connection, "numeric(38,10)", new BigDecimal("1234567890123456789012345678.0123456789"), BigDecimal.class);
        same(connection, "numeric(10,2)", new BigDecimal("-0.05"), BigDecimal.class);
        same(connection, "date", LocalDate.of(2026, 3, 29), LocalDate.class);
        same(connection, "timestamp", at, LocalDateTime.class);
        same(connection, "timestamptz", at.atOffset(ZoneOffset.UTC), OffsetDateTime.class);
        same(connection, "timestamp", Timestamp.valueOf(at), Timestamp.class);
        checks.part("Instant", () -> {
            try (var statement = connection.prepareStatement("SELECT ?::timestamptz")) {
                var instant = Instant.parse("2026-03-29T01:30:00.000001Z");
                statement.setObject(1, instant.atOffset(ZoneOffset.ofHours(5)));
                checks.same("Instant", one(statement).getObject(1, OffsetDateTime.class).toInstant(), instant);
            }
        });
        for (var type : List.of("bigint", "text", "numeric", "timestamp", "date", "boolean", "double precision")) {
            checks.part("NULL as " + type, () -> {
                try (var statement = connection.prepareStatement("SELECT ?::" + type)) {
                    statement.setObject(1, null);
                    checks.same("NULL", one(statement).getObject(1), null);
                }
            });
        }
        checks.part("null in a comparison", () -> {
            try (var statement = connection.prepareStatement("SELECT count(*) FROM notes WHERE ? IS NULL OR note = ?")) {
                statement.setNull(1, java.sql.Types.VARCHAR);
                statement.setString(2, "x");
                one(statement);
            }
        });
        if (!simple) {
            arrays(connection);
        }
        checks.part("a list of rows", () -> {
            try (var statement = connection.prepareStatement("SELECT id, t FROM types WHERE id IN (?, ?) ORDER BY id")) {
                statement.setInt(1, 1);
                statement.setInt(2, 3);
                checks.same("rows", rows(statement.executeQuery()), List.of("1|Zoë's \"tea\"", "3|NULL"));
            }
        });
        checks.part("LIKE", () -> {
            try (var statement = connection.prepareStatement("SELECT count(*) FROM sales_hourly WHERE product_id LIKE ? AND lower(country) = ?")) {
                statement.setString(1, "product-1%");
                statement.setString(2, "france");
                checks.that("some", one(statement).getLong(1) > 0);
            }
        });
    }

    /** What the simple protocol does not do yet: arrays, and dates with a zone behind them. */
    private void arrays(Connection connection) throws Exception {
        checks.part("arrays", () -> {
            try (var statement = connection.prepareStatement("SELECT ?::text[], ?::bigint[]")) {
                statement.setArray(1, connection.createArrayOf("text", new String[] {"a \"b\"", "", "NULL", "\\", null}));
                statement.setObject(2, new long[] {1, -2});
                var result = one(statement);
                checks.same("texts", Arrays.toString((Object[]) result.getArray(1).getArray()), "[a \"b\", , NULL, \\, null]");
                checks.same("numbers", Arrays.toString((Object[]) result.getArray(2).getArray()), "[1, -2]");
            }
        });
        checks.part("in a query", () -> {
            try (var statement = connection.prepareStatement(
                    "SELECT count(*) FROM sales WHERE country = ANY(?) AND event_time >= ? AND quantity BETWEEN ? AND ? LIMIT ?")) {
                statement.setArray(1, connection.createArrayOf("varchar", new String[] {"France", "Peru"}));
                statement.setTimestamp(2, Timestamp.valueOf("2026-01-30 00:00:00"));
                statement.setInt(3, -1);
                statement.setLong(4, 3);
                statement.setInt(5, 10);
                checks.same("sales in France", one(statement).getLong(1), 480L);
            }
        });
        checks.part("java.sql.Date and Timestamp", () -> {
            try (var statement = connection.prepareStatement("SELECT count(*) FROM sales WHERE event_time >= ? AND CAST(event_time AS DATE) = ?")) {
                statement.setTimestamp(1, Timestamp.valueOf("2026-01-30 12:00:00"));
                statement.setDate(2, java.sql.Date.valueOf("2026-01-30"));
                checks.same("sales of an afternoon", one(statement).getLong(1), 720L);
            }
        });
    }

    private <T> void same(Connection connection, String type, T value, Class<T> as) {
        checks.part(type, () -> {
            try (var statement = connection.prepareStatement("SELECT ?::" + type)) {
                for (int time = 0; time < 2; time++) {
                    statement.setObject(1, value);
                    checks.same(type, one(statement).getObject(1, as), value);
                }
            }
        });
    }

    private void bytea(Connection connection) throws Exception {
        for (int threshold : new int[] {0, -1}) {
            checks.part("threshold " + threshold, () -> {
                try (var statement = connection.prepareStatement("SELECT ?::bytea, count(*) FROM types WHERE \"by\" = ?")) {
                    statement.unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(threshold);
                    statement.setBytes(1, new byte[] {0, -1, '\\', '\''});
                    statement.setBytes(2, new byte[] {0, -1, 16});
                    var result = one(statement);
                    checks.same("bytes", HexFormat.of().formatHex(result.getBytes(1)), "00ff5c27");
                    checks.same("rows", result.getInt(2), 1);
                }
            });
        }
    }

    private static ResultSet one(PreparedStatement statement) throws Exception {
        var result = statement.executeQuery();
        if (!result.next()) {
            throw new Checks.Wrong("no row");
        }
        return result;
    }
}
