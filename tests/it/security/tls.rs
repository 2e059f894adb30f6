//! Encryption.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};
use toplake::pg::{Options, RequireTls, Tls};

use super::{Files, Server, told};
use crate::harness::soon;

/// An authority, and a certificate that it has signed for `localhost`.
pub(crate) struct Paper {
    files: Files,
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Paper {
    pub(crate) fn new() -> Self {
        Self::valid(2020, 2060)
    }

    fn valid(from: i32, until: i32) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose subject is also its issuer would be taken for one that has signed itself.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let files = Files::new();
        Paper {
            authority: files.write("authority.pem", &authority.pem()),
            certificate: files.write("server.pem", &certificate.pem()),
            key: files.write("server.key", &key.serialize_pem()),
            files,
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::read(&self.certificate, &self.key).unwrap()
    }

    async fn server(&self, require_tls: RequireTls) -> Server {
        Server::start(Options { tls: Some(self.tls()), require_tls, ..Default::default() }).await
    }

    /// Shakes hands as a client that begins with it.
    async fn direct(&self, server: &Server, alpn: &[&[u8]]) -> std::io::Result<impl AsyncRead + AsyncWrite> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let socket = TcpStream::connect(("127.0.0.1", server.port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

/// The first message of user `me`.
fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0me\0database\0toplake\0\0";
    [&(body.len() as u32 + 4).to_be_bytes(), body.as_slice()].concat()
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[tokio::test(flavor = "multi_thread")]
async fn psql_verifies_the_server_in_full() {
    let (paper, stranger) = (Paper::new(), Paper::new());
    let server = paper.server(RequireTls::Remote).await;
    let full = |host: &str, paper: &Paper| {
        format!("user=me host={host} sslmode=verify-full sslrootcert={}", paper.authority.display())
    };
    let Some(shown) = server.psql(&full("localhost", &paper), "SHOW ssl") else { return };
    assert_eq!(shown.as_deref(), Ok("on"));
    let e = server.psql(&full("localhost", &stranger), "SHOW ssl").unwrap().unwrap_err();
    // Of an authority with the same name it is the signature that is wrong.
    assert!(e.contains("SSL error"), "{e}");
    let e = server.psql(&full("elsewhere", &paper), "SHOW ssl").unwrap().unwrap_err();
    assert!(e.contains("does not match host name"), "{e}");
    // On the machine itself both will do, and each connection says which it is.
    let plain = server.psql("user=me host=localhost sslmode=disable", "SHOW ssl").unwrap();
    assert_eq!(plain.as_deref(), Ok("off"));
    // A large result comes whole through the encryption.
    let sum = "SELECT sum(length(v)) FROM (SELECT repeat('x', 1000) AS v FROM generate_series(1, 10000))";
    assert_eq!(server.psql(&full("localhost", &paper), sum).unwrap().as_deref(), Ok("10000000"));
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 10000)";
    let text = server.psql(&full("localhost", &paper), rows).unwrap().unwrap();
    assert_eq!((text.lines().count(), text.len()), (10_000, 10_000 * 1_001 - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_requires_encryption_takes_nothing_else() {
    let paper = Paper::new();
    let server = paper.server(RequireTls::Always).await;
    let (state, message) = told(&server.try_connect("me", "").await.err().unwrap());
    assert_eq!((state.as_str(), message.contains("not encrypted")), ("28000", true), "{message}");
    let Some(in_secret) = server.psql("user=me host=localhost sslmode=require", "SELECT 1") else { return };
    assert_eq!(in_secret.as_deref(), Ok("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_certificate_says_so() {
    let server = Server::start(Options::default()).await;
    let Some(asked) = server.psql("user=me host=localhost sslmode=require", "SELECT 1") else { return };
    assert!(asked.unwrap_err().contains("server does not support SSL"));
    let paper = Paper::new();
    assert!(soon(paper.direct(&server, &[b"postgresql"])).await.is_err());
    let preferred = server.psql("user=me host=localhost sslmode=prefer", "SHOW ssl").unwrap();
    assert_eq!(preferred.as_deref(), Ok("off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_begin_with_the_handshake_if_it_names_the_protocol() {
    let paper = Paper::new();
    let server = paper.server(RequireTls::Always).await;
    let mut stream = paper.direct(&server, &[b"postgresql"]).await.unwrap();
    stream.write_all(&startup()).await.unwrap();
    let mut kind = [0];
    soon(stream.read_exact(&mut kind)).await.unwrap();
    assert_eq!(&kind, b"R");
    // Another protocol's client could be made to say our words.
    assert!(paper.direct(&server, &[b"http/1.1"]).await.is_err());
    if let Ok(mut nameless) = paper.direct(&server, &[]).await {
        let _ = nameless.write_all(&startup()).await;
        assert!(soon(nameless.read_exact(&mut kind)).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_the_handshake_is_not_taken_for_the_clients() {
    let paper = Paper::new();
    let server = paper.server(RequireTls::Remote).await;
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    socket.write_all(&[&SSL_REQUEST, startup().as_slice()].concat()).await.unwrap();
    let mut answer = vec![];
    let _ = soon(socket.read_to_end(&mut answer)).await;
    assert_eq!(answer.first(), Some(&b'S'));
    assert!(!answer[1..].starts_with(b"R"), "it was let in: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_cancel_request_is_the_end_and_says_so() {
    let paper = Paper::new();
    let server = paper.server(RequireTls::Always).await;
    let mut stream = paper.direct(&server, &[b"postgresql"]).await.unwrap();
    stream.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2]).await.unwrap();
    // A connection that is only cut is an error to a client, as anybody can cut it.
    assert_eq!(soon(stream.read_to_end(&mut vec![])).await.unwrap(), 0);
}

#[test]
fn papers_that_are_no_good_are_found_at_the_start() {
    let (paper, other) = (Paper::new(), Paper::new());
    let (expired, early) = (Paper::valid(2020, 2021), Paper::valid(2059, 2060));
    let nonsense =
        paper.files.write("nonsense.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----");
    let (empty, missing) = (paper.files.write("empty.pem", ""), paper.files.0.path().join("missing.pem"));
    let inner = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let wrong_inside = paper.files.write("inside.pem", inner);
    for (certificate, key, at_fault, why) in [
        (&missing, &paper.key, &missing, "cannot read it"),
        (&paper.certificate, &missing, &missing, "cannot read it"),
        (&empty, &paper.key, &empty, "there is no certificate in it"),
        (&paper.certificate, &empty, &empty, "there is none in it"),
        (&nonsense, &paper.key, &nonsense, "not PEM"),
        (&wrong_inside, &paper.key, &wrong_inside, "cannot be used for a server"),
        (&paper.key, &paper.certificate, &paper.key, "there is no certificate in it"),
        (&paper.certificate, &other.key, &other.key, "not the key of the certificate"),
        (&expired.certificate, &expired.key, &expired.certificate, "it has expired"),
        (&early.certificate, &early.key, &early.certificate, "not valid yet"),
    ] {
        let e = Tls::read(certificate, key).err().unwrap();
        let names = e.message().contains(&format!("'{}'", at_fault.display()));
        assert!(names && e.message().contains(why), "{at_fault:?}: {e}");
    }
}
