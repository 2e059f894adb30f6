//! What rollups cost: building one, asking one, and folding late events.
//!
//! `cargo bench --bench rollup [-- NAME… [--rows N] [--data FOLDER] [--runs N] [--json]]`
//!
//! | name | what |
//! | --- | --- |
//! | `build` | a day of raw events in 24 files (50 million, Zipf 1.05 over 10 million products) into an hourly rollup |
//! | `day` | the leading products of a day, from 24 compacted hours of a million products each |
//! | `minutes` | the leading ads of the last 5 minutes in one country, from a minute rollup of a million rows a minute |
//! | `tail` | the same while more and more clicks are not folded yet |
//! | `late` | late events of 60 days in one file are folded, with 512 MiB for the engine |
//!
//! Without a name all run, one after another, two threads each. A line says what it is, the median of its runs in seconds,
//! and the most memory that the process had. Data that is in the folder is used again; `peers/rollup.py` runs `build` beside
//! other engines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::table::Table;
use toplake::lake::writer::FileWriter;
use toplake::session;
use toplake::statement::Session;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PRODUCTS: usize = 10_000_000;
const ZIPF: f64 = 1.05;

/// 2026-03-01.
const START: i64 = 1_772_323_200_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Rows of a batch that is generated at once.
const BATCH: usize = 100_000;

const ALL: [&str; 5] = ["build", "day", "minutes", "tail", "late"];

struct Options {
    names: Vec<String>,
    rows: Option<usize>,
    data: PathBuf,
    runs: usize,
    json: bool,
}

fn options() -> Result<Options> {
    let mut options = Options {
        names: vec![],
        rows: None,
        data: Path::new(env!("CARGO_TARGET_TMPDIR")).join("rollup"),
        runs: 5,
        json: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rows" => options.rows = Some(value()?.parse()?),
            "--data" => options.data = value()?.into(),
            "--runs" => options.runs = value()?.parse()?,
            "--json" => options.json = true,
            // Cargo's own.
            "--bench" => {}
            name if ALL.contains(&name) => options.names.push(name.to_owned()),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    if options.names.is_empty() {
        options.names = ALL.map(str::to_owned).to_vec();
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for name in &options.names {
        match name.as_str() {
            "build" => runtime.block_on(build(&options))?,
            "day" => runtime.block_on(day(&options))?,
            "minutes" => runtime.block_on(minutes(&options))?,
            "tail" => runtime.block_on(tail(&options))?,
            _ => runtime.block_on(late(&options))?,
        }
    }
    Ok(())
}

/// A session over the warehouse of one part, and whether it was just made.
async fn warehouse(options: &Options, name: &str, memory: usize, schema: &str) -> Result<(Session, bool)> {
    let folder = options.data.join(name);
    std::fs::create_dir_all(&folder)?;
    let warehouse =
        toplake::catalog::warehouse::Warehouse::open(folder.to_str().ok_or("not a path")?).await?;
    let engine = session::Engine::try_new(warehouse, memory)?;
    let context = engine.context();
    context.state_ref().write().config_mut().options_mut().execution.target_partitions = 2;
    let session = Session::new(context, Arc::clone(engine.warehouse()));
    let made = engine.warehouse().list().await?.is_empty();
    if made {
        session.sql(schema).await?;
    }
    Ok((session, made))
}

async fn table(session: &Session, name: &str) -> Result<Arc<Table>> {
    session.warehouse().table(name).await?.ok_or_else(|| format!("there is no table {name}").into())
}

/// Commits files of rows: one for each item of `files`, in batches of that item's own.
async fn append<I: Iterator<Item = Vec<ArrayRef>>>(
    table: &Table,
    files: impl IntoIterator<Item = I>,
) -> Result<()> {
    let snapshot = table.update().await?;
    let mut writer = FileWriter::new(table.store(), Arc::clone(&snapshot.schema), None);
    for file in files {
        for columns in file {
            writer.write(&RecordBatch::try_new(Arc::clone(&snapshot.schema), columns)?).await?;
        }
        writer.cut().await?;
    }
    let mut change = Change::new(CommitKind::Append, "WRITE", &snapshot);
    change.adds = writer.finish().await?;
    table.commit(&change).await?;
    Ok(())
}

/// Times `work` some times and says what came of it.
async fn measure<F: Future<Output = Result<()>>>(
    options: &Options,
    what: &str,
    mut work: impl FnMut() -> F,
) -> Result<()> {
    peak_memory();
    let mut seconds = vec![];
    for _ in 0..options.runs {
        let begun = Instant::now();
        work().await?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    say(options, what, seconds)
}

fn say(options: &Options, what: &str, mut seconds: Vec<f64>) -> Result<()> {
    seconds.sort_by(f64::total_cmp);
    let (median, least, memory) = (seconds[seconds.len() / 2], seconds[0], peak_memory());
    if options.json {
        println!("{{\"what\": \"{what}\", \"seconds\": {median}, \"mib\": {memory}}}");
    } else {
        println!("{what:60} median {median:8.4} s  min {least:8.4} s  {memory:6} MiB");
    }
    Ok(())
}

/// The most memory that the process has had since the last call, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    _ = std::fs::write("/proc/self/clear_refs", "5");
    peak.and_then(|kb| kb.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Ids of products that sell as Zipf says.
struct Products {
    cumulative: Vec<f64>,
}

impl Products {
    fn new() -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=PRODUCTS).map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        });
        Products { cumulative: cumulative.collect() }
    }

    fn next(&self, random: &mut StdRng) -> i64 {
        let at = random.random::<f64>() * self.cumulative[PRODUCTS - 1];
        let rank = self.cumulative.partition_point(|c| *c < at) as u64;
        // Ids say nothing of the rank.
        (rank.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as i64
    }
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values))
}

fn numbers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

const GIB: usize = 1 << 30;

const SALES: &str = "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id BIGINT, quantity BIGINT)
    WITH (time_column = 'event_time')";

const HOURLY: &str = "CREATE MATERIALIZED VIEW hourly AS
    SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity
    FROM sales GROUP BY 1, 2";

async fn build(options: &Options) -> Result<()> {
    let rows = options.rows.unwrap_or(50_000_000);
    let (session, made) = warehouse(options, &format!("build-{rows}"), 16 * GIB, SALES).await?;
    if made {
        let products = Products::new();
        let files = (0..24_i64).map(|hour| {
            let products = &products;
            let mut random = StdRng::seed_from_u64(7 + hour as u64);
            let mut left = rows / 24;
            std::iter::from_fn(move || {
                let n = left.min(BATCH);
                left -= n;
                let from = START + hour * HOUR;
                (n > 0).then(|| {
                    vec![
                        times((0..n).map(|_| from + random.random_range(0..HOUR))),
                        numbers((0..n).map(|_| products.next(&mut random))),
                        numbers((0..n).map(|_| random.random_range(1..6))),
                    ]
                })
            })
        });
        append(&*table(&session, "sales").await?, files).await?;
    }
    let session = &session;
    for _ in 0..2 {
        // The first reads the files into the page cache.
        session.sql("SELECT sum(product_id % 2), sum(quantity), max(event_time) FROM sales").await?;
    }
    measure(options, "scan the events", || async {
        session.sql("SELECT sum(product_id % 2), sum(quantity), max(event_time) FROM sales").await?;
        Ok(())
    })
    .await?;
    let mut seconds = vec![];
    for _ in 0..options.runs {
        session.sql("DROP MATERIALIZED VIEW IF EXISTS hourly").await?;
        let begun = Instant::now();
        session.sql(HOURLY).await?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    say(options, "build the hourly rollup", seconds)
}

const TOP_OF_DAY: &str = "SELECT product_id, sum(quantity) AS quantity FROM hourly
    WHERE bucket >= '2026-03-01' AND bucket < '2026-03-02' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100";

async fn day(options: &Options) -> Result<()> {
    let products = options.rows.map_or(1_000_000, |rows| rows / 24) as i64;
    let (session, made) = warehouse(options, &format!("day-{products}"), 16 * GIB, SALES).await?;
    if made {
        session.sql(HOURLY).await?;
        let sales = table(&session, "sales").await?;
        for hour in 0..24 {
            let file = (0..products).step_by(BATCH).map(|from| {
                let ids = || from..products.min(from + BATCH as i64);
                vec![
                    times(ids().map(|p| START + hour * HOUR + p * 7919 % HOUR)),
                    numbers(ids()),
                    numbers(ids().map(|p| 1 + (p * 31 + hour * 7) % (1 + 1_000_000 / (1 + p % 5000)))),
                ]
            });
            append(&sales, [file]).await?;
            session.sql("REFRESH MATERIALIZED VIEW hourly").await?;
        }
        session.sql("CALL compact('hourly')").await?;
    }
    let session = &session;
    measure(options, "top 100 of a day, from 24 compacted hours", || async {
        session.sql(TOP_OF_DAY).await?;
        Ok(())
    })
    .await?;
    let raw = TOP_OF_DAY.replace("hourly", "sales").replace("bucket", "event_time");
    measure(options, "the same from the events", || async {
        session.sql(&raw).await?;
        Ok(())
    })
    .await?;
    measure(options, "total of a day, from 24 compacted hours", || async {
        session
            .sql("SELECT sum(quantity) FROM hourly WHERE bucket >= '2026-03-01' AND bucket < '2026-03-02'")
            .await?;
        Ok(())
    })
    .await?;
    measure(options, "one product's day by the hour", || async {
        session
            .sql("SELECT bucket, quantity FROM hourly WHERE product_id = 4711 AND bucket >= '2026-03-01'")
            .await?;
        Ok(())
    })
    .await
}

const CLICKS: &str = "
    CREATE TABLE ad_clicks (click_time TIMESTAMP NOT NULL, country VARCHAR, ad_id BIGINT)
      WITH (time_column = 'click_time');
    CREATE MATERIALIZED VIEW minutely AS
      SELECT time_bucket(INTERVAL '1 minute', click_time) AS bucket, country, ad_id, count(*) AS clicks
      FROM ad_clicks GROUP BY 1, 2, 3";

const TOP_OF_FIVE: &str = "SELECT ad_id, sum(clicks) AS clicks FROM minutely
    WHERE country = 'C07' AND bucket >= '2026-03-01 00:05:00' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100";

/// Countries that clicks come from, as many from one as from another.
const COUNTRIES: i64 = 20;

/// Clicks of a minute, one or two for each of `pairs` ads in a country.
fn minute(pairs: i64, minute: i64) -> impl Iterator<Item = Vec<ArrayRef>> {
    let country: Vec<String> = (0..COUNTRIES).map(|c| format!("C{c:02}")).collect();
    (0..pairs).step_by(BATCH).map(move |from| {
        let ids = || from..pairs.min(from + BATCH as i64);
        let names = ids().map(|i| country[(i % COUNTRIES) as usize].as_str());
        vec![
            times(ids().map(|i| START + minute * MINUTE + i * 7919 % MINUTE)),
            Arc::new(StringViewArray::from_iter_values(names)),
            // Every country has ads of its own and shares others.
            numbers(ids().map(|i| (i / COUNTRIES) * (1 + i % 2 * (i % COUNTRIES)))),
        ]
    })
}

async fn clicks(options: &Options, name: &str) -> Result<(Session, i64)> {
    let pairs = options.rows.map_or(1_000_000, |rows| rows / 10) as i64;
    let (session, made) = warehouse(options, &format!("{name}-{pairs}"), 16 * GIB, CLICKS).await?;
    if made {
        let clicks = table(&session, "ad_clicks").await?;
        for at in 0..10 {
            // Some are clicked on again.
            append(&clicks, [minute(pairs, at)]).await?;
            append(&clicks, [minute(pairs / 5, at)]).await?;
            session.sql("REFRESH MATERIALIZED VIEW minutely").await?;
        }
        session.sql("CALL compact('minutely')").await?;
    }
    Ok((session, pairs))
}

async fn minutes(options: &Options) -> Result<()> {
    let (session, _) = clicks(options, "minutes").await?;
    let session = &session;
    measure(options, "top 100 of 5 minutes in one country", || async {
        session.sql(TOP_OF_FIVE).await?;
        Ok(())
    })
    .await?;
    let everywhere = TOP_OF_FIVE.replace("country = 'C07' AND ", "");
    measure(options, "top 100 of 5 minutes in all countries", || async {
        session.sql(&everywhere).await?;
        Ok(())
    })
    .await?;
    measure(options, "clicks of one ad in 5 minutes", || async {
        session
            .sql("SELECT sum(clicks) FROM minutely WHERE ad_id = 4711 AND bucket >= '2026-03-01 00:05:00'")
            .await?;
        Ok(())
    })
    .await?;
    let raw = "SELECT ad_id, count(*) AS clicks FROM ad_clicks
        WHERE country = 'C07' AND click_time >= '2026-03-01 00:05:00' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100";
    measure(options, "top 100 of 5 minutes in one country, from the events", || async {
        session.sql(raw).await?;
        Ok(())
    })
    .await
}

/// On a copy of what `minutes` uses, as it adds clicks.
async fn tail(options: &Options) -> Result<()> {
    std::fs::remove_dir_all(options.data.join("tail")).ok();
    let tails = Options { names: vec![], rows: options.rows, data: options.data.join("tail"), ..*options };
    let (session, pairs) = clicks(&tails, "minutes").await?;
    let ad_clicks = table(&session, "ad_clicks").await?;
    let mut unfolded = 0;
    let session = &session;
    for more in [0, pairs / 100, pairs / 10 - pairs / 100, pairs - pairs / 10, 4 * pairs] {
        for part in 0..(more / pairs).max(1) {
            if more > 0 {
                append(&ad_clicks, [minute(more.min(pairs), 9 - part)]).await?;
            }
        }
        unfolded += more;
        measure(options, &format!("top 100 of 5 minutes, {unfolded} clicks not folded"), || async {
            session.sql(TOP_OF_FIVE).await?;
            Ok(())
        })
        .await?;
    }
    // Every second a file: what a fold takes in while it lags a minute behind.
    session.sql("REFRESH MATERIALIZED VIEW minutely").await?;
    for _ in 0..60 {
        append(&ad_clicks, [minute(pairs / 60, 9)]).await?;
    }
    measure(options, &format!("the same, {pairs} clicks in 60 files not folded"), || async {
        session.sql(TOP_OF_FIVE).await?;
        Ok(())
    })
    .await
}

async fn late(options: &Options) -> Result<()> {
    let rows = options.rows.unwrap_or(20_000_000);
    std::fs::remove_dir_all(options.data.join("late")).ok();
    let (session, _) = warehouse(options, "late", 512 << 20, SALES).await?;
    session.sql(HOURLY).await?;
    let sales = table(&session, "sales").await?;
    // What is there when they come: a row for each hour.
    append(
        &sales,
        [std::iter::once(vec![
            times((0..60 * 24).map(|h| START + h * HOUR)),
            numbers(0..60 * 24),
            numbers((0..60 * 24).map(|_| 1)),
        ])],
    )
    .await?;
    session.sql("REFRESH MATERIALIZED VIEW hourly").await?;
    let mut random = StdRng::seed_from_u64(11);
    let mut left = rows;
    let file = std::iter::from_fn(|| {
        let n = left.min(BATCH);
        left -= n;
        (n > 0).then(|| {
            vec![
                times((0..n).map(|_| START + random.random_range(0..60 * DAY))),
                numbers((0..n).map(|_| random.random_range(0..100_000))),
                numbers((0..n).map(|_| random.random_range(1..6))),
            ]
        })
    });
    append(&sales, [file]).await?;
    peak_memory();
    let begun = Instant::now();
    session.sql("REFRESH MATERIALIZED VIEW hourly").await?;
    say(options, &format!("fold {rows} late events of 60 days"), vec![begun.elapsed().as_secs_f64()])?;
    let differing = session.sql("SELECT * FROM audit('hourly', '2026-03-01', '2026-03-03')").await?;
    if differing.iter().any(|batch| batch.num_rows() > 0) {
        return Err("the rollup differs from its events".into());
    }
    Ok(())
}
