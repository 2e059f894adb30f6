//! What BI tools send, over the real engine and server: not whether it is accepted, but what comes back.
//!
//! One file a tool; the statements are what the tool writes of a question over the tables of
//! `tests/clients/fixture.sql`.

mod grafana;
mod metabase;
mod postgres;
mod superset;
mod tableau;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use toplake::app::Front;

use crate::harness::{Desk, Home};

/// A server over the tables that clients find.
struct Server {
    _home: Home,
    _desk: Desk,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    async fn start() -> Server {
        let home = Home::new();
        let desk = home.desk().await;
        desk.run(include_str!("../clients/fixture.sql")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
        tokio::spawn(async move {
            toplake::pg::serve(listener, front, async { drop(stopped.await) }).await.unwrap()
        });
        Server { _home: home, _desk: desk, port, stop: Some(stop) }
    }

    async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=toplake dbname=toplake", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// The rows of a simple query, with `|` between values.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        _ => None,
    });
    rows.collect()
}

/// Whether rows are the same: numbers as numbers, and space as the test's lines break it.
fn alike(found: &[String], expected: &[&str]) -> bool {
    let words = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
    let value = |(a, b): (&str, &str)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-9 * y.abs(),
        _ => a == b,
    };
    let row = |(found, expected): (&String, &&str)| {
        let (found, expected) = (words(found), words(expected));
        found.split('|').count() == expected.split('|').count()
            && found.split('|').zip(expected.split('|')).all(value)
    };
    found.len() == expected.len() && found.iter().zip(expected).all(row)
}

/// Runs each statement and compares its rows; all that differ are told.
async fn check(client: &Client, statements: &[(&str, &[&str])]) {
    let mut wrong = vec![];
    for (sql, expected) in statements {
        match client.simple_query(sql).await {
            Err(e) => wrong.push(format!("{sql}\n  {:?}", e.as_db_error().map(|e| e.message().to_owned()))),
            Ok(_) => {
                let found = rows(client, sql).await;
                if !alike(&found, expected) {
                    wrong.push(format!("{sql}\n  gave {found:?}\n  not  {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), statements.len(), wrong.join("\n"));
}
