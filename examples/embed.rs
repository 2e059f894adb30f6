//! toplake inside somebody else's DataFusion program: a context of their own, with their own tables, gets a warehouse.
//!
//! `cargo run --example embed`

use std::sync::Arc;

use datafusion::prelude::{CsvReadOptions, SessionContext};
use toplake::catalog::warehouse::Warehouse;
use toplake::session::plug_context;
use toplake::statement::Session;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("toplake-embed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let names = folder.join("names.csv");
    std::fs::write(&names, "product_id,name\np1,Kettle\np2,Lamp\n")?;

    // A DataFusion program as it may be.
    let theirs = SessionContext::new();
    theirs.register_csv("names", names.to_str().ok_or("not a path")?, CsvReadOptions::new()).await?;

    // Plugging in a warehouse: its catalog is `toplake`.
    let warehouse = Warehouse::open(folder.join("warehouse").to_str().ok_or("not a path")?).await?;
    let ctx = plug_context(&theirs, &warehouse)?;

    // Statements that DataFusion does not know go through a session of toplake's.
    let session = Session::new(ctx.clone(), Arc::clone(&warehouse));
    session
        .sql(
            "CREATE TABLE toplake.public.sales (event_time TIMESTAMP, product_id VARCHAR, quantity BIGINT)
               WITH (time_column = 'event_time');
             CREATE MATERIALIZED VIEW toplake.public.sales_hourly AS
               SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity) AS quantity
               FROM toplake.public.sales GROUP BY 1, 2;
             INSERT INTO toplake.public.sales VALUES
               ('2026-01-15 10:05:00', 'p1', 3), ('2026-01-15 10:20:00', 'p2', 1), ('2026-01-15 10:59:00', 'p1', 2);",
        )
        .await?;

    // Reading is plain DataFusion: the rollup joins their own table, and counts what no fold has seen yet.
    ctx.sql(
        "SELECT bucket, name, quantity FROM toplake.public.sales_hourly JOIN names USING (product_id) ORDER BY quantity DESC",
    )
    .await?
    .show()
    .await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
