//! Several servers on one warehouse share its jobs by leases; whatever becomes of a holder, no bucket is counted twice.

use std::time::{Duration, Instant};

use toplake::lake::lease::LENGTH;

use crate::corruption::corrupt;
use crate::harness::{Desk, Home};
use crate::http::{Process, get, until};

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT) WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity, count(*) AS events
      FROM sales GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, sum(quantity) AS quantity, sum(events) AS events
      FROM hourly GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW leaders WITH (refresh_every = '200 milliseconds') AS
      SELECT product_id, sum(quantity) AS quantity FROM daily GROUP BY 1 ORDER BY 2 DESC LIMIT 10";

async fn insert(desk: &Desk, n: i64) {
    desk.run(&format!(
        "INSERT INTO sales SELECT TIMESTAMP '2026-03-01 00:00:00' + INTERVAL '1 minute' * {n}, 'p' || (k % 3), k
         FROM generate_series(1, 9) AS g(k)"
    ))
    .await;
}

/// Which process refreshes the views of a table, by its lease.
fn holder(home: &Home, lease: &str) -> Option<u32> {
    let folder = home.path(&format!("_toplake/leases/{lease}"));
    let mut numbers: Vec<_> = std::fs::read_dir(folder).ok()?.map(|e| e.unwrap().path()).collect();
    numbers.sort();
    let held: serde_json::Value = serde_json::from_slice(&std::fs::read(numbers.last()?).ok()?).ok()?;
    held["pid"].as_u64().map(|pid| pid as u32)
}

/// How far a rollup is folded is as far as its source is.
async fn is_folded(desk: &Desk) -> bool {
    desk.value("SELECT sum(lag_rows) FROM toplake.rollups").await == "0"
}

async fn assert_exact(desk: &Desk) {
    for rollup in ["hourly", "daily"] {
        let differences = format!("SELECT count(*) FROM audit('{rollup}', '-infinity', 'infinity')");
        assert_eq!(desk.value(&differences).await, "0", "{rollup}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_server_dies_or_stands_still_another_takes_over_and_nothing_counts_twice() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let location = home.location();
    let arguments =
        ["serve", "--warehouse", location.as_str(), "--refresh-every", "0.1", "--upkeep-every", "1"];
    let mut servers = vec![Process::start(&arguments).await, Process::start(&arguments).await];
    insert(&desk, 0).await;
    until("the first sales are folded", async || is_folded(&desk).await).await;
    let first = holder(&home, "refresh-sales").unwrap();
    let holds = |servers: &[Process], pid: u32| servers.iter().position(|s| s.pid() == pid).unwrap();
    let (holding, mut n) = (holds(&servers, first), 1);
    // One of them refreshes, the other does not.
    for _ in 0..5 {
        insert(&desk, n).await;
        n += 1;
        until("more is folded", async || is_folded(&desk).await).await;
        assert_eq!(holder(&home, "refresh-sales"), Some(first));
    }

    // It stands still, for longer than its lease lasts.
    servers[holding].signal("STOP");
    let stopped = Instant::now();
    insert(&desk, n).await;
    until("the other one folds", async || is_folded(&desk).await).await;
    // The two run on one machine, where a stopped process is still there: it is waited for.
    assert!(stopped.elapsed() > LENGTH / 2, "{:?}", stopped.elapsed());
    assert_ne!(holder(&home, "refresh-sales"), Some(first));
    for _ in 0..3 {
        insert(&desk, n + 1).await;
        n += 1;
    }
    // It wakes up in the middle of whatever it was doing.
    servers[holding].signal("CONT");
    for _ in 0..20 {
        insert(&desk, n + 1).await;
        n += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("all is folded", async || is_folded(&desk).await).await;
    assert_exact(&desk).await;

    // The holder is killed; of a process that is not there any more nobody waits for the lease to end.
    let second = holder(&home, "refresh-sales").unwrap();
    let mut dead = servers.remove(holds(&servers, second));
    dead.signal("KILL");
    dead.wait();
    let killed = Instant::now();
    insert(&desk, n + 1).await;
    until("the one that is left folds", async || is_folded(&desk).await).await;
    assert!(killed.elapsed() < LENGTH + Duration::from_secs(30), "{:?}", killed.elapsed());
    assert_exact(&desk).await;
    let total: i64 = (i64::from(n as i32) + 2) * 45;
    let shown = "SELECT sum(quantity) FROM leaders";
    until("the leaderboard follows", async || desk.value(shown).await == total.to_string()).await;

    // One that ends in order hands over at once.
    let third = Process::start(&arguments).await;
    let mut last = servers.remove(0);
    assert_eq!(holder(&home, "refresh-sales"), Some(last.pid()));
    last.signal("TERM");
    last.wait();
    until("the third one has it", async || holder(&home, "refresh-sales") == Some(third.pid())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_become_complete_is_audited_once() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let insert = async |from: i64, to: i64| {
        desk.run(&format!(
            "INSERT INTO sales SELECT TIMESTAMP '2026-03-01 00:00:00' + INTERVAL '1 minute' * (10 * n), 'p', 1
             FROM generate_series({from}, {to}) AS g(n);
             REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily"
        ))
        .await;
    };
    // Up to 06:00 of the second day.
    insert(0, 180).await;
    let noon = "CASE WHEN bucket = TIMESTAMP '2026-03-01 12:00:00' THEN 1 ELSE 0 END";
    corrupt(&desk, "hourly", &format!("SELECT bucket, product_id, quantity + {noon}, events FROM stored"))
        .await;
    let location = home.location();
    let arguments = ["serve", "--warehouse", location.as_str(), "--upkeep-every", "0"];
    let servers = [Process::start(&arguments).await, Process::start(&arguments).await];
    let state = async || desk.value("SELECT state FROM toplake.jobs WHERE job = 'audit'").await;
    until("the audit has run", async || state().await == "failed").await;
    let error = desk.value("SELECT error FROM toplake.jobs WHERE job = 'audit'").await;
    let expected = "'hourly' differs from its events in 1 values, the first is bucket 2026-03-01T12:00:00Z, \
                    keys {\"product_id\":\"p\"}, measure quantity, expected 6, found 7, problem other value";
    assert!(error.contains(expected), "{error}");
    let metrics = async |server: &Process| get(server.http, "/metrics", None).await.body;
    let ready = async |server: &Process| get(server.http, "/health/ready", None).await.status == 200;
    // Whichever ran it, both know.
    for server in &servers {
        until("it is known", async || {
            metrics(server).await.contains("toplake_job_failing{name=\"audit\"} 1") && !ready(server).await
        })
        .await;
    }
    let log = || servers.iter().map(Process::log).collect::<String>();
    let repair = "CALL repair('hourly', '2026-03-01 05:00:00Z', '2026-03-02 05:00:00Z')";
    assert!(log().contains(repair), "{}", log());
    let differs = |text: &str| {
        let lines = text.lines().filter(|l| l.starts_with("toplake_audit_differences{rollup=\"hourly\"}"));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<i64>().ok()).sum::<i64>()
    };
    assert!(differs(&metrics(&servers[0]).await) + differs(&metrics(&servers[1]).await) >= 1);

    // It is not forgotten by those who come after, however much has become complete since.
    for mut server in servers {
        server.signal("TERM");
        server.wait();
    }
    insert(181, 400).await;
    let servers = [Process::start(&arguments).await, Process::start(&arguments).await];
    let log = || servers.iter().map(Process::log).collect::<String>();
    let same = "audit('hourly', '2026-03-01 12:00:00Z', '2026-03-01 13:00:00Z', 'events')";
    until("what differs is looked at again", async || log().contains(same)).await;
    until("it has run", async || state().await == "failed").await;

    desk.run(repair).await;
    desk.run("CALL run_job('audit')").await;
    until("the audit ends well", async || state().await == "done").await;
    for server in &servers {
        until("all is well", async || {
            let text = metrics(server).await;
            text.contains("toplake_job_failing{name=\"audit\"} 0")
                && differs(&text) == 0
                && ready(server).await
        })
        .await;
    }

    // What has become complete since, and no more, whoever ran it before.
    insert(401, 407).await;
    let audited = || {
        let log = log();
        let lines = log.lines().filter(|l| l.contains("\"audited\"") && l.contains("\"hourly\""));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let since = "\"from\":\"2026-03-03 18:00:00Z\",\"to\":\"2026-03-03 19:00:00Z\"";
    assert!(!audited().iter().any(|line| line.contains(since)));
    desk.run("CALL run_job('audit')").await;
    until("the next hour is audited", async || audited().iter().any(|line| line.contains(since))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_time_of_a_job_is_run_by_one_server() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE ticks (k BIGINT); CREATE TABLE after_ticks (k BIGINT)").await;
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("toplake.toml");
    let config = format!(
        "warehouse = '{}'
[[jobs]]
name = 'tick'
sql = \"INSERT INTO ticks VALUES (:'k')\"
schedule = 'every 3s'
variables = {{ k = '7' }}

[[jobs]]
name = 'after'
sql = 'INSERT INTO after_ticks VALUES (1)'
after = ['tick']
",
        home.location()
    );
    std::fs::write(&toml, config).unwrap();
    let arguments =
        ["serve", "--upkeep-every", "0", "--audit-every", "0", "--config", toml.to_str().unwrap()];
    let _servers = [Process::start(&arguments).await, Process::start(&arguments).await];
    let count = async |table: &str| {
        desk.value(&format!("SELECT count(*) FROM {table}")).await.parse::<i64>().unwrap()
    };
    until("the job has run four times", async || count("ticks").await >= 4).await;
    assert_eq!(desk.value("SELECT min(k) = 7 AND max(k) = 7 FROM ticks").await, "true");
    until("the next one runs after it", async || count("after_ticks").await >= 3).await;
    let jobs = "SELECT job, schedule, error FROM toplake.jobs WHERE object IS NULL";
    assert_eq!(desk.rows(jobs).await, ["after,NULL,NULL", "tick,every 3s,NULL"]);
    // Neither runs more often than it is due, however many servers there are.
    let (begun, before) = (Instant::now(), count("ticks").await);
    until("it has run more often", async || count("ticks").await >= before + 2).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(count("after_ticks").await <= count("ticks").await);
    desk.run("CALL pause_job('tick')").await;
    until("it is paused", async || {
        desk.value("SELECT state FROM toplake.jobs WHERE job = 'tick'").await == "paused"
    })
    .await;
}
