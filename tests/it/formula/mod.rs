//! Invariant 3 on the real thing: in whatever order events come, are folded, compacted, recomputed, deleted, and
//! whatever crashes or races meanwhile, every rollup equals its definition over the events ingested, less those deleted.
//!
//! The model in `protocol/` has the same rules over plain vectors and runs thousands of times as many cases; here the
//! tables are Delta tables in a folder, two engines share them, and the answer comes from SQL.

mod changes;
mod sales;
mod weathered;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use toplake::catalog::events::EventsTable;
use toplake::catalog::warehouse::Object;
use toplake::error::Kind;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::writer::FileWriter;
use toplake::maintain::target::Target;
use toplake::rollup::fold::fold;
use toplake::rollup::view::Rollup;
use toplake::session::{Engine, open};
use toplake::statement::Session;

use self::sales::{Event, ROLLUPS, SCHEMA, batch, random_event, weekly};

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
