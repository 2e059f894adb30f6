//! The settings of a session that PostgreSQL's clients read and set: `SET`, `SHOW`, `RESET`, `ParameterStatus`.
//!
//! A setting that we cannot honour refuses the values that would matter (`standard_conforming_strings = off`), so
//! nobody gets an answer in a form other than the one they asked for. Names that are not in the [`TABLE`] are the
//! engine's.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;
use parking_lot::RwLock;

use super::error::{Failure, state};

/// The PostgreSQL that we speak as. Clients choose their catalog queries by it.
pub const SERVER_VERSION: &str = "15.0";
const SERVER_VERSION_NUM: &str = "150000";

/// What values a setting takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Anything,
    Bool,
    Integer(i64, i64),
    /// Milliseconds, or a number with a unit.
    Duration,
    /// These words, in the spelling to keep.
    OneOf(&'static [&'static str]),
    DateStyle,
    TimeZone,
    Encoding,
    Isolation,
    /// Cannot be set.
    Nothing,
}

/// A setting: name, value at the start, what it takes, whether clients are told of changes.
struct Setting(&'static str, &'static str, Takes, bool);

const fn fixed(name: &'static str, value: &'static str) -> Setting {
    Setting(name, value, Takes::Nothing, false)
}

const fn told(name: &'static str, value: &'static str) -> Setting {
    Setting(name, value, Takes::Nothing, true)
}

const fn free(name: &'static str, value: &'static str, takes: Takes) -> Setting {
    Setting(name, value, takes, false)
}

/// Every setting of the front end.
static TABLE: &[Setting] = &[
    Setting("application_name", "", Takes::Anything, true),
    free("bytea_output", "hex", Takes::OneOf(&["hex"])),
    fixed("block_size", "8192"),
    free("check_function_bodies", "on", Takes::Bool),
    Setting("client_encoding", "UTF8", Takes::Encoding, true),
    free("client_min_messages", "notice", Takes::Anything),
    Setting("DateStyle", "ISO, MDY", Takes::DateStyle, true),
    free("default_table_access_method", "heap", Takes::Anything),
    free("default_tablespace", "", Takes::Anything),
    free("default_transaction_deferrable", "off", Takes::Bool),
    free("default_transaction_isolation", "read committed", Takes::Isolation),
    Setting("default_transaction_read_only", "off", Takes::Bool, true),
    free("escape_string_warning", "on", Takes::Bool),
    // Floats are always written so that they can be read back exactly.
    free("extra_float_digits", "1", Takes::Integer(-15, 3)),
    free("geqo", "on", Takes::Bool),
    free("idle_in_transaction_session_timeout", "0", Takes::Duration),
    free("idle_session_timeout", "0", Takes::Duration),
    told("in_hot_standby", "off"),
    told("integer_datetimes", "on"),
    Setting("IntervalStyle", "postgres", Takes::OneOf(&["postgres"]), true),
    told("is_superuser", "on"),
    free("jit", "off", Takes::Bool),
    fixed("lc_collate", "C"),
    fixed("lc_ctype", "C"),
    free("lc_messages", "C", Takes::Anything),
    free("lc_monetary", "C", Takes::Anything),
    free("lc_numeric", "C", Takes::Anything),
    free("lc_time", "C", Takes::Anything),
    free("lock_timeout", "0", Takes::Duration),
    fixed("max_identifier_length", "63"),
    fixed("max_index_keys", "32"),
    free("quote_all_identifiers", "off", Takes::Bool),
    free("role", "none", Takes::OneOf(&["none"])),
    free("row_security", "on", Takes::Bool),
    free("search_path", "\"$user\", public", Takes::Anything),
    told("server_encoding", "UTF8"),
    told("server_version", SERVER_VERSION),
    fixed("server_version_num", SERVER_VERSION_NUM),
    told("session_authorization", ""),
    fixed("ssl", "off"),
    Setting("standard_conforming_strings", "on", Takes::OneOf(&["on"]), true),
    free("statement_timeout", "0", Takes::Duration),
    free("synchronize_seqscans", "on", Takes::Bool),
    free("synchronous_commit", "on", Takes::Anything),
    Setting("TimeZone", "UTC", Takes::TimeZone, true),
    free("transaction_deferrable", "off", Takes::Bool),
    free("transaction_isolation", "read committed", Takes::Isolation),
    free("transaction_read_only", "off", Takes::Bool),
    free("transaction_timeout", "0", Takes::Duration),
    free("xmloption", "content", Takes::Anything),
];

/// What `pg_settings` says of a setting.
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) setting: String,
    /// The value of a server that nobody has configured.
    pub(super) boot: String,
    /// What `RESET` goes back to.
    pub(super) reset: String,
    pub(super) unit: Option<&'static str>,
    pub(super) context: &'static str,
    pub(super) vartype: &'static str,
    /// Of a number.
    pub(super) range: Option<(i64, i64)>,
    /// Of a setting that takes one of these.
    pub(super) words: Option<&'static [&'static str]>,
}

/// A type by PostgreSQL's name, a range, words.
type Kind = (&'static str, Option<(i64, i64)>, Option<&'static [&'static str]>);

impl Setting {
    /// What PostgreSQL calls the type of its values, their range, and the words that it takes.
    fn kind(&self) -> Kind {
        match self.2 {
            Takes::Bool => ("bool", None, None),
            Takes::Integer(low, high) => ("integer", Some((low, high)), None),
            Takes::Duration => ("integer", Some((0, i64::from(i32::MAX))), None),
            Takes::OneOf(words) if words == ["on"] => ("bool", None, None),
            Takes::OneOf(words) => ("enum", None, Some(words)),
            Takes::Isolation => ("enum", None, Some(&ISOLATION)),
            Takes::Nothing if matches!(self.1, "on" | "off") => ("bool", None, None),
            Takes::Nothing if self.1.parse::<i64>().is_ok() => ("integer", None, None),
            _ => ("string", None, None),
        }
    }
}

/// Levels of isolation by name.
const ISOLATION: [&str; 4] = ["serializable", "repeatable read", "read committed", "read uncommitted"];

/// The settings of one session. Shared with the functions and catalog tables of its session.
#[derive(Debug)]
pub struct Settings {
    values: RwLock<Values>,
}

/// By the lower-case name.
type Map = BTreeMap<String, String>;

#[derive(Debug, Clone)]
struct Values {
    /// What `RESET` goes back to.
    start: Map,
    now: Map,
    /// Values for this transaction only: what to go back to at its end.
    local: Map,
    /// The values at the beginning of the transaction.
    begun: Option<Map>,
}

/// A setting that changed and that the client has to be told.
pub(super) type Report = (&'static str, String);

impl Settings {
    /// The settings of a new session of a user who may do everything.
    pub fn new(user: &str) -> Self {
        Self::of(user, true, false)
    }

    /// The settings of a new session, and what they say of it: whether its user may do everything, and whether nobody
    /// else can read what it sends.
    pub(super) fn of(user: &str, superuser: bool, encrypted: bool) -> Self {
        let mut start: Map = TABLE.iter().map(|s| (s.0.to_lowercase(), s.1.to_owned())).collect();
        let word = |on| if on { "on" } else { "off" }.to_owned();
        start.insert("session_authorization".to_owned(), user.to_owned());
        start.insert("is_superuser".to_owned(), word(superuser));
        start.insert("ssl".to_owned(), word(encrypted));
        Settings { values: RwLock::new(Values { now: start.clone(), start, local: Map::new(), begun: None }) }
    }

    /// Whether it is one of ours.
    pub fn knows(name: &str) -> bool {
        find(name).is_some()
    }

    /// A value, as SHOW shows it. Names are not case-sensitive.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.read().now.get(&name.to_lowercase()).cloned()
    }

    /// Every setting, by its name as PostgreSQL spells it.
    pub fn all(&self) -> Vec<(&'static str, String)> {
        TABLE.iter().map(|s| (s.0, self.get(s.0).unwrap_or_default())).collect()
    }

    /// What `pg_settings` says of each.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let values = self.values.read();
        let shown = TABLE.iter().map(|setting| {
            let key = setting.0.to_lowercase();
            let of = |map: &Map| map.get(&key).cloned().unwrap_or_default();
            // Durations are numbers of a unit there.
            let number = |text: String| match setting.2 {
                Takes::Duration => milliseconds(&text).map_or(text, |ms| ms.to_string()),
                _ => text,
            };
            let (vartype, range, words) = setting.kind();
            Shown {
                name: setting.0,
                setting: number(of(&values.now)),
                boot: number(setting.1.to_owned()),
                reset: number(of(&values.start)),
                unit: matches!(setting.2, Takes::Duration).then_some("ms"),
                context: if matches!(setting.2, Takes::Nothing) { "internal" } else { "user" },
                vartype,
                range,
                words,
            }
        });
        shown.collect()
    }

    /// The time zone of timestamps in text form.
    pub fn time_zone(&self) -> Tz {
        self.get("timezone").and_then(|name| Tz::from_str(&name).ok()).unwrap_or(Tz::UTC)
    }

    /// The schemas that a bare name is looked for in.
    pub fn search_path(&self) -> Vec<String> {
        let path = self.get("search_path").unwrap_or_default();
        path.split(',').map(|s| s.trim().trim_matches('"').to_owned()).filter(|s| !s.is_empty()).collect()
    }

    /// How long a statement may take; none is forever.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.duration("statement_timeout")
    }

    /// A time that something may take; none is forever.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let ms = milliseconds(&self.get(name)?)?;
        (ms > 0).then(|| Duration::from_millis(ms.unsigned_abs()))
    }

    /// What clients are told at the start.
    pub(super) fn reports(&self) -> Vec<Report> {
        TABLE.iter().filter(|s| s.3).map(|s| (s.0, self.get(s.0).unwrap_or_default())).collect()
    }

    /// Sets it, to the value at the start when there is none given.
    pub(super) fn set(
        &self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<Option<Report>, Failure> {
        let setting = find(name).ok_or_else(|| unknown(name))?;
        let key = setting.0.to_lowercase();
        let value = match value {
            Some(value) => check(setting, value)?,
            None => self.values.read().start.get(&key).cloned().unwrap_or_default(),
        };
        let mut values = self.values.write();
        let before = values.now.insert(key.clone(), value.clone());
        if local {
            values.local.entry(key).or_insert(before.clone().unwrap_or_default());
        } else {
            values.local.remove(&key);
        }
        Ok((setting.3 && before.as_deref() != Some(&value)).then_some((setting.0, value)))
    }

    /// A value that the client gave when it connected; `RESET` comes back to it.
    pub(super) fn start_with(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.set(name, Some(value), false)?;
        let mut values = self.values.write();
        if let Some(now) = values.now.get(&name.to_lowercase()).cloned() {
            values.start.insert(name.to_lowercase(), now);
        }
        Ok(())
    }

    /// All back to the start.
    pub(super) fn reset_all(&self) -> Vec<Report> {
        let start = self.values.read().start.clone();
        self.replace(start)
    }

    /// A transaction begins: what is set in it is undone if it fails.
    pub(super) fn begin(&self) {
        let mut values = self.values.write();
        values.begun = Some(values.now.clone());
        values.local.clear();
    }

    /// A transaction ends.
    pub(super) fn end(&self, committed: bool) -> Vec<Report> {
        let (begun, mut now, local) = {
            let mut values = self.values.write();
            (values.begun.take(), values.now.clone(), std::mem::take(&mut values.local))
        };
        match begun {
            Some(begun) if !committed => self.replace(begun),
            _ => {
                now.extend(local);
                self.replace(now)
            }
        }
    }

    fn replace(&self, with: Map) -> Vec<Report> {
        let before = std::mem::replace(&mut self.values.write().now, with);
        TABLE
            .iter()
            .filter(|s| s.3)
            .filter_map(|s| {
                let now = self.get(s.0).unwrap_or_default();
                (before.get(&s.0.to_lowercase()) != Some(&now)).then_some((s.0, now))
            })
            .collect()
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|s| s.0.eq_ignore_ascii_case(name))
}

/// The error for a name that nobody knows.
pub(super) fn unknown(name: &str) -> Failure {
    Failure::new(state::UNDEFINED_SETTING, format!("unrecognized configuration parameter \"{name}\""))
}

/// The value as it is kept.
fn check(setting: &Setting, value: &str) -> Result<String, Failure> {
    let name = setting.0;
    let invalid = || {
        Failure::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
    };
    match setting.2 {
        Takes::Anything => Ok(value.to_owned()),
        Takes::Nothing => {
            Err(Failure::new(state::CANNOT_CHANGE, format!("parameter \"{name}\" cannot be changed")))
        }
        Takes::Bool => match value.to_lowercase().as_str() {
            "on" | "true" | "t" | "yes" | "y" | "1" => Ok("on".to_owned()),
            "off" | "false" | "f" | "no" | "n" | "0" => Ok("off".to_owned()),
            _ => Err(invalid()),
        },
        Takes::Integer(low, high) => {
            let n: i64 = value.parse().map_err(|_| invalid())?;
            if !(low..=high).contains(&n) {
                return Err(Failure::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("{n} is outside the valid range for parameter \"{name}\" ({low} .. {high})"),
                ));
            }
            Ok(n.to_string())
        }
        Takes::Duration => {
            let ms = milliseconds(value).filter(|ms| *ms >= 0).ok_or_else(invalid)?;
            let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
            Ok(match units.into_iter().find(|(unit, _)| ms > 0 && ms % unit == 0) {
                Some((unit, name)) => format!("{}{name}", ms / unit),
                None => "0".to_owned(),
            })
        }
        Takes::OneOf(words) => {
            let word = words.iter().find(|w| w.eq_ignore_ascii_case(value));
            let word = word.or_else(|| {
                // `true` and `1` are ways to say `on`.
                let on = matches!(value.to_lowercase().as_str(), "true" | "1" | "yes");
                words.iter().find(|w| on && **w == "on")
            });
            let hint = || format!("it can only be {}", words.join(", "));
            word.map(|w| (*w).to_owned()).ok_or_else(|| invalid().with_hint(hint()))
        }
        Takes::Isolation => {
            let level = ISOLATION.into_iter().find(|l| l.eq_ignore_ascii_case(value));
            level.map(str::to_owned).ok_or_else(invalid)
        }
        // Of a name only letters and digits count; some drivers send quotes with it.
        Takes::Encoding => {
            match value.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "").as_str() {
                "utf8" | "unicode" | "auto" => Ok("UTF8".to_owned()),
                _ => Err(invalid().with_hint("the only encoding is UTF8")),
            }
        }
        Takes::DateStyle => {
            let mut order = "MDY";
            for word in value.split([',', ' ']).filter(|w| !w.is_empty()) {
                match word.to_lowercase().as_str() {
                    "iso" => {}
                    "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
                    "dmy" | "euro" | "european" => order = "DMY",
                    "ymd" => order = "YMD",
                    _ => return Err(invalid().with_hint("dates are written in the ISO style only")),
                }
            }
            Ok(format!("ISO, {order}"))
        }
        Takes::TimeZone => {
            let zone = match value.to_lowercase().as_str() {
                "default" | "gmt" | "z" | "0" | "+00" | "+00:00" | "utc" | "etc/utc" => Some(Tz::UTC),
                _ => Tz::from_str(value).ok().or_else(|| {
                    chrono_tz::TZ_VARIANTS.into_iter().find(|z| z.name().eq_ignore_ascii_case(value))
                }),
            };
            zone.map(|z| z.name().to_owned())
                .ok_or_else(|| invalid().with_hint("use a name of the IANA database, like Europe/Berlin"))
        }
    }
}

/// A number of milliseconds, or a number with a unit.
fn milliseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '-' | '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1e3,
        "min" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        _ => return None,
    };
    let ms = (number * unit).round();
    (ms.abs() <= f64::from(i32::MAX)).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_and_kept_as_postgres_shows_it() {
        let settings = Settings::new("me");
        for (name, value, shown) in [
            ("statement_timeout", "5000", Some("5s")),
            ("statement_timeout", "1.5 min", Some("90s")),
            ("statement_timeout", "0", Some("0")),
            ("statement_timeout", "-1", None),
            ("statement_timeout", "soon", None),
            ("datestyle", "iso, dmy", Some("ISO, DMY")),
            ("datestyle", "German", None),
            ("timezone", "europe/berlin", Some("Europe/Berlin")),
            ("timezone", "Mars/Base", None),
            ("client_encoding", "'utf-8'", Some("UTF8")),
            ("client_encoding", "utf-8", Some("UTF8")),
            ("client_encoding", "LATIN1", None),
            ("standard_conforming_strings", "off", None),
            ("standard_conforming_strings", "true", Some("on")),
            ("extra_float_digits", "3", Some("3")),
            ("extra_float_digits", "4", None),
            ("server_version", "9", None),
        ] {
            let set = settings.set(name, Some(value), false);
            assert_eq!(set.is_ok(), shown.is_some(), "{name} = {value}");
            if let Some(shown) = shown {
                assert_eq!(settings.get(name).as_deref(), Some(shown), "{name} = {value}");
            }
        }
    }

    #[test]
    fn a_rollback_takes_settings_back() {
        let settings = Settings::new("me");
        settings.begin();
        settings.set("application_name", Some("a"), false).unwrap();
        assert_eq!(settings.end(false), [("application_name", String::new())]);
        settings.begin();
        settings.set("application_name", Some("b"), false).unwrap();
        settings.set("TimeZone", Some("Asia/Tokyo"), true).unwrap();
        assert_eq!(settings.end(true), [("TimeZone", "UTC".to_owned())]);
        assert_eq!(settings.get("application_name").unwrap(), "b");
    }

    #[test]
    fn reset_goes_back_to_what_the_client_connected_with() {
        let settings = Settings::new("me");
        settings.start_with("application_name", "psql").unwrap();
        settings.set("application_name", Some("x"), false).unwrap();
        assert_eq!(settings.reset_all(), [("application_name", "psql".to_owned())]);
    }
}
