//! Who may talk to whom: a token that both sides know, and certificates of one authority on both sides.

use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::{AUTHORIZATION, HeaderValue};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::error::{Error, Result};

/// The files that say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// The token: one line.
    pub token: Option<PathBuf>,
    /// The authority that has signed the certificates of all, PEM.
    pub authority: Option<PathBuf>,
    /// This process's certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// The name that the certificates of workers bear, where it is not the host that they are called by.
    pub name: Option<String>,
}

/// What those files hold.
#[derive(Clone, Default)]
pub struct Trust {
    token: Option<Arc<Token>>,
    certificates: Option<Arc<Certificates>>,
}

struct Token {
    header: HeaderValue,
    /// Comparing digests takes the same time whatever is wrong.
    digest: Vec<u8>,
}

struct Certificates {
    authority: Vec<u8>,
    own: Vec<u8>,
    key: Vec<u8>,
    name: Option<String>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust(token: {}, certificates: {})", self.has_token(), self.encrypts())
    }
}

impl Trust {
    /// Reads the files; those that belong together have to be there together.
    pub fn read(files: &TrustFiles) -> Result<Self> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|e| Error::invalid_input(format!("cluster: cannot read '{}': {e}", path.display())))
        };
        let token = match &files.token {
            Some(path) => {
                let text = String::from_utf8_lossy(&read(path)?).trim().to_owned();
                Some(Arc::new(Token::new(&text).map_err(|e| e.context(format!("'{}'", path.display())))?))
            }
            None => None,
        };
        let certificates = match (&files.authority, &files.certificate, &files.key) {
            (Some(authority), Some(own), Some(key)) => {
                // The same looks as at a server's: that it is PEM, holds now, and that the key fits.
                crate::certificate::Certificate::read(own, key).map_err(|e| e.context("cluster"))?;
                let (authority, own, key) = (read(authority)?, read(own)?, read(key)?);
                Some(Arc::new(Certificates { authority, own, key, name: files.name.clone() }))
            }
            (None, None, None) => None,
            _ => {
                return Err(Error::invalid_input(
                    "cluster: an authority, a certificate and a key belong together, and not all are given",
                ));
            }
        };
        Ok(Trust { token, certificates })
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether connections are encrypted and both sides show a certificate.
    pub fn encrypts(&self) -> bool {
        self.certificates.is_some()
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.encrypts() { "https" } else { "http" }
    }

    /// What a call has to bear.
    pub(super) fn header(&self) -> Option<&HeaderValue> {
        self.token.as_ref().map(|token| &token.header)
    }

    /// Whether a call bears it.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        headers
            .get(AUTHORIZATION)
            .is_some_and(|given| digest(&SHA256, given.as_bytes()).as_ref() == token.digest)
    }

    /// For who calls.
    pub(super) fn client_tls(&self) -> Option<ClientTlsConfig> {
        let certificates = self.certificates.as_ref()?;
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&certificates.authority))
            .identity(Identity::from_pem(&certificates.own, &certificates.key));
        Some(match &certificates.name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }

    /// For who is called: nobody without a certificate of the same authority comes in.
    pub(super) fn server_tls(&self) -> Option<ServerTlsConfig> {
        let certificates = self.certificates.as_ref()?;
        Some(
            ServerTlsConfig::new()
                .identity(Identity::from_pem(&certificates.own, &certificates.key))
                .client_ca_root(Certificate::from_pem(&certificates.authority)),
        )
    }
}

/// Less is guessed too soon.
const LEAST_TOKEN: usize = 16;

impl Token {
    fn new(token: &str) -> Result<Self> {
        if token.len() < LEAST_TOKEN {
            return Err(Error::invalid_input(format!(
                "cluster: the token has {} characters, and needs {LEAST_TOKEN}",
                token.len()
            ))
            .with_hint("openssl rand -hex 32 makes one"));
        }
        let header = format!("Bearer {token}");
        let digest = digest(&SHA256, header.as_bytes()).as_ref().to_vec();
        let mut header = HeaderValue::from_str(&header)
            .map_err(|_| Error::invalid_input("cluster: the token has characters that no header may have"))?;
        header.set_sensitive(true);
        Ok(Token { header, digest })
    }
}
