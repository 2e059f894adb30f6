//! Where the streams into a table stand, and moving them by hand.
//!
//! A position is moved by a commit of its own, which the ledger shows as `OFFSETS`: what lies between where it stood and where
//! it stands is skipped, or read again.

use std::sync::Arc;

use super::sources::topic_of;
use super::warehouse::{Object, Warehouse};
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, LedgerEntry};
use crate::lake::committer::{Change, Position};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;

/// A position, as it stood when it was looked at.
#[derive(Debug, Clone)]
pub struct Offset {
    table: Arc<Table>,
    on: Arc<Snapshot>,
    /// The partition.
    pub partition: Partition,
    /// The next offset to consume; `None` if nothing was consumed yet.
    pub stands: Option<i64>,
}

/// Which stream.
#[derive(Debug, Clone, Copy)]
pub enum Stream<'a> {
    /// That of this name.
    Source(&'a str),
    /// The only one that the table knows of this topic.
    Topic(&'a str),
}

impl Offset {
    /// Looks one up.
    pub async fn of(
        warehouse: &Arc<Warehouse>,
        table: &str,
        stream: Stream<'_>,
        number: i64,
    ) -> Result<Self> {
        let Object::Table(events) = warehouse.require(table).await? else {
            return Err(Error::wrong_object_type(format!("'{table}' is a view, and consumes nothing")));
        };
        let table = Arc::clone(events.table());
        let on = table.snapshot();
        let source = match stream {
            Stream::Source(source) => source.to_owned(),
            Stream::Topic(topic) => {
                source_of(&on, topic).map_err(|e| e.context(format!("table '{}'", table.name())))?
            }
        };
        let partition = Partition { source, number };
        let stands = on.position(&partition.consumed_app(&on.metadata.id));
        Ok(Offset { table, on, partition, stands })
    }

    /// Moves it. Fails with a conflict if it does not stand any more where it was looked at.
    pub async fn move_to(&self, to: i64) -> Result<()> {
        if to < 0 {
            return Err(Error::invalid_input(format!("{to} is no offset: the first one is 0")));
        }
        let mut change = Change::new(CommitKind::Rewrite, "OFFSETS", &self.on);
        let app = self.partition.consumed_app(&self.on.metadata.id);
        change.positions = vec![Position { app, from: self.stands, to }];
        change.ledger = vec![LedgerEntry {
            source: self.partition.source.clone(),
            partition: Some(self.partition.number),
            from: self.stands.unwrap_or(to),
            to,
            ..Default::default()
        }];
        match self.table.commit(&change).await {
            Err(e) if e.kind() == Kind::Conflict => Err(
                e.with_hint("somebody consumes it: stop the pipeline (toplake.pipelines says where it runs)")
            ),
            done => done.map(|_| ()),
        }
    }
}

/// The source of a topic that a table has consumed from.
fn source_of(on: &Snapshot, topic: &str) -> Result<String> {
    let mut sources: Vec<String> = Partition::consumed(on).map(|(partition, _)| partition.source).collect();
    sources.retain(|source| topic_of(source) == Some(topic));
    sources.sort();
    sources.dedup();
    match sources.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::invalid_input(format!("nothing was consumed from topic '{topic}' yet"))
            .with_hint("name the source: kafka:<cluster>/<topic>/<topic id>")),
        many => Err(Error::invalid_input(format!("there are {} topics '{topic}'", many.len()))
            .with_hint(format!("name the source: one of {}", many.join(", ")))),
    }
}
