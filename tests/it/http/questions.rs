//! The questions by HTTP are answered as the definition over the raw events would.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Web, get};
use crate::harness::{Desk, Home};

const SCHEMA: &str = "
    CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product VARCHAR, shop BIGINT, quantity BIGINT, price DECIMAL(18, 4))
      WITH (time_column = 'event_time', allowed_lateness = '10 minutes');
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, shop, product, sum(quantity) AS quantity,
             sum(price) AS revenue, count(*) AS events, min(quantity) AS least, max(event_time) AS latest
      FROM sales GROUP BY 1, 2, 3;
    CREATE MATERIALIZED VIEW daily AS
      SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product, sum(quantity) AS quantity
      FROM hourly GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW sketches AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, shop, approx_top_k_accumulate(product) AS leaders,
             hll_sketch_agg(product) AS products, count_min_sketch(product, 0.01, 0.99) AS counts
      FROM sales GROUP BY 1, 2";

async fn shop() -> (Home, Desk, Web) {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    desk.run(
        "INSERT INTO sales VALUES
           ('2026-03-01 09:10:00', 'a', 1, 5, 1.5), ('2026-03-01 09:20:00', 'b', 1, 4, 2), ('2026-03-01 09:30:00', 'c', 2, 4, 3),
           ('2026-03-01 10:05:00', 'b', 2, 9, 0.0001), ('2026-03-01 10:06:00', 'a', 2, 2, 12345678901234.5678),
           ('2026-03-01 10:07:00', 'd''; --', 1, 2, 0), ('2026-03-01 10:08:00', NULL, 1, 1, 0)",
    )
    .await;
    let web = Web::start(&desk.engine).await;
    (home, desk, web)
}

fn ranked(answer: &Value) -> Vec<(u64, Value, i64)> {
    let rows = answer["rows"].as_array().unwrap();
    rows.iter()
        .map(|r| (r["rank"].as_u64().unwrap(), r["key"].clone(), r["value"].as_i64().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_in_the_latest_buckets_and_where_it_was_before() {
    let (_home, desk, web) = shop().await;
    let top = web.json("/v1/top?rollup=hourly&key=product&measure=quantity&previous=true").await;
    assert_eq!(
        ranked(&top),
        [(1, json!("b"), 9), (2, json!("a"), 2), (2, json!("d'; --"), 2), (4, Value::Null, 1),]
    );
    assert_eq!((&top["from"], &top["to"]), (&json!("2026-03-01T10:00:00Z"), &json!("2026-03-01T11:00:00Z")));
    assert_eq!(
        (&top["total"], &top["approximate"], &top["complete"]),
        (&json!(14), &json!(false), &json!(false))
    );
    assert_eq!(
        (&top["as_of"], &top["watermark"]),
        (&json!("2026-03-01T10:08:00Z"), &json!("2026-03-01T09:58:00Z"))
    );
    let rows = top["rows"].as_array().unwrap();
    assert_eq!(rows[0]["previous"], json!({ "rank": 2, "value": 4 }), "it tied with c");
    assert_eq!(rows[1]["previous"], json!({ "rank": 1, "value": 5 }));
    assert_eq!(rows[2]["previous"], Value::Null);
    assert_eq!((&rows[0]["lower"], &rows[0]["upper"]), (&json!(9), &json!(9)));
    let versions = top["versions"].as_object().unwrap();
    assert!(versions.contains_key("hourly") && versions.contains_key("sales"), "{versions:?}");

    // An earlier bucket is complete, a rollup without a fold says the same as one with.
    let earlier = "/v1/top?rollup=hourly&key=product&from=2026-03-01T09:30:00Z&to=2026-03-01T09:40:00Z&n=2";
    for _ in 0..2 {
        let top = web.json(earlier).await;
        assert_eq!(ranked(&top), [(1, json!("a"), 5), (2, json!("b"), 4)]);
        assert_eq!((&top["complete"], &top["total"]), (&json!(false), &json!(13)));
        desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    }
    desk.run("INSERT INTO sales VALUES ('2026-03-01 11:10:00', 'z', 1, 1, 0)").await;
    assert_eq!(web.json(earlier).await["complete"], json!(true));

    // Filters: one value, any of several, an empty answer.
    let path = "/v1/top?rollup=hourly&key=product&last=3h&filter[shop]=";
    assert_eq!(
        ranked(&web.json(&format!("{path}2")).await),
        [(1, json!("b"), 9), (2, json!("c"), 4), (3, json!("a"), 2)]
    );
    let both = web.json(&format!("{path}2&filter[shop]=1")).await;
    assert_eq!((ranked(&both)[0].clone(), &both["total"]), ((1, json!("b"), 13), &json!(28)));
    let none = web.json(&format!("{path}77")).await;
    assert_eq!((ranked(&none), &none["total"]), (vec![], &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_there_is_of_one_key_and_of_all() {
    let (_home, _desk, web) = shop().await;
    let count = async |query: &str| {
        let answer = web.json(&format!("/v1/count?rollup=hourly&{query}")).await;
        (answer["value"].to_string(), answer["lower"].to_string())
    };
    let same = |value: &str| (value.to_owned(), value.to_owned());
    assert_eq!(count("key=product&item=a&last=2h").await, same("7"));
    assert_eq!(count("key=product&item=a").await, same("2"));
    assert_eq!(count("key=product&item=nobody").await, same("0"));
    assert_eq!(
        count("key=shop&item=1&last=1d&measure=events").await,
        same("4"),
        "hours of a day are 24, back from the latest"
    );
    assert_eq!(count("last=2h").await, same("27"));
    // A parser that makes it a double would lose digits.
    let revenue = get(web.address, "/v1/count?rollup=hourly&measure=revenue", None).await.body;
    assert!(revenue.contains(r#""value":12345678901234.5679,"lower":12345678901234.5679"#), "{revenue}");
    assert_eq!(count("measure=least&key=product&item=b").await, same("9"));
    assert_eq!(count("measure=least&key=product&item=nobody").await, same("null"));
    let injected = count(&format!("key=product&item={}", "d%27%3B%20--")).await;
    assert_eq!(injected, same("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_went_from_bucket_to_bucket() {
    let (_home, _desk, web) = shop().await;
    let history = web.json("/v1/history?rollup=hourly&key=product&item=a&item=nobody&last=3h").await;
    assert_eq!(
        history["buckets"],
        json!(["2026-03-01T08:00:00Z", "2026-03-01T09:00:00Z", "2026-03-01T10:00:00Z"])
    );
    assert_eq!(
        history["series"],
        json!([
            { "item": "a", "values": [0, 5, 2] },
            { "item": "nobody", "values": [0, 0, 0] },
        ])
    );
    assert_eq!(history["complete_through"], json!("2026-03-01T09:00:00Z"));
    let all = web.json("/v1/history?rollup=hourly&last=2h&filter[shop]=1").await;
    assert_eq!(all["series"], json!([{ "item": null, "values": [9, 3] }]));
    let least = web.json("/v1/history?rollup=hourly&measure=least&last=3h").await;
    assert_eq!(least["series"][0]["values"], json!([null, 4, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sketches_say_between_what_the_truth_lies() {
    let (_home, _desk, web) = shop().await;
    let top = web.json("/v1/top?rollup=sketches&measure=leaders&last=2h&n=2").await;
    assert_eq!(
        (ranked(&top), &top["approximate"]),
        (vec![(1, json!("a"), 2), (1, json!("b"), 2)], &json!(true))
    );
    assert_eq!(top["rows"][0]["lower"], json!(2));
    let named = web.json("/v1/top?rollup=sketches&measure=leaders&key=leaders&last=2h&n=2").await;
    assert_eq!(named["rows"], top["rows"]);
    let products = web.json("/v1/count?rollup=sketches&measure=products&last=2h").await;
    assert_eq!((&products["value"], &products["approximate"]), (&json!(4), &json!(true)));
    assert!(products["lower"].as_f64() <= Some(4.0) && products["upper"].as_f64() >= Some(4.0));
    let one = web.json("/v1/count?rollup=sketches&measure=counts&item=a&last=2h").await;
    assert_eq!((&one["value"], &one["upper"]), (&json!(2), &json!(2)));
    assert!(one["lower"].as_i64() <= Some(2), "{one}");
    let by_shop = web.json("/v1/top?rollup=sketches&measure=products&key=shop&last=2h").await;
    assert_eq!(by_shop["rows"][0]["key"], json!(1));
    let history = web.json("/v1/history?rollup=sketches&measure=products&last=2h").await;
    assert!(history["series"][0]["upper"].is_array(), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_a_problem_that_says_why() {
    let (_home, _desk, web) = shop().await;
    for (path, status, what) in [
        ("/v1/top", 400, "'rollup' is missing"),
        ("/v1/top?rollup=hurly&key=product", 404, "no rollup 'hurly'"),
        ("/v1/top?rollup=sales&key=product", 400, "sales"),
        ("/v1/top?rollup=hourly", 400, "'key' is missing"),
        ("/v1/top?rollup=hourly&key=quantity", 400, "no key 'quantity'"),
        ("/v1/top?rollup=hourly&key=product&measure=price", 400, "no measure 'price'"),
        ("/v1/top?rollup=hourly&key=product&measure=latest", 400, "neither a number nor a sketch"),
        ("/v1/top?rollup=hourly&key=product&n=0", 400, "'n'"),
        ("/v1/top?rollup=hourly&key=product&n=10001", 400, "'n'"),
        ("/v1/top?rollup=hourly&key=product&last=soon", 400, "'last'"),
        ("/v1/top?rollup=hourly&key=product&last=1h&from=2026-03-01", 400, "two ways"),
        ("/v1/top?rollup=hourly&key=product&to=2026-03-01", 400, "needs a 'from'"),
        ("/v1/top?rollup=hourly&key=product&filter[prodct]=a", 400, "no key 'prodct'"),
        ("/v1/top?rollup=hourly&key=product&filter[shop]=one", 400, "'one' is no value"),
        ("/v1/top?rollup=hourly&key=product&contry=FR", 400, "no parameter 'contry'"),
        ("/v1/top?rollup=sketches&measure=counts&key=shop", 400, "which items there are"),
        ("/v1/top?rollup=sketches&measure=leaders&key=shop", 400, "its own items"),
        ("/v1/count?rollup=sketches&measure=leaders", 400, "which items lead"),
        ("/v1/count?rollup=hourly&key=product", 400, "'item' is missing"),
        ("/v1/count?rollup=hourly&item=a", 400, "needs a 'key'"),
        ("/v1/history?rollup=hourly&key=product", 400, "1 to 100 times"),
        ("/v1/history?rollup=hourly&last=90y", 400, "more than"),
        ("/v2/top", 404, "nothing at '/v2/top'"),
    ] {
        let (got, problem) = web.problem(path).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(got == status && detail.contains(what), "{path}: {got} {problem}");
        assert_eq!(problem["status"], json!(status), "{path}");
        assert!(!detail.ends_with('.') && problem["title"].is_string(), "{problem}");
    }
    let (_, problem) = web.problem("/v1/top?rollup=hurly&key=product").await;
    assert!(problem["hint"].as_str().unwrap().contains("hourly"), "{problem}");
    assert_eq!(problem["sqlstate"], json!("42P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_says_what_there_is_to_ask_about() {
    let (_home, _desk, web) = shop().await;
    let catalog = web.json("/v1/catalog").await;
    let table = &catalog["tables"][0];
    assert_eq!(
        (&table["name"], &table["last_event_time"]),
        (&json!("sales"), &json!("2026-03-01T10:08:00Z"))
    );
    let names: Vec<&str> =
        table["rollups"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hourly", "sketches", "daily"], "finest first");
    let hourly = &table["rollups"][0];
    assert_eq!(hourly["period"], json!("hour"));
    assert_eq!(
        hourly["keys"],
        json!([{ "name": "shop", "type": "integer" }, { "name": "product", "type": "text" }])
    );
    let measure = |i: usize| (hourly["measures"][i]["name"].clone(), hourly["measures"][i]["kind"].clone());
    assert_eq!(
        (measure(0), measure(4)),
        ((json!("quantity"), json!("number")), (json!("latest"), json!("other")))
    );
    let kinds: Vec<&Value> =
        table["rollups"][1]["measures"].as_array().unwrap().iter().map(|m| &m["kind"]).collect();
    assert_eq!(kinds, [&json!("top_items"), &json!("distinct"), &json!("count_min")]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Whatever came and was folded, count, top and history say what GROUP BY over the raw events says.
    #[test]
    fn answers_are_those_of_the_raw_events(
        events in prop::collection::vec((0..72_i64, 0..6_u8, 0..3_i64, -3..9_i64), 1..60),
        folds in prop::collection::vec(0..60_usize, 0..4),
        hours in 1..80_i64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let desk = home.desk().await;
            desk.run(SCHEMA).await;
            let web = Web::start(&desk.engine).await;
            for (i, (hour, product, shop, quantity)) in events.iter().enumerate() {
                desk.run(&format!(
                    "INSERT INTO sales VALUES (TIMESTAMP '2026-03-01 00:30:00' + INTERVAL '{hour} hours', 'p{product}', {shop}, {quantity}, 1)"
                )).await;
                if folds.contains(&i) {
                    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
                }
            }
            let since = format!(
                "event_time >= time_bucket(INTERVAL '1 hour', last_event_time('sales')) - INTERVAL '{} hours' AND shop <> 1", hours - 1
            );
            let by_key = desk.rows(&format!(
                "SELECT product, sum(quantity) FROM sales WHERE {since} GROUP BY 1"
            )).await;
            let path = format!("rollup=hourly&key=product&last={hours}h&filter[shop]=0&filter[shop]=2");
            let top = web.json(&format!("/v1/top?{path}&n=100")).await;
            let mut told: Vec<String> =
                ranked(&top).iter().map(|(_, key, value)| format!("{},{value}", key.as_str().unwrap())).collect();
            assert!(ranked(&top).windows(2).all(|pair| pair[0].2 >= pair[1].2));
            told.sort();
            assert_eq!(told, by_key);
            for (_, key, value) in ranked(&top) {
                let key = key.as_str().unwrap();
                let count = web.json(&format!("/v1/count?{path}&item={key}")).await;
                assert_eq!(count["value"].as_i64(), Some(value));
                let history = web.json(&format!("/v1/history?{path}&item={key}")).await;
                let values = history["series"][0]["values"].as_array().unwrap();
                assert_eq!(values.len() as i64, hours);
                assert_eq!(values.iter().map(|v| v.as_i64().unwrap()).sum::<i64>(), value);
            }
        });
    }
}
