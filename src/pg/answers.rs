//! Answers in the form in which they are sent, kept as long as they are true.
//!
//! The engine says by a [`Stamp`] what an answer hangs on. While a statement's stamp is the same, its answer is the
//! bytes that were sent the last time, to whoever asks: a dashboard that everybody looks at is computed once for each
//! refresh. Statements are remembered in the same way, so that the same text is parsed once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chrono_tz::Tz;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::scalar::ScalarValue;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Stamp;
use super::session::Statement;

/// Bytes of all answers together, at most.
const ALL: u64 = 32 << 20;
/// Bytes of one answer, at most.
const ONE: usize = 256 << 10;
/// Bytes of a statement and its parameters, at most.
const QUESTION: usize = 8 << 10;
/// Query strings that are remembered, and the bytes of one.
const TEXTS: usize = 1_024;
const TEXT: usize = 4 << 10;
/// What an entry takes beside its bytes, about, and each column of it.
const ENTRY: u64 = 512;
const COLUMN: usize = 256;

/// The statements of a query string, and the characters in front of each.
pub(super) type Statements = Arc<[(Statement, usize)]>;

/// What is remembered, for all sessions of a server.
#[derive(Clone)]
pub(super) struct Answers(Arc<Inner>);

struct Inner {
    answers: Cache<Key, Answer, Weight>,
    statements: Cache<String, Statements>,
    /// The memory is taken from the pool that queries share; without it nothing is kept.
    memory: Option<MemoryReservation>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) sql: String,
    pub(super) parameters: Vec<ScalarValue>,
    /// Formats of the columns.
    pub(super) formats: Vec<i16>,
    /// The session's time zone: what literals mean, and how times are written.
    pub(super) zone: Tz,
}

impl Key {
    fn size(&self) -> usize {
        self.sql.len() + self.parameters.iter().map(ScalarValue::size).sum::<usize>() + 2 * self.formats.len()
    }
}

/// What was answered.
#[derive(Clone)]
pub(super) struct Answer {
    /// What it hangs on.
    pub(super) stamp: Stamp,
    /// The command's tag.
    pub(super) tag: String,
    pub(super) schema: SchemaRef,
    /// The rows as messages.
    pub(super) bytes: Bytes,
    pub(super) rows: usize,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Answer> for Weight {
    fn weight(&self, key: &Key, answer: &Answer) -> u64 {
        let columns = answer.schema.fields().len() * COLUMN;
        ENTRY + (key.size() + answer.bytes.len() + columns) as u64
    }
}

impl Answers {
    /// Room for answers, taken from a pool of memory.
    pub(super) fn new(pool: Option<&Arc<dyn MemoryPool>>) -> Self {
        let memory = pool.and_then(|pool| {
            let reservation = MemoryConsumer::new("answers of the front end").register(pool);
            reservation.try_grow(ALL as usize).ok().map(|()| reservation)
        });
        let inner = Inner {
            answers: Cache::with_weighter(1_024, ALL, Weight),
            statements: Cache::new(TEXTS),
            memory,
        };
        Answers(Arc::new(inner))
    }

    /// What was answered; its stamp says whether it is still true.
    pub(super) fn get(&self, key: &Key) -> Option<Answer> {
        self.0.answers.get(key)
    }

    /// The statements of a query string that was read before.
    pub(super) fn statements(&self, sql: &str) -> Option<Statements> {
        self.0.statements.get(sql)
    }

    /// Remembers the statements of a query string.
    pub(super) fn read(&self, sql: &str, statements: &Statements) {
        if sql.len() <= TEXT {
            self.0.statements.insert(sql.to_owned(), Arc::clone(statements));
        }
    }

    /// Begins to keep what is about to be sent.
    pub(super) fn record(&self, key: Key, stamp: Stamp) -> Option<Recording> {
        self.0.memory.as_ref()?;
        if key.size() > QUESTION {
            return None;
        }
        Some(Recording { answers: self.clone(), key, stamp, bytes: BytesMut::new() })
    }
}

/// Rows that are being sent and may be sent again.
pub(super) struct Recording {
    answers: Answers,
    key: Key,
    stamp: Stamp,
    bytes: BytesMut,
}

impl Recording {
    /// Adds a row; false when there are too many of them.
    pub(super) fn add(&mut self, row: &[u8]) -> bool {
        self.bytes.extend_from_slice(row);
        self.bytes.len() <= ONE
    }

    /// Keeps it: all rows were sent.
    pub(super) fn keep(self, tag: &str, schema: &SchemaRef, rows: usize) {
        let answer = Answer {
            stamp: self.stamp,
            tag: tag.to_owned(),
            schema: Arc::clone(schema),
            bytes: self.bytes.freeze(),
            rows,
        };
        self.answers.0.answers.insert(self.key, answer);
    }
}
