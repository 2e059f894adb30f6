//! What is done by a process that sees the store through bad weather, or dies.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use rand::Rng;
use rand::seq::IndexedRandom;
use toplake::catalog::warehouse::Warehouse;
use toplake::error::Kind;
use toplake::lake::store::Store;
use toplake::session::Engine;

use super::sales::{MORE, ROLLUPS, random_event, random_time, weekly};
use super::{World, lines, session};
use crate::weather::WeatheredStore;

/// What is done in bad weather.
#[derive(Debug)]
enum Weathered {
    Append,
    Delete,
    ReplaceDefinition,
    Query,
    /// What does not change the truth.
    Other(String),
}

impl World {
    /// A statement of a process that sees the store through bad weather, or dies at any of its requests. It may fail and
    /// may be carried out all the same: what became of it is asked of another process.
    pub(super) async fn weathered(&mut self) {
        let name = self.any_name();
        let target = if self.random.random_bool(0.4) { "sales" } else { name };
        let from = random_time(&mut self.random);
        let range = format!("to_timestamp_micros({from}), to_timestamp_micros({})", from + 50_000_000_000);
        let work = match self.random.random_range(0..100) {
            0..25 => Weathered::Append,
            25..50 => Weathered::Other(format!("REFRESH MATERIALIZED VIEW {name}")),
            50..58 => Weathered::Other(format!("CALL compact('{target}')")),
            58..64 => Weathered::Other(format!("VACUUM FULL {target}")),
            64..72 => Weathered::Other(format!("CALL recompute('{name}', {range})")),
            72..76 => Weathered::Other(format!("CALL repair('{name}', {range})")),
            76..82 => Weathered::Other("CALL expire('sales', '100 days')".into()),
            82..88 => Weathered::Delete,
            88..92 => Weathered::ReplaceDefinition,
            _ => Weathered::Query,
        };
        let inner = object_store::local::LocalFileSystem::new();
        let store = match self.random.random_bool(0.5) {
            true => WeatheredStore::death(inner, self.random.random_range(0..80), self.random.random()),
            false => WeatheredStore::storm(inner, self.random.random(), 15),
        };
        self.log.push(format!("weathered {work:?}, {store}"));
        let seen = Store::with_object_store(Arc::clone(&store) as _, &self.folder).unwrap();
        let opened = store.work(async {
            let warehouse = Warehouse::on(seen).await?;
            Engine::try_new(warehouse, 512 << 20)
        });
        // None of its requests may have gone through.
        let Some(Ok(engine)) = opened.await else { return };
        match work {
            Weathered::Other(sql) => {
                let cut = Self::cut(&self.engines[0]).await;
                match store.work(session(&engine).sql(&sql)).await {
                    Some(Err(e)) if e.kind() == Kind::Expired && cut != i64::MIN => {}
                    done => self.survived(done),
                }
            }
            Weathered::Append => self.weathered_append(&store, &engine).await,
            Weathered::Delete => self.weathered_delete(&store, &engine).await,
            Weathered::ReplaceDefinition => {
                let more = self.random.random_range(0..MORE.len());
                let sql = format!("CREATE OR REPLACE MATERIALIZED VIEW weekly AS {}", weekly("sales", more));
                let done = store.work(session(&engine).sql(&sql)).await;
                if !matches!(&done, Some(Err(e)) if e.kind() == Kind::Expired) {
                    self.survived(done);
                }
                // What became of it.
                let weekly = self.engines[0].warehouse().require("weekly").await.unwrap();
                self.more = weekly.provider().schema().fields().len() - 4;
            }
            Weathered::Query => {
                for (name, _, definition) in ROLLUPS {
                    let sql = format!("SELECT * FROM {name}");
                    let done = store.work(session(&engine).sql(&sql)).await;
                    if let Some(Ok(found)) = &done {
                        let wanted = self.truth(definition).await;
                        assert_eq!(lines(found), lines(&wanted), "{name}\n{}", self.log.join("\n"));
                    }
                    self.survived(done);
                }
            }
        }
    }

    /// What is no answer is an error of the store, and not another one.
    pub(super) fn survived<T>(&self, done: Option<toplake::error::Result<T>>) {
        if let Some(Err(e)) = done {
            assert!(
                matches!(e.kind(), Kind::Storage | Kind::Conflict),
                "{e}\n{:?}\n{}",
                e.kind(),
                self.log.join("\n")
            );
        }
    }

    pub(super) async fn weathered_append(&mut self, store: &WeatheredStore, engine: &Engine) {
        let event = random_event(&mut self.random, self.next_id);
        self.next_id += 1;
        let text = |value: Option<&str>| value.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let sql = format!(
            "INSERT INTO sales VALUES ({}, to_timestamp_micros({}), {}, {}, {}, {})",
            event.id,
            event.time,
            text(event.product),
            text(event.country),
            event.quantity.map_or("NULL".to_owned(), |quantity| quantity.to_string()),
            event.amount.map_or("NULL".to_owned(), |amount| {
                format!(
                    "{}{}.{:04}",
                    if amount < 0 { "-" } else { "" },
                    amount.abs() / 10_000,
                    amount.abs() % 10_000
                )
            }),
        );
        let done = store.work(session(engine).sql(&sql)).await;
        let counted = format!("SELECT event_id FROM sales WHERE event_id = {}", event.id);
        let found = session(&self.engines[1]).sql(&counted).await.unwrap();
        let there = found.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert!(there == 1 || there == 0 && !matches!(done, Some(Ok(_))), "{there}\n{}", self.log.join("\n"));
        self.survived(done);
        if there == 1 {
            self.truth.push(event);
        }
    }

    pub(super) async fn weathered_delete(&mut self, store: &WeatheredStore, engine: &Engine) {
        let Some(product) = self.truth.choose(&mut self.random).and_then(|e| e.product) else { return };
        let cut = Self::cut(&self.engines[0]).await;
        let since = match cut {
            i64::MIN => String::new(),
            cut => format!("AND event_time >= to_timestamp_micros({cut})"),
        };
        let whose = format!("FROM sales WHERE product_id = '{product}' {since}");
        let done = store.work(session(engine).sql(&format!("DELETE {whose}"))).await;
        let left = session(&self.engines[1]).sql(&format!("SELECT event_id {whose}")).await.unwrap();
        let left = left.iter().map(RecordBatch::num_rows).sum::<usize>();
        let before = self.truth.iter().filter(|e| e.product == Some(product) && e.time >= cut).count();
        assert!(
            left == 0 || left == before && !matches!(done, Some(Ok(_))),
            "{left}\n{}",
            self.log.join("\n")
        );
        self.survived(done);
        if left == 0 {
            self.truth.retain(|e| e.product != Some(product) || e.time < cut);
        }
    }
}
