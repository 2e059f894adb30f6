//! `CREATE OR REPLACE MATERIALIZED VIEW` over a rollup: its history is kept where it can be, and readers see the old
//! definition or the new one, never a rollup that is half built.

use std::sync::Arc;
use std::time::Instant;

use super::run::Session;
use crate::catalog::comments::Comments;
use crate::catalog::options::keys;
use crate::catalog::privileges::Grants;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, Metadata};
use crate::lake::committer::{Change, Position};
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::NewTable;
use crate::lake::writer::discard;
use crate::maintain::expire::announced;
use crate::maintain::vacuum::Horizon;
use crate::rollup::definition::Definition;
use crate::rollup::evolution::MeasuresChange;
use crate::rollup::fold::{Beside, build_beside};
use crate::rollup::view::{DEFINITION_VERSION, Edition, PinnedRollup, Rollup, Source};

/// Times a commit is made again after losing to a fold.
const TRIES: usize = 40;

impl Session {
    /// Puts a new definition in the place of a rollup's. Gives the partial rows that were written for it at once: none
    /// where only measures join or leave.
    pub(super) async fn replace_rollup(
        &self,
        rollup: &Arc<Rollup>,
        definition: &Definition,
        source: &Source,
        new: &NewTable,
    ) -> Result<u64> {
        let mut last = None;
        for _ in 0..TRIES {
            let pinned = rollup.pin(&Pins::default()).await?;
            let change = match same_source(&pinned, new) {
                true => MeasuresChange::between(&pinned, definition)?,
                false => None,
            };
            let Some(change) = change else {
                return self.exchange(rollup, definition, source, new).await;
            };
            self.refuse_uses_of(rollup, &change).await?;
            let mut metadata = change.metadata(&pinned, definition)?;
            metadata.configuration.remove(keys::REFRESH_EVERY);
            metadata.configuration.extend(new.configuration.iter().cloned());
            if metadata == *pinned.snapshot.metadata {
                return Ok(0);
            }
            next_edition(&mut metadata, &pinned);
            let mut commit = Change::new(CommitKind::Metadata, "REPLACE DEFINITION", &pinned.snapshot);
            commit.metadata = Some(metadata);
            // A fold in between may have added buckets of which the new measures are not known.
            commit.refuses_all = true;
            match rollup.table.commit(&commit).await {
                Err(e) if e.kind() == Kind::Conflict => last = Some(e),
                done => return done.map(|_| 0),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("no try was made")))
    }

    /// Builds the new rollup beside the old one, and exchanges their rows in one commit.
    async fn exchange(
        &self,
        rollup: &Arc<Rollup>,
        definition: &Definition,
        source: &Source,
        new: &NewTable,
    ) -> Result<u64> {
        let name = rollup.table.name();
        self.refuse_rollups_over(name).await?;
        refuse_expired(name, &*source.table().update().await?, source.table().name())?;
        let begun = Instant::now();
        let built = build_beside(&rollup.table, definition, source, &self.ctx.state()).await?;
        let mut last = None;
        for _ in 0..TRIES {
            let pinned = match exchangeable(rollup, source, &built, begun).await {
                Ok(pinned) => pinned,
                Err(e) => {
                    last = Some(e);
                    break;
                }
            };
            let mut metadata = new.metadata(name)?;
            Grants::keep(&pinned.snapshot.metadata.configuration, &mut metadata.configuration);
            Comments::keep(&pinned.snapshot.metadata.configuration, &mut metadata.configuration);
            next_edition(&mut metadata, &pinned);
            let mut commit = Change::new(CommitKind::Metadata, "REPLACE TABLE", &pinned.snapshot);
            let app = Rollup::fold_app_of(&metadata.id);
            commit.positions = vec![Position { app, from: None, to: built.through }];
            commit.metadata = Some(metadata);
            commit.adds = built.adds.clone();
            commit.removes = pinned.snapshot.files.values().cloned().collect();
            // What a fold has added in between would stay, and be of the old definition.
            commit.refuses_all = true;
            match rollup.table.commit(&commit).await {
                Err(e) if e.kind() == Kind::Conflict => last = Some(e),
                // After any other error the commit may have happened: its files stay.
                done => return done.map(|_| built.rows),
            }
        }
        discard(rollup.table.store(), &built.adds).await;
        Err(last.unwrap_or_else(|| Error::internal("no try was made")))
    }

    /// Fails where a rollup above uses a measure that leaves.
    async fn refuse_uses_of(&self, rollup: &Rollup, change: &MeasuresChange) -> Result<()> {
        let name = rollup.table.name();
        if change.dropped.is_empty() {
            return Ok(());
        }
        for dependent in self.warehouse.dependents(name).await? {
            let Object::Rollup(above) = self.warehouse.require(&dependent).await? else { continue };
            let inputs = above.rollup().definition.inputs()?;
            if let Some(used) = change.dropped.iter().find(|name| inputs.values().any(|i| i.contains(*name)))
            {
                return Err(Error::dependent_objects(format!(
                    "rollup '{dependent}' uses '{used}' of '{name}', which the new definition does not have"
                ))
                .with_hint(format!("keep it, or replace the definition of {dependent} first")));
            }
        }
        Ok(())
    }
}

/// The rollup at its newest version, if what was built since `begun` may take its place.
async fn exchangeable(
    rollup: &Arc<Rollup>,
    source: &Source,
    built: &Beside,
    begun: Instant,
) -> Result<PinnedRollup> {
    let pinned = rollup.pin(&Pins::default()).await?;
    let (name, table) = (rollup.table.name(), source.table());
    let now = table.update().await?;
    // Read after the rollup was pinned: an expiry that begins later is announced to the rollup, and the commit refused.
    refuse_expired(name, &now, table.name())?;
    if pinned.snapshot.position(&announced(&now.metadata.id)).is_some() {
        return Err(Error::conflict(format!("'{name}': events of '{}' are about to expire", table.name()))
            .with_hint(format!("see what CALL expire('{}') says", table.name())));
    }
    // Folds of the old rollup may have let the source's files be removed, and its log be cleaned up, beyond what was
    // read here.
    let kept = Horizon::of(&now).0;
    if begun.elapsed() > kept / 2 {
        return Err(Error::conflict(format!(
            "'{name}': it took {} minutes to build, and files that left '{}' are kept for {} only",
            begun.elapsed().as_secs() / 60,
            table.name(),
            kept.as_secs() / 60,
        ))
        .with_hint("create the new definition under another name"));
    }
    table.commits(built.through, now.version).await?;
    Ok(pinned)
}

/// Fails where rows that the rollup was made from are gone.
fn refuse_expired(name: &str, source: &Snapshot, source_name: &str) -> Result<()> {
    let Some(cut) = source.expired_through() else { return Ok(()) };
    Err(Error::expired(format!(
        "'{name}' cannot be built anew: events of '{source_name}' are kept from {} on, and the history before would be lost",
        shown(cut)
    ))
    .with_hint("create the new definition under another name; measures alone can be added and dropped"))
}

/// Whether the new definition reads what the old one does, in the same time zone.
fn same_source(pinned: &PinnedRollup, new: &NewTable) -> bool {
    [keys::SOURCE, keys::SOURCE_ID, keys::TIME_ZONE].iter().all(|key| {
        let new = new.configuration.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        pinned.snapshot.option(key) == new
    })
}

fn next_edition(metadata: &mut Metadata, pinned: &PinnedRollup) {
    let next = Edition::of(&pinned.snapshot).version() + 1;
    metadata.configuration.insert(DEFINITION_VERSION.to_owned(), next.to_string());
}
