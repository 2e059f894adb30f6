//! Over how many workers a scan is spread, by the bytes of the columns that it reads, and what each of them reads: as much as any other.

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfig, FileScanConfigBuilder,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DesiredTaskCountHandler, DistributedLeafExec,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse, ScaleUpLeafNodeHandler,
};

use crate::workload::width;

/// One task for so many bytes, and for what has to see all of its input.
pub(super) struct ByBytes(pub(super) u64);

#[async_trait]
impl DesiredTaskCountHandler for ByBytes {
    async fn handle(
        &self,
        event: DesiredTaskCountEvent<'_>,
    ) -> Option<Result<DesiredTaskCountEventResponse>> {
        if is_whole(event.plan) {
            return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
        }
        let bytes = bytes_read(event.plan.as_ref())?;
        let tasks = usize::try_from(bytes.div_ceil(self.0)).unwrap_or(usize::MAX).max(1);
        Some(Ok(DesiredTaskCountEventResponse::desired(tasks)))
    }
}

/// Whether an operator is right only over all of its input at once. It has that where its input is one partition, which says nothing any
/// more once several tasks have a part of the input each: an aggregate in one step, a limit, a window over all rows. Where an input is
/// several partitions, something above brings them together, and the planner of stages sees that.
fn is_whole(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let one = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count() == 1;
    if plan.fetch().is_some() && one(plan) {
        return true;
    }
    // The side that such a join collects is sent to all tasks as a whole.
    let collects = plan.is::<CrossJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan
            .downcast_ref::<HashJoinExec>()
            .is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft);
    let wanted = plan.input_distribution_requirements().into_per_child();
    plan.children()
        .into_iter()
        .zip(wanted)
        .skip(usize::from(collects))
        .any(|(input, wanted)| one(input) && !matches!(wanted, Distribution::UnspecifiedDistribution))
}

/// In a session whose tasks have one thread each: a scan's share is read in one partition. Two of them would be read in turn, and what is
/// added up for each would be a hash table for each, of the same keys.
#[derive(Debug)]
pub(super) struct OneThread;

/// Gives each task its share of a scan's files.
pub(super) struct EvenShares;

impl ScaleUpLeafNodeHandler for EvenShares {
    fn handle(&self, event: ScaleUpLeafNodeEvent) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
        let scan = files_of(event.plan.as_ref())?;
        let partitions = match event.session_config.get_extension::<OneThread>() {
            Some(_) => 1,
            None => event.plan.output_partitioning().partition_count(),
        };
        let tasks = shares(scan, partitions, event.task_count).into_iter().map(|groups| {
            let share = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups).build();
            DataSourceExec::from_data_source(share) as Arc<dyn ExecutionPlan>
        });
        let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), tasks);
        Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
    }
}

/// A scan's files for so many tasks of so many partitions each. A Parquet file is cut where that makes shares even; what is
/// compressed as a whole cannot be.
fn shares(scan: &FileScanConfig, partitions: usize, tasks: usize) -> Vec<Vec<FileGroup>> {
    let wanted = partitions * tasks;
    let ordered = !scan.output_ordering.is_empty();
    let cut = match scan.file_source().file_type() {
        "parquet" => FileGroupPartitioner::new()
            .with_target_partitions(wanted)
            .with_repartition_file_min_size(0)
            .with_preserve_order_within_groups(ordered)
            .repartition_file_groups(&scan.file_groups),
        _ => None,
    };
    let groups = match cut {
        Some(groups) => groups,
        None if ordered => scan.file_groups.clone(),
        None => packed(scan.file_groups.iter().flat_map(FileGroup::iter).cloned().collect(), wanted),
    };
    // Every task has as many groups as any other.
    let each = groups.len().div_ceil(tasks).max(1);
    let mut shares = vec![Vec::with_capacity(each); tasks];
    for (i, group) in groups.into_iter().enumerate() {
        shares[i % tasks].push(group);
    }
    for share in &mut shares {
        share.resize(each, FileGroup::new(vec![]));
    }
    shares
}

/// Whole files in so many groups: the largest first, each to the group that has least.
fn packed(mut files: Vec<PartitionedFile>, groups: usize) -> Vec<FileGroup> {
    files.sort_by_key(|file| Reverse(file.effective_size()));
    let mut packed: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, vec![]); groups.max(1)];
    for file in files {
        if let Some((bytes, group)) = packed.iter_mut().min_by_key(|(bytes, group)| (*bytes, group.len())) {
            *bytes += file.effective_size();
            group.push(file);
        }
    }
    packed.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

/// The scan of files that an operator is, if it is one.
pub(super) fn files_of(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// The bytes of the columns that a scan of files reads, as they lie in memory; `None` for what is none. Files may have many columns
/// that nobody asks for, so their own size says little.
pub(super) fn bytes_read(plan: &dyn ExecutionPlan) -> Option<u64> {
    let scan = files_of(plan)?;
    let rows = match scan.statistics().num_rows.get_value() {
        // A limit that the scan knows of is enough for it.
        Some(rows) => scan.limit.map_or(*rows, |limit| limit.min(*rows)) as u64,
        // What is known of the files is how large they are.
        None => {
            return Some(scan.file_groups.iter().flat_map(|g| g.files()).map(|f| f.object_meta.size).sum());
        }
    };
    Some(rows.saturating_mul(width(&plan.schema())))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::physical_plan::ParquetSource;
    use datafusion::execution::object_store::ObjectStoreUrl;

    use super::*;

    fn scan(sizes: &[u64]) -> FileScanConfig {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let files = sizes.iter().enumerate().map(|(i, size)| PartitionedFile::new(format!("f{i}"), *size));
        FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(ParquetSource::new(schema)))
            .with_file_groups(vec![FileGroup::new(files.collect())])
            .build()
    }

    fn bytes(groups: &[FileGroup]) -> u64 {
        groups.iter().flat_map(|g| g.files()).map(|f| f.effective_size()).sum()
    }

    #[test]
    fn shares_are_even_and_nothing_is_left_out() {
        for sizes in [vec![1 << 20], vec![7; 3], (1..100_001).collect::<Vec<u64>>()] {
            let total: u64 = sizes.iter().sum();
            for tasks in [1, 2, 3, 8] {
                let shares = shares(&scan(&sizes), 2, tasks);
                assert_eq!(shares.iter().map(|s| bytes(s)).sum::<u64>(), total);
                assert!(
                    shares.iter().all(|s| s.len() == shares[0].len()),
                    "{tasks} of {} files",
                    sizes.len()
                );
                let most = shares.iter().map(|s| bytes(s)).max().unwrap();
                assert!(
                    most <= total / tasks as u64 + total / 100 + 7,
                    "{most} of {total} for one of {tasks}"
                );
            }
        }
    }

    #[test]
    fn whole_files_are_packed_by_size() {
        let files = [9, 1, 1, 1, 8, 1, 5, 4].map(|size| PartitionedFile::new("f", size));
        let mut sizes: Vec<u64> =
            packed(files.to_vec(), 3).iter().map(|g| bytes(std::slice::from_ref(g))).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [10, 10, 10]);
        assert_eq!(packed(vec![], 2).len(), 2);
    }
}
