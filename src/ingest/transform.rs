//! `--transform`: one SELECT over `input` that makes a table's rows of a file's, each by itself.
//!
//! Only projections and filters are possible: a row must give the same result whichever commit it is read in.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{concat, concat_batches, prep_null_mask_filter};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::cast::{Rejected, Rows};
use crate::error::{Error, Kind, Result};

/// The name that the SELECT reads from.
pub(super) const INPUT: &str = "input";

/// A SELECT that is ready to run.
#[derive(Debug)]
pub(super) struct Transform {
    steps: Vec<Step>,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

impl Transform {
    /// Plans `sql` over rows of `input`. Fails with an error that names the clause which is not row by row.
    pub(super) async fn plan(sql: &str, input: &SchemaRef, session: &SessionState) -> Result<Self> {
        let state = state_over(input, session)?;
        let dialect = state.config_options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(sql, &dialect)?;
        crate::dialect::adapt(&mut statement);
        let plan = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => plan,
            // As it is written first; then with the columns named as the file names them.
            Err(e) => match spelled_as(input, statement) {
                Some(statement) => state.statement_to_plan(statement).await?,
                None => return Err(e.into()),
            },
        };
        check(&plan)?;
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
        let mut steps = vec![];
        let mut schema = Arc::clone(input);
        build(&plan, &state, &mut steps, &mut schema)?;
        Ok(Transform { steps, schema })
    }

    /// The columns that it gives.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Runs it. Rows that it fails on are rejected.
    pub(super) fn run(&self, rows: &Rows, rejected: &mut Rejected) -> Result<Rows> {
        let mut parts = vec![];
        self.run_part(rows, rejected, &mut parts)?;
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let origins: Vec<&dyn Array> = parts.iter().map(|p| &p.origin as &dyn Array).collect();
        let origin = if origins.is_empty() {
            UInt32Array::from(Vec::<u32>::new())
        } else {
            concat(&origins)?.as_primitive().clone()
        };
        Ok(Rows { batch: concat_batches(&self.schema, parts.iter().map(|p| &p.batch))?, origin })
    }

    /// Halves what fails, until it is known which row it is.
    fn run_part(&self, rows: &Rows, rejected: &mut Rejected, parts: &mut Vec<Rows>) -> Result<()> {
        match self.run_once(rows) {
            Ok(done) => parts.push(done),
            Err(e) if e.kind() == Kind::ResourcesExhausted => return Err(e),
            Err(e) if rows.batch.num_rows() == 1 => {
                rejected.add(rows.origin.value(0), || format!("transform: {}", e.message()));
            }
            Err(e) if rows.batch.num_rows() == 0 => return Err(e),
            Err(_) => {
                let (all, half) = (rows.batch.num_rows(), rows.batch.num_rows() / 2);
                for (from, length) in [(0, half), (half, all - half)] {
                    let batch = rows.batch.slice(from, length);
                    self.run_part(&Rows { batch, origin: rows.origin.slice(from, length) }, rejected, parts)?;
                }
            }
        }
        Ok(())
    }

    fn run_once(&self, rows: &Rows) -> Result<Rows> {
        let mut rows = rows.clone();
        for step in &self.steps {
            match step {
                Step::Filter(predicate) => {
                    let mask = predicate.evaluate(&rows.batch)?.into_array(rows.batch.num_rows())?;
                    let mask: &BooleanArray = mask.as_boolean();
                    rows = match mask.null_count() {
                        0 => rows.filter(mask)?,
                        _ => rows.filter(&prep_null_mask_filter(mask))?,
                    };
                }
                Step::Project(exprs, schema) => {
                    let n = rows.batch.num_rows();
                    let columns = exprs.iter().map(|e| Ok(e.evaluate(&rows.batch)?.into_array(n)?));
                    let columns = columns.collect::<Result<Vec<_>>>()?;
                    let options = RecordBatchOptions::new().with_row_count(Some(n));
                    rows.batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
                }
            }
        }
        Ok(rows)
    }
}

/// A session that sees nothing but `input`.
fn state_over(input: &SchemaRef, session: &SessionState) -> Result<SessionState> {
    let options = session.config_options().catalog.clone();
    let schema = Arc::new(MemorySchemaProvider::new());
    schema.register_table(INPUT.to_owned(), Arc::new(EmptyTable::new(Arc::clone(input))))?;
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog.register_schema(&options.default_schema, schema)?;
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    catalogs.register_catalog(options.default_catalog.clone(), catalog);
    Ok(SessionStateBuilder::new_from_existing(session.clone()).with_catalog_list(catalogs).build())
}

/// The statement with unquoted names spelled as the columns of `input` are; `None` if there is nothing to change.
fn spelled_as(input: &Schema, statement: Statement) -> Option<Statement> {
    let Statement::Statement(mut sql) = statement else { return None };
    let mut changed = false;
    let mut spell = |ident: &mut ast::Ident| {
        let mut alike = input.fields().iter().filter(|f| f.name().eq_ignore_ascii_case(&ident.value));
        if let (None, Some(field), None) = (ident.quote_style, alike.next(), alike.next()) {
            *ident = ast::Ident { quote_style: Some('"'), value: field.name().clone(), ..ident.clone() };
            changed = true;
        }
    };
    let _ = ast::visit_expressions_mut(sql.as_mut(), |expr| {
        match expr {
            ast::Expr::Identifier(ident) => spell(ident),
            ast::Expr::CompoundIdentifier(parts) => parts.iter_mut().skip(1).for_each(&mut spell),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    changed.then_some(Statement::Statement(sql))
}

/// Refuses what is not row by row.
fn check(plan: &LogicalPlan) -> Result<()> {
    let refuse = |clause: &str| {
        Err(Error::not_supported(format!(
            "the transform has {clause}, and a row must be made of one line by itself"
        ))
        .with_hint("use a projection and WHERE only; aggregate in a rollup or a view over the table"))
    };
    let mut reads = false;
    let mut node = plan;
    loop {
        for expr in node.expressions() {
            if let Some(clause) = not_row_wise(&expr) {
                return refuse(clause);
            }
        }
        node = match node {
            LogicalPlan::Projection(p) => &p.input,
            LogicalPlan::Filter(f) => &f.input,
            LogicalPlan::SubqueryAlias(a) => &a.input,
            LogicalPlan::TableScan(_) => {
                reads = true;
                break;
            }
            LogicalPlan::EmptyRelation(_) => break,
            LogicalPlan::Aggregate(_) => return refuse("an aggregate or GROUP BY"),
            LogicalPlan::Join(_) => return refuse("a join"),
            LogicalPlan::Sort(_) => return refuse("ORDER BY"),
            LogicalPlan::Limit(_) => return refuse("LIMIT or OFFSET"),
            LogicalPlan::Window(_) => return refuse("a window function"),
            LogicalPlan::Distinct(_) => return refuse("DISTINCT"),
            LogicalPlan::Union(_) => return refuse("UNION"),
            LogicalPlan::Unnest(_) => return refuse("unnest"),
            LogicalPlan::RecursiveQuery(_) => return refuse("WITH RECURSIVE"),
            LogicalPlan::Values(_) => return refuse("VALUES"),
            _ => return Err(Error::not_supported("the transform is not a SELECT over input")),
        };
    }
    if !reads {
        return Err(
            Error::not_supported("the transform does not read from input").with_hint("SELECT … FROM input")
        );
    }
    Ok(())
}

fn not_row_wise(expr: &Expr) -> Option<&'static str> {
    let mut clause = None;
    let _ = expr.apply(|e| {
        clause = clause.or(match e {
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                Some("a subquery")
            }
            Expr::AggregateFunction(_) => Some("an aggregate"),
            Expr::WindowFunction(_) => Some("a window function"),
            Expr::Unnest(_) => Some("unnest"),
            _ => None,
        });
        Ok(TreeNodeRecursion::Continue)
    });
    clause
}

/// Collects the steps, innermost first.
fn build(
    plan: &LogicalPlan,
    state: &SessionState,
    steps: &mut Vec<Step>,
    schema: &mut SchemaRef,
) -> Result<()> {
    match plan {
        LogicalPlan::Projection(p) => {
            build(&p.input, state, steps, schema)?;
            let exprs =
                p.expr.iter().map(|e| physical(e, p.input.schema(), state)).collect::<Result<Vec<_>>>()?;
            let fields = exprs.iter().zip(p.schema.fields()).map(|(expr, field)| {
                Ok(Field::new(field.name(), expr.data_type(schema)?, expr.nullable(schema)?))
            });
            *schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
            steps.push(Step::Project(exprs, Arc::clone(schema)));
        }
        LogicalPlan::Filter(f) => {
            build(&f.input, state, steps, schema)?;
            steps.push(Step::Filter(physical(&f.predicate, f.input.schema(), state)?));
        }
        LogicalPlan::SubqueryAlias(a) => build(&a.input, state, steps, schema)?,
        _ => {}
    }
    Ok(())
}

/// An expression that can be evaluated; what is constant, such as `now()`, is computed here.
fn physical(expr: &Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Arc<dyn PhysicalExpr>> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(Some(chrono::Utc::now()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr.clone().unalias(), schema)?)?;
    Ok(state.create_physical_expr(expr, schema)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, StringViewArray};
    use datafusion::arrow::datatypes::{DataType, Int64Type};
    use datafusion::prelude::SessionContext;

    fn input() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("Quantity", DataType::Utf8View, true),
            Field::new("name", DataType::Utf8View, true),
        ]))
    }

    async fn plan(sql: &str) -> Result<Transform> {
        Transform::plan(sql, &input(), &SessionContext::new().state()).await
    }

    fn rows() -> Rows {
        let column = |values: [&str; 5]| Arc::new(StringViewArray::from_iter_values(values)) as ArrayRef;
        let columns = vec![column(["1", "2", "x", "4", "y"]), column(["a", "b", "c", "d", "e"])];
        Rows::all(RecordBatch::try_new(input(), columns).unwrap())
    }

    #[tokio::test]
    async fn rows_that_fail_are_found_and_filtered_ones_are_not_bad() {
        for sql in [
            r#"SELECT CAST("Quantity" AS BIGINT) * 2 AS n, name FROM input WHERE name <> 'b';"#,
            "SELECT CAST(quantity AS BIGINT) * 2 AS n, i.Name FROM input i WHERE name <> 'b'",
            r#"SELECT n * 2 AS n, name FROM (SELECT CAST("Quantity" AS BIGINT) AS n, name FROM input) AS q
               WHERE name <> 'b'"#,
        ] {
            let transform = plan(sql).await.unwrap();
            let mut rejected = Rejected::default();
            let done = transform.run(&rows(), &mut rejected).unwrap();
            assert_eq!(done.origin.values(), &[0, 3], "{sql}");
            assert_eq!(done.batch.column(0).as_primitive::<Int64Type>().values(), &[2, 8]);
            assert_eq!(rejected.0.keys().copied().collect::<Vec<_>>(), [2, 4]);
            assert!(rejected.0[&2].contains("'x'"), "{}", rejected.0[&2]);
        }
    }

    #[tokio::test]
    async fn constants_and_nulls() {
        let transform =
            plan("SELECT now() AS t, 'x' AS c FROM input WHERE nullif(name, 'a') > 'b'").await.unwrap();
        let done = transform.run(&rows(), &mut Rejected::default()).unwrap();
        assert_eq!(done.origin.values(), &[2, 3, 4]);
    }

    #[tokio::test]
    async fn what_is_not_row_by_row_is_refused_by_name() {
        for (sql, clause) in [
            ("SELECT count(*) FROM input", "aggregate"),
            ("SELECT name FROM input GROUP BY name", "GROUP BY"),
            ("SELECT a.name FROM input a JOIN input b ON a.name = b.name", "a join"),
            ("SELECT name FROM input ORDER BY name", "ORDER BY"),
            ("SELECT name FROM input LIMIT 1", "LIMIT"),
            ("SELECT DISTINCT name FROM input", "DISTINCT"),
            ("SELECT name FROM input UNION ALL SELECT name FROM input", "UNION"),
            ("SELECT row_number() OVER () AS n FROM input", "window"),
            ("SELECT name FROM input WHERE name IN (SELECT name FROM input)", "subquery"),
            ("SELECT 1", "input"),
            ("CREATE TABLE x (a INT)", "SELECT"),
        ] {
            let e = plan(sql).await.unwrap_err();
            assert!(e.message().contains(clause), "{sql}: {}", e.message());
        }
        assert!(plan("SELECT nothing FROM input").await.unwrap_err().message().contains("nothing"));
        assert!(plan("SELECT 1 FROM sales").await.unwrap_err().message().contains("sales"));
    }
}
