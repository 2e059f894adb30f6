//! What a client is told when something goes wrong: an `ErrorResponse` or a `NoticeResponse`.

use std::io;

use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::error::Error;

/// An error as the protocol has it.
#[derive(Debug)]
pub(super) struct Failure {
    /// `ERROR`, or `FATAL` when the connection ends with it.
    pub(super) severity: Severity,
    /// The five characters that programs look at.
    pub(super) sqlstate: &'static str,
    /// What went wrong.
    pub(super) message: String,
    /// What else is known of it.
    pub(super) detail: Option<Box<str>>,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// Where in the input that the statement reads: `CONTEXT`.
    pub(super) place: Option<Box<str>>,
    /// The 1-based number of the character in the query string at fault.
    pub(super) position: Option<usize>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// The statement went on, and its user should know.
    Warning,
    /// The statement did what it should, and there is more to say.
    Notice,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
        }
    }
}

/// The SQLSTATEs of the front end itself; those of the engine come from [`crate::error::Kind`].
pub(super) mod state {
    pub(in crate::pg) const SUCCESS: &str = "00000";
    pub(in crate::pg) const NOT_SUPPORTED: &str = "0A000";
    pub(in crate::pg) const PROTOCOL_VIOLATION: &str = "08P01";
    pub(in crate::pg) const INVALID_PARAMETER_VALUE: &str = "22023";
    pub(in crate::pg) const INVALID_BINARY: &str = "22P03";
    pub(in crate::pg) const INVALID_TEXT: &str = "22P02";
    pub(in crate::pg) const NUMERIC_OUT_OF_RANGE: &str = "22003";
    pub(in crate::pg) const DATETIME_OUT_OF_RANGE: &str = "22008";
    pub(in crate::pg) const ACTIVE_TRANSACTION: &str = "25001";
    pub(in crate::pg) const READ_ONLY: &str = "25006";
    pub(in crate::pg) const NO_ACTIVE_TRANSACTION: &str = "25P01";
    pub(in crate::pg) const IDLE_IN_TRANSACTION: &str = "25P03";
    pub(in crate::pg) const IDLE_SESSION: &str = "57P05";
    pub(in crate::pg) const IN_FAILED_TRANSACTION: &str = "25P02";
    pub(in crate::pg) const UNDEFINED_STATEMENT: &str = "26000";
    pub(in crate::pg) const UNDEFINED_PORTAL: &str = "34000";
    pub(in crate::pg) const SYNTAX: &str = "42601";
    pub(in crate::pg) const DUPLICATE_STATEMENT: &str = "42P05";
    pub(in crate::pg) const UNDEFINED_SETTING: &str = "42704";
    pub(in crate::pg) const NOT_IN_STATE: &str = "55000";
    pub(in crate::pg) const CANNOT_CHANGE: &str = "55P02";
    pub(in crate::pg) const OUT_OF_MEMORY: &str = "53200";
    pub(in crate::pg) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(in crate::pg) const QUERY_CANCELED: &str = "57014";
    pub(in crate::pg) const ADMIN_SHUTDOWN: &str = "57P01";
}

impl Failure {
    /// An error that ends the statement.
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Failure {
            severity: Severity::Error,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            place: None,
            position: None,
        }
    }

    /// An error that ends the connection.
    pub(super) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Failure { severity: Severity::Fatal, ..Failure::new(sqlstate, message) }
    }

    /// Something that the client should know although the statement went on.
    pub(super) fn warning(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Failure { severity: Severity::Warning, ..Failure::new(sqlstate, message) }
    }

    /// Something that the client may want to know.
    pub(super) fn notice(message: impl Into<String>) -> Self {
        Failure { severity: Severity::Notice, ..Failure::new(state::SUCCESS, message) }
    }

    /// A message that does not follow the protocol: nothing that comes after it can be trusted.
    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Failure::fatal(state::PROTOCOL_VIOLATION, message)
    }

    /// What to do about it.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Moves a position in one statement to where the statement stands in the whole query string.
    pub(super) fn offset_by(mut self, offset: usize) -> Self {
        self.position = self.position.map(|p| p + offset);
        self
    }

    /// Where in the query string.
    pub(super) fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Takes the position away, where it would point into a text that the client never saw.
    pub(super) fn without_position(mut self) -> Self {
        self.position = None;
        self
    }

    /// The message to send: an `ErrorResponse`, or a `NoticeResponse` for a warning or notice.
    pub(super) fn into_message(self) -> Backend {
        let mut fields = vec![
            (b'S', self.severity.name().to_owned()),
            (b'V', self.severity.name().to_owned()),
            (b'C', self.sqlstate.to_owned()),
            // A zero byte would end the field early.
            (b'M', self.message.replace('\0', "")),
        ];
        let hint = self.hint.map(String::into_boxed_str);
        for (field, text) in [(b'D', self.detail), (b'H', hint), (b'W', self.place)] {
            fields.extend(text.map(|text| (field, text.replace('\0', ""))));
        }
        if let Some(position) = self.position {
            fields.push((b'P', position.to_string()));
        }
        match self.severity {
            Severity::Warning | Severity::Notice => Backend::NoticeResponse(NoticeResponse::new(fields)),
            _ => Backend::ErrorResponse(ErrorResponse::new(fields)),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure {
            severity: Severity::Error,
            sqlstate: e.kind().sqlstate(),
            message: e.message().to_owned(),
            detail: e.detail().map(Box::from),
            hint: e.hint().map(str::to_owned),
            place: e.place().map(Box::from),
            position: e.position(),
        }
    }
}

impl From<datafusion::common::DataFusionError> for Failure {
    fn from(e: datafusion::common::DataFusionError) -> Self {
        Error::from(e).into()
    }
}

impl From<datafusion::arrow::error::ArrowError> for Failure {
    fn from(e: datafusion::arrow::error::ArrowError) -> Self {
        Error::from(e).into()
    }
}

/// Why the work for a message ended early: the client can be told, or is gone.
#[derive(Debug)]
pub(super) enum Stop {
    /// Tell the client, and go on unless it is fatal.
    Failed(Failure),
    /// The connection is broken or was closed by the client.
    Gone,
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(e: E) -> Self {
        Stop::Failed(e.into())
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Gone
    }
}
