//! Whether a plan can go to another process, looked at before it does; and the settings that go with it.

use std::any::Any;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use datafusion_distributed::{DistributedCodec, DistributedLeafExec, NetworkBoundaryExt, Stage};
use datafusion_proto::bytes::physical_plan_to_bytes_with_proto_converter;
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;

use super::tasks::files_of;
use crate::session;

/// An error says what of a plan in stages cannot leave the process. `local` is the plan that they were made of.
pub(super) fn check(
    spread: &Arc<dyn ExecutionPlan>,
    local: &Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<()> {
    // Files travel, and there may be many: a scan is looked at without them.
    local.apply(|node| {
        if let Some(scan) = without_files(node) {
            encode(scan, state)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut stages = vec![];
    spread.apply(|node| {
        if let Some(boundary) = node.as_network_boundary()
            && let Stage::Local(stage) = boundary.input_stage()
        {
            stages.push(Arc::clone(&stage.plan));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for stage in stages {
        let bare = stage.transform_down(|node| {
            known_functions(&node)?;
            Ok(match node.as_network_boundary().is_some() || is_leaf_of_files(&node) {
                true => Transformed::new(placeholder(&node)?, true, TreeNodeRecursion::Jump),
                false => Transformed::no(node),
            })
        })?;
        encode(bare.data, state)?;
    }
    Ok(())
}

fn encode(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<()> {
    let codec = DistributedCodec::new_combined_with_user(state.config());
    physical_plan_to_bytes_with_proto_converter(plan, &codec, &DeduplicatingProtoConverter {}).map(drop)
}

/// A scan, dealt out to tasks or of one.
fn is_leaf_of_files(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<DistributedLeafExec>() || files_of(node.as_ref()).is_some()
}

fn without_files(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let bare = FileScanConfigBuilder::from(files_of(node.as_ref())?.clone()).with_file_groups(vec![]).build();
    Some(DataSourceExec::from_data_source(bare))
}

/// Stands for an input that is looked at by itself, with its partitions: an operator above may not do with others.
fn placeholder(node: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let empty = EmptyExec::new(node.schema());
    Ok(match node.output_partitioning() {
        by @ Partitioning::Hash(..) => Arc::new(RepartitionExec::try_new(Arc::new(empty), by.clone())?),
        other => Arc::new(empty.with_partitions(other.partition_count())),
    })
}

/// Functions are found by their names at the other end, where those that look into a warehouse are not.
fn known_functions(node: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let functions = session::functions();
    let unknown = |name: &str| {
        DataFusionError::Plan(format!(
            "function '{name}' looks into the warehouse, or is not what workers call by that name"
        ))
    };
    node.apply_expressions(&mut |root| {
        root.apply(|expr| {
            if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
                && functions.scalar_functions().get(call.name()).is_none_or(|known| **known != *call.fun())
            {
                return Err(unknown(call.name()));
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        for expr in aggregate.aggr_expr() {
            let name = expr.fun().name();
            if functions.aggregate_functions().get(name).is_none_or(|known| **known != *expr.fun()) {
                return Err(unknown(name));
            }
        }
    }
    Ok(())
}

/// The settings of a session that are not as they are for everybody, as one that travels.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Those of a session.
    pub(super) fn of(options: &ConfigOptions) -> Self {
        let usual = ConfigOptions::default();
        let usual: std::collections::HashMap<String, Option<String>> =
            usual.entries().into_iter().map(|e| (e.key, e.value)).collect();
        let differs = options.entries().into_iter().filter_map(|entry| {
            let known = usual.get(&entry.key)?;
            match entry.value {
                Some(value) if known.as_ref() != Some(&value) => Some((entry.key, value)),
                _ => None,
            }
        });
        Settings(differs.collect())
    }

    /// Sets them in another session.
    pub(super) fn apply(&self, options: &mut ConfigOptions) -> Result<()> {
        self.0.iter().try_for_each(|(key, value)| options.set(key, value))
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "toplake_session";
}

/// The one key.
const KEY: &str = "settings";

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let wrong = || DataFusionError::Configuration(format!("'{key}' of a session is not readable"));
        if key != KEY {
            return Err(wrong());
        }
        let bytes = BASE64_STANDARD.decode(value).map_err(|_| wrong())?;
        self.0 = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let text = serde_json::to_vec(&self.0).unwrap_or_default();
        vec![ConfigEntry {
            key: KEY.to_owned(),
            value: Some(BASE64_STANDARD.encode(text)),
            description: "What a worker is to have set",
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_arrive_as_they_left() {
        let mut options = ConfigOptions::default();
        options.execution.time_zone = Some("Asia/Kolkata".into());
        options.set("datafusion.execution.batch_size", "123").unwrap();
        let sent = Settings::of(&options);
        let mut received = Settings::default();
        for entry in sent.entries() {
            received.set(&entry.key, &entry.value.unwrap()).unwrap();
        }
        let mut there = ConfigOptions::default();
        received.apply(&mut there).unwrap();
        assert_eq!(there.execution.time_zone.as_deref(), Some("Asia/Kolkata"));
        assert_eq!(there.execution.batch_size, options.execution.batch_size);
        assert!(received.set(KEY, "?").is_err());
    }
}
