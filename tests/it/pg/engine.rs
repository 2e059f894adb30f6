//! An engine to test with: a DataFusion session for each client over one shared catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session, TableProvider,
};
use datafusion::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use toplake::error::{Error, Kind, Result};
use toplake::pg::{
    Client, Connection, Description, Engine, Outcome, Parsed, describe_plan, register_pg_catalog,
};

/// How many streams of `slow` are open in this process.
pub(crate) static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many batches the streams of `endless_rows` have given.
pub(crate) static GIVEN: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct TestEngine {
    catalog: Arc<dyn CatalogProvider>,
}

impl TestEngine {
    pub(crate) fn new() -> Self {
        let catalog = MemoryCatalogProvider::new();
        let schema = MemorySchemaProvider::new();
        schema.register_table("top".to_owned(), Arc::new(Materialized(empty_table()))).unwrap();
        catalog.register_schema("public", Arc::new(schema)).unwrap();
        catalog.register_schema("hidden", Arc::new(MemorySchemaProvider::new())).unwrap();
        TestEngine { catalog: Arc::new(catalog) }
    }
}

#[async_trait]
impl Engine for TestEngine {
    async fn connect(&self, client: &Client) -> Result<Arc<dyn Connection>> {
        if client.database == "nowhere" {
            return Err(Error::invalid_input("database \"nowhere\" does not exist"));
        }
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema("toplake", "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
        config.options_mut().execution.time_zone = Some("UTC".to_owned());
        let ctx = SessionContext::new_with_config(config);
        ctx.register_catalog("toplake", Arc::clone(&self.catalog));
        register_pg_catalog(&ctx, "toplake", client)?;
        Ok(Arc::new(TestConnection { ctx }))
    }
}

struct TestConnection {
    ctx: SessionContext,
}

impl TestConnection {
    async fn plan(&self, statement: &Parsed) -> Result<LogicalPlan> {
        let parsed = statement.payload::<Statement>().unwrap().clone();
        Ok(self.ctx.state().statement_to_plan(parsed).await?)
    }
}

#[async_trait]
impl Connection for TestConnection {
    fn parse(&self, sql: &str) -> Result<Parsed> {
        let statement = self.ctx.state().sql_to_statement(sql, &Dialect::PostgreSQL);
        match statement {
            Ok(statement) => Ok(Parsed::new(sql).with_payload(Arc::new(statement))),
            // Where the parser stands, as its message has it.
            Err(e) => {
                let message = e.to_string();
                let column = message.rsplit_once("Column: ").map(|(_, n)| {
                    n.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>()
                });
                match column {
                    Some(Ok(column)) => Err(Error::from(e).with_position(column)),
                    _ => Err(e.into()),
                }
            }
        }
    }

    async fn describe(&self, statement: &Parsed, hints: &[Option<DataType>]) -> Result<Description> {
        if statement.sql().starts_with("SLOW") {
            return Ok(Description::default());
        }
        describe_plan(&self.plan(statement).await?, hints)
    }

    async fn setting_changed(&self, name: &str, value: &str) -> Result<()> {
        if name == "timezone" {
            let state = self.ctx.state_ref();
            state.write().config_mut().options_mut().execution.time_zone = Some(value.to_owned());
        }
        Ok(())
    }

    async fn execute(&self, statement: &Parsed, parameters: &[ScalarValue]) -> Result<Outcome> {
        if statement.sql().contains("hints_for_errors") {
            return Err(Error::new(Kind::ResourcesExhausted, "no memory").with_hint("buy some"));
        }
        if statement.sql().contains("slow_planning") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let plan = self.plan(statement).await?.with_param_values(parameters.to_vec())?;
        let tag = match &plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(_)) => "CREATE TABLE",
            LogicalPlan::Ddl(DdlStatement::CreateView(_)) => "CREATE VIEW",
            LogicalPlan::Ddl(DdlStatement::DropTable(_)) => "DROP TABLE",
            LogicalPlan::Dml(_) => "INSERT",
            LogicalPlan::Statement(_) => "SET",
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => "EXPLAIN",
            _ => "SELECT",
        };
        let slow = statement.sql().contains("slow_rows");
        let frame = self.ctx.execute_logical_plan(plan).await?;
        if !matches!(tag, "SELECT" | "EXPLAIN") {
            let batches = frame.collect().await?;
            let rows = batches.first().filter(|_| tag == "INSERT").map(written);
            return Ok(Outcome::Done { tag: tag.to_owned(), rows, notice: None });
        }
        let stream = frame.execute_stream().await?;
        if statement.sql().contains("endless_rows") {
            let schema = stream.schema();
            let batches = datafusion::physical_plan::common::collect(stream).await?;
            let rows = futures::stream::repeat_with(move || {
                GIVEN.fetch_add(1, Ordering::SeqCst);
                Ok(batches[0].clone())
            });
            let stream = RecordBatchStreamAdapter::new(schema, rows);
            return Ok(Outcome::Rows {
                tag: tag.to_owned(),
                stream: Box::pin(stream),
                stamp: None,
                notice: None,
            });
        }
        if !slow {
            return Ok(Outcome::Rows { tag: tag.to_owned(), stream, stamp: None, notice: None });
        }
        // The same batch again and again, a little later each time, for ever.
        let schema = stream.schema();
        let batches = datafusion::physical_plan::common::collect(stream).await?;
        OPEN.fetch_add(1, Ordering::SeqCst);
        let guard = Open;
        let rows = futures::stream::unfold((guard, batches), |(guard, batches)| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok(batches[0].clone()), (guard, batches)))
        });
        let stream = RecordBatchStreamAdapter::new(schema, rows.boxed());
        Ok(Outcome::Rows { tag: tag.to_owned(), stream: Box::pin(stream), stamp: None, notice: None })
    }
}

struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

fn written(batch: &RecordBatch) -> u64 {
    match ScalarValue::try_from_array(batch.column(0), 0) {
        Ok(ScalarValue::UInt64(Some(n))) => n,
        other => panic!("not a count: {other:?}"),
    }
}

fn empty_table() -> MemTable {
    use datafusion::arrow::datatypes::{Field, Schema};
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("rank", DataType::Int64, false),
        Field::new("product_id", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(18, 4), true),
    ]));
    MemTable::try_new(Arc::clone(&schema), vec![vec![RecordBatch::new_empty(schema)]]).unwrap()
}

/// A table that says it is a materialized view.
#[derive(Debug)]
struct Materialized(MemTable);

#[async_trait]
impl TableProvider for Materialized {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some("CREATE MATERIALIZED VIEW top WITH (refresh_every = '1 s') AS SELECT 1 AS rank")
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }
}
