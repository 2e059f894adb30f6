//! Prepared statements, portals, pipelining.

use futures::{TryStreamExt, future::try_join_all};
use tokio_postgres::types::Type;

use super::{Server, keep_cancelling};

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_and_their_parameters() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT, b TEXT, c DECIMAL(18, 4))").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2, $3)").await.unwrap();
    assert_eq!(insert.params().len(), 3);
    assert!(insert.columns().is_empty());

    let select = client.prepare("SELECT b FROM t WHERE a = $1").await.unwrap();
    assert_eq!(select.params(), [Type::INT8]);
    assert_eq!(select.columns()[0].name(), "b");
    assert_eq!(select.columns()[0].type_(), &Type::TEXT);
    assert_eq!(client.query(&select, &[&1i64]).await.unwrap().len(), 0);
    assert_eq!(client.execute("INSERT INTO t SELECT 1, 'x', 2.5", &[]).await.unwrap(), 1);
    let row = client.query_one(&select, &[&1i64]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "x");

    // A type that the client declares, a cast, and none at all.
    let declared = client.prepare_typed("SELECT $1 + 1", &[Type::INT4]).await.unwrap();
    assert_eq!(client.query_one(&declared, &[&41i32]).await.unwrap().get::<_, i64>(0), 42);
    let cast = client.prepare("SELECT $1::date, $2::int[]").await;
    assert_eq!(cast.unwrap().params()[0], Type::DATE);
    let named = client.prepare("SELECT CAST($1 AS VARCHAR), $2::oid, $3::oid[]").await.unwrap();
    assert_eq!(named.params(), [Type::VARCHAR, Type::OID, Type::OID_ARRAY]);
    let any = client.prepare("SELECT n FROM generate_series(1, 3) AS g(n) WHERE n = ANY($1)").await.unwrap();
    assert_eq!(any.params(), [Type::INT8_ARRAY]);
    let rows = client.query(&any, &[&vec![1i64, 3, 5]]).await.unwrap();
    assert_eq!(rows.len(), 2);
    let unknown = client.prepare("SELECT $1").await.unwrap();
    assert_eq!(unknown.params(), [Type::TEXT]);
    assert_eq!(client.query_one(&unknown, &[&"hello"]).await.unwrap().get::<_, &str>(0), "hello");
    let null = client.query_one(&unknown, &[&None::<String>]).await.unwrap();
    assert_eq!(null.get::<_, Option<String>>(0), None);
    let limit = client.prepare("SELECT a FROM t LIMIT $1").await.unwrap();
    assert_eq!(client.query(&limit, &[&1i64]).await.unwrap().len(), 1);

    for (sql, code) in
        [("SELECT * FROM nowhere WHERE a = $1", "42P01"), ("SELECT 1; SELECT 2", "42601"), ("SELEC", "42601")]
    {
        assert_eq!(client.prepare(sql).await.unwrap_err().code().unwrap().code(), code, "{sql}");
    }
    assert!(client.query("", &[]).await.unwrap().is_empty());
    assert_eq!(client.query("SHOW server_version", &[]).await.unwrap().len(), 1);
    // Names go when they are told to.
    client.batch_execute("DEALLOCATE ALL").await.unwrap();
    assert_eq!(client.query(&select, &[&1i64]).await.unwrap_err().code().unwrap().code(), "26000");
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_rows_in_parts() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let sql = "SELECT value FROM generate_series(1, 20000) ORDER BY value";
    let portal = transaction.bind(sql, &[]).await.unwrap();
    let mut seen = Vec::new();
    for limit in [1, 8191, 2, 5000, 10_000, 10] {
        let rows = transaction.query_portal(&portal, limit).await.unwrap();
        assert!(rows.len() <= limit as usize);
        seen.extend(rows.iter().map(|r| r.get::<_, i64>(0)));
    }
    assert_eq!(seen, (1..=20_000).collect::<Vec<_>>());
    // Two at a time.
    let (a, b) = (transaction.bind(sql, &[]).await.unwrap(), transaction.bind(sql, &[]).await.unwrap());
    assert_eq!(transaction.query_portal(&a, 3).await.unwrap().len(), 3);
    assert_eq!(transaction.query_portal(&b, 5).await.unwrap().len(), 5);
    assert_eq!(transaction.query_portal(&a, 1).await.unwrap()[0].get::<_, i64>(0), 4);
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_statements_and_an_error_among_them() {
    let server = Server::start().await;
    let client = server.connect().await;
    let statement = client.prepare("SELECT $1::bigint + 1").await.unwrap();
    let answers = try_join_all((0..200i64).map(|i| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[&i]).await.map(|r| r.get::<_, i64>(0)) }
    }));
    assert_eq!(answers.await.unwrap(), (1..=200).collect::<Vec<_>>());
    let (good, bad, good_again) = tokio::join!(
        client.query_one("SELECT 1", &[]),
        client.query_one("SELECT 1/0", &[]),
        client.query_one("SELECT 2", &[])
    );
    assert!(good.is_ok() && good_again.is_ok());
    assert_eq!(bad.unwrap_err().code().unwrap().code(), "22012");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_are_streamed() {
    let server = Server::start().await;
    let client = server.connect().await;
    let sql = "SELECT value, repeat('x', 100) FROM generate_series(1, 300000)";
    let rows = client.query_raw(sql, Vec::<i32>::new()).await.unwrap();
    let count = rows.try_fold(0, |n, _| async move { Ok(n + 1) }).await.unwrap();
    assert_eq!(count, 300_000);

    // A client that does not read does not make the server collect: the connection can be dropped at once.
    let rows = client.query_raw("SELECT repeat('x', 1000) AS slow_rows", Vec::<i32>::new()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    drop(rows);
    let cancelling = keep_cancelling(client.cancel_token());
    // It waits for the one before, which does not end by itself.
    while client.simple_query("SELECT 1").await.is_err() {}
    cancelling.abort();
}
