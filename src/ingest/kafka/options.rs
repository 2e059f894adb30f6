//! What a pipeline consumes and how.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::catalog::options::micros;
use crate::error::{Error, Result};
use crate::ingest::error_rate::ErrorRate;
use crate::ingest::guards::{Dedup, GuardOptions, MaxPerKey};

/// A pipeline: topics of one Kafka cluster into one table. One `[[ingest]]` of `toplake.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What it is called, in the log, in `toplake.pipelines` and for `CALL resume`; without it the table's name.
    pub name: Option<String>,
    /// The table that the rows go into.
    pub table: String,
    /// Where the cluster is: `host:port,…`.
    pub brokers: String,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group, whose members share the partitions; without it `toplake-<table>`.
    pub group: Option<String>,
    /// What a message is.
    pub format: Format,
    /// What separates the fields of csv.
    pub delimiter: char,
    /// Fields of a message and their types, as in CREATE TABLE: `ts BIGINT, country VARCHAR`. Without it fields have the type
    /// that the table has for a column of their name, and are text where it has none. For csv it says their order.
    pub columns: Option<String>,
    /// One SELECT over `input` that makes the table's rows; without it fields are matched by name.
    pub transform: Option<String>,
    /// What happens to a message with a field that the table has not, where there is no transform.
    pub unknown_fields: UnknownFields,
    /// Where a topic begins of which the table has consumed nothing yet.
    pub from: From,
    /// Whether to go on behind offsets that the broker does not have any more.
    pub accept_gap: bool,
    /// Rows wait at most so long for their commit.
    #[serde(deserialize_with = "duration")]
    pub commit_interval: Duration,
    /// Messages after which a commit does not wait any longer.
    pub commit_rows: u64,
    /// Bytes of messages after which a commit does not wait any longer.
    pub commit_bytes: ByteSize,
    /// Bytes of messages that may be on their way, beside what a commit collects; beyond that the brokers wait.
    pub memory: ByteSize,
    /// A partition that is read to its end and gives nothing for so long does not hold the watermark back.
    #[serde(deserialize_with = "duration")]
    pub idle_after: Duration,
    /// A column of the table that says when a row was ingested.
    pub processing_time: Option<String>,
    /// Whether rollups made from the table directly are folded after each commit.
    pub fold: bool,
    /// How much bad input is too much.
    pub errors: ErrorRate,
    /// Columns of the table that say which event it is: of those with equal values within `dedup_window` only the first is stored.
    pub dedup_key: Vec<String>,
    /// How far apart the event times of two may be that are one.
    #[serde(deserialize_with = "duration")]
    pub dedup_window: Duration,
    /// How many events a key may have.
    pub max_per_key: Option<MaxPerKeyOption>,
    /// Bytes that what is remembered of one partition for these two may take.
    pub guard_memory: ByteSize,
    /// Properties of librdkafka, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
    /// Whether to end when what was there at the start is consumed.
    #[serde(skip)]
    pub until_end: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: None,
            table: String::new(),
            brokers: String::new(),
            topics: vec![],
            group: None,
            format: Format::Json,
            delimiter: ',',
            columns: None,
            transform: None,
            unknown_fields: UnknownFields::Ignore,
            from: From::Earliest,
            accept_gap: false,
            commit_interval: Duration::from_secs(1),
            commit_rows: 500_000,
            commit_bytes: ByteSize::mb(256),
            memory: ByteSize::mb(128),
            idle_after: Duration::from_secs(60),
            processing_time: None,
            fold: true,
            errors: ErrorRate::default(),
            dedup_key: vec![],
            dedup_window: Duration::from_secs(3600),
            max_per_key: None,
            guard_memory: ByteSize::mib(256),
            properties: BTreeMap::new(),
            until_end: false,
        }
    }
}

/// Events of a key in a bucket of event time beyond which they are suspects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPerKeyOption {
    /// The columns, such as user and ad.
    pub keys: Vec<String>,
    /// How long a bucket is.
    #[serde(deserialize_with = "duration")]
    pub per: Duration,
    /// How many events pass.
    pub limit: u64,
}

impl FromStr for MaxPerKeyOption {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid_input(format!("'{text}' is not LIMIT/DURATION/COLUMN,…"))
                .with_hint("write it as 10/1m/user_id,ad_id")
        };
        let [limit, per, keys] = text.splitn(3, '/').collect::<Vec<_>>()[..] else { return Err(bad()) };
        Ok(MaxPerKeyOption {
            keys: keys.split(',').map(|key| key.trim().to_owned()).collect(),
            per: parse_duration(per)?,
            limit: limit.trim().parse().map_err(|_| bad())?,
        })
    }
}

impl Options {
    /// What the pipeline is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.table)
    }

    /// The consumer group.
    pub fn group(&self) -> String {
        self.group.clone().unwrap_or_else(|| format!("toplake-{}", self.table))
    }

    /// What guards the table against what a producer sends twice or too often; `None` if nothing does.
    pub fn guards(&self) -> Option<GuardOptions> {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let dedup = (!self.dedup_key.is_empty())
            .then(|| Dedup { key: self.dedup_key.clone(), window: micros(self.dedup_window) });
        let max_per_key = self.max_per_key.as_ref().map(|max| MaxPerKey {
            keys: max.keys.clone(),
            per: micros(max.per),
            limit: max.limit,
        });
        let memory = usize::try_from(self.guard_memory.0).unwrap_or(usize::MAX);
        (dedup.is_some() || max_per_key.is_some()).then_some(GuardOptions { dedup, max_per_key, memory })
    }

    /// Fails where something is missing or makes no sense.
    pub fn check(&self) -> Result<()> {
        let missing = |key: &str| Err(Error::invalid_input(format!("ingest '{}': no {key}", self.name())));
        if self.table.is_empty() {
            return missing("table");
        }
        if self.brokers.is_empty() {
            return missing("brokers");
        }
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return missing("topics");
        }
        if self.commit_rows == 0 || self.commit_bytes.0 == 0 || self.memory.0 < 1 << 20 {
            return Err(Error::invalid_input(format!(
                "ingest '{}': commit_rows and commit_bytes must be more than 0, and memory at least 1 MiB",
                self.name()
            )));
        }
        if !self.delimiter.is_ascii() || ['"', '\n', '\r'].contains(&self.delimiter) {
            return Err(Error::invalid_input(format!(
                "ingest '{}': the delimiter must be one character of ASCII, not a quote or a line's end",
                self.name()
            )));
        }
        self.errors.check().map_err(|e| e.context(format!("ingest '{}'", self.name())))
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object, or an array of objects
    Json,
    /// A record, without a header
    Csv,
    /// Bytes: only key, value, topic, partition, offset, timestamp and headers are known of it
    Raw,
}

/// What happens to a message with a field that the table has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// The field is left out
    Ignore,
    /// The message is bad input
    Refuse,
}

/// Where a topic begins of which the table has consumed nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum From {
    /// With the first message that the broker has.
    Earliest,
    /// With what comes after the start.
    Latest,
    /// With the first message of this time (the broker's, in milliseconds) or later.
    Time(i64),
}

impl FromStr for From {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "earliest" => Ok(From::Earliest),
            "latest" => Ok(From::Latest),
            text => chrono::DateTime::parse_from_rfc3339(text)
                .map(|time| From::Time(time.timestamp_millis()))
                .map_err(|_| {
                    Error::invalid_input(format!("'{text}' is not earliest, latest or a time"))
                        .with_hint("write a time as 2026-11-21T12:00:00Z")
                }),
        }
    }
}

impl TryFrom<String> for From {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// `500ms`, `1s`, `15 minutes`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(_) => micros("duration", text).map(|micros| Duration::from_micros(micros as u64)),
    }
}

/// A duration in a configuration file.
pub(crate) fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_people_write_them() {
        let text = r#"
            table = "ad_clicks"
            brokers = "localhost:9092"
            topics = ["clicks"]
            from = "2026-11-21T12:00:00Z"
            commit_interval = "500ms"
            commit_bytes = "64MB"
            errors = { critical = "10%", window = "5 minutes" }
            properties = { "security.protocol" = "SASL_SSL" }
        "#;
        let options: Options = toml::from_str(text).unwrap();
        options.check().unwrap();
        assert_eq!(options.from, From::Time(1_795_262_400_000));
        assert_eq!(options.commit_interval, Duration::from_millis(500));
        assert_eq!(
            (options.commit_bytes.0, options.name(), options.group().as_str()),
            (64_000_000, "ad_clicks", "toplake-ad_clicks")
        );
        for (wrong, what) in [
            ("tabel = 'x'", "tabel"),
            ("from = 'soon'", "soon"),
            ("commit_interval = 'x'", "not a duration"),
            ("errors = { critical = '200%' }", "200%"),
        ] {
            assert!(toml::from_str::<Options>(wrong).unwrap_err().to_string().contains(what), "{wrong}");
        }
        assert!(Options::default().check().unwrap_err().message().contains("no table"));
    }
}
