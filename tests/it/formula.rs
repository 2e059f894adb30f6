//! Invariant 3 on the real thing: in whatever order events come, are folded, compacted, recomputed, deleted, and
//! whatever crashes or races meanwhile, every rollup equals its definition over the events ingested, less those deleted.
//!
//! The model in `protocol/` has the same rules over plain vectors and runs thousands of times as many cases; here the
//! tables are Delta tables in a folder, two engines share them, and the answer comes from SQL.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlanBuilder;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use toplake::catalog::events::EventsTable;
use toplake::catalog::warehouse::{Object, Warehouse};
use toplake::error::Kind;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::provider::Files;
use toplake::lake::snapshot::File;
use toplake::lake::store::Store;
use toplake::lake::table::Table;
use toplake::lake::writer::FileWriter;
use toplake::maintain::compact::compact;
use toplake::maintain::expire::expire;
use toplake::maintain::target::{Rows, Target};
use toplake::maintain::vacuum::{Horizon, vacuum};
use toplake::rollup::fold::fold;
use toplake::rollup::view::Rollup;
use toplake::session::{Engine, open};
use toplake::statement::Session;

use crate::weather::WeatheredStore;

const SCHEMA: &str = "CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR,
    country VARCHAR, quantity BIGINT, amount DECIMAL(18, 4)) WITH (time_column = 'event_time')";

/// Each rollup: what creates it, and the same over the raw events.
const ROLLUPS: [(&str, &str, &str); 4] = [
    (
        "hourly",
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
            count(*) AS events, count(amount) AS paid, sum(amount) AS amount, min(quantity) AS least,
            max(event_time) AS last FROM sales WHERE country <> 'XX' OR country IS NULL GROUP BY 1, 2, 3",
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
            count(*) AS events, count(amount) AS paid, sum(amount) AS amount, min(quantity) AS least,
            max(event_time) AS last FROM truth WHERE country <> 'XX' OR country IS NULL GROUP BY 1, 2, 3",
    ),
    (
        "daily",
        "SELECT time_bucket(INTERVAL '1 day', bucket, 'Europe/Berlin') AS day, product_id, sum(quantity) AS quantity,
            sum(events) AS events, sum(amount) AS amount, min(least) AS least, max(last) AS last
            FROM hourly WHERE country <> 'YY' OR country IS NULL GROUP BY 1, 2",
        "SELECT time_bucket(INTERVAL '1 day', event_time, 'Europe/Berlin') AS day, product_id, sum(quantity) AS quantity,
            count(*) AS events, sum(amount) AS amount, min(quantity) AS least, max(event_time) AS last
            FROM truth WHERE country NOT IN ('XX', 'YY') OR country IS NULL GROUP BY 1, 2",
    ),
    (
        "monthly",
        "SELECT time_bucket(INTERVAL '1 month', day, 'Europe/Berlin') AS month, sum(quantity) AS quantity,
            sum(events) AS events, sum(amount) AS amount FROM daily GROUP BY 1",
        "SELECT time_bucket(INTERVAL '1 month', event_time, 'Europe/Berlin') AS month, sum(quantity) AS quantity,
            count(*) AS events, sum(amount) AS amount
            FROM truth WHERE country NOT IN ('XX', 'YY') OR country IS NULL GROUP BY 1",
    ),
    (
        "minutely",
        "SELECT time_bucket(INTERVAL '7 minutes', event_time) AS bucket, count(*) AS events FROM sales GROUP BY 1",
        "SELECT time_bucket(INTERVAL '7 minutes', event_time) AS bucket, count(*) AS events FROM truth GROUP BY 1",
    ),
];

/// Measures that the rollup by weeks may have besides its own: its definition is replaced again and again.
const MORE: [&str; 3] =
    ["", ", max(event_time) AS last", ", max(event_time) AS last, min(quantity) AS least"];

/// The rollup by weeks.
fn weekly(source: &str, more: usize) -> String {
    let more = MORE[more];
    format!(
        "SELECT date_trunc('week', event_time) AS week, country, count(quantity) AS counted, sum(quantity) AS quantity{more}
         FROM {source} GROUP BY 1, 2"
    )
}

#[derive(Clone, Debug)]
struct Event {
    id: i64,
    time: i64,
    product: Option<&'static str>,
    country: Option<&'static str>,
    quantity: Option<i64>,
    amount: Option<i128>,
}

/// Several days around both changes of the clock in Berlin in 2026, in microseconds.
fn random_time(random: &mut StdRng) -> i64 {
    let spring = 1_774_656_000_000_000_i64; // 2026-03-28
    let autumn = 1_792_800_000_000_000_i64; // 2026-10-24
    let base = *[spring, spring, autumn].choose(random).unwrap();
    // Often the same instants, often a bucket's edge.
    match random.random_range(0..4) {
        0 => base + random.random_range(0..72) * 3_600_000_000,
        1 => base + random.random_range(0..72) * 3_600_000_000 - 1,
        _ => base + random.random_range(0..72 * 3_600_000_000),
    }
}

fn random_event(random: &mut StdRng, id: i64) -> Event {
    let refund = random.random_bool(0.1);
    let quantity = random.random_range(1..5) * if refund { -1 } else { 1 };
    Event {
        id,
        time: random_time(random),
        product: *[Some("a"), Some("b"), Some("c"), None].choose(random).unwrap(),
        country: *[Some("KR"), Some("XX"), Some("YY"), None].choose(random).unwrap(),
        quantity: random.random_bool(0.9).then_some(quantity),
        amount: random.random_bool(0.9).then_some(i128::from(quantity) * random.random_range(1..1_000_000)),
    }
}

fn batch(schema: &SchemaRef, events: &[Event]) -> RecordBatch {
    let amounts: Decimal128Array = events.iter().map(|e| e.amount).collect();
    RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            Arc::new(events.iter().map(|e| Some(e.id)).collect::<Int64Array>()),
            Arc::new(events.iter().map(|e| Some(e.time)).collect::<TimestampMicrosecondArray>()),
            Arc::new(events.iter().map(|e| e.product).collect::<StringViewArray>()),
            Arc::new(events.iter().map(|e| e.country).collect::<StringViewArray>()),
            Arc::new(events.iter().map(|e| e.quantity).collect::<Int64Array>()),
            Arc::new(amounts.with_precision_and_scale(18, 4).unwrap()),
        ],
    )
    .unwrap()
}

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

struct World {
    folder: String,
    engines: [Engine; 2],
    random: StdRng,
    truth: Vec<Event>,
    next_id: i64,
    /// Which of [`MORE`] the rollup by weeks has.
    more: usize,
    /// Whether its measures have to be known everywhere.
    complete: bool,
    log: Vec<String>,
}

impl World {
    async fn new(seed: u64, folder: &str) -> Self {
        let first = open(folder).await.unwrap();
        let sql = Session::new(first.context(), first.warehouse().clone());
        sql.sql(SCHEMA).await.unwrap();
        for (name, definition, _) in ROLLUPS {
            let create = format!(
                "CREATE MATERIALIZED VIEW {name} WITH (refresh_mode = 'incremental') AS {definition}"
            );
            sql.sql(&create).await.unwrap();
        }
        sql.sql(&format!("CREATE MATERIALIZED VIEW weekly AS {}", weekly("sales", 0))).await.unwrap();
        let second = open(folder).await.unwrap();
        World {
            folder: folder.to_owned(),
            engines: [first, second],
            random: StdRng::seed_from_u64(seed),
            truth: vec![],
            next_id: 0,
            more: 0,
            complete: false,
            log: vec![],
        }
    }

    fn engine(&mut self) -> Engine {
        self.engines.choose(&mut self.random).unwrap().clone()
    }

    async fn events(engine: &Engine) -> Arc<EventsTable> {
        match engine.warehouse().require("sales").await.unwrap() {
            Object::Table(events) => events,
            other => panic!("{other:?}"),
        }
    }

    fn any_name(&mut self) -> &'static str {
        ROLLUPS.map(|rollup| rollup.0).into_iter().chain(["weekly"]).choose(&mut self.random).unwrap()
    }

    async fn any_rollup(&mut self) -> (Engine, Arc<Rollup>) {
        let engine = self.engine();
        let name = self.any_name();
        let rollup = engine.warehouse().rollup(name).await.unwrap();
        self.log.push(format!("  {name}"));
        (engine, rollup)
    }

    async fn step(&mut self) {
        let op = self.random.random_range(0..100);
        match op {
            0..24 => self.append().await,
            24..36 => self.fold().await,
            36..54 => self.weathered().await,
            54..59 => self.race().await,
            59..62 => self.recompute().await,
            62..64 => self.repair().await,
            64..68 => self.rewrite().await,
            68..70 => self.replace_definition().await,
            70..75 => self.compact().await,
            75..79 => self.vacuum().await,
            79..84 => self.expire().await,
            84..88 => self.delete().await,
            88..92 => self.delete_by_sql().await,
            _ => self.check().await,
        }
    }

    async fn append(&mut self) {
        let count = self.random.random_range(1..6);
        let events: Vec<Event> =
            (0..count).map(|i| random_event(&mut self.random, self.next_id + i)).collect();
        self.next_id += count;
        self.log.push(format!("append {events:?}"));
        let engine = self.engine();
        let table = Self::events(&engine).await;
        let snapshot = table.table().update().await.unwrap();
        let mut writer = FileWriter::new(table.table().store(), snapshot.schema.clone(), None);
        writer.write(&batch(&snapshot.schema, &events)).await.unwrap();
        let mut change = Change::new(CommitKind::Append, "WRITE", &snapshot);
        change.adds = writer.finish().await.unwrap();
        table.table().commit(&change).await.unwrap();
        self.truth.extend(events);
    }

    async fn fold(&mut self) {
        self.log.push("fold".into());
        let (engine, rollup) = self.any_rollup().await;
        fold(&rollup, &engine.state()).await.unwrap();
    }

    /// A statement of a process that sees the store through bad weather, or dies at any of its requests. It may fail and
    /// may be carried out all the same: what became of it is asked of another process.
    async fn weathered(&mut self) {
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
    fn survived<T>(&self, done: Option<toplake::error::Result<T>>) {
        if let Some(Err(e)) = done {
            assert!(
                matches!(e.kind(), Kind::Storage | Kind::Conflict),
                "{e}\n{:?}\n{}",
                e.kind(),
                self.log.join("\n")
            );
        }
    }

    async fn weathered_append(&mut self, store: &WeatheredStore, engine: &Engine) {
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

    async fn weathered_delete(&mut self, store: &WeatheredStore, engine: &Engine) {
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

    /// Two engines fold the same rollup at the same time.
    async fn race(&mut self) {
        self.log.push("race".into());
        let name = self.any_name();
        let [a, b] = self.engines.clone();
        let (left, right) =
            (a.warehouse().rollup(name).await.unwrap(), b.warehouse().rollup(name).await.unwrap());
        let (left_state, right_state) = (a.state(), b.state());
        let (left, right) = tokio::join!(fold(&left, &left_state), fold(&right, &right_state));
        left.unwrap();
        right.unwrap();
    }

    /// Before this instant events have expired; `i64::MIN` if none have.
    async fn cut(engine: &Engine) -> i64 {
        let table = Self::events(engine).await;
        table.table().update().await.unwrap().expired_through().unwrap_or(i64::MIN)
    }

    async fn any_target(&mut self) -> (Engine, Target) {
        let engine = self.engine();
        let name = if self.random.random_bool(0.4) { "sales" } else { self.any_name() };
        self.log.push(format!("  {name}"));
        let target = Target::find(engine.warehouse(), name).await.unwrap();
        (engine, target)
    }

    /// Compaction, at times dropped somewhere in the middle.
    async fn compact(&mut self) {
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
    async fn vacuum(&mut self) {
        let full = self.random.random_bool(0.5);
        self.log.push(format!("vacuum, full: {full}"));
        let (engine, target) = self.any_target().await;
        vacuum(engine.warehouse(), &target, full, Some(Horizon(Duration::ZERO))).await.unwrap();
    }

    /// Retention, which may be altered at any time. Rollups keep what they have, so the truth does not change.
    async fn expire(&mut self) {
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
    async fn delete_by_sql(&mut self) {
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

    async fn recompute(&mut self) {
        self.call("recompute").await;
    }

    async fn repair(&mut self) {
        self.call("repair").await;
    }

    async fn call(&mut self, procedure: &str) {
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
    async fn replace_definition(&mut self) {
        self.more = self.random.random_range(0..MORE.len());
        self.log.push(format!("weekly has {:?}", MORE[self.more]));
        let engine = self.engine();
        let sql = format!("CREATE OR REPLACE MATERIALIZED VIEW weekly AS {}", weekly("sales", self.more));
        session(&engine).sql(&sql).await.unwrap();
    }

    /// Compaction as any of our tables may have it: the rows of some files in one new file.
    async fn rewrite(&mut self) {
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
    async fn delete(&mut self) {
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

    async fn replace(
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

    /// A query of the table `truth`: every event that was ingested and not deleted.
    async fn truth(&self, sql: &str) -> Vec<RecordBatch> {
        let table = Self::events(&self.engines[0]).await;
        let schema = datafusion::catalog::TableProvider::schema(table.as_ref());
        let truth = MemTable::try_new(Arc::clone(&schema), vec![vec![batch(&schema, &self.truth)]]).unwrap();
        let context = datafusion::prelude::SessionContext::new();
        toplake_udfs::register_all(&context).unwrap();
        context.register_table("truth", Arc::new(truth)).unwrap();
        context.sql(sql).await.unwrap().collect().await.unwrap()
    }

    /// Every rollup against its definition over the truth, and a query with filters against the same filters.
    async fn check(&mut self) {
        self.log.push("check".into());
        let engine = self.engine();
        let session = session(&engine);
        for (name, _, definition) in ROLLUPS {
            let first = datafusion::catalog::TableProvider::schema(
                engine.warehouse().require(name).await.unwrap().provider().as_ref(),
            )
            .field(0)
            .name()
            .clone();
            let filters = [
                String::new(),
                format!("WHERE {first} >= TIMESTAMP '2026-03-29T01:00:00'"),
                format!("WHERE {first} < TIMESTAMP '2026-03-29T22:00:00'"),
            ];
            for filter in filters {
                let found = session.sql(&format!("SELECT * FROM {name} {filter}")).await.unwrap();
                let wanted = self.truth(&format!("SELECT * FROM ({definition}) AS d {filter}")).await;
                assert_eq!(lines(&found), lines(&wanted), "{name} {filter}\n{}", self.log.join("\n"));
            }
        }
        let wanted = self.truth(&weekly("truth", self.more)).await;
        let cut = Self::cut(&engine).await;
        // What is past its retention cannot be computed for a new measure any more.
        let (wanted, complete) = (lines(&wanted), self.complete && cut == i64::MIN);
        let found = lines(&session.sql("SELECT * FROM weekly").await.unwrap());
        assert_eq!(found.len(), wanted.len(), "weekly\n{}", self.log.join("\n"));
        for (found, wanted) in found.iter().zip(&wanted) {
            // What a new measure is may not be known yet; if something is said of it, it is right.
            let known = found.split('|').zip(wanted.split('|')).enumerate();
            let mut right =
                known.map(|(i, (found, wanted))| found == wanted || !complete && i > 4 && found.is_empty());
            assert!(right.all(|one| one), "{found}\n{wanted}\n{}", self.log.join("\n"));
        }
        let from = toplake::lake::instant::shown(cut);
        for name in ROLLUPS.map(|rollup| rollup.0).into_iter().chain(["weekly"]) {
            let audit = format!("SELECT * FROM audit('{name}', '{from}', 'infinity')");
            let audited = match session.sql(&audit).await {
                // The cut is an edge of the buckets that are made from the events, and of no others.
                Err(e) if e.kind() == Kind::Expired && cut != i64::MIN => vec![],
                audited => audited.unwrap(),
            };
            let shown = pretty_format_batches(&audited).unwrap().to_string();
            assert_eq!(
                audited.iter().map(RecordBatch::num_rows).sum::<usize>(),
                0,
                "{name}\n{shown}\n{}",
                self.log.join("\n")
            );
        }
    }
}

fn session(engine: &Engine) -> Session {
    Session::new(engine.context(), engine.warehouse().clone())
}

fn lines(rows: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(rows).unwrap().to_string();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>().join("|");
    let mut lines: Vec<String> = text.lines().filter(|l| l.starts_with('|')).map(cells).collect();
    lines.sort();
    lines
}

/// `TOPLAKE_FORMULA_SEEDS` raises the number of runs.
#[test]
fn every_rollup_equals_its_definition() {
    let seeds = std::env::var("TOPLAKE_FORMULA_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    let first = std::env::var("TOPLAKE_FORMULA_FIRST").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for seed in first..first + seeds {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut world = World::new(seed, folder.path().to_str().unwrap()).await;
            world.log.push(format!("seed {seed}"));
            for _ in 0..40 {
                world.step().await;
            }
            world.check().await;
            let engine = world.engine();
            session(&engine).sql("REFRESH MATERIALIZED VIEW weekly").await.unwrap();
            let left = "SELECT object FROM toplake.jobs WHERE object = 'weekly' AND pending_from IS NOT NULL";
            let left = session(&engine).sql(left).await.unwrap();
            assert_eq!(left.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "all is known");
            world.complete = true;
            world.check().await;
        });
    }
}
