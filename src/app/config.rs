//! `toplake.toml`: what a server is told once rather than at each start. A flag or variable of the same name wins.

use std::net::SocketAddr;

use serde::Deserialize;

use super::cluster::ClusterOptions;
use super::limits::LimitOptions;
use super::security::{TlsOptions, UserEntry};
use super::serve::HttpAddress;
use super::sql_jobs::SqlJob;
use super::token::TokenEntry;
use crate::error::{Error, Result};
use crate::ingest::kafka::options::Options;

/// The file. Unknown keys are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    /// Where the warehouse lies.
    pub(super) warehouse: Option<String>,
    /// Where PostgreSQL clients connect.
    pub(super) listen: Option<SocketAddr>,
    /// Where HTTP listens.
    pub(super) http: Option<HttpAddress>,
    /// Seconds between refreshes.
    pub(super) refresh_every: Option<f64>,
    /// Seconds between compactions.
    pub(super) upkeep_every: Option<f64>,
    /// Seconds between retention and vacuum.
    pub(super) retention_every: Option<f64>,
    /// Seconds between audits.
    pub(super) audit_every: Option<f64>,
    /// Encryption.
    pub(super) tls: TlsOptions,
    /// Who may connect.
    pub(super) users: Vec<UserEntry>,
    /// Who may ask by HTTP.
    pub(super) tokens: Vec<TokenEntry>,
    /// Seconds after which whoever is behind makes the server not ready.
    pub(super) max_lag: Option<f64>,
    /// Scripts that run on a schedule.
    pub(super) jobs: Vec<SqlJob>,
    /// Where admins may read and write outside of the warehouse.
    pub(super) allowed_locations: Option<Vec<String>>,
    /// What clients may take.
    pub(super) limits: LimitOptions,
    /// The workers that large queries are spread over.
    pub(super) cluster: ClusterOptions,
    /// What the server consumes.
    pub(super) ingest: Vec<Options>,
}

impl Config {
    /// Reads it.
    pub(super) fn read(path: &str) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::invalid_input(format!("cannot read '{path}': {e}")))?;
        let config: Config = toml::from_str(&text)
            .map_err(|e| Error::invalid_input(format!("'{path}': {}", e.to_string().trim_end())))?;
        config.limits.check().map_err(|e| e.context(format!("'{path}'")))?;
        for options in &config.ingest {
            options.check().map_err(|e| e.context(format!("'{path}'")))?;
        }
        let name = |options: &Options| options.name().to_owned();
        for (i, options) in config.ingest.iter().enumerate() {
            if config.ingest[..i].iter().any(|other| name(other) == name(options)) {
                return Err(Error::invalid_input(format!(
                    "'{path}': two [[ingest]] are called '{}'",
                    name(options)
                ))
                .with_hint("give each a name of its own"));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toplake.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(path.to_str().unwrap())
    }

    #[test]
    fn the_example_is_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/server/toplake.toml");
        let config = Config::read(path).unwrap();
        let users = super::super::security::users(&config.users).unwrap();
        assert_eq!(users.iter().count(), 1);
        let resources = config.limits.resources();
        assert_eq!((resources.memory, resources.spill), (4 << 30, 50 << 30));
        let tokens = super::super::token::tokens(&config.tokens).unwrap();
        assert!(!tokens.is_empty());
        assert_eq!((config.jobs.len(), config.max_lag), (1, Some(300.0)));
        assert!(super::super::security::locations(config.allowed_locations.as_deref(), &users).is_ok());
    }

    #[tokio::test]
    async fn workers_are_read_and_what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "0123456789abcdef").unwrap();
        let workers = |more: &str| {
            let text = format!("[cluster]\nworkers = 'a:7433,b:7433'\ntoken = '{}'\n{more}", token.display());
            read(&text)
        };
        let config = workers("fallback = 'refuse'\nbytes_per_task = '8MiB'").unwrap();
        assert!(config.cluster.cluster().unwrap().is_some());
        assert!(Config::default().cluster.cluster().unwrap().is_none());
        for (more, why) in [
            ("fallbak = 'local'", "unknown field `fallbak`"),
            ("fallback = 'never'", "unknown variant `never`"),
        ] {
            let e = workers(more).unwrap_err();
            assert!(e.message().contains(why), "{e}");
        }
        let e = workers("bytes_per_task = 0").unwrap().cluster.cluster().unwrap_err();
        assert!(e.message().contains("above 0"), "{e}");
        let e = workers("key = 'k'").unwrap().cluster.cluster().unwrap_err();
        assert!(e.message().contains("belong together"), "{e}");
    }

    #[test]
    fn pipelines_are_read_and_what_is_wrong_is_named() {
        let one = "[[ingest]]\ntable = 'a'\nbrokers = 'h:1'\ntopics = ['t']\n";
        let config = read(&format!("warehouse = './w'\nlisten = '127.0.0.1:7432'\n{one}")).unwrap();
        assert_eq!((config.ingest[0].name(), config.warehouse.as_deref()), ("a", Some("./w")));
        for (text, what) in [
            ("warehose = 'x'".to_owned(), "warehose"),
            (format!("{one}{one}"), "two [[ingest]] are called 'a'"),
            (one.replace("'h:1'", "''"), "no brokers"),
            (one.replace("topics", "topic"), "topic"),
            ("[limits.reader]\nheavy_queries = 0".to_owned(), "heavy_queries"),
            ("[limits]\nmemory = 'much'".to_owned(), "memory"),
            ("http = 'here'".to_owned(), "'here' is no address"),
            ("[[jobs]]\nname = 'a'\nsheduled = '@daily'".to_owned(), "sheduled"),
            ("[limits.guest]\nqueue = 1".to_owned(), "guest"),
            ("[[users]]\nname = 'ann'\nverifier = 'x'\nrole = 'owner'".to_owned(), "owner"),
        ] {
            let e = read(&text).unwrap_err();
            assert!(e.message().contains(what), "{}", e.message());
        }
    }
}
