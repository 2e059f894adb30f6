package toplake;

import static toplake.Checks.value;

import java.sql.Connection;
import java.util.List;

/** Transactions, and what pgJDBC does around statements in them. */
record Transactions(Checks checks) {
    void run() {
        checks.check("transaction", () -> {
            for (var options : List.of("", "prepareThreshold=1", "preferQueryMode=simple", "autosave=always", "autosave=conservative")) {
                checks.part(options, () -> {
                    try (var connection = Database.connect(options)) {
                        transaction(connection);
                    }
                });
            }
        });
        checks.over("savepoints", "", this::savepoints);
        checks.over("autosave", "autosave=always", connection -> autosave(connection, true));
        checks.over("autosave, conservative", "autosave=conservative", connection -> autosave(connection, false));
        checks.over("failed transaction", "", this::failed);
    }

    private static String count(Connection connection) throws Exception {
        return value(connection, "SELECT count(*) FROM notes WHERE id BETWEEN 4000 AND 4999");
    }

    private static void insert(Connection connection, int id) throws Exception {
        try (var statement = connection.prepareStatement("INSERT INTO notes (id, note) VALUES (?, ?)")) {
            statement.setInt(1, id);
            statement.setString(2, "note");
            if (statement.executeUpdate() != 1) {
                throw new Checks.Wrong("not one row");
            }
        }
    }

    /** Ends with nothing of it left. */
    private static void end(Connection connection) throws Exception {
        connection.setAutoCommit(true);
        try (var statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM notes WHERE id BETWEEN 4000 AND 4999");
        }
    }

    private void transaction(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        insert(connection, 4001);
        insert(connection, 4002);
        checks.same("inside", count(connection), "2");
        connection.rollback();
        checks.same("after the rollback", count(connection), "0");
        connection.commit();
        insert(connection, 4003);
        try (var other = Database.connect("")) {
            checks.same("what others see before", count(other), "0");
            connection.commit();
            checks.same("what others see after", count(other), "1");
        }
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        checks.same("first", count(connection), "1");
        try (var other = Database.connect("")) {
            insert(other, 4004);
        }
        checks.same("the same again", count(connection), "1");
        connection.commit();
        end(connection);
    }

    private void savepoints(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        insert(connection, 4001);
        var named = connection.setSavepoint("a name");
        insert(connection, 4002);
        var unnamed = connection.setSavepoint();
        insert(connection, 4003);
        connection.rollback(unnamed);
        checks.same("two", count(connection), "2");
        connection.rollback(named);
        checks.same("one", count(connection), "1");
        connection.releaseSavepoint(named);
        connection.commit();
        checks.same("after the commit", count(connection), "1");
        end(connection);
    }

    /** The driver sets a savepoint before each statement, and goes back to it when one fails. */
    private void autosave(Connection connection, boolean always) throws Exception {
        connection.setAutoCommit(false);
        insert(connection, 4001);
        checks.fails("a wrong statement", "42P01", () -> value(connection, "SELECT * FROM nowhere"));
        if (always) {
            insert(connection, 4002);
            connection.commit();
            checks.same("rows", count(connection), "2");
        } else {
            connection.rollback();
            checks.same("rows", count(connection), "0");
        }
        end(connection);
    }

    private void failed(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        insert(connection, 4001);
        checks.fails("a wrong statement", "42P01", () -> value(connection, "SELECT * FROM nowhere"));
        checks.fails("the next", "25P02", () -> value(connection, "SELECT 1"));
        connection.rollback();
        checks.same("rows", count(connection), "0");
        end(connection);
    }
}
