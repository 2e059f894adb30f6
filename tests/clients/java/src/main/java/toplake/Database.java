package toplake;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;

/** The server that the PG… variables name. */
final class Database {
    private Database() {}

    static String url(String options) {
        var address = System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        var tls = "?sslmode=" + System.getenv("PGSSLMODE") + "&sslrootcert=" + System.getenv("PGSSLROOTCERT");
        return "jdbc:postgresql://" + address + tls + (options.isEmpty() ? "" : "&" + options);
    }

    static Connection connect(String options) throws SQLException {
        return connect(options, System.getenv("PGPASSWORD"));
    }

    static Connection connect(String options, String password) throws SQLException {
        var properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", password);
        return DriverManager.getConnection(url(options), properties);
    }
}
