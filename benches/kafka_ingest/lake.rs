//! A warehouse, the server that its users ask, and the ingester that is measured: processes as anybody runs them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::broker::Broker;
use crate::process::Process;
use crate::{Arguments, Result, clicks};

/// Of a second; Linux counts a process's time in these.
const TICKS: f64 = 100.0;

pub(crate) struct Lake {
    folder: TempDir,
    /// What the processes print; it is no part of the warehouse.
    printed: TempDir,
    toplake: PathBuf,
    client: Client,
    _server: Process,
}

impl Lake {
    /// A new warehouse and its server, which leaves folding to the ingester and compacts each minute.
    pub(crate) async fn new(arguments: &Arguments) -> Result<Self> {
        let (folder, printed) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let mut toplake = Command::new(&arguments.toplake);
        toplake.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "off",
            "--refresh-every",
            "0",
            "--warehouse",
        ]);
        let server = Process::start(toplake.arg(folder.path()), printed.path().join("server"));
        let begun = Instant::now();
        let port = loop {
            let output = server.output();
            match output.lines().find(|l| l.starts_with("toplake serves")).and_then(|l| l.rsplit(':').next())
            {
                Some(port) => break port.to_owned(),
                None if begun.elapsed() > Duration::from_secs(60) => return Err(output.into()),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let config = format!("host=127.0.0.1 port={port} user=toplake dbname=toplake");
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(clicks::SCHEMA).await?;
        Ok(Lake { folder, printed, toplake: arguments.toplake.clone(), client, _server: server })
    }

    /// Starts `toplake ingest kafka` into it.
    pub(crate) fn ingest(&self, broker: &Broker, topic: &str, more: &[&str]) -> Ingester {
        // A line for each commit, which says how long it took.
        let mut toplake = Command::new("env");
        toplake.arg("RUST_LOG=warn,toplake::ingest::kafka::commit=debug").arg(&self.toplake);
        toplake.args(["ingest", "kafka", "--table", "ad_clicks", "--topic", topic]);
        toplake.args(["--brokers", &broker.address(), "--warehouse"]).arg(self.folder.path()).args(more);
        Ingester(Process::start(&toplake, self.printed.path().join("ingester")))
    }

    /// The rows of a query, each value a number.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<i64>>> {
        let mut rows = vec![];
        for message in self.client.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                let values = (0..row.len()).map(|i| row.get(i).unwrap_or("0").parse());
                rows.push(values.collect::<std::result::Result<_, _>>()?);
            }
        }
        Ok(rows)
    }

    /// The only number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        Ok(*self.rows(sql).await?.first().and_then(|row| row.first()).ok_or("no row")?)
    }

    /// Fails unless the table has so many clicks, and the rollup has counted them all.
    pub(crate) async fn assert_whole(&self, clicks: u64) -> Result<()> {
        let stored = self.number("SELECT count(*) FROM ad_clicks").await? as u64;
        let counted = self.number("SELECT sum(clicks) FROM ad_clicks_minutely").await? as u64;
        match (stored, counted) == (clicks, clicks) {
            true => Ok(()),
            false => Err(format!("{stored} clicks are stored and {counted} counted, not {clicks}").into()),
        }
    }

    /// The newest version of the events table, which is the number of its commits, and the bytes of its data files.
    pub(crate) fn size(&self) -> Result<(u64, u64)> {
        let (mut version, mut bytes) = (0, 0);
        let table = self.folder.path().join("ad_clicks");
        for entry in std::fs::read_dir(table.join("_delta_log"))? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok());
            version = version.max(number.unwrap_or(0));
        }
        for entry in std::fs::read_dir(table)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(".parquet") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok((version, bytes))
    }
}

/// What the system says of a process.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time, of all threads, in seconds.
    pub(crate) cpu: f64,
    /// Memory now and at most, in MiB; 0 once it has ended.
    pub(crate) resident: f64,
    pub(crate) peak: f64,
    ended: bool,
}

pub(crate) struct Ingester(Process);

impl Ingester {
    pub(crate) fn usage(&self) -> Result<Usage> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id()));
        let (stat, status) = (read("stat")?, read("status")?);
        // The second field is the name, in parentheses.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let mib = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        Ok(Usage {
            cpu: (ticks(11) + ticks(12)) / TICKS,
            resident: mib("VmRSS"),
            peak: mib("VmHWM"),
            ended: fields.first() == Some(&"Z"),
        })
    }

    /// Waits for its end, and says what it used and printed last.
    pub(crate) fn finish(self) -> Result<(Usage, String)> {
        let mut peak = 0.0_f64;
        loop {
            // What has ended still has its times, as long as nobody has asked how.
            let usage = self.usage()?;
            peak = peak.max(usage.peak);
            if usage.ended {
                let output = self.0.output();
                let status = self.0.wait();
                if !status.success() {
                    return Err(format!("{status}: {output}").into());
                }
                return Ok((Usage { peak, ..usage }, output.lines().last().unwrap_or_default().to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How long each commit took so far, in milliseconds.
    pub(crate) fn commits(&self) -> Vec<f64> {
        let printed = self.0.output();
        let mut taken: Vec<f64> = printed.lines().filter_map(took).collect();
        taken.sort_by(f64::total_cmp);
        taken
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(self) {
        self.0.terminate();
    }
}

/// The duration that a line of the log names, in milliseconds.
fn took(line: &str) -> Option<f64> {
    let (_, after) = line.split_once("took=")?;
    let text = after.split_whitespace().next()?;
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..split].parse().ok()?;
    match &text[split..] {
        "s" => Some(number * 1000.0),
        "ms" => Some(number),
        "µs" => Some(number / 1000.0),
        _ => None,
    }
}
