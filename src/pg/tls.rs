//! Encryption, as PostgreSQL's clients ask for it.

use std::io;
use std::path::Path;

use tokio_rustls::TlsAcceptor;

use super::wire::Stream;
use crate::certificate::Certificate;
use crate::error::Result;

/// The protocol's name in TLS; a client that begins with the handshake has to say it.
const ALPN: &[u8] = b"postgresql";

/// A certificate and its key, ready for handshakes.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Shakes hands with this certificate.
    pub fn new(certificate: &Certificate) -> Self {
        Tls { acceptor: certificate.acceptor(ALPN) }
    }

    /// The same of the certificate and key in these files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self::new(&Certificate::read(certificate, key)?))
    }

    /// Shakes hands. A client that began with it, without a word of PostgreSQL before, has to name the protocol.
    pub(super) async fn accept(&self, stream: Box<dyn Stream>, direct: bool) -> io::Result<Box<dyn Stream>> {
        let encrypted = self.acceptor.accept(stream).await?;
        if direct && encrypted.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Box::new(encrypted))
    }
}
