//! At a constant rate: how long does it take from an event to a query that sees it?
//!
//! Each click carries the moment at which it was handed to the producer, and its user_id names its partition. A client asks
//! a server, another process than the ingester, again and again for the newest click of each partition. In a partition the
//! clicks are in order, so whatever is older than the newest has been seen too: between two answers all clicks from the
//! former newest to the new one have come, and each counts as seen when the answer was there. So the latency has the query in
//! it, and up to one period of the reader.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::broker::Broker;
use crate::clicks::Clicks;
use crate::lake::{Ingester, Lake, Usage};
use crate::producer::Producer;
use crate::{Arguments, Result};

/// The reader's period.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Seconds to a line of the result.
const LINE_EVERY: u64 = 10;
/// Seconds at the start that do not count: the ingester joins its group.
const WARM_UP: u64 = 10;
/// More milliseconds than a click may take.
const LONGEST: usize = 120_000;

/// What leads now: the query of a dashboard.
const TOP: &str = "SELECT ad_id, sum(clicks) AS clicks FROM ad_clicks_minutely
    WHERE bucket >= time_bucket(INTERVAL '1 minute', last_event_time('ad_clicks')) - INTERVAL '4 minutes'
      AND country = 'CX'
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100";

/// What was measured since the line before.
struct Line {
    second: u64,
    sent: u64,
    commits: u64,
    p50: u64,
    p99: u64,
    top_ms: f64,
    cpu: f64,
    resident: f64,
}

/// Clicks by the milliseconds that they took; one count stands for the clicks of one millisecond of one partition.
struct Latencies(Vec<u64>);

impl Latencies {
    fn new() -> Self {
        Latencies(vec![0; LONGEST])
    }

    /// All clicks after one moment up to another were seen at a third; microseconds.
    fn seen(&mut self, after: i64, until: i64, at: i64) {
        for millis in after / 1000..until / 1000 {
            let took = (at / 1000 - millis).clamp(0, LONGEST as i64 - 1);
            self.0[took as usize] += 1;
        }
    }

    fn quantile(&self, q: f64) -> u64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * q).ceil() as u64;
        let mut counted = 0;
        let reached = |n: &u64| {
            counted += n;
            counted >= wanted
        };
        self.0.iter().position(reached).unwrap_or(LONGEST) as u64
    }

    fn add(&mut self, other: &Latencies) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, n)| *sum += n);
    }
}

pub(crate) async fn run(broker: &Broker, arguments: &Arguments) -> Result<()> {
    let Arguments { rate, seconds, partitions, .. } = *arguments;
    broker.create_topic("steady", partitions, &[]);
    let lake = Lake::new(arguments).await?;
    let interval = ["--commit-interval", &arguments.commit_interval];
    let ingester = lake.ingest(broker, "steady", &interval);
    let (producer, stop, sent) = (broker.producer(), AtomicBool::new(false), AtomicU64::new(0));
    let lines = std::thread::scope(|scope| {
        let produced = scope.spawn(|| produce(&producer, rate, partitions, &stop, &sent));
        let lines = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(watch(&lake, &ingester, partitions, seconds, &sent))
        });
        stop.store(true, Ordering::SeqCst);
        produced.join().unwrap();
        lines
    })?;
    let sent = sent.load(Ordering::SeqCst);
    let begun = Instant::now();
    while (lake.number("SELECT count(*) FROM ad_clicks").await? as u64) < sent {
        if begun.elapsed() > Duration::from_secs(120) {
            return Err("clicks are missing".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let commits = ingester.commits();
    let quantile = |q: f64| commits.get((commits.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN);
    println!("a commit: P50 {:.1} ms, P99 {:.1} ms, of {}", quantile(0.5), quantile(0.99), commits.len());
    ingester.terminate();
    lake.assert_whole(sent).await?;
    println!("{sent} clicks sent, each stored and counted once");
    if seconds == 300 {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        std::fs::write(results.join("kafka_steady.csv"), csv(&lines)?)?;
    }
    Ok(())
}

/// Sends so many clicks a second until it is told to stop.
fn produce(producer: &Producer, rate: u64, partitions: i32, stop: &AtomicBool, sent: &AtomicU64) {
    let (mut clicks, begun) = (Clicks::new(partitions, 0), Instant::now());
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        let partition = turn % partitions;
        for _ in sent.load(Ordering::SeqCst)..due {
            producer.send("steady", partition, clicks.message(Utc::now().timestamp_micros(), partition));
        }
        sent.store(due, Ordering::SeqCst);
        turn += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    producer.flush();
}

async fn watch(
    lake: &Lake,
    ingester: &Ingester,
    partitions: i32,
    seconds: u64,
    sent: &AtomicU64,
) -> Result<Vec<Line>> {
    println!("second       sent   commits   visible P50 ms   P99 ms   top 100 ms   CPU %   MiB");
    let begun = Instant::now();
    let mut newest = vec![Utc::now().timestamp_micros(); partitions as usize];
    let (mut all, mut now, mut lines) = (Latencies::new(), Latencies::new(), vec![]);
    let (mut tops, mut asked, mut before) = (vec![], 0, Usage::default());
    let mut ticker = tokio::time::interval(ASK_EVERY);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let warm_up = if seconds > WARM_UP { WARM_UP } else { 0 };
    while begun.elapsed().as_secs() <= seconds {
        ticker.tick().await;
        let second = begun.elapsed().as_secs();
        ask(lake, partitions, &mut newest, &mut now).await?;
        if second > asked {
            asked = second;
            let begun = Instant::now();
            lake.rows(TOP).await?;
            tops.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        if second / LINE_EVERY > lines.last().map_or(0, |l: &Line| l.second) / LINE_EVERY {
            let usage = ingester.usage()?;
            let since = lines.last().map_or(0, |l| l.second);
            tops.sort_by(f64::total_cmp);
            let line = Line {
                second,
                sent: sent.load(Ordering::SeqCst),
                commits: lake.size()?.0,
                p50: now.quantile(0.5),
                p99: now.quantile(0.99),
                top_ms: tops.get(tops.len() / 2).copied().unwrap_or(0.0),
                cpu: (usage.cpu - before.cpu) / (second - since) as f64 * 100.0,
                resident: usage.resident,
            };
            println!(
                "{second:>6}  {:>9}  {:>8}  {:>15}  {:>7}  {:>11.1}  {:>6.0}  {:>4.0}",
                line.sent, line.commits, line.p50, line.p99, line.top_ms, line.cpu, line.resident
            );
            lines.push(line);
            if second > warm_up {
                all.add(&now);
            }
            (now, before) = (Latencies::new(), usage);
            tops.clear();
        }
    }
    println!(
        "event to visible, after the first {warm_up} s: P50 {} ms, P99 {} ms, P99.9 {} ms",
        all.quantile(0.5),
        all.quantile(0.99),
        all.quantile(0.999)
    );
    Ok(lines)
}

/// Asks for the newest click of each partition.
async fn ask(lake: &Lake, partitions: i32, newest: &mut [i64], latencies: &mut Latencies) -> Result<()> {
    let known = newest.iter().min().copied().unwrap_or_default();
    let sql = format!(
        "SELECT user_id % {partitions}, CAST(max(click_time) AS BIGINT) FROM ad_clicks
         WHERE click_time > to_timestamp_micros({known}) GROUP BY 1"
    );
    let rows = lake.rows(&sql).await?;
    let seen = Utc::now().timestamp_micros();
    for row in rows {
        let newest = &mut newest[row[0] as usize];
        latencies.seen(*newest, row[1], seen);
        *newest = row[1].max(*newest);
    }
    Ok(())
}

fn csv(lines: &[Line]) -> Result<String> {
    let mut text =
        "second,sent,commits,visible_p50_ms,visible_p99_ms,top_ms,cpu_percent,resident_mib\n".to_owned();
    for l in lines {
        writeln!(
            text,
            "{},{},{},{},{},{:.1},{:.0},{:.0}",
            l.second, l.sent, l.commits, l.p50, l.p99, l.top_ms, l.cpu, l.resident
        )?;
    }
    Ok(text)
}
