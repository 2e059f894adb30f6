//! The lake under failures and races.

mod commits;
mod following;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use object_store::memory::InMemory;
use toplake::lake::action::{Add, CommitKind, Metadata};
use toplake::lake::committer::{Change, Position};
use toplake::lake::log;
use toplake::lake::schema::timestamp;
use toplake::lake::snapshot::{Commit, Snapshot};
use toplake::lake::store::Store;
use toplake::lake::table::{NewTable, Table};

use crate::harness::FaultyStore;

/// A store in memory, and a table in it.
struct Lab {
    faults: Arc<FaultyStore>,
    store: Store,
}

impl Lab {
    fn new() -> Self {
        let faults = Arc::new(FaultyStore::new(InMemory::new()));
        let store = Store::with_object_store(Arc::clone(&faults) as _, "memory:///warehouse/t").unwrap();
        Lab { faults, store }
    }

    async fn create(&self) -> Table {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("t", timestamp(false), false),
        ]);
        let new = NewTable { schema, configuration: vec![], description: None };
        Table::create("t", self.store.clone(), &new).await.unwrap().unwrap()
    }

    /// The table as another process opens it.
    async fn open(&self) -> Table {
        Table::open("t", self.store.clone()).await.unwrap().unwrap()
    }

    /// Every commit of the log, from the store.
    async fn log(&self) -> Vec<Commit> {
        let newest = log::load(&self.store, None).await.unwrap().unwrap().version;
        log::read_commits(&self.store, -1, newest).await.unwrap()
    }

    async fn put(&self, version: i64, lines: &str) {
        self.store
            .put(&log::commit_path(&self.store, version), lines.as_bytes().to_vec().into())
            .await
            .unwrap();
    }

    async fn remove(&self, version: i64) {
        self.store.delete_all(vec![log::commit_path(&self.store, version)]).await.unwrap();
    }
}

/// A file of one row; nobody opens it here.
fn file(name: &str) -> Add {
    Add {
        path: format!("{name}.parquet"),
        size: 100,
        modification_time: 1,
        data_change: true,
        stats: Some(
            r#"{"numRecords":1,"minValues":{"id":1,"t":"2026-01-01T00:00:00.000001Z"},"maxValues":{"id":1,"t":"2026-01-01T00:00:00.000001Z"},"nullCount":{"id":0,"t":0}}"#
                .into(),
        ),
        ..Default::default()
    }
}

fn append(on: &Snapshot, name: &str) -> Change {
    let mut change = Change::new(CommitKind::Append, "WRITE", on);
    change.adds = vec![file(name)];
    change
}

/// An append that moves the position of `app`.
fn step(on: &Snapshot, app: &str, to: i64) -> Change {
    let mut change = append(on, &format!("{app}-{to}"));
    change.positions = vec![Position { app: app.into(), from: on.position(app), to }];
    change
}

fn rewrite(on: &Snapshot, removes: &[&str], add: &str) -> Change {
    let mut change = Change::new(CommitKind::Rewrite, "OPTIMIZE", on);
    change.removes =
        removes.iter().map(|name| Arc::clone(&on.files[format!("{name}.parquet").as_str()])).collect();
    change.adds = vec![file(add)];
    change
}

/// All that two readers of one version have to agree on.
fn content(s: &Snapshot) -> (i64, String, Vec<Add>, BTreeMap<String, i64>, Metadata, i64) {
    // Whether a commit changed rows is a property of the commit, and a checkpoint does not keep it.
    let files = s.files.values().map(|f| Add { data_change: true, ..f.add.clone() }).collect();
    let txns = s.txns.iter().map(|(app, version)| (app.to_string(), *version)).collect();
    (
        s.version,
        format!("{:?} {:?}", s.schema, s.protocol),
        files,
        txns,
        s.metadata.as_ref().clone(),
        s.timestamp,
    )
}
