//! Rows of a table that are past their retention, where an archive has them.
//!
//! An archive is another Delta table, and two tables cannot change in one commit. Rows reach it under a numbered claim, which
//! the commit that takes them out of the table settles: its files say which. So at a version of the table the rows that an
//! archive has and the table has not are those of the claims settled by then, whatever came or is on its way since; no row
//! counts twice or not at all.

use std::sync::Arc;

use super::provider::Files;
use super::snapshot::{File, Snapshot};
use super::store::Store;
use super::table::Table;
use crate::error::{Error, Result};

/// Option of an events table: the address of its archive.
pub const ARCHIVE: &str = "toplake.archive";

/// Option of an events table: from this instant on, in microseconds, all rows that are past their retention are in its
/// archive. Without it that is true of none.
pub const ARCHIVED_FROM: &str = "toplake.archived_from";

/// The tag of an archive's files: `<id of the table they come from>:<number of the claim>`.
pub const CLAIM: &str = "toplake.claim";

/// How the position of [`claimed`] begins.
pub const CLAIMED: &str = "toplake.archive.claimed:";

/// The position of a table, and of its archive: the newest claim.
pub fn claimed(table_id: &str) -> String {
    format!("{CLAIMED}{table_id}")
}

/// The position of a table: the newest claim whose rows have left it.
pub fn settled(table_id: &str) -> String {
    format!("toplake.archive.settled:{table_id}")
}

/// The claim of a table under which a file of an archive came.
pub fn claim_of(file: &File, table_id: &str) -> Option<i64> {
    let tag = file.add.tags.as_ref()?.get(CLAIM)?.as_deref()?;
    let (id, number) = tag.rsplit_once(':')?;
    if id == table_id { number.parse().ok() } else { None }
}

/// An archive that rows have gone to is not there.
pub fn missing() -> Error {
    Error::undefined_table("there is no table any more, and events went there")
        .with_hint("put it back where it was, or name another: ALTER TABLE … SET (archive = '…')")
}

/// Fails where nobody can say of an active file of an archive whether its rows have left their table: another writer has
/// rewritten it.
pub fn check_claims(archive: &Snapshot) -> Result<()> {
    let is_claimed = |file: &File| file.add.tags.as_ref().is_some_and(|tags| tags.contains_key(CLAIM));
    match archive.files.values().find(|file| !is_claimed(file)) {
        None => Ok(()),
        Some(file) => Err(Error::wrong_object_type(format!(
            "file '{}' does not say under which claim its rows came, so another writer made it",
            file.add.path
        ))
        .with_hint("restore the archive to its last version before OPTIMIZE or the like, and leave its files as they are")),
    }
}

/// Since when everything that is past its retention at one version of a table is in its archive; `None` if nothing is.
pub fn archived_from(table: &Snapshot) -> Option<i64> {
    table.option(ARCHIVED_FROM)?.parse().ok()
}

/// The rows that have left a table at one version, and that its archive has now.
#[derive(Debug)]
pub struct Archived {
    store: Store,
    snapshot: Arc<Snapshot>,
    files: Vec<Arc<File>>,
}

impl Archived {
    /// Opens the archive of a table; `None` if it has none, or none that anything has gone to yet.
    pub async fn open(of: &Snapshot) -> Result<Option<Self>> {
        let Some(url) = of.option(ARCHIVE) else { return Ok(None) };
        let context = |e: Error| e.context(format!("archive '{url}'"));
        let store = Store::open(url).map_err(context)?;
        let id = &of.metadata.id;
        let Some(table) = Table::open(url, store.clone()).await.map_err(context)? else {
            return match archived_from(of) {
                None => Ok(None),
                Some(_) => Err(context(missing())),
            };
        };
        let snapshot = table.snapshot();
        check_claims(&snapshot).map_err(context)?;
        if snapshot.schema != of.schema {
            return Err(context(Error::wrong_object_type("it has other columns than the table")));
        }
        let last = of.position(&settled(id)).unwrap_or(0);
        let is_out = |file: &&Arc<File>| claim_of(file, id).is_some_and(|claim| claim <= last);
        let files = snapshot.files.values().filter(is_out).cloned().collect();
        Ok(Some(Archived { store, snapshot, files }))
    }

    /// Lowest and highest value of a time column, and the bytes, of each file; `None` where a file does not say.
    pub fn bounds<'a>(&'a self, time: &'a str) -> impl Iterator<Item = (Option<(i64, i64)>, i64)> + 'a {
        self.files.iter().map(move |f| (f.stats(&self.snapshot.schema).time_bounds(time), f.add.size))
    }

    /// The rows.
    pub fn rows(&self) -> Files {
        Files::new(&self.store, Arc::clone(&self.snapshot.schema), self.files.clone())
    }
}
