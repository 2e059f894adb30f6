//! Plans of a cluster: partial aggregates are reduced on each machine, and once more on the way, before the final one
//! merges them. DataFusion's planner does not make such plans, so a rule of the test does.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use toplake_udfs::register_all;

use crate::harness::{rows, table};

/// partial → final becomes partial → partial-reduce (three streams) → partial-reduce (two) → final.
#[derive(Debug)]
struct ReduceTwice;

impl ReduceTwice {
    fn reduced(
        partial: &AggregateExec,
        streams: usize,
        below: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keys = partial.group_expr().as_final();
        let by_key = Partitioning::Hash(keys.input_exprs(), streams);
        let dealt = if keys.is_empty() { Partitioning::RoundRobinBatch(streams) } else { by_key };
        let dealt = Arc::new(RepartitionExec::try_new(below, dealt)?);
        Ok(Arc::new(AggregateExec::try_new(
            AggregateMode::PartialReduce,
            keys,
            partial.aggr_expr().to_vec(),
            vec![None; partial.aggr_expr().len()],
            dealt,
            partial.input_schema(),
        )?))
    }
}

impl PhysicalOptimizerRule for ReduceTwice {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<AggregateExec>() {
            Some(partial) if *partial.mode() == AggregateMode::Partial => {
                let once = Self::reduced(partial, 3, Arc::clone(&node))?;
                Ok(Transformed::yes(Self::reduced(partial, 2, once)?))
            }
            _ => Ok(Transformed::no(node)),
        })
        .map(|t| t.data)
    }

    fn name(&self) -> &str {
        "reduce_twice"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn sales(ctx: &SessionContext) {
    let x: Vec<i64> = (0..3000).map(|i: i64| 2500 / (i * i % 2503 + 1)).collect();
    let y: Vec<String> = x.iter().map(|x| format!("product {x}")).collect();
    let w: Vec<i64> = (0..3000).map(|i| i % 13 - 2).collect();
    let d = w
        .iter()
        .map(|w| i128::from(*w) * 5)
        .collect::<Decimal128Array>()
        .with_precision_and_scale(12, 2)
        .unwrap();
    let g: Vec<i64> = (0..3000).map(|i| i % 41).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("x", Arc::new(Int64Array::from(x))),
        ("y", Arc::new(StringArray::from(y))),
        ("w", Arc::new(Int64Array::from(w))),
        ("d", Arc::new(d)),
        ("g", Arc::new(Int64Array::from(g))),
    ];
    table(ctx, &columns, 4);
}

const AGGREGATES: [&str; 12] = [
    "approx_top_k(x, 5)",
    "approx_top_k(y, 5) FILTER (WHERE w > 0)",
    "approx_top_sum(x, w, 5)",
    "approx_top_sum(y, d, 5)",
    "approx_top_k_estimate(approx_top_k_accumulate(y), 5)",
    "approx_top_sum_estimate(approx_top_sum_accumulate(x, w), 5)",
    "count_min_estimate(count_min_sketch(x, 0.01, 0.99), 2)",
    "count_min_estimate(count_min_sketch(y, 0.01, 0.99, 5, w), 'product 2')",
    "hll_sketch_estimate(hll_sketch_agg(x))",
    "hll_sketch_estimate(hll_sketch_agg(y))",
    "sketch_bytes(count_min_sketch(x, 0.2, 0.9))",
    "sum(w)",
];

#[tokio::test]
async fn a_sketch_is_the_same_however_often_it_is_reduced_on_the_way() {
    // Small enough to be one batch a stream, or many.
    for batch_size in [16, 8192] {
        let config = || SessionConfig::new().with_target_partitions(4).with_batch_size(batch_size);
        let plain = SessionContext::new_with_config(config());
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config())
            .with_physical_optimizer_rule(Arc::new(ReduceTwice))
            .build();
        let reducing = SessionContext::new_with_state(state);
        for ctx in [&plain, &reducing] {
            register_all(ctx).unwrap();
            sales(ctx);
        }
        for aggregate in AGGREGATES {
            for sql in [
                format!("SELECT {aggregate} FROM t"),
                format!("SELECT g, {aggregate} FROM t GROUP BY g ORDER BY g"),
                format!("SELECT {aggregate} FROM t WHERE x < 0"),
            ] {
                let plan = reducing.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
                let text = displayable(plan.as_ref()).indent(false).to_string();
                assert_eq!(text.matches("mode=PartialReduce").count(), 2, "{text}");
                assert_eq!(rows(&reducing, &sql).await, rows(&plain, &sql).await, "{sql}");
            }
        }
    }
}

/// States of sketches are merged on the way too: a rollup's sketches over a cluster.
#[tokio::test]
async fn stored_sketches_merge_on_the_way() {
    let config = || SessionConfig::new().with_target_partitions(4).with_batch_size(16);
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config())
        .with_physical_optimizer_rule(Arc::new(ReduceTwice))
        .build();
    let ctx = SessionContext::new_with_state(state);
    register_all(&ctx).unwrap();
    sales(&ctx);
    for (keep, merge, ask, direct) in [
        (
            "approx_top_k_accumulate(y)",
            "approx_top_k_combine(s)",
            "approx_top_k_estimate(s, 5)",
            "approx_top_k(y, 5)",
        ),
        (
            "approx_top_sum_accumulate(x, d)",
            "approx_top_sum_combine(s)",
            "approx_top_sum_estimate(s, 5)",
            "approx_top_sum(x, d, 5)",
        ),
        (
            "count_min_sketch(x, 0.01, 0.99)",
            "count_min_combine(s)",
            "count_min_estimate(s, 2)",
            "count_min_estimate(count_min_sketch(x, 0.01, 0.99), 2)",
        ),
        ("hll_sketch_agg(y)", "hll_union_agg(s)", "hll_sketch_estimate(s)", "count(DISTINCT y)"),
    ] {
        let kept = format!("SELECT g, {keep} AS s FROM t GROUP BY g");
        let merged = format!("SELECT {ask} FROM (SELECT {merge} AS s FROM ({kept}))");
        assert_eq!(
            rows(&ctx, &merged).await,
            rows(&ctx, &format!("SELECT {direct} FROM t")).await,
            "{merged}"
        );
    }
}
