//! Files into a table, each row exactly once.
//!
//! A file is known by its absolute address. The commit that brings its rows also moves two positions of the table (Delta
//! `txn` actions): how many lines or rows of the file are consumed, and how big the file is. The committer requires that
//! the first one stands where the work began, so whatever happens (the command runs again, runs twice at the same time,
//! is killed at any instruction) each line is consumed by one commit. A file that is consumed whole stands at
//! `i64::MAX` and is skipped from then on; one that was interrupted is resumed at its position; one that has changed its
//! size since is refused. What cannot be stored goes to `toplake.dead_letters` by the same commit, and what is late to the
//! late table where the table diverts it.
//!
//! | file | what |
//! | --- | --- |
//! | [`files`] | which files |
//! | `decode` | a file into chunks of rows: `lines`, `csv`, `ndjson`, `parquet` |
//! | `map` | a chunk into rows of the table: `transform`, `cast`; `whence` |
//! | `load` | rows into commits |
//! | `outbox` | bad lines into dead letters |
//! | [`replay`] | dead letters into rows after all |
//! | [`copy`] | what a client copies in instead of files |
//! | [`guards`] | what a stream gives twice, or too often |
//! | [`breaker`] | when there are too many of them; of messages: [`error_rate`] |
//! | [`progress`] | how far it is |
//! | [`kafka`] | messages of Kafka instead of files |

pub mod breaker;
mod cast;
pub mod copy;
mod csv;
mod decode;
pub mod error_rate;
pub mod files;
pub mod guards;
pub mod kafka;
mod lines;
mod load;
mod map;
mod ndjson;
mod outbox;
mod parquet;
pub mod progress;
pub mod replay;
mod transform;
mod whence;

use self::breaker::{Breaker, MaxErrors};
use self::files::InputFile;
use self::load::{Load, Stands};
use self::progress::Progress;
use crate::error::Result;
use crate::session::Engine;

/// How files are ingested.
#[derive(Debug, Clone)]
pub struct Options {
    /// One SELECT over `input` that makes the table's rows; without it columns are matched by name.
    pub transform: Option<String>,
    /// How much bad input is allowed.
    pub max_errors: MaxErrors,
    /// Lines or rows after which a big file is committed, at the end of a chunk of 1,000 to 16,384 of them.
    pub commit_lines: u64,
    /// Bytes read (as stored) after which a big file is committed.
    pub commit_bytes: u64,
    /// Whether dead letters and late rows are added to their tables at once; they are visible either way.
    pub follow: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            transform: None,
            max_errors: MaxErrors::default(),
            commit_lines: 1_000_000,
            commit_bytes: 256 << 20,
            follow: true,
        }
    }
}

/// What one run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that were read, at least in part.
    pub files: u64,
    /// Files that were ingested before.
    pub skipped: u64,
    /// Rows stored.
    pub rows: u64,
    /// Rows that came after the watermark had passed them, and went to the late table.
    pub late: u64,
    /// Lines that went to the dead letters.
    pub dead: u64,
    /// Lines that the transform's WHERE left out.
    pub filtered: u64,
    /// Commits.
    pub commits: u64,
}

/// Ingests files into a table, in their order. Stops at the first error; what was committed before stays.
pub async fn ingest(
    engine: &Engine,
    table: &str,
    files: &[InputFile],
    options: &Options,
    progress: &mut Progress,
) -> Result<Summary> {
    let mut load = Load {
        engine,
        table,
        options,
        session: engine.state(),
        breaker: Breaker::new(options.max_errors),
        progress,
        summary: Summary::default(),
    };
    let mut waiting = vec![];
    // All are looked at before anything is written: a changed file is an error from the start.
    let events = load.events().await?;
    for file in files {
        match Stands::of(&events.table().snapshot(), file).map_err(|e| e.context(&file.url))?.complete() {
            true => load.summary.skipped += 1,
            false => waiting.push(file),
        }
    }
    load.progress.begin(waiting.iter().map(|f| f.size).sum());
    let (mut before, mut done) = (0, Ok(()));
    for file in waiting {
        load.progress.file(&file.url, before);
        load.breaker.begin(&file.url);
        done = load.file(file).await.map_err(|e| e.context(&file.url));
        if done.is_err() {
            break;
        }
        before += file.size;
    }
    load.progress.end();
    let summary = load.summary;
    if options.follow
        && let Err(e) = engine.warehouse().follow(events.table()).await
    {
        // They are visible by the events' commits; whoever follows next adds them.
        tracing::warn!(table, error = %e, "could not add dead letters and late rows to their tables yet");
    }
    done.map(|()| summary)
}
