//! The first messages of a connection: encryption, cancel requests, who it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answers::Answers;
use super::cancel::Sessions;
use super::error::{Failure, Stop, state};
use super::message::Body;
use super::session::Session;
use super::settings::{Settings, unknown};
use super::wire::{Reader, Writer};
use super::{Client, Engine};

/// A client must have said who it is by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// No first message is longer, as in PostgreSQL.
const MAX_LENGTH: usize = 10_000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What the server gives to a new connection.
pub(super) struct Door {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) sessions: Sessions,
    pub(super) answers: Answers,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) full: bool,
}

/// Takes a connection from its first byte to its last.
pub(super) async fn welcome(socket: TcpStream, address: SocketAddr, door: Door) {
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.into_split();
    let (mut reader, mut writer) = (Reader::new(read), Writer::new(write));
    let mut stopping = door.stopping.clone();
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(PATIENCE, greet(&mut reader, &mut writer, address, &door)) => greeted,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    match greeted {
        Ok(Ok(Some(start))) => {
            let session = Session::new(reader, writer, start, door.answers, door.stopping);
            session.run().await;
        }
        Ok(Err(Stop::Failed(failure))) => {
            writer.put(Failure { severity: super::error::Severity::Fatal, ..failure }.into_message());
            let _ = writer.close().await;
        }
        Ok(Ok(None) | Err(Stop::Gone)) | Err(_) => {}
    }
}

/// A connection that is open.
pub(super) struct Start {
    pub(super) client: Client,
    pub(super) connection: Arc<dyn super::Connection>,
    pub(super) ticket: super::cancel::Ticket,
}

/// Answers the first messages; none when there is nothing more to do.
async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    address: SocketAddr,
    door: &Door,
) -> Result<Option<Start>, Stop> {
    let (mut ssl, mut gss) = (false, false);
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
        writer.buffer.extend_from_slice(b"N");
        writer.flush().await?;
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
        return Err(Failure::fatal(state::TOO_MANY_CONNECTIONS, "sorry, too many clients already").into());
    }
    if !address.ip().to_canonical().is_loopback() {
        return Err(Failure::fatal("28000", "connections from other machines need authentication").into());
    }
    let mut parameters = read_parameters(body)?;
    // Minor versions and protocol options that we do not know are declined, not refused.
    let options: Vec<String> = parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
    if version & 0xffff != 0 || !options.is_empty() {
        parameters.retain(|k, _| !k.starts_with("_pq_."));
        writer.put(Backend::NegotiateProtocolVersion(NegotiateProtocolVersion::new(0, options)));
    }
    open(parameters, address, door, writer).await.map(Some)
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
    address: SocketAddr,
    door: &Door,
    writer: &mut Writer,
) -> Result<Start, Stop> {
    let user = parameters.remove("user").filter(|u| !u.is_empty());
    let user = user.ok_or_else(|| Failure::fatal("28000", "no user name specified in startup packet"))?;
    let database = parameters.remove("database").filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone());
    if parameters
        .remove("replication")
        .is_some_and(|r| !matches!(r.as_str(), "" | "0" | "off" | "no" | "false"))
    {
        return Err(Failure::fatal(state::NOT_SUPPORTED, "replication is not supported").into());
    }
    let settings = Settings::new(&user);
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
    let ticket = door.sessions.enter();
    let client = Client { user, database, settings: Arc::new(settings), options, pid: ticket.pid, address };
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
    Ok(Start { client, connection, ticket })
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
