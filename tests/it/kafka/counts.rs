//! What is in the topic is in the table and its rollups, once, wherever it stopped and went on.

use std::time::Duration;

use super::pipeline::Pipeline;

#[tokio::test(flavor = "multi_thread")]
async fn each_message_once_however_often_it_is_run() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "counts", 6).await;
    pipeline.catch_up();
    pipeline.assert_exact([]).await;
    pipeline.produce(0..20_000);
    pipeline.catch_up();
    pipeline.assert_exact(0..20_000).await;
    pipeline.catch_up();
    pipeline.assert_exact(0..20_000).await;

    // A restart goes on where the table is, in whatever group.
    pipeline.produce(20_000..25_000);
    let (status, output) = pipeline.ingest_until_end(&["--group", "another", "--from", "latest"]);
    assert!(status.success(), "{output}");
    pipeline.assert_exact(0..25_000).await;

    // The same event in two messages is two events: without an option nobody decides otherwise.
    pipeline.produce(0..10);
    pipeline.catch_up();
    pipeline.assert_exact((0..25_000).chain(0..10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_end_commits_what_it_has_read() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "drains", 3).await;
    pipeline.produce(0..3_000);
    let mut wait = Duration::from_millis(500);
    while pipeline.stored().await == 0 {
        // Nothing is committed for an hour but at the end; how long a member takes to join and to read is not known.
        let process = pipeline.ingest(&["--commit-interval", "1h"]);
        tokio::time::sleep(wait).await;
        let status = process.terminate();
        assert!(status.success(), "{status}");
        wait *= 2;
        assert!(wait < Duration::from_secs(60), "what was read is not committed at the end");
    }
    pipeline.catch_up();
    pipeline.assert_exact(0..3_000).await;
}
