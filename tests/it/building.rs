//! A rollup that is built in steps, by processes that die.

use std::sync::Arc;

use toplake::lake::action::CommitKind;
use toplake::lake::committer::{Change, Position};
use toplake::lake::writer::FileWriter;
use toplake::rollup::fold::build_app;

use crate::harness::{Fault, Gate, Home, soon};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_begins_anew_counts_once_in_the_rollup_above() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, quantity BIGINT) WITH (time_column = 'event_time')",
    )
    .await;
    desk.run("INSERT INTO sales VALUES ('2026-03-01 10:10:00', 1), ('2026-03-01 11:00:00', 2)").await;
    // It dies before its first step is done.
    let (dying, faults) = home.faulty_desk().await;
    let gate = Gate::new();
    faults.on_put(
        "hourly/_delta_log",
        [Fault::Delay(std::time::Duration::ZERO), Fault::Pause(Arc::clone(&gate))],
    );
    const HOURLY: &str =
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity
        FROM sales GROUP BY 1";
    let building = tokio::spawn(async move {
        dying.run(&format!("CREATE MATERIALIZED VIEW hourly AS {HOURLY}")).await;
    });
    gate.arrived().await;
    building.abort();
    assert!(soon(building).await.unwrap_err().is_cancelled());

    // Another one does the first step of two, and dies as well.
    let (sales, hourly) = (desk.table("sales").await, desk.table("hourly").await);
    let begun = sales.snapshot().version;
    let half = hourly.snapshot();
    let mut writer = FileWriter::new(hourly.store(), Arc::clone(&half.schema), None);
    for batch in desk.try_run(&format!("{HOURLY} HAVING sum(quantity) = 1")).await.unwrap() {
        writer.write(&batch).await.unwrap();
    }
    let mut step = Change::new(CommitKind::Append, "BUILD", &half);
    step.adds = writer.finish().await.unwrap();
    let step_app = format!("toplake.build.step:{}", half.metadata.id);
    step.positions = vec![
        Position { app: build_app(&half), from: None, to: begun },
        Position { app: step_app, from: None, to: 1 },
    ];
    hourly.commit(&step).await.unwrap();

    // The rollup above takes in what is there.
    desk.run(
        "CREATE MATERIALIZED VIEW daily AS
           SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, sum(quantity) AS quantity FROM hourly GROUP BY 1",
    )
    .await;
    let day = "SELECT quantity FROM daily";
    assert_eq!(desk.value(day).await, "3");

    // What the build was begun on is gone from the log.
    desk.run("INSERT INTO sales VALUES ('2026-03-01 12:00:00', 4)").await;
    sales.update().await.unwrap();
    sales.checkpoint().await.unwrap();
    for version in 0..=begun {
        std::fs::remove_file(home.path(&format!("sales/_delta_log/{version:020}.json"))).unwrap();
    }
    let desk = home.desk().await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_eq!(desk.rows("SELECT quantity FROM hourly").await, ["1", "2", "4"]);
    assert_eq!(desk.value(day).await, "7");
    desk.run("REFRESH MATERIALIZED VIEW daily").await;
    assert_eq!(desk.value(day).await, "7");
}
