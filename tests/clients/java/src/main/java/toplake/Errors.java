package toplake;

import static toplake.Checks.value;

import java.sql.Connection;
import java.sql.SQLException;
import java.util.List;
import org.postgresql.util.PSQLException;

/** What an error says, and that the connection goes on. */
record Errors(Checks checks) {
    void run() {
        checks.check("error", () -> {
            for (var mode : List.of("simple", "extended")) {
                checks.part(mode, () -> {
                    try (var connection = Database.connect("preferQueryMode=" + mode)) {
                        error(connection);
                    }
                });
            }
        });
    }

    private void error(Connection connection) throws Exception {
        try (var statement = connection.prepareStatement("SELECT id, prize FROM notes WHERE id = ?")) {
            statement.setInt(1, 1);
            statement.executeQuery();
            throw new Checks.Wrong("a column that is not there is found");
        } catch (PSQLException e) {
            var said = e.getServerErrorMessage();
            checks.same("SQLSTATE", e.getSQLState(), "42703");
            checks.same("position", said.getPosition(), 12);
            checks.that("the message names the column: " + said.getMessage(), said.getMessage().contains("prize"));
        }
        try (var statement = connection.createStatement()) {
            checks.fails("a typing error", "42601", () -> statement.execute("SELEC 1"));
            checks.fails("a table that is not there", "42P01", () -> statement.execute("SELECT * FROM nowhere"));
            checks.fails("a division", "22012", () -> statement.executeQuery("SELECT 1 / (id - id) FROM types").next());
            checks.fails("a value", "22P02", () -> statement.executeQuery("SELECT CAST('x' AS INT)").next());
            statement.execute("SELECT 1; SELECT 2");
            checks.that("a second result", statement.getMoreResults());
        } catch (SQLException e) {
            throw e;
        }
        checks.same("afterwards", value(connection, "SELECT 1"), "1");
    }
}
