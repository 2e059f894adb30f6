//! COPY from and to a client: what comes out goes in again, bad rows, loads that are broken off or sent twice, real clients.

mod clients;
mod errors;
mod round_trip;

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use toplake::app::Front;

use crate::harness::{Desk, Home, soon};

/// A server over a warehouse of its own.
struct Server {
    home: Home,
    desk: Desk,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<toplake::error::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let home = Home::new();
        let desk = home.desk().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
        let task = tokio::spawn(toplake::pg::serve(listener, front, async { drop(stopped.await) }));
        Server { home, desk, port, stop: Some(stop), task }
    }

    async fn connect(&self) -> Client {
        self.connect_with_notices().await.0
    }

    /// A client, and what it is told besides.
    async fn connect_with_notices(&self) -> (Client, tokio::sync::mpsc::UnboundedReceiver<DbError>) {
        let config = format!("host=127.0.0.1 port={} user=toplake dbname=toplake", self.port);
        let (client, mut connection) =
            config.parse::<tokio_postgres::Config>().unwrap().connect(NoTls).await.unwrap();
        let (told, notices) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
            let _ = messages
                .try_for_each(|message| {
                    if let AsyncMessage::Notice(notice) = message {
                        let _ = told.send(notice);
                    }
                    futures::future::ready(Ok(()))
                })
                .await;
        });
        (client, notices)
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        soon(self.task).await.unwrap().unwrap();
    }
}

/// Sends bytes, in pieces, as the rows of a COPY; gives how many were stored.
async fn copy_in(
    client: &Client,
    sql: &str,
    bytes: &[u8],
    piece: usize,
) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    futures::pin_mut!(sink);
    for piece in bytes.chunks(piece) {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    sink.finish().await
}

/// The bytes of a COPY.
async fn copy_out(client: &Client, sql: &str) -> Vec<u8> {
    let stream = client.copy_out(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    pieces.concat()
}

fn db(e: &tokio_postgres::Error) -> &DbError {
    e.as_db_error().unwrap_or_else(|| panic!("{e:?}"))
}
