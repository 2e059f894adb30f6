//! What can go wrong, in one table: every [`Kind`] has one SQLSTATE, one HTTP status, and says whether trying again
//! can help.
//!
//! A message says what was wrong, where, and what to do; lower case, without a full stop.

use std::fmt;

use datafusion::common::DataFusionError;
use datafusion::parquet::errors::ParquetError;

/// The result of everything in this crate that may fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; decides SQLSTATE, HTTP status and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The statement cannot be parsed.
    Syntax,
    /// A statement, option or argument is understood and makes no sense.
    InvalidInput,
    /// A clause that this statement or view may not have.
    NotSupported,
    /// No such table or view.
    UndefinedTable,
    /// No such column.
    UndefinedColumn,
    /// No such function.
    UndefinedFunction,
    /// A table or view of that name is there already.
    DuplicateTable,
    /// The object exists and is of another type than the statement needs.
    WrongObjectType,
    /// Others depend on the object.
    DependentObjects,
    /// The user may not do that.
    InsufficientPrivilege,
    /// A value does not fit its column.
    InvalidValue,
    /// A NULL where none may be.
    NotNull,
    /// A number is out of its type's range.
    OutOfRange,
    /// A division by zero.
    DivisionByZero,
    /// Raw events that the work needs are past their retention.
    Expired,
    /// A period is not complete yet.
    NotComplete,
    /// The source does not have any more what has to be read next.
    Gap,
    /// No such savepoint.
    UndefinedSavepoint,
    /// Another writer was faster; the same work may be planned again.
    Conflict,
    /// More bad input than was allowed.
    TooManyErrors,
    /// More queries than may run, or wait, at a time.
    TooManyQueries,
    /// More statements a second than were allowed.
    TooManyRequests,
    /// Memory or another budget is used up.
    ResourcesExhausted,
    /// Cancelled by the user, a time-out or the server's end.
    Cancelled,
    /// The object store or the network failed.
    Storage,
    /// What lies in the store is not what was written there.
    Corrupt,
    /// A bug.
    Internal,
}

/// One line of the table in [`Kind::row`].
struct Row {
    sqlstate: &'static str,
    http: u16,
    retry: bool,
}

impl Kind {
    /// The table.
    const fn row(self) -> Row {
        let (sqlstate, http, retry) = match self {
            Kind::Syntax => ("42601", 400, false),
            Kind::InvalidInput => ("22023", 400, false),
            Kind::NotSupported => ("0A000", 400, false),
            Kind::UndefinedTable => ("42P01", 404, false),
            Kind::UndefinedColumn => ("42703", 400, false),
            Kind::UndefinedFunction => ("42883", 400, false),
            Kind::DuplicateTable => ("42P07", 409, false),
            Kind::WrongObjectType => ("42809", 400, false),
            Kind::DependentObjects => ("2BP01", 409, false),
            Kind::InsufficientPrivilege => ("42501", 403, false),
            Kind::InvalidValue => ("22P02", 400, false),
            Kind::NotNull => ("23502", 400, false),
            Kind::OutOfRange => ("22003", 400, false),
            Kind::DivisionByZero => ("22012", 400, false),
            Kind::Expired => ("55000", 409, false),
            Kind::NotComplete => ("55000", 409, true),
            Kind::Gap => ("55000", 409, false),
            Kind::UndefinedSavepoint => ("3B001", 400, false),
            Kind::Conflict => ("40001", 409, true),
            Kind::TooManyErrors => ("22000", 400, false),
            Kind::TooManyQueries => ("53300", 429, true),
            Kind::TooManyRequests => ("53400", 429, true),
            Kind::ResourcesExhausted => ("53200", 503, true),
            Kind::Cancelled => ("57014", 503, true),
            Kind::Storage => ("58030", 503, true),
            Kind::Corrupt => ("XX001", 500, false),
            Kind::Internal => ("XX000", 500, false),
        };
        Row { sqlstate, http, retry }
    }

    /// The PostgreSQL error code.
    pub const fn sqlstate(self) -> &'static str {
        self.row().sqlstate
    }

    /// The HTTP status of an answer that fails with it.
    pub const fn http_status(self) -> u16 {
        self.row().http
    }

    /// Whether the same request may succeed later.
    pub const fn retryable(self) -> bool {
        self.row().retry
    }
}

/// An error: its kind, what happened, and where known a hint, a position in the statement and the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    position: Option<usize>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error without hint, position and cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, position: None, source: None }
    }

    /// What to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where in the statement: the 1-based number of the character.
    pub fn with_position(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// The error underneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context` and a colon in front of the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the store says that an object is not there.
    pub fn is_missing_object(&self) -> bool {
        let mut cause = self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        while let Some(e) = cause {
            if matches!(e.downcast_ref(), Some(object_store::Error::NotFound { .. })) {
                return true;
            }
            cause = e.source();
        }
        // Of a footer, and of what several readers share, the engine hands on the words alone.
        self.kind == Kind::Storage && self.message.contains("Object at location")
    }

    /// What to do about it, where known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The 1-based number of the character in the statement, where known.
    pub fn position(&self) -> Option<usize> {
        self.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Makes the functions that build an error of one kind, so that call sites read as what they are.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("A new error of [`Kind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<String>) -> Self {
                    Error::new(Kind::$kind, message)
                }
            )*
        }
    };
}

constructors! {
    syntax => Syntax,
    invalid_input => InvalidInput,
    not_supported => NotSupported,
    undefined_table => UndefinedTable,
    undefined_column => UndefinedColumn,
    duplicate_table => DuplicateTable,
    wrong_object_type => WrongObjectType,
    dependent_objects => DependentObjects,
    invalid_value => InvalidValue,
    not_null => NotNull,
    expired => Expired,
    not_complete => NotComplete,
    conflict => Conflict,
    too_many_errors => TooManyErrors,
    cancelled => Cancelled,
    storage => Storage,
    corrupt => Corrupt,
    internal => Internal,
}

impl From<Error> for DataFusionError {
    fn from(e: Error) -> Self {
        DataFusionError::External(Box::new(e))
    }
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(e: datafusion::arrow::error::ArrowError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<ParquetError> for Error {
    fn from(e: ParquetError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        Error::storage(format!("object store: {e}")).with_source(e)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::storage(e.to_string()).with_source(e)
    }
}

impl From<DataFusionError> for Error {
    /// Finds our own error where it travelled through the engine, and the kind of one of the engine's.
    fn from(e: DataFusionError) -> Self {
        use datafusion::arrow::error::ArrowError;
        use datafusion::common::SchemaError;
        match e {
            DataFusionError::External(inner) => from_inside(inner),
            DataFusionError::Context(_, inner) => (*inner).into(),
            DataFusionError::Diagnostic(_, inner) => (*inner).into(),
            DataFusionError::Shared(inner) => from_shared(&inner),
            DataFusionError::ArrowError(inner, _) => match *inner {
                ArrowError::ExternalError(inner) => DataFusionError::External(inner).into(),
                ArrowError::DivideByZero => Error::new(Kind::DivisionByZero, "division by zero"),
                ArrowError::ArithmeticOverflow(m) => Error::new(Kind::OutOfRange, m),
                ArrowError::CastError(m) | ArrowError::InvalidArgumentError(m) if is_out_of_range(&m) => {
                    Error::new(Kind::OutOfRange, lower_first(first_line(&m)))
                }
                ArrowError::CastError(m) | ArrowError::ParseError(m) => Error::invalid_value(first_line(&m)),
                ArrowError::InvalidArgumentError(m) => Error::invalid_input(first_line(&m)),
                other => Error::internal(first_line(&other.to_string())).with_source(other),
            },
            DataFusionError::SQL(parser, _) => syntax(&parser.to_string()),
            DataFusionError::SchemaError(schema, _) => {
                let kind = match *schema {
                    SchemaError::FieldNotFound { .. } => Kind::UndefinedColumn,
                    _ => Kind::InvalidInput,
                };
                Error::new(kind, lower_first(&schema.to_string()))
            }
            DataFusionError::ResourcesExhausted(m) => Error::new(Kind::ResourcesExhausted, first_line(&m))
                .with_hint("ask for less at once, or give the server more memory (memory_limit)"),
            DataFusionError::ObjectStore(inner) => (*inner).into(),
            DataFusionError::ParquetError(inner) => match *inner {
                // What reads and writes Parquet hands on what the store said.
                ParquetError::External(inner) => from_inside(inner),
                other => parquet(&other).with_source(other),
            },
            DataFusionError::IoError(inner) => inner.into(),
            DataFusionError::NotImplemented(m) => Error::not_supported(lower_first(first_line(&m))),
            DataFusionError::Plan(m) => plan(&m),
            DataFusionError::Execution(m) => Error::invalid_input(lower_first(first_line(&m))),
            other => Error::internal(first_line(&other.to_string())).with_source(other),
        }
    }
}

/// What a library hands on of another one's.
fn from_inside(inner: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let inner = match inner.downcast::<Error>() {
        Ok(ours) => return *ours,
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<DataFusionError>() {
        Ok(engine) => return (*engine).into(),
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<ParquetError>() {
        Ok(parquet) => return (*parquet).into(),
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<object_store::Error>() {
        Ok(store) => return (*store).into(),
        Err(inner) => inner,
    };
    match inner.downcast::<std::io::Error>() {
        Ok(io) => (*io).into(),
        Err(other) => Error::internal(other.to_string()).with_source(other),
    }
}

/// A file that cannot be read, or a store that did not give it: of footers the engine says which only in words.
fn parquet(e: &ParquetError) -> Error {
    let message = e.to_string();
    let kind = if message.contains("Object Store error: ") { Kind::Storage } else { Kind::Corrupt };
    Error::new(kind, lower_first(first_line(&message)))
}

/// An error of the engine that several consumers share cannot be taken apart by value.
fn from_shared(e: &DataFusionError) -> Error {
    match e.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => Error {
                kind: ours.kind,
                message: ours.message.clone(),
                hint: ours.hint.clone(),
                position: ours.position,
                source: None,
            },
            None if inner.downcast_ref::<object_store::Error>().is_some() => {
                Error::storage(inner.to_string())
            }
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::ObjectStore(inner) => Error::storage(format!("object store: {inner}")),
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            ParquetError::External(inner) => Error::storage(inner.to_string()),
            other => parquet(other),
        },
        DataFusionError::ResourcesExhausted(m) => Error::new(Kind::ResourcesExhausted, first_line(m)),
        DataFusionError::Plan(m) => plan(m),
        DataFusionError::ArrowError(inner, _) => Error::invalid_value(first_line(&inner.to_string())),
        other => Error::internal(first_line(&other.to_string())),
    }
}

/// The engine names unknown tables and functions only in its planning messages.
fn plan(message: &str) -> Error {
    let first = lower_first(first_line(message));
    let kind = if first.starts_with("table '") && first.ends_with("not found") {
        Kind::UndefinedTable
    } else if first.starts_with("invalid function") {
        Kind::UndefinedFunction
    } else {
        Kind::InvalidInput
    };
    Error::new(kind, first)
}

/// The parser says `… at Line: 1, Column: 8`.
fn syntax(message: &str) -> Error {
    let message = message.trim_start_matches("sql parser error: ").trim_start_matches("ParserError(");
    Error::syntax(lower_first(first_line(message.trim_matches(['"', ')']))))
}

/// Arrow says `Can't cast value 40000 to type Int16` of a number, and `Cannot cast string …` of a text.
fn is_out_of_range(message: &str) -> bool {
    message.starts_with("Can't cast value")
        || message.contains("is too large to store in a Decimal")
        || message.contains("is too small to store in a Decimal")
}

fn first_line(s: &str) -> &str {
    s.lines().next().unwrap_or_default().trim_end_matches('.')
}

fn lower_first(s: &str) -> String {
    let mut chars = s.chars();
    match chars.next() {
        // An acronym or a name in capitals stays as it is.
        Some(c) if !chars.clone().next().is_some_and(char::is_uppercase) => {
            c.to_lowercase().chain(chars).collect()
        }
        _ => s.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_error_survives_its_way_through_the_engine() {
        let e = Error::expired("raw events begin at 2026-01-01").with_hint("ask later");
        let e: DataFusionError = e.into();
        let e: Error = e.context("while planning").into();
        assert_eq!((e.kind(), e.hint()), (Kind::Expired, Some("ask later")));
    }

    #[test]
    fn what_the_store_says_survives_parquet() {
        let said = object_store::Error::Generic { store: "S3", source: "slow down".into() };
        let e: Error = DataFusionError::from(ParquetError::External(Box::new(said))).into();
        assert_eq!(e.kind(), Kind::Storage);
        assert!(!e.is_missing_object());
        let gone = || object_store::Error::NotFound { path: "a/b".into(), source: "no such file".into() };
        let e: Error = DataFusionError::from(ParquetError::External(Box::new(gone()))).into();
        assert!(e.context("table 't'").is_missing_object());
        let footer = format!("Failed to fetch metadata for file a/b: Object Store error: {}", gone());
        let e = Error::from(ParquetError::General(footer));
        assert!(e.is_missing_object(), "{e:?}");
        let e: Error = ParquetError::EOF("file too short".into()).into();
        assert_eq!(e.kind(), Kind::Corrupt);
    }

    #[test]
    fn unknown_table_has_its_own_code() {
        let e: Error = DataFusionError::Plan("table 'a.b.c' not found".into()).into();
        assert_eq!(e.kind().sqlstate(), "42P01");
    }
}
