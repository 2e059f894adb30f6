//! Who may do what, as the catalogs have it: what they say is what happens.

use super::{Server, refused, rows};

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_told_as_they_are_checked() {
    let server = Server::with_users().await;
    let admin = server.connect("ann").await;
    admin
        .batch_execute(
            "REVOKE SELECT ON notes FROM reader; REVOKE DELETE ON sales FROM writer; GRANT INSERT ON sales TO rita;
             GRANT SELECT ON big TO PUBLIC",
        )
        .await
        .unwrap();
    let read = |table: &str| format!("SELECT * FROM {table}");
    for user in ["ann", "will", "rita"] {
        let client = server.connect(user).await;
        for table in ["sales", "notes", "big", "hourly", "toplake.ledger", "toplake.dead_letters"] {
            let told = rows(&client, &format!("SELECT has_table_privilege('{table}', 'SELECT')")).await;
            let done = client.simple_query(&read(table)).await.is_ok();
            assert_eq!(told, [if done { "t" } else { "f" }], "{user} {table}");
        }
        let told = rows(&client, "SELECT has_table_privilege('sales', 'DELETE')").await;
        let done = client.simple_query("DELETE FROM sales WHERE event_id < 0").await.is_ok();
        assert_eq!(told, [if done { "t" } else { "f" }], "{user} DELETE");
        let told = rows(&client, "SELECT has_any_column_privilege('sales', 'INSERT')").await;
        let sql = "INSERT INTO sales (event_id, event_time) VALUES (9, '2026-01-03')";
        let done = client.simple_query(sql).await.is_ok();
        assert_eq!(told, [if done { "t" } else { "f" }], "{user} INSERT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_asked_in_every_form() {
    let server = Server::with_users().await;
    let admin = server.connect("ann").await;
    for (sql, answer) in [
        ("SELECT has_table_privilege('rita', 'public.sales', 'select')", "t"),
        ("SELECT has_table_privilege('rita', 'sales'::regclass, 'INSERT, SELECT')", "t"),
        ("SELECT has_table_privilege('rita', 'sales'::regclass::oid, 'INSERT')", "f"),
        (
            "SELECT has_table_privilege((SELECT oid FROM pg_roles WHERE rolname = 'will'), 'sales', 'DELETE')",
            "t",
        ),
        ("SELECT has_table_privilege('public', 'sales', 'SELECT')", "f"),
        ("SELECT has_table_privilege('reader', '\"sales\"', 'SELECT')", "t"),
        ("SELECT has_table_privilege('rita', 'sales', 'UPDATE')", "f"),
        ("SELECT has_table_privilege(1, 'SELECT')", "NULL"),
        ("SELECT has_table_privilege('pg_class', 'SELECT')", "t"),
        ("SELECT has_column_privilege('rita', 'sales', 'event_id', 'SELECT')", "t"),
        ("SELECT has_column_privilege('rita', 'sales', 1::int2, 'INSERT')", "f"),
        ("SELECT has_schema_privilege('rita', 'public', 'USAGE')", "t"),
        ("SELECT has_schema_privilege('rita', 'public', 'CREATE')", "f"),
        ("SELECT has_schema_privilege('public', 'CREATE')", "t"),
        ("SELECT has_database_privilege('rita', 'toplake', 'CONNECT')", "t"),
        ("SELECT has_database_privilege('rita', current_database(), 'CREATE')", "f"),
        ("SELECT pg_has_role('rita', 'reader', 'MEMBER')", "t"),
        ("SELECT pg_has_role('rita', 'writer', 'USAGE')", "f"),
        ("SELECT pg_has_role('writer', 'MEMBER')", "t"),
    ] {
        assert_eq!(rows(&admin, sql).await, [answer], "{sql}");
    }
    for (sql, state) in [
        ("SELECT has_table_privilege('nowhere', 'SELECT')", "42P01"),
        ("SELECT has_table_privilege('nobody', 'sales', 'SELECT')", "42704"),
        ("SELECT has_table_privilege('sales', 'PLAY')", "22023"),
        ("SELECT has_column_privilege('sales', 'nothing', 'SELECT')", "42703"),
    ] {
        assert_eq!(refused(&admin, sql).await.0, state, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_roles_and_grants_are_those_of_the_server() {
    let server = Server::with_users().await;
    let rita = server.connect("rita").await;
    let roles = "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles ORDER BY 1";
    let all = ["admin|t|f", "ann|t|t", "reader|f|f", "rita|f|t", "will|f|t", "writer|f|f"];
    assert_eq!(rows(&rita, roles).await, all);
    let members = "SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
                   JOIN pg_roles m ON m.oid = a.member ORDER BY 2";
    assert_eq!(rows(&rita, members).await, ["admin|ann", "reader|rita", "writer|will"]);
    assert_eq!(
        rows(&rita, "SELECT usename, usesuper FROM pg_user ORDER BY 1").await,
        ["ann|t", "rita|f", "will|f"]
    );
    let acl = "SELECT relacl FROM pg_class WHERE relname = 'sales'";
    assert_eq!(rows(&rita, acl).await, ["{admin=arwdDxt/admin,reader=r/admin,writer=ard/admin}"]);
    let owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class";
    assert_eq!(rows(&rita, owners).await, ["admin"]);
    let exploded = "SELECT r.rolname, x.p FROM
                      (SELECT (aclexplode(c.relacl)).privilege_type AS p, (aclexplode(c.relacl)).grantee AS g
                       FROM pg_class c WHERE c.relname = 'sales') x
                    JOIN pg_roles r ON r.oid = x.g WHERE r.rolname = 'reader'";
    assert_eq!(rows(&rita, exploded).await, ["reader|SELECT"]);
    let granted = "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants
                   WHERE table_schema = 'public' AND table_name = 'sales'";
    assert_eq!(rows(&rita, granted).await, ["reader|sales|SELECT"]);
    // What exists is seen by everybody; information_schema has what one may do something with.
    let admin = server.connect("ann").await;
    admin.batch_execute("REVOKE SELECT ON notes FROM reader").await.unwrap();
    assert_eq!(rows(&rita, "SELECT relname FROM pg_class WHERE relname = 'notes'").await, ["notes"]);
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_name = 'notes'";
    assert!(rows(&rita, listed).await.is_empty());
    assert_eq!(rows(&admin, listed).await, ["notes"]);
}
