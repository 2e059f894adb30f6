//! A day of one commit a second, one in twenty events late, with folds, compaction, vacuum and queries in between: how long
//! a query and a commit take, and how many files there are, from the first hour to the last.
//!
//! `cargo bench --bench day [-- --hours N] [--data FOLDER]` writes `results/day.csv` and `results/day.svg` beside itself if
//! the day is whole; it takes about a quarter of an hour.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::{Change, Position};
use toplake::lake::table::Table;
use toplake::lake::writer::FileWriter;
use toplake::maintain::compact::compact;
use toplake::maintain::target::Target;
use toplake::maintain::vacuum::{Horizon, vacuum};
use toplake::session;
use toplake::statement::Session;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id BIGINT, country VARCHAR, quantity BIGINT)
      WITH (time_column = 'event_time', allowed_lateness = '15 minutes');
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, country, product_id, sum(quantity) AS quantity,
        count(*) AS events FROM sales GROUP BY 1, 2, 3;
    CREATE MATERIALIZED VIEW daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, country, product_id, sum(quantity) AS quantity,
        sum(events) AS events FROM hourly GROUP BY 1, 2, 3";

/// What a dashboard asks: the leaders of the hour that runs, in one country.
fn question(second: i64) -> String {
    format!(
        "SELECT product_id, sum(quantity) AS quantity FROM hourly
         WHERE bucket = time_bucket(INTERVAL '1 hour', to_timestamp_micros({})) AND country = 'C03'
         GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
        START + second * SECOND
    )
}

const TABLES: [&str; 3] = ["sales", "hourly", "daily"];

/// 2026-03-01.
const START: i64 = 1_772_323_200_000_000;
const SECOND: i64 = 1_000_000;
const ROWS: usize = 100;

/// Simulated seconds between two folds, two compactions, two vacuums, two lines of the result.
const FOLD_EVERY: i64 = 10;
const COMPACT_EVERY: i64 = 60;
const VACUUM_EVERY: i64 = 3600;
const SAMPLE_EVERY: i64 = 600;

fn main() -> Result<()> {
    let mut hours = 24;
    let mut data: Option<PathBuf> = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--hours" => hours = args.next().ok_or("--hours needs a number")?.parse()?,
            "--data" => data = Some(args.next().ok_or("--data needs a folder")?.into()),
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let temporary = tempfile::tempdir()?;
    let folder = data.unwrap_or_else(|| temporary.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let lines = runtime.block_on(day(&folder, hours * 3600))?;
    if hours == 24 {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        std::fs::create_dir_all(&results)?;
        std::fs::write(results.join("day.csv"), csv(&lines)?)?;
        std::fs::write(results.join("day.svg"), svg(&lines)?)?;
    }
    Ok(())
}

/// What was measured since the line before; times are medians, but for the 99th percentile.
struct Line {
    second: i64,
    commit_ms: f64,
    commit_p99_ms: f64,
    fold_ms: f64,
    query_ms: f64,
    files: [usize; 3],
}

async fn day(folder: &Path, seconds: i64) -> Result<Vec<Line>> {
    let engine = session::open(folder.to_str().ok_or("not a path")?).await?;
    let session = Session::new(engine.context(), Arc::clone(engine.warehouse()));
    session.sql(SCHEMA).await?;
    let mut tables = vec![];
    for name in TABLES {
        tables.push(engine.warehouse().table(name).await?.ok_or("gone")?);
    }
    let mut random = StdRng::seed_from_u64(3);
    let (mut commits, mut folds, mut queries, mut lines) = (vec![], vec![], vec![], vec![]);
    println!("simulated     commit ms  (p99)   fold ms  query ms   files of sales, hourly, daily");
    for second in 0..seconds {
        let rows = batch(&tables[0], second, &mut random)?;
        let begun = Instant::now();
        append(&tables[0], &rows, second).await?;
        commits.push(ms(begun));
        let passed = second + 1;
        if passed % FOLD_EVERY == 0 {
            let begun = Instant::now();
            session.sql("REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily").await?;
            folds.push(ms(begun));
        }
        if passed % COMPACT_EVERY == 0 {
            for name in TABLES {
                compact(&Target::find(engine.warehouse(), name).await?, &engine.state()).await?;
            }
        }
        if passed % VACUUM_EVERY == 0 {
            for name in TABLES {
                let target = Target::find(engine.warehouse(), name).await?;
                vacuum(engine.warehouse(), &target, false, Some(Horizon(Duration::ZERO))).await?;
            }
        }
        // Neither just after a fold nor just before one.
        if passed % 60 == 35 {
            let begun = Instant::now();
            session.sql(&question(second)).await?;
            queries.push(ms(begun));
        }
        if passed % SAMPLE_EVERY == 0 {
            let mut files = [0; 3];
            for (table, files) in tables.iter().zip(&mut files) {
                *files = table.update().await?.files.len();
            }
            let line = Line {
                second: passed,
                commit_ms: quantile(&mut commits, 0.5),
                commit_p99_ms: quantile(&mut commits, 0.99),
                fold_ms: quantile(&mut folds, 0.5),
                query_ms: quantile(&mut queries, 0.5),
                files,
            };
            println!(
                "  {:>4.1} h   {:>9.2}  {:>7.2}  {:>7.1}  {:>8.1}   {:>5} {:>5} {:>5}",
                passed as f64 / 3600.0,
                line.commit_ms,
                line.commit_p99_ms,
                line.fold_ms,
                line.query_ms,
                files[0],
                files[1],
                files[2]
            );
            lines.push(line);
            commits.clear();
            folds.clear();
            queries.clear();
        }
    }
    for rollup in ["hourly", "daily"] {
        let begun = Instant::now();
        let audit = format!("SELECT * FROM audit('{rollup}', '-infinity', 'infinity')");
        let differing: usize = session.sql(&audit).await?.iter().map(RecordBatch::num_rows).sum();
        if differing > 0 {
            return Err(format!("{rollup} differs from its events in {differing} places").into());
        }
        println!("audit of {rollup}: nothing differs ({:.1} s)", begun.elapsed().as_secs_f64());
    }
    let counted = session.sql("SELECT count(*), (SELECT sum(events) FROM daily) FROM sales").await?;
    println!("{}", datafusion::arrow::util::pretty::pretty_format_batches(&counted)?);
    Ok(lines)
}

/// A second's sales; one in twenty is up to a day late.
fn batch(table: &Table, second: i64, random: &mut StdRng) -> Result<RecordBatch> {
    let countries: Vec<String> = (0..20).map(|c| format!("C{c:02}")).collect();
    let times = (0..ROWS).map(|_| {
        let late = if random.random_ratio(1, 20) { random.random_range(0..86_400 * SECOND) } else { 0 };
        START + second * SECOND + random.random_range(0..SECOND) - late
    });
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
    // A few products sell most.
    let products = (0..ROWS).map(|_| (10_000.0 * random.random::<f64>().powi(4)) as i64);
    let products: ArrayRef = Arc::new(Int64Array::from_iter_values(products));
    let places = (0..ROWS).map(|_| countries[random.random_range(0..countries.len())].as_str());
    let places: ArrayRef = Arc::new(StringViewArray::from_iter_values(places));
    let quantities = (0..ROWS).map(|_| random.random_range(-1..6));
    let quantities: ArrayRef = Arc::new(Int64Array::from_iter_values(quantities));
    Ok(RecordBatch::try_new(Arc::clone(&table.snapshot().schema), vec![times, products, places, quantities])?)
}

async fn append(table: &Table, rows: &RecordBatch, second: i64) -> Result<()> {
    let snapshot = table.update().await?;
    let mut writer = FileWriter::new(table.store(), Arc::clone(&snapshot.schema), None);
    writer.write(rows).await?;
    let mut change = Change::new(CommitKind::Append, "WRITE", &snapshot);
    change.adds = writer.finish().await?;
    change.positions = vec![Position { app: "feed".into(), from: snapshot.position("feed"), to: second }];
    table.commit(&change).await?;
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(0.0)
}

fn csv(lines: &[Line]) -> Result<String> {
    let mut text =
        "second,commit_ms,commit_p99_ms,fold_ms,query_ms,sales_files,hourly_files,daily_files\n".to_owned();
    for l in lines {
        writeln!(
            text,
            "{},{:.3},{:.3},{:.2},{:.2},{},{},{}",
            l.second, l.commit_ms, l.commit_p99_ms, l.fold_ms, l.query_ms, l.files[0], l.files[1], l.files[2]
        )?;
    }
    Ok(text)
}

/// One panel below the other, each from zero to its highest value.
fn svg(lines: &[Line]) -> Result<String> {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 110.0;
    type Panel = (&'static str, fn(&Line) -> f64);
    let panels: [Panel; 5] = [
        ("a commit, median ms", |l| l.commit_ms),
        ("a fold of ten seconds, hourly and daily, median ms", |l| l.fold_ms),
        ("a query of the running hour, median ms", |l| l.query_ms),
        ("files of the events", |l| l.files[0] as f64),
        ("files of the hourly rollup", |l| l.files[1] as f64),
    ];
    let end = lines.last().map_or(1.0, |l| l.second as f64);
    let height = HEIGHT * panels.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (i, (name, value)) in panels.iter().enumerate() {
        let top = i as f64 * HEIGHT;
        let most = lines.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
        let at = |l: &Line| {
            let x = 50.0 + (WIDTH - 70.0) * l.second as f64 / end;
            let y = top + HEIGHT - 20.0 - (HEIGHT - 45.0) * value(l) / most;
            format!("{x:.1},{y:.1}")
        };
        let points: Vec<String> = lines.iter().map(at).collect();
        let (zero, high) = (top + HEIGHT - 20.0, top + 25.0);
        writeln!(text, "<text x=\"50\" y=\"{}\">{name}</text>", top + 16.0)?;
        writeln!(text, "<text x=\"44\" y=\"{}\" text-anchor=\"end\">{most:.1}</text>", high + 4.0)?;
        writeln!(text, "<text x=\"44\" y=\"{}\" text-anchor=\"end\">0</text>", zero + 4.0)?;
        writeln!(text, "<path d=\"M50 {high}V{zero}H{}\" fill=\"none\" stroke=\"#999\"/>", WIDTH - 20.0)?;
        writeln!(text, "<polyline points=\"{}\" fill=\"none\" stroke=\"#0a6\"/>", points.join(" "))?;
        for hour in [0, 6, 12, 18, 24] {
            let x = 50.0 + (WIDTH - 70.0) * f64::from(hour) * 3600.0 / end;
            writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{hour} h</text>",
                zero + 13.0
            )?;
        }
    }
    text.push_str("</svg>\n");
    Ok(text)
}
