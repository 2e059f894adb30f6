//! Errors of the engine and of its file formats as our own: their kind, in SQL's words, on one line.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::parquet::errors::ParquetError;

use super::storage::of_store;
use super::{Error, Kind, nearest};

impl From<ArrowError> for Error {
    fn from(e: ArrowError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<ParquetError> for Error {
    fn from(e: ParquetError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<DataFusionError> for Error {
    /// Finds our own error where it travelled through the engine, and the kind of one of the engine's.
    fn from(e: DataFusionError) -> Self {
        match e {
            DataFusionError::External(inner) => from_inside(inner),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => (*inner).into(),
            DataFusionError::Shared(inner) => of_engine(&inner),
            DataFusionError::Collection(mut all) if !all.is_empty() => all.swap_remove(0).into(),
            DataFusionError::ArrowError(inner, trace) => match *inner {
                ArrowError::ExternalError(inner) => from_inside(inner),
                other => of_engine(&DataFusionError::ArrowError(Box::new(other), trace)),
            },
            DataFusionError::ObjectStore(inner) => (*inner).into(),
            DataFusionError::ParquetError(inner) => match *inner {
                // What reads and writes Parquet hands on what the store said.
                ParquetError::External(inner) => from_inside(inner),
                other => parquet(&other).with_source(other),
            },
            DataFusionError::IoError(inner) => inner.into(),
            other => {
                let error = of_engine(&other);
                if error.kind() == Kind::Internal { error.with_source(other) } else { error }
            }
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
    let inner = match inner.downcast::<ArrowError>() {
        Ok(arrow) => return (*arrow).into(),
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
        Err(other) => Error::internal(first_line(&other.to_string())).with_source(other),
    }
}

/// An error that belongs to somebody else, such as one that several consumers share: it cannot be taken apart by value.
fn of_engine(e: &DataFusionError) -> Error {
    match e.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => Error {
                kind: ours.kind,
                message: ours.message.clone(),
                detail: ours.detail.clone(),
                hint: ours.hint.clone(),
                position: ours.position,
                name: ours.name.clone(),
                place: ours.place.clone(),
                source: None,
            },
            None => match inner.downcast_ref::<object_store::Error>() {
                Some(store) => of_store(store),
                None => Error::internal(first_line(&inner.to_string())),
            },
        },
        DataFusionError::ObjectStore(inner) => of_store(inner),
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            ParquetError::External(inner) => match inner.downcast_ref::<object_store::Error>() {
                Some(store) => of_store(store),
                None => Error::storage(first_line(&inner.to_string())),
            },
            other => parquet(other),
        },
        DataFusionError::IoError(inner) => Error::storage(inner.to_string()),
        DataFusionError::ResourcesExhausted(m) => Error::new(Kind::ResourcesExhausted, first_line(m))
            .with_hint("ask for less at once, or give the server more: memory in [limits]"),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::SQL(parser, _) => syntax(&parser.to_string()),
        DataFusionError::SchemaError(schema, _) => schema_error(schema),
        DataFusionError::NotImplemented(m) => Error::not_supported(plain(m)),
        DataFusionError::Configuration(m) => Error::invalid_input(plain(m)),
        DataFusionError::Plan(m) => planning(m),
        DataFusionError::Execution(m) => match by_words(&plain(m)) {
            Some(kind) => Error::new(kind, plain(m)),
            None => Error::invalid_input(plain(m)),
        },
        DataFusionError::Internal(m) => match by_words(&plain(m)) {
            // The engine takes some of what a user writes for a mistake of its own.
            Some(kind) => Error::new(kind, plain(m)),
            None => Error::internal(plain(m)),
        },
        other => Error::internal(first_line(&other.to_string())),
    }
}

fn arrow(e: &ArrowError) -> Error {
    match e {
        ArrowError::DivideByZero => Error::new(Kind::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(m) => Error::new(Kind::OutOfRange, plain(m)),
        ArrowError::CastError(m) | ArrowError::InvalidArgumentError(m) if is_out_of_range(m) => {
            Error::new(Kind::OutOfRange, plain(m))
        }
        ArrowError::CastError(m) | ArrowError::ParseError(m) => Error::invalid_value(plain(m)),
        ArrowError::InvalidArgumentError(m) | ArrowError::ComputeError(m) => Error::invalid_input(plain(m)),
        ArrowError::NotYetImplemented(m) => Error::not_supported(plain(m)),
        // The spill folder's bound comes as an error of its file.
        ArrowError::IoError(m, _) if m.contains("used disk space during the spilling") => {
            Error::new(Kind::ResourcesExhausted, "queries spill more bytes than they may together")
                .with_hint("ask for less at once, or allow more: spill in [limits]")
        }
        ArrowError::IoError(m, _) => Error::storage(plain(m)),
        ArrowError::OffsetOverflowError(_) | ArrowError::MemoryError(_) => {
            Error::new(Kind::ResourcesExhausted, plain(&e.to_string()))
        }
        other => Error::internal(plain(&other.to_string())),
    }
}

/// A file that cannot be read, or a store that did not give it: of footers the engine says which only in words.
fn parquet(e: &ParquetError) -> Error {
    let message = e.to_string();
    let kind = if message.contains("Object Store error: ") { Kind::Storage } else { Kind::Corrupt };
    Error::new(kind, lower_first(first_line(&message)))
}

/// A column that is not there, or there twice.
fn schema_error(e: &SchemaError) -> Error {
    match e {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let relation = field.relation.as_ref().map(|r| r.table());
            let of = |column: &Column| column.relation.as_ref().map(|r| r.table().to_owned());
            if let Some(relation) = relation
                && !valid_fields.iter().any(|valid| of(valid).as_deref() == Some(relation))
            {
                let known: Vec<String> = valid_fields.iter().filter_map(of).collect();
                let error = Error::undefined_table(format!("table '{relation}' is not in FROM"));
                return meant(error.with_name(relation), relation, known.iter().map(String::as_str));
            }
            let known =
                valid_fields.iter().filter(|valid| relation.is_none() || of(valid).as_deref() == relation);
            let name =
                relation.map_or_else(|| field.name.clone(), |relation| format!("{relation}.{}", field.name));
            let error = Error::undefined_column(format!("column '{name}' not found")).with_name(&name);
            meant(error, &field.name, known.map(|valid| valid.name.as_str()))
        }
        SchemaError::AmbiguousReference { field } => Error::new(
            Kind::AmbiguousColumn,
            format!("column '{}' is in more than one of the tables", field.name),
        )
        .with_name(&field.name)
        .with_hint(format!("write the table in front of it: t.{}", field.name)),
        SchemaError::DuplicateQualifiedField { name, qualifier } => {
            let table = qualifier.table();
            Error::new(
                Kind::DuplicateAlias,
                format!("'{table}' names two tables of the statement, which both have '{name}'"),
            )
            .with_name(table)
            .with_hint(format!("give one of them another name: {table} AS other"))
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(Kind::DuplicateColumn, format!("two columns are named '{name}'"))
                .with_name(name)
                .with_hint("give one of them another name with AS")
        }
    }
}

/// Says which name was probably meant.
fn meant<'a>(e: Error, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    match nearest(name, known) {
        Some(near) => {
            let bare = near.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let near = if bare { format!("'{near}'") } else { format!("\"{near}\", in double quotes") };
            e.with_hint(format!("perhaps you meant {near}"))
        }
        None => e,
    }
}

/// The engine says what it does not know only in words.
fn planning(message: &str) -> Error {
    let first = plain(message);
    if let Some(name) = first.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        let name = name.strip_prefix("toplake.").unwrap_or(name);
        let name = name.strip_prefix("public.").unwrap_or(name);
        return Error::undefined_table(format!("table '{name}' not found")).with_name(name);
    }
    if let Some(name) = first.strip_prefix("invalid function '").and_then(|rest| rest.split('\'').next()) {
        let e = Error::new(Kind::UndefinedFunction, format!("function '{name}' not found")).with_name(name);
        let near = message.split_once("Did you mean '").and_then(|(_, near)| near.split('\'').next());
        return match near.and_then(|near| nearest(name, [near])) {
            Some(near) => e.with_hint(format!("perhaps you meant '{near}'")),
            None => e,
        };
    }
    if let Some((before, reasons)) = first.split_once("failed to match any signature")
        && let Some(name) = before.split('\'').nth(1)
    {
        let message = format!("function '{name}' does not take these arguments");
        let e = Error::new(Kind::UndefinedFunction, message).with_name(name);
        let reason = reasons
            .split("Error during planning: ")
            .nth(1)
            .map(|r| lower_first(r.trim_end_matches([',', '.'])));
        return match reason {
            Some(reason) => e.with_detail(reason),
            None => e,
        };
    }
    Error::new(by_words(&first).unwrap_or(Kind::InvalidInput), first)
}

/// What messages of the engine mean, by words that they have.
const WORDS: &[(&str, Kind)] = &[
    ("must appear in the group by clause", Kind::Grouping),
    ("must be in group by", Kind::Grouping),
    ("aggregate functions are not allowed", Kind::Grouping),
    ("nested aggregate", Kind::Grouping),
    ("no function matches", Kind::UndefinedFunction),
    ("to satisfy a call to", Kind::UndefinedFunction),
    ("there is no window function", Kind::UndefinedFunction),
    ("cannot coerce arithmetic expression", Kind::UndefinedFunction),
    ("cannot infer common", Kind::UndefinedFunction),
    ("failed to coerce types", Kind::DatatypeMismatch),
    ("type coercion", Kind::DatatypeMismatch),
    ("requires a boolean expression", Kind::DatatypeMismatch),
    ("only supports signed numeric", Kind::DatatypeMismatch),
    ("cannot create filter with non-boolean", Kind::DatatypeMismatch),
    ("column count doesn't match", Kind::Syntax),
    ("inconsistent data length across values", Kind::Syntax),
    ("have different number of columns", Kind::Syntax),
    ("names given as column alias", Kind::InvalidColumnReference),
    ("column out of bounds", Kind::InvalidColumnReference),
    ("cannot find column with position", Kind::InvalidColumnReference),
    ("for select distinct, order by expressions", Kind::InvalidColumnReference),
    ("specified more than once", Kind::DuplicateAlias),
    ("unique expression names", Kind::DuplicateColumn),
    ("ambiguous reference", Kind::AmbiguousColumn),
    ("placeholder", Kind::UndefinedParameter),
    ("overflow", Kind::OutOfRange),
    ("out of range", Kind::OutOfRange),
    ("divide by zero", Kind::DivisionByZero),
    ("division by zero", Kind::DivisionByZero),
    ("resources exhausted", Kind::ResourcesExhausted),
    ("not supported", Kind::NotSupported),
    ("not yet supported", Kind::NotSupported),
    ("not implemented", Kind::NotSupported),
    ("unsupported", Kind::NotSupported),
];

fn by_words(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| *kind)
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

/// A message on one line, with SQL's names of types.
fn plain(message: &str) -> String {
    lower_first(&in_sql(first_line(message)))
}

/// What SQL calls the types of columns.
const TYPES: &[(&str, &str)] = &[
    ("Utf8View", "VARCHAR"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("Float32", "REAL"),
    ("Float64", "DOUBLE"),
    ("Boolean", "BOOLEAN"),
    ("Date32", "DATE"),
    ("Decimal128", "DECIMAL"),
    ("Decimal256", "DECIMAL"),
    ("BinaryView", "BYTEA"),
    ("LargeBinary", "BYTEA"),
    ("Timestamp", "TIMESTAMP"),
];

/// The same with names of types that people know; what stands in quotes is somebody's own.
fn in_sql(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut quoted = false;
    for (i, part) in message.split('\'').enumerate() {
        if i > 0 {
            // That of "can't" opens nothing.
            quoted = !quoted && !out.ends_with(char::is_alphanumeric);
            out.push('\'');
        }
        if quoted {
            out.push_str(part);
            continue;
        }
        let mut rest = part;
        while let Some(begin) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            let end = rest[begin..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let end = end.map_or(rest.len(), |end| begin + end);
            let word = &rest[begin..end];
            out.push_str(&rest[..begin]);
            out.push_str(TYPES.iter().find(|(name, _)| *name == word).map_or(word, |(_, sql)| sql));
            rest = &rest[end..];
        }
        out.push_str(rest);
    }
    out.replace("TIMESTAMP(µs, \"UTC\")", "TIMESTAMPTZ")
        .replace("TIMESTAMP(µs)", "TIMESTAMP")
        .replace("TIMESTAMP(ns)", "TIMESTAMP")
}

pub(super) fn first_line(s: &str) -> &str {
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

    #[test]
    fn types_have_the_names_that_people_know() {
        let e: Error = DataFusionError::Plan(
            "Cannot coerce arithmetic expression Utf8View + Int64 to valid types\nand more".into(),
        )
        .into();
        assert_eq!(e.message(), "cannot coerce arithmetic expression VARCHAR + BIGINT to valid types");
        assert_eq!(e.kind().sqlstate(), "42883");
        assert_eq!(in_sql("can't be 'Utf8' of Int8"), "can't be 'Utf8' of TINYINT");
        assert_eq!(in_sql("no 'Int64' as Decimal128(18, 4)_x"), "no 'Int64' as DECIMAL(18, 4)_x");
    }

    #[test]
    fn a_name_that_is_not_there_has_its_like() {
        let column = |relation: &str, name: &str| Column::new(Some(relation), name);
        let missing = |field: Column| -> Error {
            let valid_fields = vec![column("t", "quantity"), column("u", "Name")];
            let e = SchemaError::FieldNotFound { field: Box::new(field), valid_fields };
            DataFusionError::SchemaError(Box::new(e), Box::new(None)).into()
        };
        let e = missing(Column::new_unqualified("quantiti"));
        assert_eq!(
            (e.message(), e.hint()),
            ("column 'quantiti' not found", Some("perhaps you meant 'quantity'"))
        );
        let e = missing(column("u", "name"));
        assert_eq!(
            (e.name(), e.hint()),
            (Some("u.name"), Some("perhaps you meant \"Name\", in double quotes"))
        );
        let e = missing(column("x", "quantity"));
        assert_eq!((e.kind(), e.message()), (Kind::UndefinedTable, "table 'x' is not in FROM"));
    }
}
