//! Top products with plain DataFusion: at once over Parquet, and from sketches that were kept day by day.
//!
//! `cargo run -p toplake-udfs --example top_products`

use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::error::Result;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("toplake-udfs-{}", std::process::id()));
    let path = |name: &str| folder.join(name).display().to_string();
    let ctx = SessionContext::new();
    toplake_udfs::register_all(&ctx)?;

    // Sales of four days: product p1 most of all, one in fifty taken back.
    let sales = ctx
        .sql(
            "SELECT DATE '2026-11-01' + (i % 4)::INT AS day, 'p' || (1000000 / (i * 7919 % 1000000 + 1)) AS product_id,
                    CASE WHEN i % 50 = 0 THEN -1 ELSE 1 + i % 3 END AS quantity, i * 31 % 7000 AS customer_id
             FROM generate_series(1, 200000) AS t(i)",
        )
        .await?;
    sales.write_parquet(&path("sales"), DataFrameWriteOptions::new(), None).await?;
    ctx.register_parquet("sales", path("sales"), ParquetReadOptions::default()).await?;

    println!("At once:");
    ctx.sql("SELECT unnest(approx_top_sum(product_id, quantity, 3)) AS top FROM sales").await?.show().await?;

    // A sketch for each day, kept in Parquet like any other column.
    let daily = "SELECT day, approx_top_sum_accumulate(product_id, quantity) AS products, hll_sketch_agg(customer_id) AS customers
                 FROM sales GROUP BY day";
    ctx.sql(daily).await?.write_parquet(&path("daily"), DataFrameWriteOptions::new(), None).await?;
    ctx.register_parquet("daily", path("daily"), ParquetReadOptions::default()).await?;

    println!(
        "The first two days, from what was kept; customers are counted once, also if they came on both:"
    );
    let two_days = "SELECT approx_top_sum_estimate(approx_top_sum_combine(products), 3) AS top,
                           hll_sketch_bounds(hll_union_agg(customers)) AS customers
                    FROM daily WHERE day < DATE '2026-11-03'";
    ctx.sql(&format!("SELECT unnest(top) AS top, customers FROM ({two_days})")).await?.show().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
