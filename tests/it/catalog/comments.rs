//! `COMMENT ON`, and where it shows.

use super::{Server, refused, rows};

#[tokio::test(flavor = "multi_thread")]
async fn comments_are_kept_and_shown() {
    let server = Server::start().await;
    let client = server.connect("tester").await;
    for sql in [
        "COMMENT ON TABLE sales IS 'what was sold'",
        "COMMENT ON COLUMN public.sales.unit_price IS 'in euros'",
        "COMMENT ON VIEW big IS 'not cheap'",
        "COMMENT ON MATERIALIZED VIEW top IS 'leaders'",
        "COMMENT ON TABLE notes IS 'gone soon'",
        "COMMENT ON TABLE notes IS NULL",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let described = "SELECT c.relname, d.objsubid, d.description FROM pg_description d
                     JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
                     WHERE c.relnamespace = 2200 ORDER BY 1, 2";
    let expected = ["big|0|not cheap", "sales|0|what was sold", "sales|4|in euros", "top|0|leaders"];
    assert_eq!(rows(&client, described).await, expected);
    let functions =
        "SELECT obj_description('sales'::regclass, 'pg_class'), obj_description('sales'::regclass),
                     col_description('sales'::regclass, 4), col_description('sales'::regclass, 1),
                     obj_description('hourly'::regclass)";
    assert_eq!(rows(&client, functions).await, ["what was sold|what was sold|in euros|NULL|NULL"]);
    for (command, words) in [("\\d+ sales", "in euros"), ("\\dt+", "what was sold"), ("\\dm+", "leaders")] {
        let Some(out) = server.psql(command) else { return };
        assert!(out.contains(words), "{command}\n{out}");
    }
    // They outlive another definition, and go with the table.
    client.batch_execute("CREATE OR REPLACE VIEW big AS SELECT event_id FROM sales").await.unwrap();
    assert_eq!(rows(&client, "SELECT obj_description('big'::regclass)").await, ["not cheap"]);
    client.batch_execute("DROP VIEW big; CREATE VIEW big AS SELECT event_id FROM sales").await.unwrap();
    assert_eq!(rows(&client, "SELECT obj_description('big'::regclass)").await, ["NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_are_refused_where_there_is_nothing_to_comment() {
    let server = Server::with_users().await;
    let admin = server.connect("ann").await;
    for (sql, state) in [
        ("COMMENT ON TABLE nowhere IS 'x'", "42P01"),
        ("COMMENT ON COLUMN sales.nothing IS 'x'", "42703"),
        ("COMMENT ON TABLE big IS 'x'", "42809"),
        ("COMMENT ON SCHEMA public IS 'x'", "0A000"),
    ] {
        assert_eq!(refused(&admin, sql).await.0, state, "{sql}");
    }
    let writer = server.connect("will").await;
    assert_eq!(refused(&writer, "COMMENT ON TABLE sales IS 'x'").await.0, "42501");
}
