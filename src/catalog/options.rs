//! The options of tables and views: `WITH (…)` in SQL, keys of the Delta configuration in the store.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::lake::event_times::{DEFAULT_LATENESS, DEFAULT_MAX_FUTURE};

/// What an object of the warehouse is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// Rows: an events table if it has a time column.
    Table,
    /// An incremental materialized view.
    Rollup,
    /// A snapshot materialized view.
    Leaderboard,
    /// A view.
    View,
    /// A table that lies elsewhere.
    External,
}

impl ObjectKind {
    const ALL: [(ObjectKind, &'static str); 5] = [
        (ObjectKind::Table, "table"),
        (ObjectKind::Rollup, "rollup"),
        (ObjectKind::Leaderboard, "leaderboard"),
        (ObjectKind::View, "view"),
        (ObjectKind::External, "external"),
    ];

    /// As it stands in the configuration.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("table", |(_, name)| name)
    }

    /// What SQL calls it.
    pub fn sql_name(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::Rollup | ObjectKind::Leaderboard => "materialized view",
            ObjectKind::View => "view",
            ObjectKind::External => "external table",
        }
    }

    /// What SQL calls one of them, for messages.
    pub fn with_article(self) -> String {
        let article = if self == ObjectKind::External { "an" } else { "a" };
        format!("{article} {}", self.sql_name())
    }

    /// Reads a configuration; a table that another writer made has no mark.
    pub fn of(configuration: &BTreeMap<String, String>) -> Self {
        let name = configuration.get(keys::KIND).map_or("table", String::as_str);
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(ObjectKind::Table, |(kind, _)| *kind)
    }
}

/// Keys of the Delta configuration.
pub mod keys {
    /// What the object is.
    pub const KIND: &str = "toplake.kind";
    /// The query of a view, or the statement of an external table.
    pub const SQL: &str = "toplake.sql";
    /// The session's time zone when the view was made.
    pub const TIME_ZONE: &str = "toplake.time_zone";
    /// Set when the table was dropped.
    pub const DROPPED: &str = "toplake.dropped";
    /// The source of a rollup: its name.
    pub const SOURCE: &str = "toplake.source";
    /// The source of a rollup: its table id.
    pub const SOURCE_ID: &str = "toplake.source_id";
    /// See [`super::TableOptions`].
    pub use crate::lake::event_times::ALLOWED_LATENESS;
    /// See [`super::TableOptions`].
    pub use crate::lake::event_times::MAX_FUTURE;
    /// See [`super::TableOptions`].
    pub use crate::lake::event_times::TIME_COLUMN;
    /// See [`super::TableOptions`].
    pub const RETENTION: &str = "toplake.retention";
    /// See [`super::TableOptions`].
    pub use crate::lake::archived::ARCHIVE;
    /// See [`super::TableOptions`].
    pub const LATE: &str = "toplake.late";
    /// Of a late table: the name of the events table that it belongs to.
    pub const LATE_OF: &str = "toplake.late_of";
    /// Seconds between refreshes of a materialized view.
    pub const REFRESH_EVERY: &str = "toplake.refresh_every";
}

/// What becomes of rows that the watermark has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Late {
    /// They are stored like all others.
    #[default]
    Accept,
    /// They go to the late table.
    Divert,
}

impl Late {
    fn from_sql(value: &str) -> Result<Self> {
        match value.to_lowercase().as_str() {
            "accept" => Ok(Late::Accept),
            "divert" => Ok(Late::Divert),
            _ => Err(Error::invalid_input(format!("late is '{value}'"))
                .with_hint("it may be 'accept' or 'divert'")),
        }
    }
}

/// Options of an events table. Durations are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// The column that says when an event counts; without one it is a plain table.
    pub time_column: Option<String>,
    /// How late an event may come and still find its bucket open (`15 minutes`).
    pub allowed_lateness: i64,
    /// How far ahead of the clock an event may lie before it is bad input (`1 hour`).
    pub max_future: i64,
    /// What becomes of rows that the watermark has passed.
    pub late: Late,
    /// How far behind the watermark events are kept; for ever if `None`.
    pub retention: Option<i64>,
    /// The address of the Delta table that takes in events which are past their retention.
    pub archive: Option<String>,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            time_column: None,
            allowed_lateness: DEFAULT_LATENESS,
            max_future: DEFAULT_MAX_FUTURE,
            late: Late::Accept,
            retention: None,
            archive: None,
        }
    }
}

impl TableOptions {
    /// Reads the options of `WITH (…)`; an unknown key is an error.
    pub fn from_sql(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut read = TableOptions::default();
        for (key, value) in options {
            read.set(key, Some(value))?;
        }
        if read.time_column.is_none()
            && let Some(key) = options.keys().find(|k| *k != "time_column")
        {
            return Err(Error::invalid_input(format!("{key} needs a time_column")));
        }
        read.checked()
    }

    /// These with others; `None` is the default. An unknown key, and one that cannot change, is an error.
    pub fn altered(&self, options: &BTreeMap<String, Option<String>>) -> Result<Self> {
        let mut altered = self.clone();
        for (key, value) in options {
            if key == "time_column" {
                return Err(Error::not_supported("time_column cannot be altered").with_hint(
                    "rollups, the watermark and retention go by it; INSERT the rows into a new table",
                ));
            }
            altered.set(key, value.as_deref())?;
            if self.time_column.is_none() {
                return Err(Error::invalid_input(format!("{key} needs a time_column")));
            }
        }
        altered.checked()
    }

    /// Sets one option, or gives it its default.
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let defaults = TableOptions::default();
        let time = |otherwise| value.map_or(Ok(otherwise), |value| micros(key, value));
        match key {
            "time_column" => self.time_column = value.map(str::to_owned),
            "allowed_lateness" => self.allowed_lateness = time(defaults.allowed_lateness)?,
            "max_future" => self.max_future = time(defaults.max_future)?,
            "late" => self.late = value.map_or(Ok(defaults.late), Late::from_sql)?,
            "retention" => self.retention = value.map(|value| micros(key, value)).transpose()?,
            "archive" => self.archive = value.map(archive_address).transpose()?,
            _ => {
                return Err(unknown(
                    key,
                    "time_column, allowed_lateness, max_future, late, retention, archive",
                ));
            }
        }
        Ok(())
    }

    /// What needs another option has it.
    fn checked(self) -> Result<Self> {
        if self.archive.is_some() && self.retention.is_none() {
            return Err(Error::invalid_input("archive needs a retention")
                .with_hint("retention = '90 days' says how long events stay before they are archived"));
        }
        Ok(self)
    }

    /// Reads a Delta configuration.
    pub fn from_configuration(configuration: &BTreeMap<String, String>) -> Self {
        let defaults = TableOptions::default();
        let number =
            |key: &str, default: i64| configuration.get(key).and_then(|v| v.parse().ok()).unwrap_or(default);
        TableOptions {
            time_column: configuration.get(keys::TIME_COLUMN).cloned(),
            allowed_lateness: number(keys::ALLOWED_LATENESS, defaults.allowed_lateness),
            max_future: number(keys::MAX_FUTURE, defaults.max_future),
            late: match configuration.get(keys::LATE).map(String::as_str) {
                Some("divert") => Late::Divert,
                _ => Late::Accept,
            },
            retention: configuration.get(keys::RETENTION).and_then(|v| v.parse().ok()),
            archive: configuration.get(keys::ARCHIVE).cloned(),
        }
    }

    /// Puts these into a Delta configuration, in the place of those that are there.
    pub fn write(&self, configuration: &mut BTreeMap<String, String>) {
        for key in [keys::ALLOWED_LATENESS, keys::MAX_FUTURE, keys::LATE, keys::RETENTION, keys::ARCHIVE] {
            configuration.remove(key);
        }
        configuration.extend(self.to_configuration());
        if self.time_column.is_none()
            && let Some(retention) = self.retention
        {
            configuration.insert(keys::RETENTION.to_owned(), retention.to_string());
        }
    }

    /// As it stands in the Delta configuration.
    pub fn to_configuration(&self) -> Vec<(String, String)> {
        let mut configuration = vec![(keys::KIND.to_owned(), ObjectKind::Table.as_str().to_owned())];
        if let Some(column) = &self.time_column {
            configuration.push((keys::TIME_COLUMN.to_owned(), column.clone()));
            configuration.push((keys::ALLOWED_LATENESS.to_owned(), self.allowed_lateness.to_string()));
            configuration.push((keys::MAX_FUTURE.to_owned(), self.max_future.to_string()));
            if self.late == Late::Divert {
                configuration.push((keys::LATE.to_owned(), "divert".to_owned()));
            }
            configuration
                .extend(self.retention.map(|micros| (keys::RETENTION.to_owned(), micros.to_string())));
            configuration.extend(self.archive.clone().map(|url| (keys::ARCHIVE.to_owned(), url)));
        }
        configuration
    }
}

/// How a materialized view is kept up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RefreshMode {
    /// Incremental if the query is a rollup, else a snapshot.
    #[default]
    Auto,
    /// Incremental, or an error.
    Incremental,
    /// Recomputed whole.
    Snapshot,
}

/// Options of a materialized view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// Incremental or snapshot.
    pub refresh_mode: RefreshMode,
    /// Microseconds between refreshes by a server; `None` leaves it to the server's default.
    pub refresh_every: Option<i64>,
}

impl ViewOptions {
    /// Reads the options of `WITH (…)`; an unknown key is an error.
    pub fn from_sql(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut read = ViewOptions::default();
        for (key, value) in options {
            match key.as_str() {
                "refresh_mode" => {
                    read.refresh_mode = match value.to_lowercase().as_str() {
                        "auto" => RefreshMode::Auto,
                        "incremental" => RefreshMode::Incremental,
                        "snapshot" => RefreshMode::Snapshot,
                        _ => {
                            return Err(Error::invalid_input(format!("refresh_mode is '{value}'"))
                                .with_hint("it may be 'auto', 'incremental' or 'snapshot'"));
                        }
                    }
                }
                "refresh_every" => read.refresh_every = Some(micros(key, value)?),
                _ => return Err(unknown(key, "refresh_mode, refresh_every")),
            }
        }
        Ok(read)
    }
}

fn unknown(key: &str, known: &str) -> Error {
    Error::invalid_input(format!("unknown option '{key}'")).with_hint(format!("known options are {known}"))
}

/// An address that means the same to every process: not a path that depends on where one is.
fn archive_address(value: &str) -> Result<String> {
    if value.contains("://") || std::path::Path::new(value).is_absolute() {
        return Ok(value.to_owned());
    }
    Err(Error::invalid_input(format!("archive is '{value}', which is a relative path"))
        .with_hint("write it as s3://bucket/prefix, file:///folder or /folder"))
}

/// A duration such as `15 minutes`, in microseconds; must be positive, and without months, whose length varies.
pub fn micros(key: &str, value: &str) -> Result<i64> {
    let bad = || {
        Error::invalid_input(format!("{key} is '{value}', which is not a duration"))
            .with_hint("write it as '15 minutes', '1 hour' or '90 days'")
    };
    let parsed = datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano(value)
        .map_err(|_| bad())?;
    let micros = i64::from(parsed.days) * 86_400_000_000 + parsed.nanoseconds / 1000;
    if parsed.months != 0 || micros < 0 { Err(bad()) } else { Ok(micros) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(micros("k", "15 minutes").unwrap(), 900_000_000);
        assert_eq!(micros("k", "90 days").unwrap(), 90 * 86_400_000_000);
        assert!(micros("k", "1 month").is_err() && micros("k", "soon").is_err());
    }

    #[test]
    fn unknown_options_are_named() {
        let options = BTreeMap::from([("time_colum".to_owned(), "t".to_owned())]);
        assert!(TableOptions::from_sql(&options).unwrap_err().message().contains("time_colum"));
    }
}
