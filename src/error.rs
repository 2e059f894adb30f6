//! What can go wrong, in one table: every [`Kind`] has one SQLSTATE, one HTTP status, and says whether trying again
//! can help.
//!
//! A message says what was wrong, where, and what to do; lower case, without a full stop.

mod engine;
mod nearest;
mod storage;

use std::fmt;
use std::num::NonZeroUsize;

use datafusion::common::DataFusionError;

pub use self::nearest::nearest;

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
    /// No such type, role, schema or other thing with a name.
    UndefinedObject,
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
    /// Bytes that are not text.
    NotText,
    /// What a client copies in is not what the format says.
    BadCopyFormat,
    /// Bytes that are no value of their type.
    InvalidBinary,
    /// Something is larger than it may be.
    TooLarge,
    /// A column is named twice where it may be named once.
    DuplicateColumn,
    /// Two tables of one statement have the same name.
    DuplicateAlias,
    /// A name that several columns have.
    AmbiguousColumn,
    /// A column that is neither grouped by nor aggregated, or an aggregate where none may be.
    Grouping,
    /// A type that cannot stand there.
    DatatypeMismatch,
    /// A number of a column or an alias that the statement does not have.
    InvalidColumnReference,
    /// A parameter without a value.
    UndefinedParameter,
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
    /// A worker that ran a part of the work is gone, or there are not enough of them.
    WorkersLost,
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
            Kind::UndefinedObject => ("42704", 404, false),
            Kind::DuplicateTable => ("42P07", 409, false),
            Kind::WrongObjectType => ("42809", 400, false),
            Kind::DependentObjects => ("2BP01", 409, false),
            Kind::InsufficientPrivilege => ("42501", 403, false),
            Kind::InvalidValue => ("22P02", 400, false),
            Kind::NotText => ("22021", 400, false),
            Kind::BadCopyFormat => ("22P04", 400, false),
            Kind::InvalidBinary => ("22P03", 400, false),
            Kind::TooLarge => ("54000", 400, false),
            Kind::DuplicateColumn => ("42701", 400, false),
            Kind::DuplicateAlias => ("42712", 400, false),
            Kind::AmbiguousColumn => ("42702", 400, false),
            Kind::Grouping => ("42803", 400, false),
            Kind::DatatypeMismatch => ("42804", 400, false),
            Kind::InvalidColumnReference => ("42P10", 400, false),
            Kind::UndefinedParameter => ("42P02", 400, false),
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
            Kind::WorkersLost => ("08006", 503, true),
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

/// An error: its kind, what happened, and where known more of it, a hint, a position in the statement, a place in the input,
/// and the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<Box<str>>,
    hint: Option<Box<str>>,
    position: Option<NonZeroUsize>,
    name: Option<Box<str>>,
    place: Option<Box<str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error without hint, position and cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            name: None,
            place: None,
            source: None,
        }
    }

    /// What else is known of it.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// What to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// Where in the statement: the 1-based number of the character.
    pub fn with_position(mut self, position: usize) -> Self {
        self.position = NonZeroUsize::new(position);
        self
    }

    /// The name in the statement that is at fault, with dots where it has several parts: whoever has the statement's text finds
    /// its position.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Where in the input that the statement reads.
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into().into_boxed_str());
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

    /// What else is known of it.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The name in the statement that is at fault, where known.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where in the input that the statement reads, where known.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The 1-based number of the character in the statement, where known.
    pub fn position(&self) -> Option<usize> {
        self.position.map(NonZeroUsize::get)
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
}
