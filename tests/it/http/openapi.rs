//! The OpenAPI document describes what is there: each path answers, with what its schema says and nothing else.

use serde_json::Value;

use super::{Web, get};
use crate::harness::Home;

/// What is wrong with a value, by the parts of JSON Schema that the document uses. Nothing may be there that it leaves out.
fn wrong(value: &Value, schema: &Value, document: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target =
            document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is nowhere"));
        return wrong(value, target, document, place);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let fits = options.iter().any(|option| wrong(value, option, document, place).is_empty());
        return if fits { vec![] } else { vec![format!("{place}: {value} fits none of {options:?}")] };
    }
    if let Some(allowed) = schema["enum"].as_array() {
        return if allowed.contains(value) { vec![] } else { vec![format!("{place}: {value}")] };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|t| t.as_str().unwrap()).collect(),
        other => panic!("{place}: a schema of type {other}"),
    };
    let fits = types.iter().any(|t| match *t {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{place}: {other}"),
    });
    if !fits {
        return vec![format!("{place}: {value} is none of {types:?}")];
    }
    let mut all = vec![];
    if let Some(items) = value.as_array() {
        for (i, item) in items.iter().enumerate() {
            all.extend(wrong(item, &schema["items"], document, &format!("{place}[{i}]")));
        }
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                all.push(format!("{place}: {name} is missing"));
            }
        }
        for (name, value) in object {
            let place = format!("{place}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) | (None, Some(schema)) => {
                    all.extend(wrong(value, schema, document, &place))
                }
                (None, None) => all.push(format!("{place} is not described")),
            }
        }
    }
    all
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let schema = serde_json::json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": ["integer", "null"] } } });
    let check = |value: Value| wrong(&value, &schema, &Value::Null, "x").len();
    assert_eq!(check(serde_json::json!({ "a": 1 })), 0);
    for bad in [serde_json::json!({}), serde_json::json!({ "a": "1" }), serde_json::json!({ "a": 1, "b": 2 })]
    {
        assert_eq!(check(bad.clone()), 1, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_answers_as_it_is_described() {
    let home = Home::new();
    let desk = home.desk().await;
    for file in ["sales/schema", "sales/rollups", "sales/views", "ad_clicks/schema", "ad_clicks/rollups"] {
        let path = format!("{}/sql/{file}.sql", env!("CARGO_MANIFEST_DIR"));
        desk.run(&std::fs::read_to_string(path).unwrap()).await;
    }
    desk.run(
        "INSERT INTO sales (event_id, event_time, product_id, quantity, unit_price, country)
           VALUES (1, '2026-03-01 10:00:00', 'a', 2, 1.5, 'FR'), (2, '2026-03-01 11:00:00', 'b', 3, 2, 'DE');
         INSERT INTO ad_clicks VALUES (7, '2026-03-01 10:00:00', 1, '192.0.2.1', 'FR');
         CREATE MATERIALIZED VIEW by_hour AS
           SELECT time_bucket(INTERVAL '1 hour', click_time) AS bucket, count_min_sketch(ad_id, 0.01, 0.99) AS counts
           FROM ad_clicks GROUP BY 1",
    )
    .await;
    let web = Web::start(&desk.engine).await;
    let document = web.json("/v1/openapi.json").await;
    let examples = [
        "/v1/catalog",
        "/v1/top?rollup=sales_hourly&key=product_id&last=1d&previous=true&filter[country]=FR",
        "/v1/top?rollup=top_ads_minutely&measure=ads",
        "/v1/count?rollup=sales_daily&key=product_id&item=a&measure=revenue",
        "/v1/count?rollup=by_hour&measure=counts&item=7",
        "/v1/history?rollup=sales_hourly&from=2026-03-01&to=2026-03-02&key=product_id&item=a&item=x",
        "/v1/history?rollup=ad_users_hourly&measure=users",
        "/v1/status",
        "/health/live",
        "/health/ready",
    ];
    let paths = document["paths"].as_object().unwrap();
    for path in paths.keys() {
        assert!(
            examples.iter().any(|e| e.split('?').next() == Some(path)),
            "{path} is described and not tried"
        );
    }
    for example in examples {
        let (path, query) = example.split_once('?').unwrap_or((example, ""));
        let described = &paths.get(path).unwrap_or_else(|| panic!("{path} is not described"))["get"];
        let answer = web.json(example).await;
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(wrong(&answer, schema, &document, path), Vec::<String>::new(), "{answer}");
        let known: Vec<&str> =
            described["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let name = part.split(['=', '[']).next().unwrap();
            assert!(known.contains(&name), "{path} does not describe '{name}'");
        }
    }
    let answer = get(web.address, "/v1/top?rollup=nothing", None).await;
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    let schema = &document["components"]["schemas"]["Problem"];
    assert_eq!(wrong(&problem, schema, &document, "problem"), Vec::<String>::new());
}
