//! DECLARE, FETCH, MOVE, CLOSE.

use tokio_postgres::SimpleQueryMessage;

use super::{Server, sqlstate, text, texts};

/// The rows that were given or passed over.
async fn count(client: &tokio_postgres::Client, sql: &str) -> u64 {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    match messages.last() {
        Some(SimpleQueryMessage::CommandComplete(count)) => *count,
        other => panic!("{sql}: {other:?}"),
    }
}

async fn numbers(client: &tokio_postgres::Client, sql: &str) -> Vec<i64> {
    texts(client, sql).await.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_gives_rows_in_parts() {
    let server = Server::start().await;
    let client = server.connect().await;
    let declare = "DECLARE c SCROLL CURSOR FOR SELECT value FROM generate_series(1, 10000) ORDER BY 1";
    client.batch_execute(&format!("BEGIN; {declare}")).await.unwrap();
    assert_eq!(numbers(&client, "FETCH 3 FROM c").await, [1, 2, 3]);
    assert_eq!(numbers(&client, "FETCH PRIOR FROM c").await, [2]);
    assert_eq!(count(&client, "MOVE FORWARD 9990 IN c").await, 9990);
    assert_eq!(numbers(&client, "FETCH ALL c").await, (9993..=10_000).collect::<Vec<_>>());
    assert_eq!(numbers(&client, "FETCH NEXT c").await, Vec::<i64>::new());
    assert_eq!(numbers(&client, "FETCH BACKWARD 2 FROM c").await, [10_000, 9_999]);
    assert_eq!(numbers(&client, "FETCH ABSOLUTE 5000 FROM c").await, [5_000]);
    assert_eq!(count(&client, "MOVE BACKWARD ALL IN c").await, 4_999);
    assert_eq!(numbers(&client, "FETCH c").await, [1]);
    assert_eq!(sqlstate(&client, declare).await, "42P03");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sqlstate(&client, "FETCH c").await, "34000");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_cursor_lives() {
    let server = Server::start().await;
    let client = server.connect().await;
    let declare = |name: &str, hold: &str| {
        format!("DECLARE {name} CURSOR {hold} FOR SELECT value FROM generate_series(1, 3) ORDER BY 1")
    };
    assert_eq!(sqlstate(&client, &declare("c", "")).await, "25P01");
    // A query string is a transaction.
    assert_eq!(numbers(&client, &format!("{}; FETCH 2 c", declare("c", ""))).await, [1, 2]);
    assert_eq!(sqlstate(&client, "FETCH c").await, "34000");
    // One that is held outlives it.
    client.batch_execute(&declare("held", "WITH HOLD")).await.unwrap();
    client.batch_execute("BEGIN; SELECT 1; ROLLBACK").await.unwrap();
    assert_eq!(numbers(&client, "FETCH held").await, [1]);
    let both = format!("BEGIN; {}; {}; FETCH b; COMMIT", declare("a", ""), declare("b", "WITH HOLD"));
    client.batch_execute(&both).await.unwrap();
    assert_eq!(sqlstate(&client, "FETCH a").await, "34000");
    assert_eq!(numbers(&client, "FETCH 5 b").await, [2, 3]);
    client.batch_execute(&format!("BEGIN; {}; ROLLBACK", declare("gone", "WITH HOLD"))).await.unwrap();
    assert_eq!(sqlstate(&client, "FETCH gone").await, "34000");
    // A savepoint takes those back that came after it.
    client
        .batch_execute(&format!("BEGIN; {}; SAVEPOINT s; {}", declare("x", ""), declare("y", "")))
        .await
        .unwrap();
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(numbers(&client, "FETCH x").await, [1]);
    assert_eq!(sqlstate(&client, "FETCH y").await, "34000");
    client.batch_execute("ROLLBACK; CLOSE ALL").await.unwrap();
    assert_eq!(sqlstate(&client, "CLOSE held").await, "34000");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_takes_parameters() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let declare =
        "DECLARE c CURSOR FOR SELECT value * CAST($1 AS BIGINT) AS v FROM generate_series(1, 5) ORDER BY 1";
    transaction.execute(declare, &[&7i64]).await.unwrap();
    let rows = transaction.query("FETCH FORWARD 2 FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>("v")).collect::<Vec<_>>(), [7, 14]);
    // A statement that is prepared once is as good for every part.
    let more = transaction.prepare("FETCH 2 FROM c").await.unwrap();
    assert_eq!(transaction.query(&more, &[]).await.unwrap().len(), 2);
    assert_eq!(transaction.query(&more, &[]).await.unwrap().len(), 1);
    assert_eq!(transaction.query(&more, &[]).await.unwrap().len(), 0);
    transaction.rollback().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_cursor_is_said() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a INT); BEGIN").await.unwrap();
    for (sql, state, position) in [
        ("DECLARE c CURSOR FOR SELECT * FROM nowhere", "42P01", None),
        ("DECLARE c CURSOR FOR SELECT * FORM t", "42601", Some(36)),
        ("DECLARE c CURSOR FOR INSERT INTO t VALUES (1)", "42601", Some(22)),
        ("DECLARE c FOR SELECT 1", "42601", None),
        ("FETCH SOME FROM c", "42601", None),
        ("FETCH c", "34000", None),
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), state, "{sql}: {error}");
        if let Some(at) = position {
            let told = error.position().map(|p| match p {
                tokio_postgres::error::ErrorPosition::Original(at) => *at,
                tokio_postgres::error::ErrorPosition::Internal { position, .. } => *position,
            });
            assert_eq!(told, Some(at), "{sql}");
        }
        client.batch_execute("ROLLBACK; BEGIN").await.unwrap();
    }
    client
        .batch_execute("DECLARE n NO SCROLL CURSOR FOR SELECT value FROM generate_series(1, 3)")
        .await
        .unwrap();
    assert_eq!(text(&client, "FETCH n").await, "1");
    assert_eq!(sqlstate(&client, "FETCH PRIOR FROM n").await, "55000");
    client.batch_execute("ROLLBACK").await.unwrap();
    server.stop().await;
}
