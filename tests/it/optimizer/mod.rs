//! What plans of queries over rollups look like, and that they mean the same whatever the optimizer does to them.
//!
//! Plans are snapshots (`INSTA_UPDATE=always` writes them anew; look at the difference before it is committed).

mod answer_from_rollup;
mod drop_merge;
mod same_answers;

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::optimizer::Optimizer;
use toplake::optimizer::rules;
use toplake::statement::Session;

use crate::harness::{Desk, Home};

/// Plans do not depend on the machine.
const TWO_PARTITIONS: &str = "SET datafusion.execution.target_partitions = 2";

/// Hours, and days over them, of sales of three days. All is folded.
async fn folded(home: &Home) -> Desk {
    let desk = home.desk().await;
    desk.run(TWO_PARTITIONS).await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, country VARCHAR, quantity BIGINT,
                             price DECIMAL(18, 4)) WITH (time_column = 'event_time');
         CREATE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
                  count(*) AS events, sum(quantity * price) AS revenue, max(event_time) AS last_event
           FROM sales GROUP BY 1, 2, 3;
         CREATE MATERIALIZED VIEW daily AS
           SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, country, sum(quantity) AS quantity,
                  sum(events) AS events, sum(revenue) AS revenue, max(last_event) AS last_event
           FROM hourly GROUP BY 1, 2, 3",
    )
    .await;
    for day in 1..=3 {
        let hours = (12..24).map(|hour| format!(", ('2026-03-0{day} {hour}:30:00', 'c', 'DE', {hour}, 0.5)"));
        desk.run(&format!(
            "INSERT INTO sales VALUES ('2026-03-0{day} 10:10:00', 'a', 'DE', 1, 1.5),
                                      ('2026-03-0{day} 10:20:00', 'a', 'FR', 2, 1.5),
                                      ('2026-03-0{day} 11:00:00', 'b', 'DE', -1, 2.5) {};
             REFRESH MATERIALIZED VIEW hourly; REFRESH MATERIALIZED VIEW daily",
            hours.collect::<String>()
        ))
        .await;
    }
    desk
}

/// The same engine without one of our rules.
async fn without(desk: &Desk, rule: &str) -> Desk {
    let ctx = desk.engine.context();
    assert!(ctx.remove_optimizer_rule(rule));
    let session = Session::new(ctx, Arc::clone(desk.engine.warehouse()));
    let desk = Desk { engine: desk.engine.clone(), session };
    desk.run(TWO_PARTITIONS).await;
    desk
}

/// Adds a day that is not folded.
async fn append(desk: &Desk) {
    desk.run("INSERT INTO sales VALUES ('2026-03-04 10:10:00', 'a', 'DE', 4, 1.5), ('2026-03-04 10:20:00', 'c', 'FR', 2, 1.5)")
        .await;
}

/// How a query is run, without what differs from one run to the next and what follows from the rest of the line.
async fn plan(home: &Home, desk: &Desk, sql: &str) -> String {
    let batches = desk.try_run(&format!("EXPLAIN {sql}")).await.unwrap();
    let plans: Vec<&str> =
        batches.iter().flat_map(|b| b.column(1).as_string::<i32>().iter().flatten()).collect();
    let folder = home.location().trim_start_matches('/').to_owned() + "/";
    let text = plans.join("\n").replace(&folder, "");
    let lines = text.lines().map(|line| line.split(", pruning_predicate=").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join("\n");
    // A file is named `part-` and a UUID.
    let mut pieces = text.split("part-");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + "part" + &piece[36..])
}

#[tokio::test]
async fn no_rule_of_the_engine_is_lost() {
    let home = Home::new();
    let state = home.desk().await.session.context().state();
    let found: Vec<&str> = state.optimizers().iter().map(|rule| rule.name()).collect();
    let theirs = Optimizer::new();
    let ours = rules();
    let wanted = theirs.rules.iter().chain(&ours).map(|rule| rule.name());
    assert_eq!(found, wanted.collect::<Vec<_>>());
}

/// The engine would skip rows for the sake of one of them, and miss the other.
#[tokio::test(flavor = "multi_thread")]
async fn extremes_of_columns_and_of_expressions_are_found_together() {
    let home = Home::new();
    let desk = folded(&home).await;
    let both = "SELECT max(product_id), min(date_trunc('day', event_time)) FROM sales";
    assert_eq!(desk.rows(both).await, ["c,2026-03-01T00:00:00"]);
}
