//! Errors as `application/problem+json` (RFC 9457): the kind says the status, as it says the SQLSTATE elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, Kind};

/// What is told instead of an answer.
#[derive(Debug)]
pub(super) enum Problem {
    /// The request could not be answered.
    Failed(Error),
    /// Nobody, or nobody known, is asking.
    Unauthorized(&'static str),
}

impl<E: Into<Error>> From<E> for Problem {
    fn from(e: E) -> Self {
        Problem::Failed(e.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let e = match self {
            Problem::Failed(e) => e,
            Problem::Unauthorized(why) => {
                let body = json!({ "type": "about:blank", "title": "unauthorized", "status": 401, "detail": why,
                                   "hint": "send 'Authorization: Bearer …' with a token of the server's configuration" });
                let mut response = (StatusCode::UNAUTHORIZED, problem(&body)).into_response();
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return response;
            }
        };
        let status =
            StatusCode::from_u16(e.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({ "type": "about:blank", "title": title(e.kind()), "status": status.as_u16(),
                               "detail": e.message(), "sqlstate": e.kind().sqlstate() });
        if let (Some(hint), Some(object)) = (e.hint(), body.as_object_mut()) {
            object.insert("hint".to_owned(), hint.into());
        }
        (status, problem(&body)).into_response()
    }
}

fn problem(body: &serde_json::Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
}

/// `UndefinedTable` as `undefined table`.
fn title(kind: Kind) -> String {
    let mut title = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_uppercase() && !title.is_empty() {
            title.push(' ');
        }
        title.extend(c.to_lowercase());
    }
    title
}
