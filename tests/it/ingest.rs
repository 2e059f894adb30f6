//! Files into tables: each row once, whatever happens.
#![allow(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they call")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use toplake::error::{Kind, Result};
use toplake::ingest::breaker::MaxErrors;
use toplake::ingest::files::{Format, find};
use toplake::ingest::progress::Progress;
use toplake::ingest::{Options, Summary, ingest};
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::session::{Engine, open};
use toplake::statement::Session;

/// Totals that change if a row is lost or comes twice.
const TOTALS: &str = "SELECT count(*), coalesce(sum(amount), 0), count(DISTINCT id) FROM sales";

/// A warehouse with an empty table, and a folder for files.
struct Bench {
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let bench = Bench { dir: tempfile::tempdir().unwrap() };
        bench
            .sql(
                "CREATE TABLE sales (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount DECIMAL(18, 4), name VARCHAR)
                 WITH (time_column = 'at')",
            )
            .await;
        bench
    }

    fn warehouse(&self) -> String {
        self.dir.path().join("warehouse").to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn engine(&self) -> Engine {
        open(&self.warehouse()).await.unwrap()
    }

    /// The rows of the last statement, fields separated by `|`, as a new process would see them.
    async fn sql(&self, sql: &str) -> Vec<String> {
        let engine = self.engine().await;
        let batches = Session::new(engine.context(), engine.warehouse().clone()).sql(sql).await.unwrap();
        let mut lines = vec![];
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let fields = batch.columns().iter().map(|c| array_value_to_string(c, row).unwrap());
                lines.push(fields.collect::<Vec<_>>().join("|"));
            }
        }
        lines
    }

    async fn ingest(&self, files: &[&str], options: &Options) -> Result<Summary> {
        let patterns: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
        let files = find(&patterns, None, None).await?;
        ingest(&self.engine().await, "sales", &files, options, &mut Progress::hidden()).await
    }

    /// The real binary.
    fn spawn(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_toplake"))
            .args(["ingest", "files", "--table", "sales", "--warehouse", &self.warehouse()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lines `from..to`; every 97th is bad.
fn csv(from: i64, to: i64) -> String {
    let mut text = "id,at,amount,name\n".to_owned();
    for id in from..to {
        let amount = if is_bad(id) { "much".to_owned() } else { format!("{}.25", id % 1000) };
        writeln!(text, "{id},2024-01-{:02} 10:00:00,{amount},\"item, {}\"", id % 28 + 1, id % 50).unwrap();
    }
    text
}

fn is_bad(id: i64) -> bool {
    id % 97 == 13
}

/// What [`TOTALS`] and the dead letters must be.
fn expected(from: i64, to: i64) -> (String, usize) {
    let good: Vec<i64> = (from..to).filter(|id| !is_bad(*id)).collect();
    let hundredths: i64 = good.iter().map(|id| id % 1000 * 100 + 25).sum();
    let sum = format!("{}.{:02}00", hundredths / 100, hundredths % 100);
    (format!("{}|{sum}|{}", good.len(), good.len()), (to - from) as usize - good.len())
}

async fn assert_exact(bench: &Bench, from: i64, to: i64) {
    let (totals, dead) = expected(from, to);
    assert_eq!(bench.sql(TOTALS).await, [totals]);
    let sql = "SELECT count(*), count(DISTINCT source || position) FROM toplake.dead_letters";
    assert_eq!(bench.sql(sql).await, [format!("{dead}|{dead}")]);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 1).unwrap()
}

/// Ids `from..to`, one of each amount.
fn parquet(path: &Path, from: i64, to: i64) {
    let ids = Arc::new(Int64Array::from_iter_values(from..to)) as ArrayRef;
    let times =
        Arc::new(TimestampMillisecondArray::from_value(1_704_103_200_000, (to - from) as usize)) as ArrayRef;
    let amounts = Arc::new(StringArray::from_iter_values(
        (from..to).map(|id| if is_bad(id) { "much".to_owned() } else { format!("{}.25", id % 1000) }),
    )) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("ID", ids), ("at", times), ("amount", amounts)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    for from in (0..batch.num_rows()).step_by(700) {
        writer.write(&batch.slice(from, 700.min(batch.num_rows() - from))).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

fn ndjson(from: i64, to: i64) -> String {
    let mut text = String::new();
    for id in from..to {
        let amount = if is_bad(id) { "\"much\"".to_owned() } else { format!("{}.25", id % 1000) };
        writeln!(text, r#"{{"Id": {id}, "at": "2024-01-02T10:00:00Z", "amount": {amount}, "name": null}}"#)
            .unwrap();
    }
    text
}

#[tokio::test]
async fn every_format_and_compression() {
    let bench = Bench::new().await;
    let n = 2000;
    bench.write("a.csv", csv(0, n));
    bench.write("b.csv.gz", gzip(&csv(n, 2 * n)));
    bench.write("c.csv.zst", zstd(&csv(2 * n, 3 * n)));
    bench.write("d.ndjson", ndjson(3 * n, 4 * n));
    bench.write("e.jsonl.gz", gzip(&ndjson(4 * n, 5 * n)));
    bench.write("f.json.zst", zstd(&ndjson(5 * n, 6 * n)));
    parquet(&bench.path("g.parquet"), 6 * n, 7 * n);
    let all = bench.path("*.*");
    let done = bench.ingest(&[all.to_str().unwrap()], &Options::default()).await.unwrap();
    assert_eq!((done.files, done.skipped, done.commits), (7, 0, 7));
    assert_exact(&bench, 0, 7 * n).await;
    let payloads = bench
        .sql("SELECT payload FROM toplake.dead_letters WHERE reason LIKE '%''much'' does not fit%' ORDER BY source")
        .await;
    assert!(payloads[0].ends_with("much,\"item, 13\""), "{}", payloads[0]);
    assert!(payloads.last().unwrap().contains(r#""amount":"much""#), "{:?}", payloads.last());

    let again = bench.ingest(&[all.to_str().unwrap()], &Options::default()).await.unwrap();
    assert_eq!(again, Summary { skipped: 7, ..Default::default() });
    assert_exact(&bench, 0, 7 * n).await;
}

#[tokio::test]
async fn a_transform_makes_the_rows() {
    let bench = Bench::new().await;
    let file = bench
        .write("in.csv", "Nr;When;Price\n1;2024-05-01;1.5\n2;2024-05-02;x\n3;2024-05-03;\"2,5\"\n4;;1\n");
    let transform = bench.write(
        "t.sql",
        "SELECT input_line * 10 AS id, CAST(\"When\" AS TIMESTAMP) AS at,
                CAST(replace(price, ',', '.') AS DECIMAL(18, 4)) AS amount,
                split_part(input_file, '/', -1) AS name
         FROM input WHERE nr <> '1';",
    );
    let output = bench.run(&["--transform", &transform, "--delimiter", ";", "--max-errors", "2", &file]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("1 row stored, 1 left out by the transform, 2 dead letters"),
        "{}",
        stdout(&output)
    );
    assert_eq!(bench.sql("SELECT * FROM sales").await, ["40|2024-05-03T00:00:00|2.5000|in.csv"]);
    let dead = bench.sql("SELECT position, reason, payload FROM toplake.dead_letters ORDER BY 1").await;
    assert!(dead[0].starts_with("3|transform: ") && dead[0].ends_with("|2;2024-05-02;x"), "{}", dead[0]);
    assert_eq!(dead[1], "5|column 'at' may not be NULL|4;;1");

    let ndjson = bench.write(
        "in.ndjson",
        "{\"n\": 7, \"p\": 1.5, \"o\": {\"k\": \"v\"}}\n{\"n\": 8, \"p\": 2}\n{\"n\": 8.5}\n",
    );
    let options = Options {
        transform: Some("SELECT n AS id, now() AS at, p * n AS amount, o['k'] AS name FROM input".into()),
        ..Default::default()
    };
    let done = bench.ingest(&[&ndjson], &options).await.unwrap();
    assert_eq!((done.rows, done.dead), (2, 1));
    let rows = bench.sql("SELECT id, amount, name FROM sales WHERE id < 10 ORDER BY 1").await;
    assert_eq!(rows, ["7|10.5000|v", "8|16.0000|"]);

    // input_file and input_line come along with a star; the table need not have them.
    let alike = bench.write("alike.csv", "id,at\n20,2024-01-01\n21,2024-01-01\n");
    let options =
        Options { transform: Some("SELECT * FROM input WHERE id <> '20'".into()), ..Default::default() };
    let done = bench.ingest(&[&alike], &options).await.unwrap();
    assert_eq!((done.rows, done.filtered), (1, 1));

    for (sql, clause) in
        [("SELECT count(*) AS id FROM input", "aggregate"), ("SELECT n AS id, 1 AS x FROM input", "'x'")]
    {
        let other = bench.write("other.ndjson", "{\"n\": 1}\n");
        let options = Options { transform: Some(sql.into()), ..Default::default() };
        let e = bench.ingest(&[&other], &options).await.unwrap_err();
        assert!(e.message().contains(clause), "{}", e.message());
    }
}

#[tokio::test]
async fn columns_that_do_not_match_stop_it_before_anything_is_written() {
    let bench = Bench::new().await;
    let unknown = bench.write("a.csv", "id,at,colour\n1,2024-01-01,red\n");
    let e = bench.ingest(&[&unknown], &Options::default()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::UndefinedColumn);
    assert!(e.message().contains("'colour'") && e.message().contains("a.csv"), "{}", e.message());
    let missing = bench.write("b.csv", "id,name\n1,x\n");
    let e = bench.ingest(&[&missing], &Options::default()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::NotNull);
    let unknown = bench.write("c.ndjson", "{\"id\":1,\"at\":\"2024-01-01\",\"colour\":\"red\"}\n");
    let e = bench.ingest(&[&unknown], &Options::default()).await.unwrap_err();
    assert!(e.message().contains("'colour'"), "{}", e.message());
    assert_eq!(bench.sql(TOTALS).await, ["0|0.0000|0"]);
    assert_eq!(bench.engine().await.warehouse().table("sales").await.unwrap().unwrap().snapshot().version, 0);
}

#[tokio::test]
async fn bad_lines_say_why_and_are_kept_once_followed_or_not() {
    let bench = Bench::new().await;
    let mut text = b"id,at,amount,name\n".to_vec();
    text.extend_from_slice(b"1,2024-01-01,1,good\n");
    text.extend_from_slice(b"2,2024-01-01,1\n");
    text.extend_from_slice(b"x,2024-01-01,1,no id\n");
    text.extend_from_slice(b"4,,1,no time\n");
    text.extend_from_slice(b"5,2999-01-01,1,far ahead\n");
    text.extend_from_slice(b"6,2024-01-01,1,\xff\xfe\n");
    text.extend_from_slice(b"7,2024-01-01,,\"two\nlines\"\n");
    text.extend_from_slice(b"8,2024-01-01,,\"\"\n");
    text.extend_from_slice(b"9,2024-01-01,,\"open\n");
    let file = bench.write("bad.csv", &text);
    let options = Options { max_errors: MaxErrors::Percent(100.0), follow: false, ..Default::default() };
    let done = bench.ingest(&[&file], &options).await.unwrap();
    assert_eq!((done.rows, done.dead), (3, 6));
    assert_eq!(
        bench.sql("SELECT id, name IS NULL, name FROM sales ORDER BY id").await,
        ["1|false|good", "7|false|two\nlines", "8|false|"]
    );
    let letters = "SELECT table_name, position, reason FROM toplake.dead_letters ORDER BY position";
    let reasons = bench.sql(letters).await;
    for (reason, part) in reasons.iter().zip([
        "sales|3|it has 3 fields where the header has 4",
        "sales|4|column 'id': 'x' does not fit BIGINT",
        "sales|5|column 'at' may not be NULL",
        "sales|6|column 'at': 2999-01-01 00:00:00Z lies further ahead",
        "sales|7|it is not valid UTF-8",
        "sales|11|a quoted field is not closed",
    ]) {
        assert!(reason.starts_with(part), "{reason}");
    }
    assert_eq!(reasons.len(), 6);
    let table = bench.engine().await.warehouse().dead_letters().store().child("_delta_log");
    assert!(
        table.get(&table.path("00000000000000000001.json")).await.unwrap().is_none(),
        "nobody has followed yet"
    );

    // Whoever follows next adds them; they are seen once before, between and after.
    let more = bench.write("more.csv", "id,at\ny,2024-01-01\n");
    bench.ingest(&[&more], &Options { follow: true, ..options }).await.unwrap();
    let engine = bench.engine().await;
    let events = engine.warehouse().table("sales").await.unwrap().unwrap();
    engine.warehouse().follow(&events).await.unwrap();
    assert!(table.get(&table.path("00000000000000000001.json")).await.unwrap().is_some());
    assert_eq!(bench.sql(letters).await.len(), 7);

    // A table that is dropped and made again goes on with its log; what was added before is not added again.
    bench
        .sql("DROP TABLE sales; CREATE TABLE sales (id BIGINT NOT NULL, at TIMESTAMP) WITH (time_column = 'at')")
        .await;
    assert_eq!(bench.sql(letters).await.len(), 7);
    bench
        .ingest(
            &[&more],
            &Options { follow: true, max_errors: MaxErrors::Percent(100.0), ..Default::default() },
        )
        .await
        .unwrap();
    assert_eq!(bench.sql(letters).await.len(), 8);
}

#[tokio::test]
async fn a_file_that_changed_is_refused() {
    let bench = Bench::new().await;
    let file = bench.write("a.csv", csv(0, 10));
    bench.ingest(&[&file], &Options::default()).await.unwrap();
    bench.write("a.csv", csv(0, 11));
    let other = bench.write("b.csv", csv(100, 110));
    let output = bench.run(&[&other, &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a.csv: the file has ") && stderr(&output).contains("hint: "),
        "{}",
        stderr(&output)
    );
    // Nothing of the other file either: it was known before anything was written.
    assert_exact(&bench, 0, 10).await;
}

#[tokio::test]
async fn it_stops_at_max_errors_and_goes_on_behind_what_was_committed() {
    let bench = Bench::new().await;
    let file = bench.write("a.csv", csv(0, 30_000));
    let options = |max_errors: &str| Options {
        max_errors: max_errors.parse().unwrap(),
        commit_lines: 5_000,
        ..Default::default()
    };
    let e = bench.ingest(&[&file], &options("150")).await.unwrap_err();
    assert_eq!(e.kind(), Kind::TooManyErrors);
    assert!(e.message().contains("a.csv:15: column 'amount': 'much'"), "{}", e.message());
    let stored: i64 = bench.sql("SELECT count(*) FROM sales").await[0].parse().unwrap();
    assert!(stored > 9_000 && stored < 30_000, "{stored}");
    let e = bench.ingest(&[&file], &options("1%")).await.unwrap_err();
    assert_eq!(e.kind(), Kind::TooManyErrors);
    let done = bench.ingest(&[&file], &options("2%")).await.unwrap();
    assert!(done.rows > 0 && done.commits > 1 && (done.rows as i64) < 30_000 - stored + 1, "{done:?}");
    assert_exact(&bench, 0, 30_000).await;
}

/// Files of every kind that are stopped in the middle, by a limit of bad lines which grows.
#[tokio::test]
async fn every_kind_of_file_is_resumed() {
    for name in ["a.csv.gz", "a.ndjson", "a.parquet"] {
        let bench = Bench::new().await;
        let n = 20_000;
        let file = match name {
            "a.csv.gz" => bench.write(name, gzip(&csv(0, n))),
            "a.ndjson" => bench.write(name, ndjson(0, n)),
            _ => {
                parquet(&bench.path(name), 0, n);
                bench.path(name).to_str().unwrap().to_owned()
            }
        };
        let mut stopped = 0;
        loop {
            let options =
                Options { max_errors: MaxErrors::Lines(90), commit_lines: 3000, ..Default::default() };
            match bench.ingest(&[&file], &options).await {
                Ok(_) => break,
                Err(e) => assert_eq!(e.kind(), Kind::TooManyErrors, "{}", e.message()),
            }
            stopped += 1;
        }
        assert!(stopped >= 1, "{name} was never stopped");
        assert_exact(&bench, 0, n).await;
    }
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_complete() {
    let bench = Bench::new().await;
    let mut packed = gzip(&csv(0, 10_000));
    packed.truncate(packed.len() / 2);
    let file = bench.write("a.csv.gz", packed);
    let e = bench.ingest(&[&file], &Options::default()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt, "{}", e.message());
    let file = bench.write("b.parquet", "PAR1 and nothing else");
    assert_eq!(bench.ingest(&[&file], &Options::default()).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(bench.sql(TOTALS).await, ["0|0.0000|0"]);
    let empty = bench.write("c.csv", "");
    assert_eq!(bench.ingest(&[&empty], &Options::default()).await.unwrap().files, 1);
    assert_eq!(bench.ingest(&[&empty], &Options::default()).await.unwrap().skipped, 1);
}

/// The definition of the table changes again and again while it goes on: it reads the table anew and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_meanwhile_is_read_anew() {
    let bench = Bench::new().await;
    let file = bench.write("a.csv", csv(0, 30_000));
    let other = bench.engine().await;
    let table = other.warehouse().table("sales").await.unwrap().unwrap();
    let changes = tokio::spawn(async move {
        for i in 0..15 {
            loop {
                let now = table.update().await.unwrap();
                let mut metadata = now.metadata.as_ref().clone();
                metadata.configuration.insert("toplake.test".into(), i.to_string());
                let mut change = Change::new(CommitKind::Metadata, "SET", &now);
                change.metadata = Some(metadata);
                match table.commit(&change).await {
                    Ok(_) => break,
                    Err(e) => assert_eq!(e.kind(), Kind::Conflict),
                }
            }
            tokio::task::yield_now().await;
        }
    });
    let options = Options { commit_lines: 1000, ..Default::default() };
    let done = bench.ingest(&[&file], &options).await.unwrap();
    changes.await.unwrap();
    assert_eq!(done.rows + done.dead, 30_000);
    assert_exact(&bench, 0, 30_000).await;
}

#[tokio::test]
async fn two_processes_at_once() {
    let bench = Bench::new().await;
    // One file that both want, and one for each alone: they meet in the outbox, too.
    let both = bench.write("both.csv", csv(0, 30_000));
    let one = bench.write("one.csv", csv(30_000, 40_000));
    let two = bench.write("two.csv", csv(40_000, 50_000));
    let children = [[&both, &one], [&both, &two]]
        .map(|files| bench.spawn(&["--commit-lines", "2000", files[0], files[1]]));
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_exact(&bench, 0, 50_000).await;
}

/// The real binary is killed at random moments until it has finished some files.
#[tokio::test]
async fn kill_9_at_random_moments() {
    let bench = Bench::new().await;
    let n = 20_000;
    let (mut kills, mut files) = (0, 0);
    while kills < 20 {
        let file = bench.write(&format!("{files}.csv"), csv(files * n, (files + 1) * n));
        // It is given more and more time, so that it comes to its end on a slow machine as well.
        let mut longest = 60.0;
        loop {
            let mut child = bench.spawn(&["--commit-lines", "1000", &file]);
            // Not to wait for anything: the moment is what is random.
            std::thread::sleep(Duration::from_secs_f64(rand::random_range(5.0..longest) / 1000.0));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{}", stderr(&child.wait_with_output().unwrap()));
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            longest *= 1.1;
        }
        files += 1;
    }
    let output = bench.run(&[bench.path("*.csv").to_str().unwrap()]);
    assert!(stdout(&output).contains(&format!("{files} file")), "{}", stdout(&output));
    assert_exact(&bench, 0, files * n).await;
}

#[tokio::test]
async fn formats_can_be_said() {
    let bench = Bench::new().await;
    let file = bench.write("export.txt", "id\tat\n1\t2024-01-01\n");
    let e = bench.ingest(&[&file], &Options::default()).await.unwrap_err();
    assert!(e.hint().unwrap().contains("--format"), "{:?}", e.hint());
    let found =
        find(std::slice::from_ref(&file), Some(Format::Csv { delimiter: b',' }), Some(b'\t')).await.unwrap();
    let engine = bench.engine().await;
    let done = ingest(&engine, "sales", &found, &Options::default(), &mut Progress::hidden()).await.unwrap();
    assert_eq!(done.rows, 1);
    let output =
        bench.run(&["--format", "ndjson", &bench.write("x.log", "{\"id\":2,\"at\":\"2024-01-01\"}")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(bench.sql(TOTALS).await, ["2|0.0000|2"]);
}
