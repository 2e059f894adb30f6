//! What a warehouse holds, as the PostgreSQL front end shows it: by the logs alone, without opening a file.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, TableProvider};

use crate::catalog::access::grants;
use crate::catalog::comments::Comments;
use crate::catalog::options::{ObjectKind, keys};
use crate::catalog::privileges::Role;
use crate::catalog::schemas::{PUBLIC, SYSTEM, WarehouseCatalog};
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::snapshot::Snapshot;
use crate::pg::catalog::{Inventory, Rights, SchemaContent, TableContent, TableKind};

/// The holdings of a warehouse.
#[derive(Debug)]
pub(super) struct Holdings(pub(super) Arc<Warehouse>);

#[async_trait]
impl Inventory for Holdings {
    async fn schemas(&self) -> Result<Vec<SchemaContent>> {
        let mut tables = vec![];
        for name in self.0.list().await? {
            if let Some(snapshot) = self.0.opened(&name) {
                tables.push(self.content(&name, &snapshot).await);
            }
        }
        let public = SchemaContent { name: PUBLIC.to_owned(), tables };
        Ok(vec![public, self.system().await?])
    }
}

impl Holdings {
    async fn content(&self, name: &str, snapshot: &Snapshot) -> TableContent {
        let configuration = &snapshot.metadata.configuration;
        let kind = match ObjectKind::of(configuration) {
            ObjectKind::Table => TableKind::Table,
            ObjectKind::View => TableKind::View,
            ObjectKind::Rollup | ObjectKind::Leaderboard => TableKind::MaterializedView,
            ObjectKind::External => TableKind::Foreign,
        };
        let mut columns = Arc::clone(&snapshot.schema);
        // The log has what a table could keep of a view's columns; its query may give more than that. One that cannot be
        // planned any more is still there.
        if kind == TableKind::View
            && let Ok(Some(view)) = self.0.get(name).await
        {
            columns = view.provider().schema();
        }
        let stored = matches!(kind, TableKind::Table | TableKind::MaterializedView);
        let comments = Comments::of(configuration);
        let is_view = matches!(kind, TableKind::View | TableKind::MaterializedView);
        TableContent {
            name: name.to_owned(),
            kind,
            columns,
            definition: configuration.get(keys::SQL).filter(|_| is_view).cloned(),
            rows: snapshot.rows().filter(|_| stored),
            bytes: bytes(snapshot),
            comment: comments.table,
            column_comments: comments.columns,
            rights: grants(&self.0, name).map_or(Rights::ReadBy(&[]), Rights::Granted),
        }
    }

    async fn system(&self) -> Result<SchemaContent> {
        let catalog = WarehouseCatalog::new(&self.0);
        let schema = catalog.schema(SYSTEM).ok_or_else(|| Error::internal("no system tables"))?;
        let mut tables = vec![];
        for name in schema.table_names() {
            let Some(table) = schema.table(&name).await? else { continue };
            // Bad input is that of any table.
            let readers: &[Role] =
                if name == "dead_letters" { &[Role::Writer] } else { &[Role::Reader, Role::Writer] };
            let side = self.0.side_tables().into_iter().find(|side| side.name() == name);
            let kept = match side {
                Some(side) => side.existing().await?.map(|table| table.snapshot()),
                None => None,
            };
            tables.push(TableContent {
                rows: kept.as_ref().and_then(|snapshot| snapshot.rows()),
                bytes: kept.as_ref().map_or(0, |snapshot| bytes(snapshot)),
                rights: Rights::ReadBy(readers),
                ..TableContent::new(&name, TableKind::Table, TableProvider::schema(table.as_ref()))
            });
        }
        Ok(SchemaContent { name: SYSTEM.to_owned(), tables })
    }
}

/// Of all files of a table.
fn bytes(snapshot: &Snapshot) -> u64 {
    snapshot.files.values().map(|file| file.add.size.max(0) as u64).sum()
}
