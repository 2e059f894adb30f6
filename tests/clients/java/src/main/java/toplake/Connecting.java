package toplake;

import static toplake.Checks.value;

import java.sql.Connection;

/** How a connection begins, and what can be said to it. */
record Connecting(Checks checks) {
    void run() {
        checks.check("connect", () -> {
            try (var connection = Database.connect("ApplicationName=jdbc")) {
                checks.same("ssl", value(connection, "SHOW ssl"), "on");
                checks.same("application_name", value(connection, "SHOW application_name"), "jdbc");
                checks.same("user", value(connection, "SELECT current_user"), System.getenv("PGUSER"));
                checks.that("valid", connection.isValid(5));
            }
            checks.fails("a wrong password", "28P01", () -> Database.connect("", "wrong").close());
        });
        checks.over("connection settings", "", this::settings);
        checks.over("options", "options=-c%20statement_timeout=90s&currentSchema=public&readOnly=false", connection -> {
            checks.same("statement_timeout", value(connection, "SHOW statement_timeout"), "90s");
            checks.same("search_path", value(connection, "SHOW search_path"), "public");
        });
    }

    private void settings(Connection connection) throws Exception {
        checks.same("catalog", connection.getCatalog(), "toplake");
        checks.same("schema", connection.getSchema(), "public");
        checks.part("setSchema", () -> {
            connection.setSchema("toplake");
            checks.same("schema", connection.getSchema(), "toplake");
            connection.setSchema("public");
        });
        checks.part("client info", () -> {
            connection.setClientInfo("ApplicationName", "someone");
            checks.same("application_name", value(connection, "SHOW application_name"), "someone");
        });
        for (int level : new int[] {
            Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ,
            Connection.TRANSACTION_SERIALIZABLE
        }) {
            checks.part("isolation " + level, () -> {
                connection.setTransactionIsolation(level);
                checks.same("isolation", connection.getTransactionIsolation(), level);
            });
        }
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        checks.part("network timeout", () -> {
            connection.setNetworkTimeout(Runnable::run, 60_000);
            checks.same("network timeout", connection.getNetworkTimeout(), 60_000);
        });
        checks.part("read only", () -> {
            connection.setReadOnly(true);
            checks.that("read only", connection.isReadOnly());
            connection.setAutoCommit(false);
            checks.fails("INSERT in a read-only transaction", "25006", () ->
                connection.createStatement().executeUpdate("INSERT INTO notes (id) VALUES (1)"));
            connection.rollback();
            connection.setReadOnly(false);
            connection.setAutoCommit(true);
        });
        checks.that("valid", connection.isValid(5));
    }
}
