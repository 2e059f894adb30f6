package toplake;

import static toplake.Checks.value;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.concurrent.CompletableFuture;

/** Results that are large, and queries that nobody wants any more. */
record Results(Checks checks) {
    private static final String MILLION =
        "SELECT n, 'row ' || CAST(n AS VARCHAR) AS t FROM generate_series(1, 1000000) AS g(n)";
    private static final String ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 2 = 3";

    void run() {
        checks.over("large", "prepareThreshold=1", this::large);
        checks.over("two portals", "", this::portals);
        checks.over("limits", "", this::limits);
        checks.over("scrolling", "", this::scrolling);
        checks.over("cursor", "", this::cursor);
        checks.over("cancel", "", this::cancel);
        checks.over("query timeout", "", this::timeout);
    }

    private void large(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (var statement = connection.prepareStatement(MILLION)) {
            statement.setFetchSize(10_000);
            long count = 0;
            long sum = 0;
            try (var result = statement.executeQuery()) {
                while (result.next()) {
                    count++;
                    sum += result.getLong(1);
                }
            }
            checks.same("count", count, 1_000_000L);
            checks.same("sum", sum, 500_000_500_000L);
            // One that is left early.
            try (var result = statement.executeQuery()) {
                checks.that("a row", result.next());
            }
        }
        connection.commit();
    }

    /** Two results that are read in turn, and a write between. */
    private void portals(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        var sql = "SELECT n FROM generate_series(1, 1000) AS g(n) ORDER BY n";
        try (var a = connection.createStatement(); var b = connection.createStatement(); var c = connection.createStatement()) {
            a.setFetchSize(10);
            b.setFetchSize(7);
            var x = a.executeQuery(sql);
            var y = b.executeQuery(sql);
            for (int i = 1; i <= 1000; i++) {
                if (!x.next() || !y.next() || x.getInt(1) != i || y.getInt(1) != i) {
                    throw new Checks.Wrong("row " + i + " is not there");
                }
                if (i == 500) {
                    c.executeUpdate("INSERT INTO notes (id) VALUES (1)");
                }
            }
        }
        connection.rollback();
    }

    private void limits(Connection connection) throws Exception {
        try (var statement = connection.createStatement()) {
            statement.setMaxRows(10);
            try (var result = statement.executeQuery(MILLION)) {
                int count = 0;
                while (result.next()) {
                    count++;
                }
                checks.same("rows", count, 10);
            }
        }
        checks.same("afterwards", value(connection, "SELECT 1"), "1");
    }

    private void scrolling(Connection connection) throws Exception {
        try (var statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY);
                var result = statement.executeQuery("SELECT id FROM types ORDER BY id")) {
            checks.that("last", result.last());
            checks.same("row", result.getRow(), 3);
            checks.that("back", result.absolute(1));
            checks.same("id", result.getInt(1), 1);
        }
    }

    private void cursor(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (var statement = connection.createStatement()) {
            statement.execute("DECLARE ids CURSOR FOR SELECT id FROM types ORDER BY id");
            checks.same("two", Checks.rows(statement.executeQuery("FETCH 2 FROM ids")).toString(), "[1, 2]");
            checks.same("rest", Checks.rows(statement.executeQuery("FETCH ALL FROM ids")).toString(), "[3]");
            statement.execute("CLOSE ids");
        }
        connection.commit();
    }

    private void cancel(Connection connection) throws Exception {
        try (var statement = connection.createStatement()) {
            var failed = CompletableFuture.supplyAsync(() -> {
                try {
                    statement.executeQuery(ENDLESS);
                    return "it ended";
                } catch (SQLException e) {
                    return e.getSQLState();
                }
            });
            try (var other = Database.connect("")) {
                var running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '" + ENDLESS + "'";
                while (value(other, running).equals("0")) {
                    Thread.onSpinWait();
                }
            }
            statement.cancel();
            checks.same("SQLSTATE", failed.get(), "57014");
        }
        checks.same("afterwards", value(connection, "SELECT 1"), "1");
    }

    private void timeout(Connection connection) throws Exception {
        try (var statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            checks.fails("a query that takes too long", "57014", () -> statement.executeQuery(ENDLESS));
            checks.same("afterwards", Checks.rows(statement.executeQuery("SELECT 1")).toString(), "[1]");
        }
    }
}
