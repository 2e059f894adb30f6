//! Connections by TLS. Hands are shaken beside each other, so that one who is slow at it keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;

/// The protocol's name in TLS.
const ALPN: &[u8] = b"http/1.1";

/// Who has not shaken hands by then is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections that have shaken hands and are not served yet.
const WAITING: usize = 64;

/// A listener whose connections are encrypted.
pub(super) struct TlsDoor {
    address: io::Result<SocketAddr>,
    opened: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsDoor {
    /// Opens it. It closes when this is dropped.
    pub(super) fn open(mut listener: TcpListener, certificate: &Certificate) -> Self {
        let acceptor = certificate.acceptor(ALPN);
        let address = listener.local_addr();
        let (open, opened) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                let (stream, address) = tokio::select! {
                    accepted = Listener::accept(&mut listener) => accepted,
                    () = open.closed() => return,
                };
                let (acceptor, open) = (acceptor.clone(), open.clone());
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        // An error says that the door is closed.
                        let _ = open.send((stream, address)).await;
                    }
                });
            }
        });
        TlsDoor { address, opened }
    }
}

impl Listener for TlsDoor {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.opened.recv().await {
            Some(opened) => opened,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(e) => Err(io::Error::from(e.kind())),
        }
    }
}
