//! Who may connect to a server, and how: `[tls]` and `[[users]]` of its configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Deserialize;

use crate::catalog::locations::Locations;
use crate::catalog::privileges::Role;
use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::http;
use crate::pg::{self, RequireTls, Tls, User, Users};

/// `[tls]`, and the flags that win over it.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsOptions {
    /// The server's certificate, PEM, with those that lead to its authority behind it
    #[arg(long = "tls-certificate", env = "TOPLAKE_TLS_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long = "tls-key", env = "TOPLAKE_TLS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Refuse connections that are not encrypted: true refuses all, false none [default: those from other machines]
    #[arg(long = "require-tls", env = "TOPLAKE_REQUIRE_TLS", value_name = "BOOL", num_args = 0..=1,
          default_missing_value = "true")]
    require: Option<bool>,
}

impl TlsOptions {
    /// The certificate and its key, if there are any.
    fn certificate(&self) -> Result<Option<Certificate>> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Certificate::read(certificate, key).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::invalid_input("tls: there is a certificate and no key")),
            (None, Some(_)) => Err(Error::invalid_input("tls: there is a key and no certificate")),
        }
    }

    /// The same, with what it leaves open as a file says.
    pub(super) fn or(self, config: &TlsOptions) -> Self {
        TlsOptions {
            certificate: self.certificate.or_else(|| config.certificate.clone()),
            key: self.key.or_else(|| config.key.clone()),
            require: self.require.or(config.require),
        }
    }
}

/// An entry of `[[users]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserEntry {
    name: String,
    verifier: String,
    role: Role,
}

/// The users that entries name.
pub(super) fn users(entries: &[UserEntry]) -> Result<Users> {
    let users = entries.iter().map(|entry| {
        let verifier =
            entry.verifier.parse().map_err(|e: Error| e.context(format!("user '{}'", entry.name)))?;
        Ok(User { name: entry.name.clone(), verifier, role: entry.role })
    });
    Users::new(users.collect::<Result<Vec<_>>>()?)
}

/// Where admins may read and write outside of the warehouse: where they are listed, and with users nowhere else. Whoever is
/// on this machine anyway and needs no password may go where the process may.
pub(super) fn locations(listed: Option<&[String]>, users: &Users) -> Result<Locations> {
    match listed {
        None if users.is_empty() => Ok(Locations::anywhere()),
        listed => Locations::only(listed.unwrap_or_default().iter().map(String::as_str))
            .map_err(|e| e.context("allowed_locations")),
    }
}

/// What the front end has to know, for a server that listens on `address`. What would let strangers in, or let them listen,
/// is refused here.
pub(super) fn options(address: SocketAddr, tls: &TlsOptions, users: Users) -> Result<pg::Options> {
    let require_tls = match tls.require {
        None => RequireTls::Remote,
        Some(true) => RequireTls::Always,
        Some(false) => RequireTls::Never,
    };
    let certificate = tls.certificate()?.map(|certificate| Tls::new(&certificate));
    if certificate.is_none() && require_tls == RequireTls::Always {
        return Err(Error::invalid_input("tls: it is required, and there is no certificate")
            .with_hint("give --tls-certificate and --tls-key, or [tls] in --config"));
    }
    if !address.ip().is_loopback() {
        let refuse = |why: &str| Error::invalid_input(format!("cannot listen on {address}: {why}"));
        if users.is_empty() {
            return Err(refuse("no users are configured").with_hint(
                "add [[users]] to --config (toplake user NAME prints an entry), or listen on a loopback address",
            ));
        }
        if certificate.is_none() && require_tls != RequireTls::Never {
            return Err(refuse("there is no certificate, so anybody on the way could read along")
                .with_hint("add [tls] certificate and key to --config; require = false does without"));
        }
    }
    Ok(pg::Options { users: Arc::new(users), tls: certificate, require_tls, ..Default::default() })
}

/// What HTTP has to know, for a server that listens for it on `address`: as strict as the front end.
pub(super) fn http_options(
    address: SocketAddr,
    tls: &TlsOptions,
    users: &Users,
    tokens: http::Tokens,
) -> Result<http::Options> {
    let certificate = tls.certificate()?;
    if !address.ip().is_loopback() {
        let refuse = |why: &str| Error::invalid_input(format!("cannot listen on {address} for http: {why}"));
        if tokens.is_empty() {
            return Err(refuse("no tokens are configured").with_hint(
                "add [[tokens]] to --config (toplake token NAME prints an entry), or listen on a loopback address",
            ));
        }
        if certificate.is_none() && tls.require != Some(false) {
            return Err(refuse("there is no certificate, so anybody on the way could read along")
                .with_hint("add [tls] certificate and key to --config; require = false does without"));
        }
    }
    // Where passwords are asked for, nobody reads without saying who it is.
    let tokens = if users.is_empty() { tokens } else { tokens.required() };
    Ok(http::Options { tokens, certificate, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, require: Option<bool>, users: Users) -> Result<pg::Options> {
        let tls = TlsOptions { require, ..Default::default() };
        options(address.parse().unwrap(), &tls, users)
    }

    fn somebody() -> Users {
        let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let entry = |name: &str| UserEntry {
            name: name.to_owned(),
            verifier: verifier.to_owned(),
            role: Role::Reader,
        };
        users(&[entry("ann"), entry("bob")]).unwrap()
    }

    #[test]
    fn only_the_machine_itself_gets_in_without_users() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert!(check(address, None, Users::default()).is_ok());
        }
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:7432"] {
            for require in [None, Some(false)] {
                let e = check(address, require, Users::default()).err().unwrap();
                assert!(e.message().contains("no users"), "{e}");
            }
        }
    }

    #[test]
    fn what_others_could_read_has_to_be_asked_for() {
        assert!(check("127.0.0.1:0", None, somebody()).is_ok());
        let e = check("0.0.0.0:0", None, somebody()).err().unwrap();
        assert!(e.message().contains("no certificate"), "{e}");
        assert!(check("0.0.0.0:0", Some(false), somebody()).is_ok());
        assert!(check("127.0.0.1:0", Some(true), somebody()).is_err());
    }

    #[test]
    fn a_user_needs_a_name_of_its_own_and_a_verifier() {
        let entry = |name: &str, verifier: &str| UserEntry {
            name: name.to_owned(),
            verifier: verifier.to_owned(),
            role: Role::Admin,
        };
        let good = pg::Verifier::of("x").to_string();
        for (entries, what) in [
            (vec![entry("ann", &good), entry("ann", &good)], "two users 'ann'"),
            (vec![entry("reader", &good)], "'reader'"),
            (vec![entry("public", &good)], "'public'"),
            (vec![entry("", &good)], "''"),
            (vec![entry("ann", "secret")], "user 'ann'"),
        ] {
            let e = users(&entries).err().unwrap();
            assert!(e.message().contains(what) && !e.message().contains("secret"), "{e}");
        }
    }
}
