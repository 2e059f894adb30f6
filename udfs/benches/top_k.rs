//! Approximate top items against the exact query, over Parquet files.
//!
//! `cargo bench -p toplake-udfs --bench top_k [-- [--rows N] [--data FOLDER] [--runs N] [--only NAME] [--json]]`
//!
//! Writes a day of sales (Zipf 1.05 over 10 million products, ids as BIGINT and as strings) into the folder if it is empty,
//! and runs each query with two threads. Seconds, the memory that the process took at most, recall of the true first
//! thousand, mean error of their sums.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::types::Int64Type;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const PRODUCTS: usize = 10_000_000;
const ZIPF: f64 = 1.05;
const FILES: usize = 24;

struct Options {
    rows: usize,
    data: PathBuf,
    runs: usize,
    only: Option<String>,
    json: bool,
}

fn options() -> Options {
    let mut options = Options {
        rows: 50_000_000,
        data: Path::new(env!("CARGO_TARGET_TMPDIR")).join("top_k"),
        runs: 3,
        only: None,
        json: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--rows" => options.rows = value().parse().unwrap(),
            "--data" => options.data = value().into(),
            "--runs" => options.runs = value().parse().unwrap(),
            "--only" => options.only = Some(value()),
            "--json" => options.json = true,
            // Cargo's own.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn write_files(folder: &Path, rows: usize) {
    if folder.join("hour=23.parquet").exists() {
        return;
    }
    std::fs::create_dir_all(folder).unwrap();
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=PRODUCTS)
        .map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        })
        .collect();
    let mut random = StdRng::seed_from_u64(7);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(1_000_000))
        .build();
    let mut group = 0_i64;
    for file in 0..FILES {
        let n = if file + 1 < FILES { rows / FILES } else { rows - rows / FILES * (FILES - 1) };
        let products: Vec<i64> = (0..n)
            .map(|_| random.random::<f64>() * sum)
            .map(|at| cumulative.partition_point(|c| *c < at) as u64)
            // Ids say nothing of the rank.
            .map(|rank| (rank.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as i64)
            .collect();
        let names =
            StringArray::from_iter_values(products.iter().map(|p| format!("P{:09}", p % 1_000_000_007)));
        let quantities = Int64Array::from_iter_values((0..n).map(|_| random.random_range(1..6)));
        // Groups of fifty rows each, scattered; a million of them if there are 50 million rows.
        let groups = Int64Array::from_iter_values((0..n).map(|_| {
            group += 1;
            group * 7919 % rows.div_ceil(50) as i64
        }));
        let columns: [(&str, ArrayRef); 4] = [
            ("product_id", Arc::new(Int64Array::from(products))),
            ("product_name", Arc::new(names)),
            ("quantity", Arc::new(quantities)),
            ("shop_id", Arc::new(groups)),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let to = std::fs::File::create(folder.join(format!("hour={file:02}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(to, batch.schema(), Some(properties.clone())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

/// The most memory that the process has had since the last call, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    _ = std::fs::write("/proc/self/clear_refs", "5");
    peak.and_then(|kb| kb.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Item and sum of each row of a result, also of one that is a list.
fn sums(batches: &[RecordBatch]) -> HashMap<String, i64> {
    let mut sums = HashMap::new();
    for batch in batches.iter().filter(|b| b.num_rows() > 0) {
        let (items, values) = match batch.column(0).as_list_opt::<i32>() {
            Some(lists) => {
                let rows = lists.values().as_struct();
                (Arc::clone(rows.column(0)), Arc::clone(rows.column(1)))
            }
            None => (Arc::clone(batch.column(0)), Arc::clone(batch.column(1))),
        };
        let items = cast(&items, &DataType::Utf8).unwrap();
        let values = values.as_primitive::<Int64Type>().clone();
        for i in 0..values.len() {
            sums.insert(items.as_string::<i32>().value(i).to_owned(), values.value(i));
        }
    }
    sums
}

struct Query {
    name: &'static str,
    sql: String,
    /// The query that it should equal.
    truth: Option<&'static str>,
}

fn queries() -> Vec<Query> {
    let mut queries = vec![];
    for (scan, exact, approx, item) in [
        ("scan", "exact", "approx", "product_id"),
        ("scan string", "exact string", "approx string", "product_name"),
    ] {
        let scan_sql = match item {
            "product_id" => "SELECT sum(product_id % 2), sum(quantity) FROM sales".to_owned(),
            _ => "SELECT sum(octet_length(product_name)), sum(quantity) FROM sales".to_owned(),
        };
        queries.push(Query { name: scan, sql: scan_sql, truth: None });
        queries.push(Query {
            name: exact,
            sql: format!(
                "SELECT {item}, sum(quantity) AS q FROM sales GROUP BY 1 ORDER BY q DESC, 1 LIMIT 1000"
            ),
            truth: None,
        });
        queries.push(Query {
            name: approx,
            sql: format!("SELECT approx_top_sum({item}, quantity, 1000) FROM sales"),
            truth: Some(exact),
        });
    }
    queries.push(Query {
        name: "groups exact",
        sql: "SELECT count(*), sum(n) FROM (
                SELECT shop_id, n, row_number() OVER (PARTITION BY shop_id ORDER BY n DESC, product_id) AS rank
                FROM (SELECT shop_id, product_id, count(*) AS n FROM sales GROUP BY 1, 2)) WHERE rank <= 10"
            .into(),
        truth: None,
    });
    queries.push(Query {
        name: "groups approx",
        sql: "SELECT count(*), sum(cardinality(top)) FROM (
                SELECT shop_id, approx_top_k(product_id, 10) AS top FROM sales GROUP BY 1)"
            .into(),
        truth: None,
    });
    queries
}

fn main() {
    let options = options();
    write_files(&options.data, options.rows);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        toplake_udfs::register_all(&ctx).unwrap();
        let folder = options.data.to_str().unwrap();
        ctx.register_parquet("sales", folder, ParquetReadOptions::default()).await.unwrap();
        let mut results: HashMap<&str, HashMap<String, i64>> = HashMap::new();
        for query in queries() {
            if options.only.as_ref().is_some_and(|only| !query.name.contains(only.as_str()) && only != "all")
            {
                continue;
            }
            let mut seconds = vec![];
            let mut batches = vec![];
            peak_memory();
            for _ in 0..options.runs {
                drop(std::mem::take(&mut batches));
                let start = Instant::now();
                batches = ctx.sql(&query.sql).await.unwrap().collect().await.unwrap();
                seconds.push(start.elapsed().as_secs_f64());
            }
            seconds.sort_by(f64::total_cmp);
            let median = seconds[seconds.len() / 2];
            let mut line = format!(
                "{:14} median {median:.3} s  min {:.3} s  {} MiB",
                query.name,
                seconds[0],
                peak_memory()
            );
            let mut json = format!("{{\"query\": \"{}\", \"seconds\": {median}", query.name);
            if query.name.starts_with("groups") || query.name.starts_with("scan") {
                println!("{}", if options.json { json + "}" } else { line });
                continue;
            }
            let found = sums(&batches);
            if let Some(truth) = query.truth.and_then(|truth| results.get(truth)) {
                let hits: Vec<f64> = truth
                    .iter()
                    .filter_map(|(item, sum)| found.get(item).map(|f| (f - sum).abs() as f64 / *sum as f64))
                    .collect();
                let recall = hits.len() as f64 / truth.len() as f64;
                let error = hits.iter().sum::<f64>() / hits.len().max(1) as f64;
                line += &format!("  recall {recall:.4}  mean error {:.4} %", error * 100.0);
                json += &format!(", \"recall\": {recall}, \"error\": {error}");
            }
            results.insert(query.name, found);
            println!("{}", if options.json { json + "}" } else { line });
        }
    });
}
