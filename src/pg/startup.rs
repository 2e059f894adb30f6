//! The first messages of a connection: encryption, cancel requests, who it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use datafusion::execution::memory_pool::MemoryPool;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::activity::Activity;
use super::answers::Answers;
use super::cancel::{Sessions, Ticket};
use super::error::{Failure, Stop, state};
use super::message::Body;
use super::session::Session;
use super::settings::{Settings, unknown};
use super::wire::{Reader, Writer, encrypt, halves};
use super::{Catalog, Client, Engine, Options, RequireTls};
use crate::catalog::privileges::Role;
use crate::metrics;

/// A client must have said who it is by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// No first message is longer, as in PostgreSQL.
const MAX_LENGTH: usize = 10_000;

/// The first byte of TLS. The first message of PostgreSQL begins with its length, which is never that long.
const TLS_HANDSHAKE: u8 = 0x16;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What the server gives to a new connection.
pub(super) struct Door {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: Arc<Options>,
    pub(super) sessions: Sessions,
    pub(super) answers: Answers,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) full: bool,
}

/// Takes a connection from its first byte to its last.
pub(super) async fn welcome(socket: TcpStream, address: SocketAddr, door: Door) {
    let _ = socket.set_nodelay(true);
    let mut stopping = door.stopping.clone();
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(PATIENCE, greet(socket, address, door)) => greeted,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    if let Ok(Some(session)) = greeted {
        session.run().await;
    }
}

/// A session of whoever may have one; others are told why not.
async fn greet(socket: TcpStream, address: SocketAddr, door: Door) -> Option<Session> {
    let mut first = [0];
    let direct = socket.peek(&mut first).await.is_ok_and(|n| n == 1) && first[0] == TLS_HANDSHAKE;
    let (mut reader, mut writer) = halves(Box::new(socket));
    match converse(&mut reader, &mut writer, direct, address, &door).await {
        Ok(Some(start)) => Some(Session::new(reader, writer, start, door.answers, door.stopping)),
        Err(Stop::Failed(failure)) => {
            writer.put(Failure { severity: super::error::Severity::Fatal, ..failure }.into_message());
            let _ = writer.close().await;
            None
        }
        // Who cancels waits for the end, which over TLS has to be said.
        Ok(None) => {
            let _ = writer.close().await;
            None
        }
        Err(Stop::Gone) => None,
    }
}

/// A connection that is open.
pub(super) struct Start {
    pub(super) client: Client,
    pub(super) connection: Arc<dyn super::Connection>,
    pub(super) ticket: Ticket,
    /// For what the session keeps of results.
    pub(super) memory: Option<Arc<dyn MemoryPool>>,
    pub(super) activity: Arc<Activity>,
}

/// Answers the first messages; none when there is nothing more to do.
async fn converse(
    reader: &mut Reader,
    writer: &mut Writer,
    direct: bool,
    address: SocketAddr,
    door: &Door,
) -> Result<Option<Start>, Stop> {
    let (mut ssl, mut gss, mut encrypted) = (direct, false, false);
    if direct {
        // Without a certificate there is nothing that such a client would understand.
        let tls = door.options.tls.as_ref().ok_or(Stop::Gone)?;
        encrypt(reader, writer, tls, direct).await?;
        encrypted = true;
    }
    let (version, body) = loop {
        let (code, mut body) = first_message(reader).await?;
        let asked = match code {
            CANCEL => {
                door.sessions.cancel(body.i32()?, body.i32()?);
                return Ok(None);
            }
            SSL => &mut ssl,
            GSS => &mut gss,
            version => break (version, body),
        };
        if std::mem::replace(asked, true) {
            return Err(Failure::protocol("encryption was asked for twice").into());
        }
        match &door.options.tls {
            Some(tls) if code == SSL => {
                writer.buffer.extend_from_slice(b"S");
                writer.flush().await?;
                encrypt(reader, writer, tls, false).await?;
                encrypted = true;
            }
            _ => {
                writer.buffer.extend_from_slice(b"N");
                writer.flush().await?;
            }
        }
    };
    if version >> 16 != 3 {
        return Err(Failure::fatal(
            state::NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {}.{}: server supports 3.0",
                version >> 16,
                version & 0xffff
            ),
        )
        .into());
    }
    if door.full {
        metrics::refused("connections");
        return Err(Failure::fatal(state::TOO_MANY_CONNECTIONS, "sorry, too many clients already").into());
    }
    door.check_origin(address, encrypted)?;
    let mut parameters = read_parameters(body)?;
    // Minor versions and protocol options that we do not know are declined, not refused.
    let options: Vec<String> = parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
    if version & 0xffff != 0 || !options.is_empty() {
        parameters.retain(|k, _| !k.starts_with("_pq_."));
        writer.put(Backend::NegotiateProtocolVersion(NegotiateProtocolVersion::new(0, options)));
    }
    let user = parameters.remove("user").filter(|u| !u.is_empty());
    let user = user.ok_or_else(|| Failure::fatal("28000", "no user name specified in startup packet"))?;
    let role = door.options.users.authenticate(&user, address, reader, writer).await?;
    let who = Who { user, role, address, encrypted };
    open(parameters, who, door, writer).await.map(Some)
}

impl Door {
    /// A place among the sessions; the last ones are for admins.
    fn enter(&self, role: Role) -> Result<Ticket, Failure> {
        let Options { max_connections: all, reserved_connections: reserved, .. } = *self.options;
        let (most, why) = match role {
            Role::Admin => (all, "sorry, too many clients already"),
            _ => (all.saturating_sub(reserved), "remaining connection slots are reserved for the role admin"),
        };
        let full = || {
            metrics::refused("connections");
            Failure::fatal(state::TOO_MANY_CONNECTIONS, why)
        };
        self.sessions.enter(most).ok_or_else(full)
    }

    /// Refuses a connection that the server's users and certificate are not for.
    fn check_origin(&self, address: SocketAddr, encrypted: bool) -> Result<(), Failure> {
        let remote = !address.ip().to_canonical().is_loopback();
        if remote && self.options.users.is_empty() {
            return Err(Failure::fatal("28000", "connections from other machines need authentication")
                .with_hint("configure users"));
        }
        let required = match self.options.require_tls {
            RequireTls::Always => true,
            RequireTls::Remote => remote,
            RequireTls::Never => false,
        };
        match required && !encrypted {
            true => Err(Failure::fatal("28000", "this server takes no connection that is not encrypted")
                .with_hint("connect with sslmode=verify-full, or at least sslmode=require")),
            false => Ok(()),
        }
    }
}

/// Who is there, and how it came.
struct Who {
    user: String,
    role: Role,
    address: SocketAddr,
    encrypted: bool,
}

/// The code and the rest of a message that has no type.
async fn first_message(reader: &mut Reader) -> Result<(u32, Body), Stop> {
    if !reader.fill(8).await? {
        return Err(Stop::Gone);
    }
    let length = reader.peek().get_u32() as usize;
    if !(8..=MAX_LENGTH).contains(&length) {
        return Err(Failure::protocol("invalid length of startup packet").into());
    }
    if !reader.fill(length).await? {
        return Err(Stop::Gone);
    }
    let mut message: Bytes = reader.take(length);
    message.advance(4);
    let code = message.get_u32();
    Ok((code, Body(message)))
}

/// Names and values, up to an empty name.
fn read_parameters(mut body: Body) -> Result<BTreeMap<String, String>, Failure> {
    let mut parameters = BTreeMap::new();
    loop {
        let name = body.string()?;
        if name.is_empty() {
            return Ok(parameters);
        }
        parameters.insert(name, body.string()?);
    }
}

/// Opens the session and says so.
async fn open(
    mut parameters: BTreeMap<String, String>,
    who: Who,
    door: &Door,
    writer: &mut Writer,
) -> Result<Start, Stop> {
    let Who { user, role, address, encrypted } = who;
    let database = parameters.remove("database").filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone());
    if parameters
        .remove("replication")
        .is_some_and(|r| !matches!(r.as_str(), "" | "0" | "off" | "no" | "false"))
    {
        return Err(Failure::fatal(state::NOT_SUPPORTED, "replication is not supported").into());
    }
    let settings = Settings::of(&user, role == Role::Admin, encrypted);
    let mut options = Vec::new();
    let line = parameters.remove("options").unwrap_or_default();
    for (name, value) in command_line(&line).into_iter().chain(parameters) {
        if Settings::knows(&name) {
            settings.start_with(&name, &value)?;
        } else if name.contains('.') {
            options.push((name, value));
        } else {
            return Err(unknown(&name).into());
        }
    }
    let ticket = door.enter(role)?;
    let client = Client {
        user,
        role,
        users: Arc::clone(&door.options.users),
        database,
        settings: Arc::new(settings),
        options,
        pid: ticket.pid,
        address,
        prepared: Default::default(),
        sessions: door.sessions.clone(),
        catalog: Catalog::default(),
    };
    let connection = door.engine.connect(&client).await?;
    for (name, value) in client.settings.all() {
        if client.settings.get(name) != Settings::new(&client.user).get(name) {
            connection.setting_changed(&name.to_lowercase(), &value).await?;
        }
    }
    writer.put(Backend::Authentication(Authentication::Ok));
    for (name, value) in client.settings.reports() {
        writer.put(Backend::ParameterStatus(ParameterStatus::new(name.to_owned(), value)));
    }
    writer.put(Backend::BackendKeyData(BackendKeyData::new(ticket.pid, SecretKey::I32(ticket.secret))));
    let activity = ticket.belongs_to(&client);
    Ok(Start { client, connection, ticket, activity, memory: door.engine.memory() })
}

/// Settings in the form `-c name=value` or `--name=value`; a backslash takes the next character as it is.
fn command_line(line: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => words.last_mut().into_iter().for_each(|w| w.extend(characters.next())),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|w| w.push(c)),
        }
    }
    let assignments = words.iter().filter_map(|word| {
        let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        let (name, value) = word.split_once('=')?;
        Some((name.replace('-', "_"), value.to_owned()))
    });
    assignments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_connection_string() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            command_line("-c statement_timeout=5s --search-path=a\\ b"),
            [pair("statement_timeout", "5s"), pair("search_path", "a b")]
        );
        assert_eq!(command_line("-cgeqo=off"), [pair("geqo", "off")]);
        assert!(command_line("").is_empty());
    }
}
