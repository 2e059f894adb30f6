//! Roles, GRANT and REVOKE.

use std::sync::Arc;

use toplake::catalog::access::Access;
use toplake::catalog::locations::Locations;
use toplake::catalog::privileges::{Privilege, Role};
use toplake::pg::Options;
use toplake::statement::Session;

use super::{Server, told, users};
use crate::harness::Desk;

async fn server() -> Server {
    let users =
        users(&[("ann", Role::Admin), ("will", Role::Writer), ("rita", Role::Reader), ("rob", Role::Reader)]);
    let server = Server::start(Options { users, ..Default::default() }).await;
    server
        .desk
        .run(
            "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, quantity BIGINT)
               WITH (time_column = 'event_time', late = 'divert');
             INSERT INTO sales VALUES ('2026-01-01 10:00:00', 2);
             CREATE MATERIALIZED VIEW hourly AS
               SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) AS quantity
               FROM sales GROUP BY 1;
             CREATE VIEW total AS SELECT sum(quantity) AS quantity, watermark('sales') AS until FROM sales;
             CREATE TABLE filters (name VARCHAR);
             INSERT INTO filters VALUES ('a')",
        )
        .await;
    server
}

/// A session of somebody in a process of its own.
fn session(desk: &Desk, user: &str, role: Role) -> Session {
    let access = Access::new(user, role, Locations::anywhere());
    let ctx = desk.engine.context_of(&access);
    Session::of(ctx, Arc::clone(desk.engine.warehouse()), access)
}

async fn state(session: &Session, sql: &str) -> &'static str {
    session.sql(sql).await.err().map_or("", |e| e.kind().sqlstate())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_do_what_it_is_for() {
    let server = server().await;
    let admins = "GRANT SELECT ON filters TO rita;
                  REVOKE SELECT ON filters FROM rita;
                  ALTER TABLE sales SET (retention = '90 days');
                  CREATE TABLE t (a BIGINT); DROP TABLE t;
                  VACUUM; SET datafusion.execution.batch_size = 1000;
                  DELETE FROM toplake.dead_letters";
    let writers = "INSERT INTO filters VALUES ('b');
                   INSERT INTO filters SELECT name FROM filters;
                   DELETE FROM filters WHERE name = 'b';
                   REFRESH MATERIALIZED VIEW hourly;
                   CALL compact('sales'); CALL compact('public.hourly');
                   CALL recompute('hourly', '2026-01-01', '2026-01-02');
                   CALL repair('hourly', '2026-01-01', '2026-01-02');
                   CALL expire('sales', '900 days');
                   CALL accept_late('sales');
                   CALL replay_dead_letters('sales');
                   SELECT * FROM toplake.dead_letters";
    let readers = "SELECT * FROM sales; SELECT * FROM hourly; SELECT * FROM total; SELECT * FROM sales_late;
                   WITH filters AS (SELECT 1) SELECT * FROM filters;
                   SELECT watermark('sales'), complete_through('hourly');
                   SELECT * FROM audit('hourly', '-infinity', 'infinity');
                   CALL require_complete('hourly', '2025-12-31');
                   SELECT * FROM toplake.rollups; SELECT * FROM toplake.ledger;
                   SELECT table_name FROM information_schema.tables;
                   SHOW TABLES; EXPLAIN SELECT * FROM sales; DESCRIBE sales;
                   SET toplake.rewrite = on; SET datafusion.explain.logical_plan_only = true;
                   RESET toplake.rewrite";
    for (role, may) in [(Role::Reader, 0), (Role::Writer, 1), (Role::Admin, 2)] {
        for (rank, statements) in [readers, writers, admins].iter().enumerate() {
            for sql in statements.split(';').map(str::trim) {
                // In a session of its own: settings of one would be in the way of another.
                let state = state(&session(&server.desk, "somebody", role), sql).await;
                assert_eq!(state, if rank <= may { "" } else { "42501" }, "{role:?}: {sql}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_is_looked_at_each_time_on_every_server_and_goes_with_its_table() {
    let server = server().await;
    let ann = server.try_connect("ann", "ann!").await.unwrap();
    let rita = server.try_connect("rita", "rita!").await.unwrap();
    let (select, insert) = ("SELECT quantity FROM sales", "INSERT INTO filters VALUES ('c')");
    let prepared = rita.prepare(select).await.unwrap();
    let may = async |yes: bool| match rita.query(&prepared, &[]).await {
        Ok(rows) => assert!(yes && rows.len() == 1),
        Err(e) => {
            let (state, message) = told(&e);
            assert!(!yes && state == "42501", "{state} {message}");
            assert!(message.contains("SELECT") && message.contains("'sales'"), "{message}");
        }
    };
    may(true).await;
    ann.batch_execute("REVOKE SELECT ON sales FROM reader").await.unwrap();
    may(false).await;
    assert_eq!(told(&rita.prepare(select).await.err().unwrap()).0, "42501");
    assert_eq!(told(&rita.simple_query(select).await.err().unwrap()).0, "42501");
    // Late rows are those of the same events; the view was made by somebody who may.
    assert_eq!(told(&rita.simple_query("SELECT * FROM sales_late").await.err().unwrap()).0, "42501");
    let total = rita.query_one("SELECT quantity, until IS NOT NULL FROM total", &[]).await.unwrap();
    assert_eq!((total.get::<_, i64>(0), total.get::<_, bool>(1)), (2, true));
    ann.batch_execute("GRANT SELECT ON sales TO rita; GRANT INSERT ON TABLE filters TO rita").await.unwrap();
    may(true).await;
    rita.batch_execute(insert).await.unwrap();
    let rob = server.try_connect("rob", "rob!").await.unwrap();
    assert_eq!(told(&rob.simple_query(select).await.err().unwrap()).0, "42501");
    // Another server over the same warehouse has the same rights.
    let elsewhere = server.home.desk().await;
    assert_eq!(state(&session(&elsewhere, "rita", Role::Reader), select).await, "");
    assert_eq!(state(&session(&elsewhere, "rob", Role::Reader), select).await, "42501");
    assert!(
        session(&elsewhere, "rita", Role::Reader).may(Privilege::Insert, "filters") || {
            state(&session(&elsewhere, "rita", Role::Reader), insert).await.is_empty()
        }
    );
    // A definition that is replaced keeps them; a table that is dropped does not.
    ann.batch_execute("REVOKE ALL ON total, hourly FROM reader, writer, PUBLIC").await.unwrap();
    ann.batch_execute(
        "CREATE OR REPLACE VIEW total AS SELECT 1 AS quantity;
         CREATE OR REPLACE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, max(quantity) AS most FROM sales GROUP BY 1",
    )
    .await
    .unwrap();
    for view in ["total", "hourly"] {
        let refused = rita.simple_query(&format!("SELECT * FROM {view}")).await.err().unwrap();
        assert_eq!(told(&refused).0, "42501", "{view}");
    }
    ann.batch_execute("DROP TABLE filters; CREATE TABLE filters (name VARCHAR)").await.unwrap();
    assert_eq!(told(&rita.simple_query(insert).await.err().unwrap()).0, "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_written_as_in_postgres() {
    let server = server().await;
    let desk = &server.desk;
    let may = |user: &str, role, privilege, table: &str| session(desk, user, role).may(privilege, table);
    let rita = |privilege, table| may("rita", Role::Reader, privilege, table);
    desk.run("GRANT INSERT, DELETE ON sales, public.filters TO rita, \"Rob\"").await;
    assert!(rita(Privilege::Insert, "sales") && rita(Privilege::Delete, "filters"));
    assert!(may("Rob", Role::Reader, Privilege::Insert, "sales"));
    assert!(!may("rob", Role::Reader, Privilege::Insert, "sales"));
    desk.run("REVOKE ALL PRIVILEGES ON ALL TABLES IN SCHEMA public FROM rita, reader").await;
    for table in ["sales", "filters", "hourly", "total"] {
        assert!(Privilege::ALL.iter().all(|p| !rita(*p, table)), "{table}");
        assert!(may("will", Role::Writer, Privilege::Delete, table), "{table}");
    }
    desk.run("GRANT SELECT ON total TO PUBLIC").await;
    assert!(rita(Privilege::Select, "total") && may("new", Role::Writer, Privilege::Select, "total"));
    desk.run("GRANT ALL ON hourly TO ROLE reader").await;
    assert!(rita(Privilege::Delete, "hourly"));
    assert!(!rita(Privilege::Select, "nothing"));
    for (sql, state) in [
        ("GRANT SELECT ON nothing TO rita", "42P01"),
        ("GRANT UPDATE ON sales TO rita", "0A000"),
        ("GRANT SELECT (quantity) ON sales TO rita", "0A000"),
        ("GRANT SELECT ON sales TO rita WITH GRANT OPTION", "0A000"),
        ("GRANT writer TO rita", "42601"),
        ("GRANT USAGE ON SCHEMA public TO rita", "0A000"),
        ("GRANT SELECT ON toplake.ledger TO rita", "0A000"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA toplake TO rita", "0A000"),
        ("GRANT SELECT ON sales", "42601"),
    ] {
        let refused = desk.try_run(sql).await.unwrap_err();
        assert_eq!(refused.kind().sqlstate(), state, "{sql}: {refused}");
    }
    // To take what nobody had is no error, and is said.
    let ann = server.try_connect("ann", "ann!").await.unwrap();
    ann.batch_execute("REVOKE SELECT ON sales FROM nobody").await.unwrap();
    // Rows and rights of one table are two commits at a time, and neither is lost.
    let (a, b) = tokio::join!(
        desk.try_run("GRANT SELECT ON sales TO x; GRANT SELECT ON sales TO y"),
        server.desk.try_run("GRANT SELECT ON sales TO z; REVOKE SELECT ON sales FROM z")
    );
    assert!(a.is_ok() && b.is_ok());
    assert!(
        may("x", Role::Reader, Privilege::Select, "sales")
            && may("y", Role::Reader, Privilege::Select, "sales")
    );
    assert!(!may("z", Role::Reader, Privilege::Select, "sales"));
}
