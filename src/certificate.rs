//! Encryption: the server's certificate and key. They are read and checked once, when the server starts, so that nobody
//! finds out by a handshake that they do not fit or have expired.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use tokio_rustls::rustls::{self, ServerConfig};
use webpki::{EndEntityCert, KeyUsage};

use crate::error::{Error, Result};

/// A certificate and its key, ready for handshakes.
#[derive(Debug, Clone)]
pub struct Certificate {
    config: ServerConfig,
}

impl Certificate {
    /// Reads the certificate, with those that lead to its authority behind it, and its key, both PEM.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let bad = |what: &str, path: &Path, why: String| {
            Error::invalid_input(format!("tls: {what} '{}': {why}", path.display()))
        };
        let bad_certificate = |why: String| bad("certificate", certificate, why);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|e| bad_certificate(unreadable(&e)))?;
        let own = chain.first().ok_or_else(|| bad_certificate("there is no certificate in it".to_owned()))?;
        check_now(own).map_err(bad_certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad("key", key, unreadable(&e)))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal(format!("tls: {e}")))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|e| match e {
                rustls::Error::InconsistentKeys(_) => {
                    let why = format!("it is not the key of the certificate '{}'", certificate.display());
                    bad("key", key, why)
                }
                rustls::Error::InvalidCertificate(e) => bad_certificate(e.to_string()),
                other => bad("key", key, other.to_string()),
            })?;
        Ok(Certificate { config })
    }

    /// Shakes hands with clients that speak this protocol, by its name in TLS.
    pub fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config).into()
    }
}

/// Whether a certificate is one of a server that holds now. Who has signed it is for clients to judge, so no authority is
/// asked.
fn check_now(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let invalid = |e: webpki::Error| match e {
        webpki::Error::CertExpired { .. } => "it has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "it is not valid yet".to_owned(),
        other => format!("it cannot be used for a server: {other}"),
    };
    let certificate = EndEntityCert::try_from(certificate).map_err(invalid)?;
    let usage = KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], UnixTime::now(), usage, None, None) {
        // A certificate that signs others may be its own authority; many who make their own have no other.
        Ok(_) | Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) => Ok(()),
        Err(e) => Err(invalid(e)),
    }
}

fn unreadable(e: &pem::Error) -> String {
    match e {
        pem::Error::Io(e) => format!("cannot read it: {e}"),
        pem::Error::NoItemsFound => "there is none in it; it has to be PEM".to_owned(),
        other => format!("it is not PEM: {other}"),
    }
}
