//! Sketches that were kept: in Parquet, by an earlier version, by another language, or damaged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, StructArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{query, rows, session, table, try_query, value};

/// Each kind of sketch, of items that are integers and strings, and how it is asked.
const SKETCHES: [(&str, &str, &str); 8] = [
    ("top_k_bigint", "approx_top_k_accumulate(x, 64)", "approx_top_k_estimate(s, 3)"),
    ("top_k_string", "approx_top_k_accumulate(y, 64)", "approx_top_k_estimate(s, 3)"),
    ("top_sum_bigint", "approx_top_sum_accumulate(x, w, 64)", "approx_top_sum_estimate(s, 3)"),
    (
        "top_sum_string_decimal",
        "approx_top_sum_accumulate(y, CAST(w AS DECIMAL(12, 2)), 64)",
        "approx_top_sum_estimate(s, 3)",
    ),
    ("count_min_bigint", "count_min_sketch(x, 0.2, 0.9)", "count_min_estimate(s, 3)"),
    (
        "count_min_string",
        "count_min_sketch(y, 0.2, 0.9, 5, w)",
        "count_min_estimate(s, 'product 3 in a box')",
    ),
    ("hll_bigint", "hll_sketch_agg(x, 8)", "hll_sketch_estimate(s)"),
    ("hll_string", "hll_sketch_agg(y, 8)", "hll_sketch_estimate(s)"),
];

/// Two hundred sales of some fifty products, a few of them taken back.
fn sales(ctx: &SessionContext) {
    let x: Vec<i64> = (0..400).map(|i: i64| 2500 / (i * i % 2503 + 1)).collect();
    let y: Vec<String> =
        x.iter().map(|x| format!("product {x}{}", if x % 2 == 1 { " in a box" } else { "" })).collect();
    let w: Vec<i64> = (0..400).map(|i| i % 13 - 2).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("x", Arc::new(Int64Array::from(x))),
        ("y", Arc::new(StringArray::from(y))),
        ("w", Arc::new(Int64Array::from(w))),
    ];
    table(ctx, &columns, 2);
}

#[tokio::test]
async fn a_sketch_survives_parquet() {
    let ctx = session(2, 64);
    sales(&ctx);
    let folder = tempfile::tempdir().unwrap();
    for (name, make, ask) in SKETCHES {
        let made = format!("SELECT {make} AS s FROM t");
        let file = folder.path().join(name).to_str().unwrap().to_owned();
        let frame = ctx.sql(&made).await.unwrap();
        frame.write_parquet(&file, DataFrameWriteOptions::new(), None).await.unwrap();
        let read = ParquetReadOptions::default().file_extension("");
        ctx.register_parquet(name, &file, read).await.unwrap();
        let expected = value(&ctx, &format!("SELECT {ask} FROM ({made})")).await;
        assert_eq!(value(&ctx, &format!("SELECT {ask} FROM {name}")).await, expected, "{name}");
        let bytes = |of: &str| format!("SELECT sha256(sketch_bytes(s)) FROM ({of})");
        let kept = value(&ctx, &bytes(&format!("SELECT s FROM {name}"))).await;
        assert_eq!(kept, value(&ctx, &bytes(&made)).await, "{name}");
    }
}

fn golden(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(format!("{name}.txt"));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// A table `s` with one sketch of these bytes.
fn keep(ctx: &SessionContext, bytes: &[u8], item: &DataType, weight: Option<DataType>) {
    let mut fields = vec![
        (
            Arc::new(Field::new("sketch", DataType::Binary, true)),
            Arc::new(BinaryArray::from(vec![bytes])) as ArrayRef,
        ),
        (Arc::new(Field::new("item", item.clone(), true)), new_null_array(item, 1)),
    ];
    if let Some(weight) = weight {
        fields.push((Arc::new(Field::new("weight", weight.clone(), true)), new_null_array(&weight, 1)));
    }
    table(ctx, &[("s", Arc::new(StructArray::from(fields)) as ArrayRef)], 1);
}

fn types_of(name: &str) -> (DataType, Option<DataType>) {
    let item = if name.contains("bigint") { DataType::Int64 } else { DataType::Utf8 };
    let weight = match name {
        "top_sum_bigint" | "count_min_string" => Some(DataType::Int64),
        "top_sum_string_decimal" => Some(DataType::Decimal128(12, 2)),
        _ => None,
    };
    (item, weight)
}

/// Sketches that version 1 wrote are read by every later one, with the same answers.
#[tokio::test]
async fn sketches_of_version_1_are_read() {
    for (name, _, ask) in SKETCHES {
        let golden = golden(name);
        let (bytes, answer) = golden.trim_end().split_once('\n').unwrap();
        let ctx = session(1, 64);
        let (item, weight) = types_of(name);
        keep(&ctx, &unhex(bytes), &item, weight);
        assert_eq!(value(&ctx, &format!("SELECT {ask} FROM t")).await, answer, "{name}");
    }
}

/// Whatever is done to a sketch's bytes, reading it gives an answer or an error, at once and without a panic.
#[tokio::test]
async fn damaged_sketches_are_errors() {
    let mut random = StdRng::seed_from_u64(11);
    for (name, _, ask) in SKETCHES {
        let golden = golden(name);
        let bytes = unhex(golden.lines().next().unwrap());
        let (item, weight) = types_of(name);
        let combine = match name {
            n if n.starts_with("top_k") => "approx_top_k_combine(s)",
            n if n.starts_with("top_sum") => "approx_top_sum_combine(s)",
            n if n.starts_with("count_min") => "count_min_combine(s)",
            _ => "hll_union_agg(s)",
        };
        let mut refused = 0;
        for round in 0..150 {
            let mut damaged = bytes.clone();
            match round % 3 {
                0 => damaged.truncate(random.random_range(0..bytes.len())),
                1 => {
                    let header = bytes.len().min(64);
                    for _ in 0..random.random_range(1..4) {
                        damaged[random.random_range(0..header)] = random.random();
                    }
                }
                _ => {
                    for _ in 0..random.random_range(1..6) {
                        damaged[random.random_range(0..bytes.len())] = random.random();
                    }
                }
            }
            let ctx = session(1, 64);
            keep(&ctx, &damaged, &item, weight.clone());
            let asked = try_query(&ctx, &format!("SELECT {ask} FROM t")).await;
            let merged = try_query(&ctx, &format!("SELECT {combine} FROM t")).await;
            if round % 3 == 0 {
                let message = asked.as_ref().unwrap_err().to_string();
                assert!(message.contains("sketch"), "{name} of {} bytes: {message}", damaged.len());
            }
            refused += usize::from(asked.is_err()) + usize::from(merged.is_err());
        }
        assert!(refused > 100, "{name}: only {refused} damaged sketches were refused");
    }
}

/// A Python that has `datasketches`: the machine's, or one in a virtual environment that is made once in the target folder.
/// Without one the test is left out, but not where CI runs it.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let works = |python: &Path| {
            let tried = Command::new(python).args(["-c", "import datasketches"]).output();
            tried.is_ok_and(|done| done.status.success())
        };
        let installed = PathBuf::from("python3");
        if works(&installed) {
            return Some(installed);
        }
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("datasketches");
        let python = environment.join("bin/python");
        if !works(&python) {
            let run = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
            run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "datasketches", "numpy"]));
        }
        works(&python).then_some(python)
    });
    if found.is_none() {
        let needed = "python3 with the package datasketches is needed, and cannot be installed";
        assert!(std::env::var_os("CI").is_none(), "{needed}");
        eprintln!("left out: {needed}");
    }
    found.as_deref()
}

fn run_python(python: &Path, arguments: &[String]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/read_by_python.py");
    let done = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The items of our rows, `item count` on each line, for the script to feed to the library.
async fn true_counts(ctx: &SessionContext, item: &str) -> Vec<String> {
    rows(ctx, &format!("SELECT {item}, count(*) FROM t GROUP BY 1 ORDER BY 2 DESC, 1")).await
}

/// The Python library of Apache DataSketches reads our sketches, and we read its.
#[tokio::test]
async fn python_reads_our_sketches_and_we_read_its() {
    let Some(python) = python() else { return };
    let ctx = session(2, 64);
    sales(&ctx);
    for (kind, code, make, form, item, ask) in [
        ("frequent", 1, "approx_top_k_accumulate(x, 64)", "long", "x", "approx_top_k_estimate(s, 40)"),
        ("frequent", 1, "approx_top_k_accumulate(y, 64)", "string", "y", "approx_top_k_estimate(s, 40)"),
        ("count_min", 2, "count_min_sketch(x, 0.2, 0.9)", "long", "x", "count_min_estimate(s, 3)"),
        (
            "count_min",
            2,
            "count_min_sketch(y, 0.2, 0.9)",
            "string",
            "y",
            "count_min_estimate(s, 'product 3 in a box')",
        ),
        ("hll", 3, "hll_sketch_agg(x, 12)", "long", "x", "hll_sketch_estimate(s)"),
        ("hll", 3, "hll_sketch_agg(y, 12)", "string", "y", "hll_sketch_estimate(s)"),
    ] {
        let counts = true_counts(&ctx, item).await;
        let ours = value(&ctx, &format!("SELECT encode(sketch_bytes({make}), 'hex') FROM t")).await;
        let mut arguments = vec![kind.to_owned(), form.to_owned(), ours];
        arguments.extend(counts);
        // The script checks what it reads against the counts, and prints a sketch of its own of the same items.
        let printed = run_python(python, &arguments);
        let theirs = unhex(&printed[0]);
        let mut envelope =
            vec![0xF5, 0x54, 1, code, if form == "long" { 5 } else { 14 }, 0, 0, 0, 0, 0, 1, 0];
        envelope.extend(if kind == "count_min" { 9001_u64 } else { 0 }.to_le_bytes());
        envelope.extend((theirs.len() as u32).to_le_bytes());
        envelope.extend(&theirs);
        let other = session(1, 64);
        keep(&other, &envelope, &if form == "long" { DataType::Int64 } else { DataType::Utf8 }, None);
        let expected = value(&ctx, &format!("SELECT {ask} FROM (SELECT {make} AS s FROM t)")).await;
        assert_eq!(value(&other, &format!("SELECT {ask} FROM t")).await, expected, "{kind} of {form}");
        query(
            &other,
            &format!(
                "SELECT {} FROM t",
                match kind {
                    "frequent" => "approx_top_k_combine(s)",
                    "count_min" => "count_min_combine(s)",
                    _ => "hll_union_agg(s)",
                }
            ),
        )
        .await;
    }
}
