//! Rollups that may answer for the events tables of a statement, each pinned and put in terms of the events.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as EngineResult, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder};
use futures::future::join_all;

use super::aggregation::Aggregation;
use crate::catalog::events::EventsTable;
use crate::catalog::options::{ObjectKind, keys};
use crate::catalog::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::table::Table;
use crate::rollup::table::RollupTable;
use crate::rollup::view::{PinnedRollup, PinnedSource};

/// A measure of a rollup.
#[derive(Debug)]
pub struct Measure {
    /// What it is of the events.
    pub of: AggregateFunction,
    /// Its column.
    pub column: String,
    /// What merges it.
    pub merge: Arc<AggregateUDF>,
}

/// A rollup, in terms of the events it is made from.
#[derive(Debug)]
pub struct Candidate {
    /// The rollup.
    pub table: Arc<RollupTable>,
    /// The events table.
    pub events: Arc<Table>,
    /// The events table's columns.
    pub events_schema: SchemaRef,
    /// The events table's time column.
    pub time_column: String,
    /// Bucket and keys: what they are of the events, and their columns.
    pub keys: Vec<(Expr, String)>,
    /// Measures that are known everywhere.
    pub measures: Vec<Measure>,
    /// Which events count: all of these hold.
    pub conditions: Vec<Expr>,
    /// It says of the events what they say themselves from this instant on, in microseconds; always if `None`.
    pub from: Option<i64>,
    /// Bytes of its files.
    bytes: i64,
}

/// The rollups that are made from any of these tables, as far as this process has heard of them.
pub async fn rollups_over(
    warehouse: &Arc<Warehouse>,
    tables: &[Arc<Table>],
) -> Result<Vec<Arc<RollupTable>>> {
    if tables.is_empty() {
        return Ok(vec![]);
    }
    let mut names = warehouse.known_names();
    if names.is_empty() {
        names = warehouse.list().await?;
    }
    // What is known to be something else is not asked for.
    let may_be = |name: &String| {
        let seen = warehouse.opened(name);
        seen.is_none_or(|seen| ObjectKind::of(&seen.metadata.configuration) == ObjectKind::Rollup)
    };
    let names: Vec<String> = names.into_iter().filter(may_be).collect();
    let mut found = vec![];
    for (name, object) in names.iter().zip(join_all(names.iter().map(|name| warehouse.get(name))).await) {
        match object {
            Ok(Some(Object::Rollup(table))) => {
                if tables.iter().any(|t| Arc::ptr_eq(t, table.rollup().events())) {
                    found.push(table);
                }
            }
            Ok(_) => {}
            Err(e) => tracing::debug!(name, error = %e, "it answers for no other table"),
        }
    }
    Ok(found)
}

/// What the optimizer may choose from, the smallest rollup first.
#[derive(Debug, Clone, Default)]
pub struct Candidates(Arc<Vec<Candidate>>);

impl Candidates {
    /// Reads what these rollups are. They have to be pinned, and before their events.
    pub async fn of(rollups: &[Arc<RollupTable>], pins: &Pins, state: &SessionState) -> Result<Self> {
        let mut all = vec![];
        for table in rollups {
            let pinned = table.rollup().pin(pins).await?;
            if is_built(&pinned)
                && is_of_zone(&pinned, state.config().options().execution.time_zone.as_deref())
            {
                all.extend(Candidate::of(table, &pinned, state)?);
            }
        }
        all.sort_by_key(|candidate| candidate.bytes);
        Ok(Candidates(Arc::new(all)))
    }

    /// They, from the smallest to the largest.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter()
    }
}

/// Whether it has folded anything, and so has what it is made from.
fn is_built(pinned: &PinnedRollup) -> bool {
    pinned.position().is_some()
        && match &pinned.source {
            PinnedSource::Events(_) => true,
            PinnedSource::Rollup(finer) => is_built(finer),
        }
}

/// Whether its definition, and those that it stands on, mean what they would mean in this time zone.
fn is_of_zone(pinned: &PinnedRollup, zone: Option<&str>) -> bool {
    pinned.snapshot.option(keys::TIME_ZONE) == zone
        && match &pinned.source {
            PinnedSource::Events(_) => true,
            PinnedSource::Rollup(finer) => is_of_zone(finer, zone),
        }
}

impl Candidate {
    /// `None` if it cannot be said what it is.
    fn of(table: &Arc<RollupTable>, pinned: &PinnedRollup, state: &SessionState) -> Result<Option<Self>> {
        let rollup = table.rollup();
        let definition = &rollup.definition;
        let over = rollup.over_events()?;
        let provider = EventsTable::new(Arc::clone(rollup.events()));
        let Some(time_column) = provider.options().time_column.clone() else { return Ok(None) };
        let source = provider_as_source(Arc::new(provider));
        let mut plan = LogicalPlanBuilder::scan(TableReference::bare(rollup.events().name()), source, None)?;
        if let Some(filter) = conjunction(over.conditions) {
            plan = plan.filter(filter)?;
        }
        let (mut groups, mut aggregates) = (vec![], vec![]);
        for (field, expr) in definition.schema().fields().iter().zip(over.columns) {
            let Some(expr) = expr else { continue };
            let list =
                if definition.merge_function(field.name()).is_some() { &mut aggregates } else { &mut groups };
            list.push(expr.alias(field.name()));
        }
        // A query is compared with it after the same passes of the optimizer.
        let plan = state.optimize(&plan.aggregate(groups, aggregates)?.build()?)?;
        let Some((columns, aggregate)) = outputs(&plan)? else { return Ok(None) };
        let Some(raw) = Aggregation::of(aggregate)? else { return Ok(None) };
        let unknown = pinned.unknown_measures()?;
        let (mut keys, mut measures) = (vec![], vec![]);
        for (name, output) in columns {
            let Some((stored, of)) =
                definition.schema().column_with_name(&name).map(|(_, f)| (f, aggregate.schema.field(output)))
            else {
                continue;
            };
            // Nothing casts what stands in a plan that is optimised already.
            if stored.data_type() != of.data_type() {
                continue;
            }
            match (raw.groups.get(output), definition.merge_function(&name)) {
                (Some(of), None) => keys.push((of.clone(), name)),
                (None, Some(merge)) if !unknown.contains(&name) => {
                    let of = output.checked_sub(raw.groups.len()).and_then(|i| raw.aggregates.get(i));
                    if let Some(Expr::AggregateFunction(of)) = of {
                        measures.push(Measure { of: of.clone(), column: name, merge: Arc::clone(merge) });
                    }
                }
                _ => {}
            }
        }
        let events_schema = Arc::clone(&pinned.source.events().snapshot().schema);
        // The bucket stands for the time in comparisons.
        let bucket = definition.schema().field_with_name(definition.bucket_column())?;
        if events_schema.field_with_name(&time_column)?.data_type() != bucket.data_type() {
            return Ok(None);
        }
        Ok(Some(Candidate {
            table: Arc::clone(table),
            events: Arc::clone(rollup.events()),
            from: same_from(pinned, &time_column),
            events_schema,
            time_column,
            keys,
            measures,
            conditions: raw.conditions,
            bytes: pinned.snapshot.files.values().map(|file| file.add.size).sum(),
        }))
    }
}

/// From when on the rollup and its events say the same. Below the retention cut the events are gone that the rollup still
/// has; and buckets of one time zone need not nest in those of another before 1970.
fn same_from(pinned: &PinnedRollup, time_column: &str) -> Option<i64> {
    let events = pinned.source.events().snapshot();
    let lowest = |file: &crate::lake::snapshot::File| {
        file.stats(&events.schema).time_bounds(time_column).map_or(i64::MIN, |(lowest, _)| lowest)
    };
    let since_1970 = events.files.values().all(|file| lowest(file) >= 0);
    let cut = events.expired_through();
    if since_1970 { cut } else { Some(cut.unwrap_or(i64::MIN).max(0)) }
}

/// Names, and which column of an aggregation each is.
type OutputColumns = Vec<(String, usize)>;

/// The columns of a plan that are those of the aggregation in it: the name, and which one it is.
fn outputs(plan: &LogicalPlan) -> Result<Option<(OutputColumns, &Aggregate)>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let names = aggregate.schema.fields().iter().enumerate();
            Ok(Some((names.map(|(i, f)| (f.name().clone(), i)).collect(), aggregate)))
        }
        LogicalPlan::Projection(projection) => {
            let LogicalPlan::Aggregate(aggregate) = projection.input.as_ref() else { return Ok(None) };
            let mut columns = vec![];
            for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
                if let Expr::Column(column) = expr.clone().unalias_nested().data {
                    columns.push((field.name().clone(), aggregate.schema.index_of_column(&column)?));
                }
            }
            Ok(Some((columns, aggregate)))
        }
        _ => Ok(None),
    }
}

impl ConfigExtension for Candidates {
    const PREFIX: &'static str = "toplake_candidates";
}

impl ExtensionOptions for Candidates {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> EngineResult<()> {
        Err(DataFusionError::Configuration(format!(
            "'{key}' cannot be set: a statement finds its rollups itself"
        )))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}
