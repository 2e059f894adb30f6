//! Messages that are not as they should be: of 10 MB, or no events at all.

use super::clicks;
use super::pipeline::Pipeline;

/// Wrong in one way or another.
fn poison(number: i64) -> String {
    let kinds = [
        "no json at all".to_owned(),
        format!(r#"{{"event_id":{number},"ad_id":1,"click_time":"2026-03-01T10:00:00Z""#),
        format!(r#"{{"event_id":{number},"ad_id":"one","click_time":"2026-03-01T10:00:00Z"}}"#),
        format!(r#"{{"event_id":{number},"ad_id":1}}"#),
        format!(r#"{{"event_id":{number},"ad_id":1,"click_time":"yesterday"}}"#),
        "\u{0}".to_owned(),
    ];
    kinds[number as usize % kinds.len()].clone()
}

/// Clicks, of which those that are no multiple of a number come as they should.
fn produce(pipeline: &Pipeline<'_>, ids: std::ops::Range<i64>, poisoned: i64) {
    for id in ids {
        let message = if id % poisoned == 0 { poison(id / poisoned) } else { clicks::message(id) };
        pipeline.send(id, &message);
    }
    pipeline.flush();
}

async fn dead(pipeline: &Pipeline<'_>) -> i64 {
    pipeline.desk.value("SELECT count(*) FROM toplake.dead_letters").await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_message_of_a_hundred_is_put_aside() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "poison", 3).await;
    produce(&pipeline, 0..10_000, 100);
    pipeline.catch_up();
    pipeline.assert_exact((0..10_000).filter(|id| id % 100 != 0)).await;
    assert_eq!(dead(&pipeline).await, 100);
    pipeline.catch_up();
    pipeline.assert_exact((0..10_000).filter(|id| id % 100 != 0)).await;
    assert_eq!(dead(&pipeline).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bad_messages_stop_it_and_it_stays_up() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "poisoned", 2).await;
    let good = |from: i64, to: i64| (from..to).filter(|id| id % 10 != 0);
    produce(&pipeline, 0..5_000, 10);
    let mut process = pipeline.ingest(&[]);
    pipeline.until("it stops", async || process.output().contains("of the last 1m are bad")).await;
    // What comes now waits at the broker.
    produce(&pipeline, 5_000..10_000, 10);
    pipeline
        .until("all that it has read is committed", async || {
            pipeline.stored().await + dead(&pipeline).await >= 1_000
        })
        .await;
    assert!(!process.has_ended(), "{}", process.output());
    assert!(process.terminate().success());
    assert!(pipeline.stored().await + dead(&pipeline).await < 10_000, "it did not stop");

    // Who finds that in order may say so.
    let (status, output) = pipeline.ingest_until_end(&["--max-errors", "20%"]);
    assert!(status.success(), "{output}");
    pipeline.assert_exact(good(0, 10_000)).await;
    assert_eq!(dead(&pipeline).await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_bad_messages_is_dead_letters() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "rotten", 2).await;
    produce(&pipeline, 0..3_000, 1);
    let (status, output) = pipeline.ingest_until_end(&["--max-errors", "100%"]);
    assert!(status.success(), "{output}");
    pipeline.assert_exact([]).await;
    assert_eq!(dead(&pipeline).await, 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_ten_megabytes_is_a_message() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::with_options(broker, "big", 1, &[("max.message.bytes", "20000000")]).await;
    pipeline.produce(0..100);
    let mut random = rand::rng();
    let letters =
        (0..10_000_000).map(|_| char::from(rand::Rng::sample(&mut random, rand::distr::Alphanumeric)));
    let country: String = letters.collect();
    pipeline.send(100, &clicks::message_from(100, &country));
    pipeline.produce(101..200);
    pipeline.catch_up();
    pipeline.assert_exact(0..200).await;
    let same = format!("SELECT count(*) FROM clicks WHERE md5(country) = md5('{country}')");
    assert_eq!(pipeline.desk.value(&same).await, "1");
}
