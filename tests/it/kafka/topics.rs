//! Topics that are made again, and records that are gone before they were read.

use super::pipeline::Pipeline;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_another_source() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "again", 2).await;
    pipeline.produce(0..1_000);
    pipeline.catch_up();
    broker.delete_topic("again");
    broker.create_topic("again", 2, &[]);
    // Its offsets begin at zero, where the table has the first topic's at 500.
    pipeline.produce(1_000..1_300);
    pipeline.catch_up();
    pipeline.assert_exact(0..1_300).await;
    pipeline.catch_up();
    pipeline.assert_exact(0..1_300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_are_an_error_that_names_them() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "gap", 2).await;
    pipeline.produce(0..1_000);
    pipeline.catch_up();
    pipeline.produce(1_000..2_000);
    // Even numbers are in partition 0: of offsets 500 to 999 the first 120 go.
    broker.delete_records("gap", 0, 620);

    let (status, output) = pipeline.ingest_until_end(&[]);
    assert_eq!(status.code(), Some(1), "{output}");
    for word in ["topic 'gap', partition 0", "offsets 500 to 619", "--accept-gap"] {
        assert!(output.contains(word), "'{word}' is missing in: {output}");
    }
    let (status, output) = pipeline.ingest_until_end(&["--accept-gap"]);
    assert!(status.success(), "{output}");
    let gone = |id: &i64| *id >= 1_000 && *id < 1_240 && id % 2 == 0;
    pipeline.assert_exact((0..2_000).filter(|id| !gone(id))).await;
    // It was accepted once; the position is behind it now.
    pipeline.catch_up();
    pipeline.assert_exact((0..2_000).filter(|id| !gone(id))).await;
}
