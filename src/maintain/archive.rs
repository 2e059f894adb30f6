//! Where rows go that are past their retention: a Delta table elsewhere, each row once.
//!
//! Two tables cannot change in one commit, so the work is claimed first. A claim is a number in the log of the table whose
//! rows leave, one more than the last. The rows are appended to the archive in files that carry the number, and then the
//! commit that removes them from the table requires that theirs is still the newest claim. Files of a claim that was never
//! settled so are of no use: whoever claims next replaces them in the commit that appends its own.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::archived::{CLAIM, archived_from, check_claims, claim_of, claimed, missing, settled};
use crate::lake::committer::{Change, Position};
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};
use crate::lake::writer::{FileWriter, discard};

/// The right to move rows, until somebody else takes it.
#[derive(Debug, Clone)]
pub struct Claim {
    table_id: String,
    number: i64,
}

impl Claim {
    /// Takes the next claim.
    pub async fn take(table: &Table, on: &Snapshot) -> Result<Self> {
        let id = on.metadata.id.clone();
        let last = on.position(&claimed(&id));
        let number = last.unwrap_or(0) + 1;
        let mut change = Change::new(CommitKind::Rewrite, "CLAIM", on);
        change.positions = vec![Position { app: claimed(&id), from: last, to: number }];
        table.commit(&change).await?;
        Ok(Claim { table_id: id, number })
    }

    /// What the commit moves that removes the rows: it is the newest claim, and it is settled.
    pub fn settle(self, on: &Snapshot) -> Vec<Position> {
        let (claimed, settled) = (claimed(&self.table_id), settled(&self.table_id));
        vec![
            Position { app: claimed, from: Some(self.number), to: self.number },
            Position { from: on.position(&settled), app: settled, to: self.number },
        ]
    }

    /// Whether a file of the archive is one of this table's, of a claim that was never settled.
    fn is_leftover(&self, file: &File, settled: i64) -> bool {
        claim_of(file, &self.table_id).is_some_and(|number| number > settled)
    }
}

/// The archive of a table.
#[derive(Debug)]
pub struct Archive {
    table: Table,
    now: Arc<Snapshot>,
}

impl Archive {
    /// Opens it; makes it if it is not there and nothing has gone to it yet.
    pub async fn open(url: &str, source: &Snapshot) -> Result<Self> {
        let context = |e: Error| e.context(format!("archive '{url}'"));
        let store = Store::open(url).map_err(context)?;
        let new = NewTable {
            schema: source.schema.as_ref().clone(),
            configuration: vec![],
            description: Some("rows that are past their retention".into()),
        };
        let table = loop {
            if let Some(table) = Table::open(url, store.clone()).await.map_err(context)? {
                break table;
            }
            if archived_from(source).is_some() {
                return Err(context(missing()));
            }
            if let Some(table) = Table::create(url, store.clone(), &new).await.map_err(context)? {
                break table;
            }
        };
        let now = table.update().await.map_err(context)?;
        check_claims(&now).map_err(context)?;
        if now.schema != source.schema {
            return Err(Error::wrong_object_type(format!(
                "archive '{url}' has other columns than the table"
            ))
            .with_hint("name another archive"));
        }
        Ok(Archive { table, now })
    }

    /// Takes rows.
    pub fn writer(&self) -> FileWriter {
        FileWriter::new(self.table.store(), Arc::clone(&self.now.schema), None)
    }

    /// Appends what was written, in the place of what claims that were never settled have left. `source` is the table
    /// whose rows these are, at a version after the claim.
    pub async fn append(&self, writer: FileWriter, claim: &Claim, source: &Snapshot) -> Result<()> {
        let done = source.position(&settled(&claim.table_id)).unwrap_or(0);
        let mut change = Change::new(CommitKind::Append, "ARCHIVE", &self.now);
        let files = self.now.files.values().filter(|file| claim.is_leftover(file, done));
        change.removes = files.cloned().collect();
        if !change.removes.is_empty() {
            change.kind = CommitKind::Replace;
            change.ranges = Some(TimeRanges::everything());
        }
        // A claim that is older than the one whose rows are here is none any more.
        let app = claimed(&claim.table_id);
        let last = self.now.position(&app);
        if last.is_some_and(|last| last >= claim.number) {
            writer.abandon().await;
            return Err(Error::conflict("another process archives these rows"));
        }
        change.positions = vec![Position { app, from: last, to: claim.number }];
        change.adds = writer.finish().await?;
        let tag = format!("{}:{}", claim.table_id, claim.number);
        for add in &mut change.adds {
            add.tags = Some([(CLAIM.to_owned(), Some(tag.clone()))].into());
        }
        let committed = self.table.commit(&change).await;
        if committed.as_ref().is_err_and(|e| e.kind() == Kind::Conflict) {
            discard(self.table.store(), &change.adds).await;
        }
        committed.map(|_| ())
    }
}
