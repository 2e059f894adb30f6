//! Who asks by HTTP, and what that one may read.

use toplake::catalog::privileges::Role;
use toplake::http::{Options, Tokens, new_token};

use super::{Web, get};
use crate::harness::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reads_what_is_granted_and_nothing_is_read_without() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE open (t TIMESTAMP NOT NULL, k VARCHAR) WITH (time_column = 't');
         CREATE MATERIALIZED VIEW open_daily AS SELECT time_bucket(INTERVAL '1 day', t) AS bucket, k, count(*) AS n FROM open GROUP BY 1, 2;
         CREATE TABLE closed (t TIMESTAMP NOT NULL, k VARCHAR) WITH (time_column = 't');
         CREATE MATERIALIZED VIEW closed_daily AS SELECT time_bucket(INTERVAL '1 day', t) AS bucket, k, count(*) AS n FROM closed GROUP BY 1, 2;
         INSERT INTO open VALUES ('2026-01-01', 'a'); INSERT INTO closed VALUES ('2026-01-01', 'b');
         GRANT SELECT ON closed, closed_daily TO zoe; REVOKE SELECT ON closed, closed_daily FROM reader",
    )
    .await;
    let ((reader, of_reader), (admin, of_admin)) = (new_token(), new_token());
    let mut tokens = Tokens::new();
    tokens.add("grafana", &of_reader, Role::Reader).unwrap();
    tokens.add("boss", &of_admin, Role::Admin).unwrap();
    let web = Web::with(&desk.engine, Options { tokens, ..Options::default() }).await;
    let status = async |path: &str, token: Option<&str>| get(web.address, path, token).await.status;
    for path in [
        "/v1/catalog",
        "/v1/status",
        "/metrics",
        "/v1/top?rollup=open_daily&key=k",
        "/v1/count?rollup=open_daily",
    ] {
        assert_eq!(status(path, None).await, 401, "{path}");
        assert_eq!(status(path, Some("tl_wrong")).await, 401, "{path}");
        assert_eq!(status(path, Some(&reader)).await, 200, "{path}");
        assert_eq!(status(path, Some(&admin)).await, 200, "{path}");
    }
    let refused = get(web.address, "/v1/catalog", None).await;
    assert!(refused.head.to_lowercase().contains("www-authenticate: bearer"), "{}", refused.head);
    // The page is for everybody; what it shows is not.
    for path in ["/", "/app.js", "/style.css", "/v1/openapi.json", "/health/live", "/health/ready"] {
        assert_eq!(status(path, None).await, 200, "{path}");
    }
    let closed = "/v1/top?rollup=closed_daily&key=k";
    assert_eq!((status(closed, Some(&reader)).await, status(closed, Some(&admin)).await), (403, 200));
    let listed = get(web.address, "/v1/catalog", Some(&reader)).await.body;
    assert!(listed.contains("open_daily") && !listed.contains("closed"), "{listed}");
    let listed = get(web.address, "/v1/status", Some(&reader)).await.body;
    assert!(listed.contains("open_daily") && !listed.contains("closed"), "{listed}");
    assert!(get(web.address, "/v1/status", Some(&admin)).await.body.contains("closed_daily"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_where_passwords_are_asked_for_and_there_are_no_tokens() {
    let home = Home::new();
    let desk = home.desk().await;
    let web =
        Web::with(&desk.engine, Options { tokens: Tokens::new().required(), ..Options::default() }).await;
    assert_eq!(get(web.address, "/v1/status", None).await.status, 401);
    assert_eq!(get(web.address, "/health/ready", None).await.status, 200);
}
