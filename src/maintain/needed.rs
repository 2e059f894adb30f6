//! What of a table's past others still read: rollups that have not folded it, a rollup that is being built from an older
//! version, and side tables whose follower has not come so far.

use std::collections::HashSet;
use std::sync::Arc;

use object_store::path::Path;

use super::target::Target;
use crate::catalog::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::scan::locate;
use crate::lake::table::Table;
use crate::rollup::fold::build_app;
use crate::rollup::view::Rollup;

/// The rollups that are made from a table directly.
pub async fn rollups_over(warehouse: &Arc<Warehouse>, table: &Table) -> Result<Vec<Arc<Rollup>>> {
    let mut rollups = vec![];
    for name in warehouse.dependents(table.name()).await? {
        if let Some(Object::Rollup(rollup)) = warehouse.get(&name).await? {
            rollups.push(Arc::clone(rollup.rollup()));
        }
    }
    Ok(rollups)
}

/// The version of a table from which on somebody has yet to read its commits, or the files that were active then; its
/// newest one if nobody has.
pub async fn needed_from(warehouse: &Arc<Warehouse>, target: &Target) -> Result<i64> {
    let table = target.table();
    let mut needed = table.update().await?.version;
    // A rollup that comes into being after this begins at a version that is newer still.
    for rollup in rollups_over(warehouse, table).await? {
        let snapshot = rollup.table.update().await?;
        let folded = snapshot.position(&Rollup::fold_app(&snapshot));
        if let Some(read) = folded.or_else(|| snapshot.position(&build_app(&snapshot))) {
            needed = needed.min(read);
        }
    }
    for (route, into) in warehouse.routes_from(table).await? {
        if let Some(followed) = route.followed(table, &into).await? {
            needed = needed.min(followed);
        }
    }
    Ok(needed)
}

/// Files of a table that commits of others name and that no follower has added yet.
pub async fn files_named_for(warehouse: &Arc<Warehouse>, table: &Table) -> Result<HashSet<Path>> {
    let mut named = HashSet::new();
    for (route, from) in warehouse.routes_into(table).await? {
        // The table first, as a reader does.
        let mine = table.update().await?;
        for add in route.pending(&mine, &from, &*from.update().await?).await? {
            named.insert(locate(table.store(), &add.path)?);
        }
    }
    Ok(named)
}
