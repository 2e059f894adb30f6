//! `/v1/catalog`: what there is to ask about.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;

use super::question::MeasureKind;
use super::span::show;
use super::value::type_name;
use super::{Answer, Http, answer};
use crate::catalog::privileges::Privilege;
use crate::catalog::warehouse::Object;
use crate::catalog::{options::keys, watermark};
use crate::error::Result;
use crate::rollup::view::{Rollup, Source};
use crate::statement::Session;

#[derive(Debug, Serialize)]
pub(super) struct Catalog {
    version: &'static str,
    tables: Vec<Table>,
    leaderboards: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    time_column: String,
    last_event_time: Option<String>,
    watermark: Option<String>,
    rollups: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    source: String,
    status: &'static str,
    bucket: String,
    width: String,
    period: Option<&'static str>,
    time_zone: String,
    keys: Vec<Key>,
    measures: Vec<Measure>,
    complete_through: Option<String>,
}

#[derive(Debug, Serialize)]
struct Key {
    name: String,
    #[serde(rename = "type")]
    type_name: &'static str,
}

#[derive(Debug, Serialize)]
struct Measure {
    name: String,
    function: String,
    kind: MeasureKind,
    approximate: bool,
}

pub(super) async fn catalog(State(http): State<Http>, headers: HeaderMap) -> Answer<Catalog> {
    answer(&http, &headers, |session| async move { list(&session).await }).await
}

async fn list(session: &Session) -> Result<Catalog> {
    let (mut tables, mut rollups, mut leaderboards) = (vec![], vec![], vec![]);
    let warehouse = session.warehouse();
    for name in warehouse.list().await? {
        let object = warehouse.get(&name).await;
        if !session.may(Privilege::Select, &name) {
            continue;
        }
        match object {
            Ok(Some(Object::Table(events))) => {
                let snapshot = events.table().snapshot();
                let Some(time_column) = snapshot.option(keys::TIME_COLUMN) else { continue };
                tables.push(Table {
                    time_column: time_column.to_owned(),
                    last_event_time: watermark::last_event_time(&name, &snapshot)?.map(show),
                    watermark: watermark::of(&name, &snapshot)?.map(show),
                    rollups: vec![],
                    name,
                });
            }
            Ok(Some(Object::Rollup(table))) => rollups.push(table),
            Ok(Some(Object::Leaderboard(_))) => leaderboards.push(Named { name }),
            // What cannot be opened is told by those who keep it fresh.
            Ok(_) | Err(_) => {}
        }
    }
    rollups.sort_by_key(|table| (width_of(table.rollup()), table.rollup().table.name().to_owned()));
    for table in rollups {
        let rollup = table.rollup();
        if let Some(events) = tables.iter_mut().find(|t| t.name == rollup.events().name()) {
            events.rollups.push(Listed::of(rollup));
        }
    }
    Ok(Catalog { version: env!("CARGO_PKG_VERSION"), tables, leaderboards })
}

/// How long a bucket is, about, to put the finest first.
fn width_of(rollup: &Rollup) -> i64 {
    let (start, end) = rollup.definition.bucketing().bounds(0);
    end - start
}

impl Listed {
    fn of(rollup: &Rollup) -> Self {
        let definition = &rollup.definition;
        let snapshot = rollup.table.snapshot();
        let source = match &rollup.source {
            Source::Events { table, .. } => table.name(),
            Source::Rollup(finer) => finer.table.name(),
        };
        let type_of = |name: &str| {
            definition.schema().field_with_name(name).map_or("other", |field| type_name(field.data_type()))
        };
        let width = definition.bucketing().width().to_string();
        let period = ["minute", "hour", "day", "week", "month", "year"];
        let measures = definition.measure_columns().map(|name| {
            let kind = MeasureKind::of(definition, name);
            let function = definition.merge_function(name).map_or_else(String::new, |f| f.name().to_owned());
            Measure { name: name.to_owned(), function, kind, approximate: kind.is_approximate() }
        });
        let complete = watermark::complete_through(rollup, &rollup.events().snapshot());
        Listed {
            name: rollup.table.name().to_owned(),
            source: source.to_owned(),
            status: if snapshot.position(&Rollup::fold_app(&snapshot)).is_some() {
                "ready"
            } else {
                "building"
            },
            bucket: definition.bucket_column().to_owned(),
            period: period.into_iter().find(|unit| width == format!("1 {unit}")),
            width,
            time_zone: definition.bucketing().timezone().to_string(),
            keys: definition
                .key_columns()
                .map(|k| Key { name: k.to_owned(), type_name: type_of(k) })
                .collect(),
            measures: measures.collect(),
            complete_through: complete.ok().flatten().map(show),
        }
    }
}
