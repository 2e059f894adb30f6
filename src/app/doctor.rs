//! `toplake doctor`: whether a warehouse and a configuration are fit for use, and what to do where they are not.

use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use object_store::ObjectStoreExt;

use super::config::Config;
use super::{security, token};
use crate::catalog::warehouse::{Object, Warehouse};
use crate::error::{Error, Result};
use crate::http;
use crate::jobs::scheduler;
use crate::lake::store::Store;
use crate::session::{self, Engine};

/// A clock may be off by so much without being told of it.
const CLOCK: f64 = 5.0;

/// Less room than this on a disk is worth a word.
const ROOM: u64 = 1 << 30;

/// More files than this have a table plan slowly.
const FILES: usize = 20_000;

/// Arguments of `toplake doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the warehouse lies: ./dir, file:///dir or s3://bucket/prefix
    #[arg(long, env = "TOPLAKE_WAREHOUSE", value_name = "URL")]
    warehouse: Option<String>,
    /// A server's configuration
    #[arg(long, env = "TOPLAKE_CONFIG", value_name = "toplake.toml")]
    config: Option<String>,
}

/// What was looked at, and how it was found.
enum Finding {
    Well(String),
    /// It works, and somebody should look after it.
    Odd(String, String),
    Wrong(Error),
}

/// Looks at everything, prints what it finds, and fails if something is wrong.
pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let mut wrong = 0;
    let mut tell = |what: &str, finding: Finding| {
        let (mark, text, hint) = match finding {
            Finding::Well(text) => ("ok   ", text, None),
            Finding::Odd(text, hint) => ("look ", text, Some(hint)),
            Finding::Wrong(e) => {
                wrong += 1;
                ("WRONG", e.to_string(), e.hint().map(str::to_owned))
            }
        };
        println!("{mark}  {what}: {text}");
        if let Some(hint) = hint {
            println!("       → {hint}");
        }
    };
    let config = arguments.config.as_deref().map(Config::read).transpose();
    let config = match config {
        Ok(Some(config)) => {
            let path = arguments.config.as_deref().unwrap_or_default();
            tell(
                "configuration",
                configuration(&config).map_or_else(Finding::Wrong, |()| Finding::Well(path.to_owned())),
            );
            config
        }
        Ok(None) => Config::default(),
        Err(e) => {
            tell("configuration", Finding::Wrong(e));
            Config::default()
        }
    };
    let location = arguments.warehouse.or_else(|| config.warehouse.clone()).ok_or_else(|| {
        Error::invalid_input("no warehouse").with_hint("give --warehouse, or --config with one in it")
    })?;
    match Store::open(&location) {
        Err(e) => tell("store", Finding::Wrong(e)),
        Ok(store) => {
            for (what, finding) in store_findings(&store).await {
                tell(what, finding);
            }
            match session::open(&location).await {
                Err(e) => tell("warehouse", Finding::Wrong(e)),
                Ok(engine) => {
                    for (what, finding) in tables(engine.warehouse()).await {
                        tell(&what, finding);
                    }
                    for job in &config.jobs {
                        let job = job.job(&engine);
                        tell(
                            "jobs",
                            job.map_or_else(Finding::Wrong, |job| Finding::Well(job.definition.name)),
                        );
                    }
                    tell("jobs", jobs(&config, &engine));
                }
            }
        }
    }
    for (what, finding) in machine(&config) {
        tell(what, finding);
    }
    match wrong {
        0 => Ok(()),
        1 => Err(Error::invalid_input("one thing is wrong: see above")),
        n => Err(Error::invalid_input(format!("{n} things are wrong: see above"))),
    }
}

/// What a server would refuse at its start.
fn configuration(config: &Config) -> Result<()> {
    let users = security::users(&config.users)?;
    security::locations(config.allowed_locations.as_deref(), &users)?;
    let tokens = token::tokens(&config.tokens)?;
    if let Some(address) = config.http.and_then(|http| http.address()) {
        security::http_options(address, &config.tls, &users, tokens)?;
    }
    let listen = config.listen.unwrap_or_else(|| std::net::SocketAddr::from(([127, 0, 0, 1], 7432)));
    security::options(listen, &config.tls, users).map(|_| ())
}

fn jobs(config: &Config, engine: &Engine) -> Finding {
    let all: Result<Vec<_>> = config.jobs.iter().map(|job| job.job(engine)).collect();
    match all.and_then(|jobs| scheduler::check(&jobs)) {
        Ok(()) => Finding::Well(format!("{} of the configuration, in an order that ends", config.jobs.len())),
        Err(e) => Finding::Wrong(e),
    }
}

/// Whether the store does what a warehouse needs: above all, a put that is refused where an object is there.
async fn store_findings(store: &Store) -> Vec<(&'static str, Finding)> {
    let path = store.path(&format!("_toplake/doctor/{}", uuid::Uuid::new_v4()));
    let mut found = vec![];
    let first = store.put_if_absent(&path, Bytes::from_static(b"first")).await;
    let written = matches!(first, Ok(true));
    found.push((
        "write",
        match first {
            Ok(_) => Finding::Well("objects can be written".to_owned()),
            Err(e) => Finding::Wrong(e),
        },
    ));
    if !written {
        return found;
    }
    let again = store.put_if_absent(&path, Bytes::from_static(b"second")).await;
    found.push((
        "conditional put",
        match again {
            Ok(false) => {
                Finding::Well("an object that is there is not written over: commits are safe".to_owned())
            }
            Ok(true) => Finding::Wrong(
                Error::storage(
                    "the store writes over an object that was to be written only if it is not there",
                )
                .with_hint(
                    "commits would be lost: use a store with conditional put (If-None-Match: *), such as S3",
                ),
            ),
            Err(e) => Finding::Wrong(e),
        },
    ));
    let read = store.get(&path).await;
    found.push((
        "read",
        match read {
            Ok(Some(body)) if body.as_ref() == b"first" => {
                Finding::Well("what was written is read at once".to_owned())
            }
            Ok(_) => Finding::Wrong(
                Error::storage("what was written is not read a moment later")
                    .with_hint("the store has to be strongly consistent"),
            ),
            Err(e) => Finding::Wrong(e),
        },
    ));
    found.push(("clock", clock(store, &path).await));
    let listed = store
        .child("_toplake")
        .child("doctor")
        .object_store()
        .list_with_delimiter(Some(store.prefix()))
        .await;
    found.push((
        "list",
        match listed {
            Ok(_) => Finding::Well("objects can be listed".to_owned()),
            Err(e) => Finding::Wrong(e.into()),
        },
    ));
    found.push((
        "delete",
        match store.delete_all(vec![path.clone()]).await {
            Ok(()) if matches!(store.exists(&path).await, Ok(false)) => {
                Finding::Well("objects can be removed".to_owned())
            }
            Ok(()) => Finding::Wrong(Error::storage("an object that was removed is still there")),
            Err(e) => Finding::Wrong(e),
        },
    ));
    found
}

async fn clock(store: &Store, path: &object_store::path::Path) -> Finding {
    match store.object_store().head(path).await {
        Err(e) => Finding::Wrong(e.into()),
        Ok(meta) => {
            let off = (chrono::Utc::now() - meta.last_modified).num_milliseconds() as f64 / 1e3;
            if off.abs() <= CLOCK {
                return Finding::Well(format!("it agrees with the store's to {CLOCK} s"));
            }
            Finding::Odd(
                format!("it is {off:.1} s {} the store's", if off > 0.0 { "ahead of" } else { "behind" }),
                "set it by NTP: lags, freshness and retention by arrival are told by it; what is counted is not".to_owned(),
            )
        }
    }
}

/// What is in the warehouse.
async fn tables(warehouse: &Arc<Warehouse>) -> Vec<(String, Finding)> {
    let names = match warehouse.list().await {
        Ok(names) => names,
        Err(e) => return vec![("warehouse".to_owned(), Finding::Wrong(e))],
    };
    if names.is_empty() {
        return vec![("warehouse".to_owned(), Finding::Well("it is empty".to_owned()))];
    }
    let mut found = vec![];
    for name in names {
        let finding = match warehouse.get(&name).await {
            Err(e) => Finding::Wrong(e),
            Ok(None) => continue,
            Ok(Some(object)) => of_object(&object).await,
        };
        found.push((format!("'{name}'"), finding));
    }
    found
}

async fn of_object(object: &Object) -> Finding {
    let table = match object {
        Object::Table(events) => events.table(),
        Object::Rollup(table) => &table.rollup().table,
        Object::Leaderboard(board) => board.table(),
        _ => return Finding::Well(object.kind().sql_name().to_lowercase()),
    };
    let snapshot = match table.update().await {
        Ok(snapshot) => snapshot,
        Err(e) => return Finding::Wrong(e),
    };
    // The newest and the oldest file: a copy that left some out lacks one of them.
    let mut files: Vec<_> = snapshot.files.values().collect();
    files.sort_by_key(|file| file.add.modification_time);
    for file in files.first().into_iter().chain(files.last()) {
        let path = table.store().path(&file.add.path);
        match table.store().exists(&path).await {
            Ok(true) => {}
            Ok(false) => {
                return Finding::Wrong(
                    Error::corrupt(format!(
                        "the file '{}' that version {} names is not there",
                        file.add.path, snapshot.version
                    ))
                    .with_hint("restore it from a backup or an older version of the bucket"),
                );
            }
            Err(e) => return Finding::Wrong(e),
        }
    }
    let kind = object.kind().sql_name().to_lowercase();
    let text = format!("{kind}, version {}, {} files", snapshot.version, snapshot.files.len());
    match snapshot.files.len() > FILES {
        true => {
            Finding::Odd(text, "CALL compact('…') makes fewer of them; servers do so each minute".to_owned())
        }
        false => Finding::Well(text),
    }
}

/// What runs it.
fn machine(config: &Config) -> Vec<(&'static str, Finding)> {
    let mut found = vec![];
    let resources = config.limits.resources();
    found.push(("memory", Finding::Well(format!("queries may take {} MiB", resources.memory >> 20))));
    let spill = resources.spill_folder.clone().unwrap_or_else(std::env::temp_dir);
    found.push((
        "spill",
        match http::free(&spill) {
            Some(free) if free >= ROOM => {
                Finding::Well(format!("{} GiB are free in '{}'", free >> 30, spill.display()))
            }
            Some(free) => Finding::Odd(
                format!("{} MiB are free in '{}'", free >> 20, spill.display()),
                "spill_folder in [limits] says where else".to_owned(),
            ),
            None => Finding::Wrong(Error::invalid_input(format!("there is no folder '{}'", spill.display()))),
        },
    ));
    found
}
