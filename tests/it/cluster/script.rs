//! Scripts that run without a server have workers too.

use std::process::Command;

use super::fill;
use super::machines::Machines;
use crate::harness::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_spread() {
    let home = Home::new();
    fill(&home.desk().await, 3).await;
    let mut machines = Machines::start(&home.location(), 2).await;
    let addresses: Vec<&str> = machines.workers.iter().map(|w| w.address()).collect();
    let addresses = addresses.join(",");
    let run = |sql: &str| {
        let mut toplake = Command::new(env!("CARGO_BIN_EXE_toplake"));
        toplake.args(["sql", "--warehouse", &home.location(), "--quiet", "--format", "csv", "-c", sql]);
        toplake.args(["--workers", &addresses, "--cluster-bytes-per-task", "1"]);
        toplake.args(["--cluster-fallback", "refuse"]);
        let done = toplake.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let stages = run("EXPLAIN SELECT product_id, sum(quantity) FROM sales GROUP BY 1").1;
    assert!(stages.contains("Stage 1"), "{stages}");
    let right = machines.value("SELECT sum(quantity) FROM sales").await.unwrap();
    let script = "REFRESH MATERIALIZED VIEW sales_hourly; SELECT sum(quantity) AS q FROM sales_hourly";
    assert_eq!(run(script), (Some(0), format!("q\n{right}\n"), String::new()));
    let folds = "SELECT lag_commits FROM toplake.rollups WHERE name = 'sales_hourly'";
    assert_eq!(machines.value(folds).await.unwrap(), "0");
    // It is told at once what there is not.
    machines.workers[0].kill();
    let (code, out, err) = run("SELECT sum(quantity) FROM sales");
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("there are not two workers") && err.contains("fallback"), "{err}");
}
