//! `toplake serve` with `toplake.toml`: topics flow into tables of the server, and psql sees it.

use std::path::Path;
use std::process::Command;

use super::pipeline::Pipeline;

/// The address that a server has printed.
fn address(output: &str) -> Option<String> {
    let line = output.lines().find(|l| l.starts_with("toplake serves "))?;
    line.rsplit_once(" on ").map(|(_, address)| address.to_owned())
}

/// What psql answers; none where there is no psql, which is a failure on the build server.
fn psql(address: &str, sql: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", "-h", host, "-p", port, "-U", "toplake", "-d", "toplake", "-c", sql]);
    match psql.output() {
        Ok(done) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            assert!(done.status.success(), "{sql}: {}", text(&done.stderr));
            Some(text(&done.stdout))
        }
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "psql is needed: {e}");
            eprintln!("psql is not installed: not tested");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_topics_flow_into_two_tables_of_a_server() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "server_clicks", 3).await;
    broker.create_topic("server_views", 2, &[]);
    pipeline
        .desk
        .run(
            "CREATE TABLE views (view_id BIGINT, view_time TIMESTAMP NOT NULL) WITH (time_column = 'view_time');
             CREATE MATERIALIZED VIEW views_hourly AS
               SELECT time_bucket(INTERVAL '1 hour', view_time) AS bucket, count(*) AS views FROM views GROUP BY 1",
        )
        .await;
    let config = tempfile::tempdir().unwrap();
    let toml = config.path().join("toplake.toml");
    let brokers = broker.address();
    let text = format!(
        "warehouse = '{}'
listen = '127.0.0.1:0'

[[ingest]]
table = 'clicks'
brokers = '{brokers}'
topics = ['server_clicks']
commit_interval = '200ms'

[[ingest]]
table = 'views'
brokers = '{brokers}'
topics = ['server_views']
commit_interval = '200ms'
properties = {{ 'client.id' = 'views' }}
",
        pipeline.warehouse
    );
    std::fs::write(&toml, text).unwrap();
    let mut toplake = Command::new(env!("CARGO_BIN_EXE_toplake"));
    toplake.args(["serve", "--http", "off", "--config"]).arg(&toml);
    let server = pipeline.start(&toplake);
    pipeline.produce(0..3_000);
    let views = broker.producer();
    for view in 0..500 {
        let message = format!(r#"{{"view_id":{view},"view_time":"2026-03-01T1{}:00:00Z"}}"#, view % 2);
        views.send("server_views", view % 2, message.as_bytes());
    }
    views.flush();
    pipeline.wait_for(3_000).await;
    let seen = async || pipeline.desk.value("SELECT count(*) FROM views").await == "500";
    pipeline.until("the views are stored", seen).await;

    let address = address(&server.output()).unwrap();
    let minutes = "SELECT sum(clicks), sum(ids) FROM clicks_minutely";
    let Some(answer) = psql(&address, minutes) else { return };
    let expected: i64 = (0..3_000).sum();
    assert_eq!(answer, format!("3000|{expected}"));
    let hours = psql(&address, "SELECT bucket, views FROM views_hourly ORDER BY 1").unwrap();
    assert_eq!(hours, "2026-03-01 10:00:00|250\n2026-03-01 11:00:00|250");
    assert!(server.terminate().success());
    pipeline.assert_exact(0..3_000).await;
}

/// The files of `examples/kafka` work together.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_leads_from_clicks_to_popular_ads() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "ad_clicks", 2).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["schema.sql", "rollups.sql", "views.sql"] {
        let sql = std::fs::read_to_string(root.join("sql/ad_clicks").join(file)).unwrap();
        pipeline.desk.run(&sql).await;
    }
    let config = tempfile::tempdir().unwrap();
    let toml = config.path().join("toplake.toml");
    let mut text = std::fs::read_to_string(root.join("examples/kafka/toplake.toml")).unwrap();
    for (of_example, of_test) in [
        ("./clicks", pipeline.warehouse.clone()),
        ("localhost:9092", broker.address()),
        ("127.0.0.1:7432", "127.0.0.1:0".to_owned()),
    ] {
        assert!(text.contains(of_example), "{of_example}");
        text = text.replace(of_example, &of_test);
    }
    std::fs::write(&toml, text).unwrap();
    let mut toplake = Command::new(env!("CARGO_BIN_EXE_toplake"));
    toplake.args(["serve", "--http", "off", "--config"]).arg(&toml);
    let server = pipeline.start(&toplake);
    for user in 0..300 {
        // As examples/kafka/clicks.py writes them.
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        let ad = [7, 7, 9][user as usize % 3];
        let message = format!(
            r#"{{"ad_id": {ad}, "click_time": "{now}", "user_id": {user}, "ip": "10.0.0.1", "country": "DE"}}"#
        );
        pipeline.send(user, &message);
    }
    pipeline.send(0, "no click");
    pipeline.flush();
    let popular = "SELECT rank, ad_id, clicks FROM popular_ads WHERE minutes = 5";
    let leads = async || pipeline.desk.rows(popular).await == ["1,7,200", "2,9,100"];
    pipeline.until("the ads are ranked", leads).await;
    assert_eq!(pipeline.desk.value("SELECT count(*) FROM toplake.dead_letters").await, "1");
    assert!(server.terminate().success());
}
