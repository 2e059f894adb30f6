package toplake;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Runs checks, and says of each whether it held. */
final class Checks {
    interface Check {
        void run() throws Exception;
    }

    interface Use {
        void run(Connection connection) throws Exception;
    }

    private final List<String> names;
    private boolean failed;
    private final List<String> problems = new ArrayList<>();

    Checks(List<String> names) {
        this.names = names;
    }

    boolean failed() {
        return failed;
    }

    /** A check over a connection of its own, with these options of the driver. */
    void over(String name, String options, Use use) {
        check(name, () -> {
            try (var connection = Database.connect(options)) {
                use.run(connection);
            }
        });
    }

    void check(String name, Check check) {
        if (!names.isEmpty() && !names.contains(name)) {
            return;
        }
        problems.clear();
        part("", check);
        if (problems.isEmpty()) {
            System.out.println("ok " + name);
        } else {
            failed = true;
            System.out.println("not ok " + name + ": " + String.join("; ", problems).replace('\n', ' '));
        }
    }

    /** A part of a check; the others are tried, too, when it fails. */
    void part(String what, Check check) {
        try {
            check.run();
        } catch (Throwable e) {
            var state = e instanceof SQLException sql ? " (" + sql.getSQLState() + ")" : "";
            var where = e instanceof SQLException || e instanceof Wrong ? "" : " at " + e.getStackTrace()[0];
            problems.add((what.isEmpty() ? "" : what + ": ") + e.getMessage() + state + where);
        }
    }

    /** What a part of a check finds to be wrong. */
    static final class Wrong extends RuntimeException {
        Wrong(String message) {
            super(message);
        }
    }

    void same(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) {
            problems.add(what + " is " + got + " and should be " + want);
        }
    }

    void that(String what, boolean holds) {
        if (!holds) {
            problems.add("not so: " + what);
        }
    }

    /** The SQLSTATE that something fails with. */
    void fails(String what, String state, Check check) {
        try {
            check.run();
            problems.add(what + " does not fail");
        } catch (SQLException e) {
            if (!Objects.equals(e.getSQLState(), state)) {
                problems.add(what + " fails with " + e.getSQLState() + " and should with " + state + ": " + e.getMessage());
            }
        } catch (Exception e) {
            problems.add(what + " fails with " + e);
        }
    }

    /** The rows of a result, the values of these columns (all if none is named) joined by `|`. */
    static List<String> rows(ResultSet result, String... columns) throws SQLException {
        var rows = new ArrayList<String>();
        try (result) {
            int count = result.getMetaData().getColumnCount();
            while (result.next()) {
                var values = new ArrayList<String>();
                if (columns.length == 0) {
                    for (int i = 1; i <= count; i++) {
                        values.add(result.getString(i));
                    }
                }
                for (var column : columns) {
                    values.add(result.getString(column));
                }
                rows.add(String.join("|", values.stream().map(v -> v == null ? "NULL" : v).toList()));
            }
        }
        return rows;
    }

    /** The only value of a query. */
    static String value(Connection connection, String sql) throws SQLException {
        try (var statement = connection.createStatement()) {
            var rows = rows(statement.executeQuery(sql));
            if (rows.size() != 1) {
                throw new Wrong(sql + " gives " + rows.size() + " rows");
            }
            return rows.get(0);
        }
    }
}
