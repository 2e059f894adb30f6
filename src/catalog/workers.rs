//! `toplake.workers`: the machines that this server spreads large queries over, as it last saw them. Each server has its own list.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::live_table::LiveRows;
use super::warehouse::Warehouse;
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It takes part.
    Live,
    /// It does not answer, or refuses.
    Away,
    /// It answers, and is another program than the server, which reads plans in another way.
    OtherBuild,
}

impl WorkerState {
    /// All of them.
    pub const ALL: [WorkerState; 3] = [WorkerState::Live, WorkerState::Away, WorkerState::OtherBuild];

    /// As users read it.
    pub fn name(self) -> &'static str {
        match self {
            WorkerState::Live => "live",
            WorkerState::Away => "away",
            WorkerState::OtherBuild => "other build",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            WorkerState::Live => "",
            WorkerState::Away => "see that it runs, can be reached, and has the same token and authority",
            WorkerState::OtherBuild => "run the same toplake on both",
        }
    }
}

/// A worker as a server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Where it is.
    pub url: String,
    /// How it is.
    pub state: WorkerState,
    /// The release and build that it says it is.
    pub version: Option<String>,
    /// Why it takes no part.
    pub reason: Option<String>,
    /// Since when it is so, in microseconds.
    pub since: i64,
    /// When it was asked last, in microseconds.
    pub asked: i64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Workers {
    warehouse: Arc<Warehouse>,
    schema: SchemaRef,
}

impl Workers {
    pub(super) fn new(warehouse: Arc<Warehouse>) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let schema = Schema::new(vec![
            text("url"),
            text("state"),
            text("version"),
            text("reason"),
            Field::new("since", timestamp(true), true),
            Field::new("asked", timestamp(true), true),
        ]);
        Workers { warehouse, schema: Arc::new(schema) }
    }

    fn rows(&self) -> Result<RecordBatch> {
        let rows = self.warehouse.workers();
        let texts = |each: for<'a> fn(&'a WorkerStatus) -> Option<&'a str>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<StringViewArray>())
        };
        let times = |each: fn(&WorkerStatus) -> i64| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(each));
            Arc::new(times.with_timezone("UTC"))
        };
        let columns = vec![
            texts(|row| Some(&row.url)),
            texts(|row| Some(row.state.name())),
            texts(|row| row.version.as_deref()),
            texts(|row| row.reason.as_deref()),
            times(|row| row.since),
            times(|row| row.asked),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[async_trait]
impl LiveRows for Workers {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    async fn now(&self, _: &Pins) -> Result<RecordBatch> {
        self.rows()
    }
}
