//! A worker opens the stores that plans name with credentials of its own; none travel with a plan.

use super::fill;
use super::machines::{Machines, Place};
use crate::s3::Server;

#[tokio::test(flavor = "multi_thread")]
async fn workers_need_credentials_of_their_own() {
    let s3 = Server::start().await;
    let desk = s3.desk("wide").await;
    fill(&desk, 2).await;
    let query = "SELECT sum(quantity) FROM sales";
    let right = desk.value(query).await;
    let with = Place { variables: s3.variables(), ..Place::default() };
    let machines = Machines::at("s3://lake/wide", vec![with.clone(); 2], &[], &s3.variables()).await;
    assert_eq!(machines.value(query).await, Ok(right));
    machines.value("REFRESH MATERIALIZED VIEW sales_hourly").await.unwrap();
    assert!(desk.rows("SELECT * FROM audit('sales_hourly', '-infinity', 'infinity')").await.is_empty());

    let wrong = |(name, value): (&'static str, String)| match name {
        "AWS_SECRET_ACCESS_KEY" => (name, "another".to_owned()),
        _ => (name, value),
    };
    let without = Place { variables: s3.variables().into_iter().map(wrong).collect(), ..Place::default() };
    let machines = Machines::at("s3://lake/wide", vec![without; 2], &[], &s3.variables()).await;
    let refused = machines.value(query).await.unwrap_err();
    assert!(!refused.starts_with("08006") && !refused.starts_with("XX000"), "{refused}");
}
