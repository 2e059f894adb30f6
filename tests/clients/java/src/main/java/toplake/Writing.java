package toplake;

import static toplake.Checks.rows;
import static toplake.Checks.value;

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.List;
import org.postgresql.PGConnection;

/** Rows in and out in bulk, and what is called. */
record Writing(Checks checks) {
    void run() {
        checks.over("copy", "", this::copy);
        checks.check("batch", () -> {
            for (var options : List.of("", "reWriteBatchedInserts=true", "prepareThreshold=1", "preferQueryMode=simple",
                    "reWriteBatchedInserts=true&prepareThreshold=1")) {
                for (boolean commits : new boolean[] {true, false}) {
                    checks.part(options + (commits ? "" : ", autocommit off"), () -> {
                        try (var connection = Database.connect(options)) {
                            batch(connection, commits);
                        }
                    });
                }
            }
        });
        checks.over("batch that fails", "", this::batchThatFails);
        checks.over("generated keys", "", this::generatedKeys);
        checks.over("calls", "", this::calls);
        checks.over("calls, escapes", "escapeSyntaxCallMode=callIfNoReturn", this::escapes);
    }

    private void copy(Connection connection) throws Exception {
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        var input = "2001\ta\\tb\t1.50\t2026-01-31 12:00:00+00\n2002\t\\N\t\\N\t\\N\n";
        checks.same("rows in", copy.copyIn("COPY notes FROM STDIN", new StringReader(input)), 2L);
        var query = "(SELECT * FROM notes WHERE id BETWEEN 2000 AND 2999 ORDER BY id)";
        var text = new StringWriter();
        checks.same("rows out", copy.copyOut("COPY " + query + " TO STDOUT", text), 2L);
        checks.same("text", text.toString(), input);
        var csv = new ByteArrayOutputStream();
        copy.copyOut("COPY " + query + " TO STDOUT (FORMAT csv, HEADER, NULL '-')", csv);
        checks.same("csv", csv.toString(StandardCharsets.UTF_8),
            "id,note,price,at\n2001,a\tb,1.50,2026-01-31 12:00:00+00\n2002,-,-,-\n");
        checks.fails("a row that is too short", "22P04", () -> copy.copyIn("COPY notes FROM STDIN", new StringReader("2003\tx\n")));
        var part = copy.copyIn("COPY notes FROM STDIN");
        part.writeToCopy("2004\tx\t1\t\\N\n".getBytes(StandardCharsets.UTF_8), 0, 11);
        part.cancelCopy();
        checks.same("rows afterwards", value(connection, "SELECT count(*) FROM notes WHERE id BETWEEN 2000 AND 2999"), "2");
        forget(connection, 2000);
    }

    private static void forget(Connection connection, int from) throws Exception {
        try (var statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM notes WHERE id BETWEEN " + from + " AND " + (from + 999));
        }
    }

    private void batch(Connection connection, boolean commits) throws Exception {
        connection.setAutoCommit(commits);
        try (var statement = connection.prepareStatement("INSERT INTO notes (id, note, price, \"at\") VALUES (?, ?, ?, ?)")) {
            for (int i = 0; i < 100; i++) {
                statement.setLong(1, 5000 + i);
                statement.setString(2, i % 10 == 0 ? null : "note " + i);
                statement.setBigDecimal(3, BigDecimal.valueOf(i).movePointLeft(2));
                statement.setObject(4, OffsetDateTime.parse("2026-01-31T12:00:00Z"));
                statement.addBatch();
            }
            int[] counts = statement.executeBatch();
            checks.same("counts", counts.length, 100);
            checks.that("each 1 or unknown", Arrays.stream(counts).allMatch(n -> n == 1 || n == Statement.SUCCESS_NO_INFO));
        }
        if (!commits) {
            connection.commit();
        }
        connection.setAutoCommit(true);
        checks.same("rows", value(connection, "SELECT concat(count(*), ' ', count(note), ' ', sum(price)) FROM notes WHERE id BETWEEN 5000 AND 5999"),
            "100 90 49.50");
        forget(connection, 5000);
    }

    private void batchThatFails(Connection connection) throws Exception {
        try (var statement = connection.createStatement()) {
            statement.addBatch("INSERT INTO notes (id) VALUES (5001)");
            statement.addBatch("INSERT INTO notes (id) VALUES ('x')");
            statement.addBatch("INSERT INTO notes (id) VALUES (5002)");
            try {
                statement.executeBatch();
                throw new Checks.Wrong("it does not fail");
            } catch (BatchUpdateException e) {
                checks.same("SQLSTATE", e.getSQLState(), "22P02");
            }
        }
        checks.same("rows", value(connection, "SELECT count(*) FROM notes WHERE id BETWEEN 5000 AND 5999"), "0");
    }

    /** There are none, and RETURNING is refused with a word on why. */
    private void generatedKeys(Connection connection) throws Exception {
        checks.fails("RETURNING", "0A000", () -> {
            try (var statement = connection.prepareStatement("INSERT INTO notes (id) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                statement.setInt(1, 6001);
                statement.executeUpdate();
            }
        });
        checks.same("rows", value(connection, "SELECT count(*) FROM notes WHERE id = 6001"), "0");
    }

    private void calls(Connection connection) throws Exception {
        try (var statement = connection.createStatement()) {
            checks.same("REFRESH", statement.executeUpdate("REFRESH MATERIALIZED VIEW sales_hourly"), 0);
            statement.execute("CALL recompute('sales_hourly', '2026-01-30', '2026-01-31')");
            statement.execute("CALL compact('sales')");
        }
        checks.part("prepared", () -> {
            try (var statement = connection.prepareStatement("CALL compact(?)")) {
                statement.setString(1, "sales");
                statement.execute();
            }
        });
    }

    private void escapes(Connection connection) throws Exception {
        checks.part("{call}", () -> {
            try (var statement = connection.prepareCall("{call compact('sales')}")) {
                statement.execute();
            }
        });
        checks.part("{call ?}", () -> {
            try (var statement = connection.prepareCall("{call compact(?)}")) {
                statement.setString(1, "sales");
                statement.execute();
            }
        });
        // The driver asks `select * from upper(?)`: a function of one value is no table here.
        checks.fails("{? = call}", "22023", () -> {
            try (var statement = connection.prepareCall("{? = call upper(?)}")) {
                statement.registerOutParameter(1, java.sql.Types.VARCHAR);
                statement.setString(2, "abc");
                statement.execute();
            }
        });
        checks.part("{fn}, {d}, {ts}", () -> {
            try (var statement = connection.createStatement()) {
                checks.same("rows", rows(statement.executeQuery("SELECT {fn ucase('a')}, {fn substring('abc', 2, 1)}, {d '2026-01-31'}, {ts '2026-01-31 12:00:00'}")),
                    List.of("A|b|2026-01-31|2026-01-31 12:00:00"));
            }
        });
    }
}
