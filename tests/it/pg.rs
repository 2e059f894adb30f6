//! The PostgreSQL front end over a plain DataFusion session, with real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cursors;
mod engine;
mod extended;
mod fuzz;
mod psql;
mod series;
mod simple;
mod values;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};

use self::engine::TestEngine;

/// A server in this process, on a port of its own.
struct Server {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<toplake::error::Result<()>>,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let options = toplake::pg::Options { drain: Duration::from_secs(5), ..Default::default() };
        let engine = Arc::new(TestEngine::new());
        let task = tokio::spawn(async move {
            toplake::pg::serve_with(listener, engine, options, async { drop(stopped.await) }).await
        });
        Server { port, stop: Some(stop), task }
    }

    async fn connect(&self) -> Client {
        self.connect_with("").await
    }

    async fn connect_with(&self, more: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=tester dbname=toplake {more}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
    }
}

/// Rows of a simple query as texts.
async fn texts(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.iter().filter_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}

/// The one value of a simple query.
async fn text(client: &Client, sql: &str) -> String {
    let rows = texts(client, sql).await;
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
}

/// The SQLSTATE of a query that fails.
async fn sqlstate(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await.expect_err(sql);
    error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code().to_owned()
}

/// Cancels what runs, again and again: a request that comes before its statement is lost, as it should be.
fn keep_cancelling(token: CancelToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = token.cancel_query(NoTls).await;
        }
    })
}
