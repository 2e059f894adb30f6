//! The dashboard's files and the OpenAPI document. They are part of the program, so that there is nothing to install.

use axum::Router;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Http;
use super::problem::Problem;
use crate::error::{Error, Kind};

/// A page runs nothing and asks nobody but what comes from here.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($path:literal, $kind:literal, $file:literal;)*) => {
        /// Adds a route for each file.
        pub(super) fn routes(mut router: Router<Http>) -> Router<Http> {
            $(router = router.route($path, get(|| async { page($kind, include_str!($file)) }));)*
            router
        }
    };
}

files! {
    "/", "text/html; charset=utf-8", "dashboard/index.html";
    "/style.css", "text/css; charset=utf-8", "dashboard/style.css";
    "/favicon.svg", "image/svg+xml", "dashboard/favicon.svg";
    "/api.js", "text/javascript; charset=utf-8", "dashboard/api.js";
    "/app.js", "text/javascript; charset=utf-8", "dashboard/app.js";
    "/chart.js", "text/javascript; charset=utf-8", "dashboard/chart.js";
    "/choices.js", "text/javascript; charset=utf-8", "dashboard/choices.js";
    "/controls.js", "text/javascript; charset=utf-8", "dashboard/controls.js";
    "/dom.js", "text/javascript; charset=utf-8", "dashboard/dom.js";
    "/format.js", "text/javascript; charset=utf-8", "dashboard/format.js";
    "/health.js", "text/javascript; charset=utf-8", "dashboard/health.js";
    "/history.js", "text/javascript; charset=utf-8", "dashboard/history.js";
    "/tables.js", "text/javascript; charset=utf-8", "dashboard/tables.js";
    "/top.js", "text/javascript; charset=utf-8", "dashboard/top.js";
    "/words.js", "text/javascript; charset=utf-8", "dashboard/words.js";
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the program has other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// What there is to ask, for programs.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

/// What is nowhere.
pub(super) async fn nothing(uri: Uri) -> Response {
    let error = Error::new(Kind::UndefinedObject, format!("there is nothing at '{}'", uri.path()))
        .with_hint("/ is the dashboard, /v1/openapi.json says what else there is");
    Problem::Failed(error).into_response()
}
