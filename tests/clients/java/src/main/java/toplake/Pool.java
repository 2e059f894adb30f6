package toplake;

import static toplake.Checks.value;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import org.postgresql.ds.PGConnectionPoolDataSource;
import org.postgresql.xa.PGXADataSource;

/** What pools do to a connection between two users. */
record Pool(Checks checks) {
    void run() {
        checks.check("pool", this::hikari);
        checks.check("pool of the driver", this::driver);
        checks.check("distributed transactions", this::distributed);
    }

    private void hikari() throws Exception {
        var config = new HikariConfig();
        config.setJdbcUrl(Database.url(""));
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setMaximumPoolSize(1);
        config.setConnectionInitSql("SET application_name = 'hikari'");
        config.setSchema("public");
        config.setTransactionIsolation("TRANSACTION_REPEATABLE_READ");
        try (var pool = new HikariDataSource(config)) {
            String first;
            try (var connection = pool.getConnection()) {
                first = value(connection, "SELECT pg_backend_pid()");
                connection.setAutoCommit(false);
                connection.setReadOnly(true);
                connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                connection.setNetworkTimeout(Runnable::run, 10_000);
                value(connection, "SELECT count(*) FROM notes");
            }
            try (var connection = pool.getConnection()) {
                checks.same("connection", value(connection, "SELECT pg_backend_pid()"), first);
                checks.that("autocommit", connection.getAutoCommit());
                checks.that("not read only", !connection.isReadOnly());
                checks.same("isolation", connection.getTransactionIsolation(), Connection.TRANSACTION_REPEATABLE_READ);
                checks.same("application_name", value(connection, "SHOW application_name"), "hikari");
                checks.that("valid", connection.isValid(1));
            }
            try (var connection = pool.getConnection()) {
                connection.setAutoCommit(false);
                try (var statement = connection.createStatement()) {
                    statement.executeUpdate("INSERT INTO notes (id) VALUES (7001)");
                }
            }
            try (var connection = pool.getConnection()) {
                checks.same("what a user forgot to commit", value(connection, "SELECT count(*) FROM notes WHERE id = 7001"), "0");
            }
        }
    }

    private void driver() throws Exception {
        var source = new PGConnectionPoolDataSource();
        source.setURL(Database.url(""));
        source.setUser(System.getenv("PGUSER"));
        source.setPassword(System.getenv("PGPASSWORD"));
        var pooled = source.getPooledConnection();
        try {
            for (int i = 0; i < 2; i++) {
                try (var connection = pooled.getConnection()) {
                    value(connection, "SELECT count(*) FROM notes");
                }
            }
        } finally {
            pooled.close();
        }
    }

    /** Two-phase commit is refused, and says so. */
    private void distributed() throws Exception {
        var source = new PGXADataSource();
        source.setURL(Database.url(""));
        source.setUser(System.getenv("PGUSER"));
        source.setPassword(System.getenv("PGPASSWORD"));
        var connection = source.getXAConnection();
        try (var plain = connection.getConnection(); var statement = plain.createStatement()) {
            plain.setAutoCommit(false);
            checks.fails("PREPARE TRANSACTION", "0A000", () -> statement.execute("PREPARE TRANSACTION 'a'"));
            plain.rollback();
        } finally {
            connection.close();
        }
    }
}
