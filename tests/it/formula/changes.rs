//! What changes tables other than by new events: compaction, vacuum, retention, deletion, recomputes, other definitions.
use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::LogicalPlanBuilder;
use rand::Rng;
use rand::seq::IndexedRandom;
use toplake::error::Kind;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::provider::Files;
use toplake::lake::snapshot::File;
use toplake::lake::table::Table;
use toplake::lake::writer::FileWriter;
use toplake::maintain::compact::compact;
use toplake::maintain::expire::expire;
use toplake::maintain::target::Rows;
use toplake::maintain::vacuum::{Horizon, vacuum};
use toplake::session::Engine;
use toplake::statement::Session;

use super::sales::{MORE, random_time, weekly};
use super::{World, session};

impl World {
    /// Compaction, at times dropped somewhere in the middle.
    pub(super) async fn compact(&mut self) {
        self.log.push("compact".into());
        let (engine, target) = self.any_target().await;
        let state = engine.state();
        if self.random.random_bool(0.3) {
            let after = Duration::from_micros(self.random.random_range(0..20_000));
            let _ = tokio::time::timeout(after, compact(&target, &state)).await;
        } else {
            compact(&target, &state).await.unwrap();
        }
    }

    /// All that nobody needs goes at once, however young it is.
    pub(super) async fn vacuum(&mut self) {
        let full = self.random.random_bool(0.5);
        self.log.push(format!("vacuum, full: {full}"));
        let (engine, target) = self.any_target().await;
        vacuum(engine.warehouse(), &target, full, Some(Horizon(Duration::ZERO))).await.unwrap();
    }

    /// Retention, which may be altered at any time. Rollups keep what they have, so the truth does not change.
    pub(super) async fn expire(&mut self) {
        let retention = self.random.random_range(0..240) * 86_400_000_000;
        let engine = self.engine();
        let rows = Rows::of(Self::events(&engine).await.table());
        let state = engine.state();
        let work = expire(engine.warehouse(), &rows, Some(retention), &state);
        if self.random.random_bool(0.3) {
            let after = Duration::from_micros(self.random.random_range(0..30_000));
            let done = tokio::time::timeout(after, work).await;
            self.log.push(format!("expire {retention}: {done:?}"));
        } else {
            let done = work.await.unwrap();
            self.log.push(format!("expire {retention}: {done:?}"));
        }
    }

    /// All sales of one product leave, but for those that are past their retention.
    pub(super) async fn delete_by_sql(&mut self) {
        let Some(product) = self.truth.choose(&mut self.random).and_then(|e| e.product) else { return };
        let engine = self.engine();
        let cut = Self::cut(&engine).await;
        self.log.push(format!("delete by sql {product} {cut}"));
        let since = if cut == i64::MIN {
            String::new()
        } else {
            format!("AND event_time >= to_timestamp_micros({cut})")
        };
        let session = Session::new(engine.context(), engine.warehouse().clone());
        session.sql(&format!("DELETE FROM sales WHERE product_id = '{product}' {since}")).await.unwrap();
        self.truth.retain(|e| e.product != Some(product) || e.time < cut);
    }

    pub(super) async fn recompute(&mut self) {
        self.call("recompute").await;
    }

    pub(super) async fn repair(&mut self) {
        self.call("repair").await;
    }

    pub(super) async fn call(&mut self, procedure: &str) {
        let from = random_time(&mut self.random);
        let to = from + self.random.random_range(1..100_000_000_000_i64);
        let (engine, rollup) = self.any_rollup().await;
        let (name, at) = (rollup.table.name(), "to_timestamp_micros");
        let sql = format!("CALL {procedure}('{name}', {at}({from}), {at}({to}))");
        self.log.push(sql.clone());
        match session(&engine).sql(&sql).await {
            Err(e) if e.kind() == Kind::Expired && Self::cut(&engine).await != i64::MIN => {}
            done => drop(done.unwrap()),
        }
    }

    /// Measures join and leave; one that comes back has the rollup built anew.
    pub(super) async fn replace_definition(&mut self) {
        self.more = self.random.random_range(0..MORE.len());
        self.log.push(format!("weekly has {:?}", MORE[self.more]));
        let engine = self.engine();
        let sql = format!("CREATE OR REPLACE MATERIALIZED VIEW weekly AS {}", weekly("sales", self.more));
        session(&engine).sql(&sql).await.unwrap();
    }

    /// Compaction as any of our tables may have it: the rows of some files in one new file.
    pub(super) async fn rewrite(&mut self) {
        let engine = self.engine();
        let table = if self.random.random_bool(0.5) {
            Arc::clone(Self::events(&engine).await.table())
        } else {
            Arc::clone(&self.any_rollup().await.1.table)
        };
        self.log.push(format!("rewrite {}", table.name()));
        let snapshot = table.update().await.unwrap();
        let files: Vec<Arc<File>> = snapshot.files.values().cloned().collect();
        let some: Vec<Arc<File>> = files.choose_multiple(&mut self.random, 2).cloned().collect();
        let rows = LogicalPlanBuilder::from(
            Files::new(table.store(), snapshot.schema.clone(), some.clone()).into_plan("some").unwrap(),
        );
        self.replace(&engine, &table, some, rows, CommitKind::Rewrite).await;
    }

    /// All sales of one product leave, by a commit whose kind says nothing of how.
    pub(super) async fn delete(&mut self) {
        let Some(product) = self.truth.choose(&mut self.random).map(|e| e.product) else { return };
        self.log.push(format!("delete {product:?}"));
        let engine = self.engine();
        let table = Arc::clone(Self::events(&engine).await.table());
        let snapshot = table.update().await.unwrap();
        let files: Vec<Arc<File>> = snapshot.files.values().cloned().collect();
        let kept = match product {
            Some(p) => {
                let column = datafusion::prelude::col("product_id");
                column.clone().not_eq(datafusion::prelude::lit(p)).or(column.is_null())
            }
            None => datafusion::prelude::col("product_id").is_not_null(),
        };
        let cut = snapshot.expired_through().unwrap_or(i64::MIN);
        let instant = datafusion::scalar::ScalarValue::TimestampMicrosecond(Some(cut), None);
        let kept = kept.or(datafusion::prelude::col("event_time").lt(datafusion::prelude::lit(instant)));
        let rows =
            Files::new(table.store(), snapshot.schema.clone(), files.clone()).into_plan("all").unwrap();
        let rows = LogicalPlanBuilder::from(rows).filter(kept).unwrap();
        if self.replace(&engine, &table, files, rows, CommitKind::Foreign).await {
            self.truth.retain(|e| e.product != product || e.time < cut);
        }
    }

    pub(super) async fn replace(
        &mut self,
        engine: &Engine,
        table: &Table,
        files: Vec<Arc<File>>,
        rows: LogicalPlanBuilder,
        kind: CommitKind,
    ) -> bool {
        if files.is_empty() {
            return false;
        }
        let snapshot = table.update().await.unwrap();
        let state = engine.state();
        let plan = state.create_physical_plan(&rows.build().unwrap()).await.unwrap();
        let stream = datafusion::physical_plan::execute_stream(plan, state.task_ctx()).unwrap();
        let mut writer = FileWriter::new(table.store(), snapshot.schema.clone(), None);
        writer.write_all(stream).await.unwrap();
        let mut change = Change::new(kind, "TEST", &snapshot);
        change.removes = files;
        change.adds = writer.finish().await.unwrap();
        match table.commit(&change).await {
            Ok(_) => true,
            Err(e) if e.kind() == Kind::Conflict => false,
            Err(e) => panic!("{e}"),
        }
    }
}
