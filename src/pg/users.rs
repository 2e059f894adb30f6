//! Who may connect, and how that is found out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::startup::Authentication;

use super::error::{Failure, Stop};
use super::message::Body;
use super::scram::{Exchange, MECHANISM, Verifier};
use super::wire::{Reader, Writer};
use crate::catalog::privileges::{Role, check_grantee};
use crate::error::{Error, Result};

/// No message of an exchange is longer.
const MAX_LENGTH: usize = 4_096;

/// Somebody who may connect.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// What is known of the password.
    pub verifier: Verifier,
    /// What the user may do.
    pub role: Role,
}

/// Everybody who may connect; with nobody configured that is everybody on this machine, as an admin.
#[derive(Debug, Clone, Default)]
pub struct Users(BTreeMap<String, User>);

impl Users {
    /// These users. Names have to differ from each other and from those of roles.
    pub fn new(users: impl IntoIterator<Item = User>) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for user in users {
            check_grantee(&user.name)?;
            if let Some(double) = by_name.insert(user.name.clone(), user) {
                return Err(Error::invalid_input(format!("there are two users '{}'", double.name)));
            }
        }
        Ok(Users(by_name))
    }

    /// Whether nobody is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everybody, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values()
    }

    /// Lets a client prove who it is, and says what it may do then.
    pub(super) async fn authenticate(
        &self,
        name: &str,
        address: SocketAddr,
        reader: &mut Reader,
        writer: &mut Writer,
    ) -> Result<Role, Stop> {
        let Some(first) = self.0.values().next() else { return Ok(Role::Admin) };
        let known = self.0.get(name);
        let verifier = known.map_or_else(|| first.verifier.decoy(name), |user| user.verifier.clone());
        writer.put(Backend::Authentication(Authentication::SASL(vec![MECHANISM.to_owned()])));
        writer.flush().await?;
        let mut message = Body(answer(reader).await?);
        let mechanism = message.string()?;
        if mechanism != MECHANISM {
            return Err(Failure::protocol("client selected an invalid SASL authentication mechanism").into());
        }
        let exchange = Exchange::begin(verifier, &message.value()?.unwrap_or_default())?;
        let reply = exchange.answer.clone().into_bytes().into();
        writer.put(Backend::Authentication(Authentication::SASLContinue(reply)));
        writer.flush().await?;
        let proof = exchange.end(&answer(reader).await?)?;
        let (Some(proof), Some(user)) = (proof, known) else {
            tracing::warn!(user = name, %address, "password authentication failed");
            let message = format!("password authentication failed for user \"{name}\"");
            return Err(Failure::fatal("28P01", message).into());
        };
        writer.put(Backend::Authentication(Authentication::SASLFinal(proof.into_bytes().into())));
        Ok(user.role)
    }
}

/// The next message of the exchange.
async fn answer(reader: &mut Reader) -> Result<Bytes, Stop> {
    match reader.frame_within(MAX_LENGTH).await? {
        (b'p', body) => Ok(body),
        (kind, _) => {
            Err(Failure::protocol(format!("expected a SASL response, got message type {kind}")).into())
        }
    }
}
