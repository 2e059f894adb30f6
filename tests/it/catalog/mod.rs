//! What PostgreSQL's catalogs say of a warehouse, and to whom.

mod comments;
mod information;
mod psql;
mod rights;
mod sessions;
mod tools;

use std::process::Command;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use toplake::app::Front;
use toplake::catalog::privileges::Role;
use toplake::pg::{Options, User, Users, Verifier, serve_with};

use crate::harness::Home;

/// What is in the warehouse: a table of each kind.
const CONTENTS: &str = "
    CREATE TABLE sales (event_id BIGINT NOT NULL, event_time TIMESTAMP NOT NULL, product_id VARCHAR,
                        unit_price DECIMAL(18, 4), tags TEXT[]) WITH (time_column = 'event_time');
    INSERT INTO sales VALUES (1, '2026-01-01', 'a', 1.5, NULL), (2, '2026-01-02', NULL, 2, NULL);
    CREATE TABLE notes (id INT NOT NULL, note TEXT);
    CREATE VIEW big AS SELECT event_id, unit_price FROM sales WHERE unit_price > 1;
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, count(*) AS n FROM sales GROUP BY 1;
    CREATE MATERIALIZED VIEW top AS SELECT product_id, count(*) AS n FROM sales GROUP BY 1 ORDER BY 2 DESC LIMIT 5";

/// A server in this process, over a warehouse of its own.
struct Server {
    #[allow(dead_code)]
    home: Home,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    /// With nobody configured: whoever connects may do everything.
    async fn start() -> Server {
        Self::start_with(Users::default()).await
    }

    /// With ann, an admin, will, a writer, and rita, a reader; passwords are names with an exclamation mark.
    async fn with_users() -> Server {
        let user = |name: &str, role| User {
            name: name.to_owned(),
            verifier: Verifier::of(&format!("{name}!")),
            role,
        };
        let users = [user("ann", Role::Admin), user("will", Role::Writer), user("rita", Role::Reader)];
        Self::start_with(Users::new(users).unwrap()).await
    }

    async fn start_with(users: Users) -> Server {
        let home = Home::new();
        let desk = home.desk().await;
        desk.session.sql(CONTENTS).await.unwrap();
        let elsewhere = home.path("elsewhere.csv");
        std::fs::write(&elsewhere, "a,b\n1,x\n").unwrap();
        let external = format!(
            "CREATE EXTERNAL TABLE elsewhere (a INT, b TEXT) STORED AS CSV LOCATION '{}' OPTIONS ('has_header' 'true')",
            elsewhere.display()
        );
        desk.session.sql(&external).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let front = Front::new(desk.engine.clone());
        let options = Options { users: Arc::new(users), ..Default::default() };
        tokio::spawn(async move {
            serve_with(listener, front, options, async { drop(stopped.await) }).await.unwrap()
        });
        Server { home, port, stop: Some(stop) }
    }

    async fn connect(&self, user: &str) -> Client {
        self.connect_as(user, "").await
    }

    async fn connect_as(&self, user: &str, application: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(format!("{user}!")).dbname("toplake");
        let (client, connection) = config.application_name(application).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// What psql prints for a command; none where there is no psql, which is a failure on the build server.
    fn psql(&self, command: &str) -> Option<String> {
        let output = Command::new("psql")
            .args(["-X", "-h", "127.0.0.1", "-U", "tester", "-d", "toplake", "-p", &self.port.to_string()])
            .args(["-v", "ON_ERROR_STOP=1", "-c", command])
            .env("PGCONNECT_TIMEOUT", "10")
            .env("LC_ALL", "C.UTF-8")
            .output();
        match output {
            Ok(output) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (out, err) = (text(&output.stdout), text(&output.stderr));
                println!("$ {command}\n{out}{err}");
                assert!(!err.contains("ERROR"), "{command}:\n{out}{err}");
                Some(out + &err)
            }
            Err(e) => {
                assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
                eprintln!("psql is not installed: not tested");
                None
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// Rows of a simple query, values with bars between them.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.iter().filter_map(|m| match m {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    rows.collect()
}

/// The SQLSTATE and the message of a query that fails.
async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.simple_query(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    (error.code().code().to_owned(), error.message().to_owned())
}
