//! The description of this API for programs: an `OpenAPI` 3.1 document.
//!
//! 1. It is made from a table of what each path knows ([`operations`]), the forms of what goes in and out ([`shapes`]), and the codes of
//!    errors, with their statuses, as [`super::error`] has them.
//! 2. Tests hold it against the service: every route and method is in it and nothing else is, and what is answered has the form that
//!    it says, without a member that it does not know.
//! 3. It is made once, when somebody first asks for it.

mod codes;
mod operations;
mod shapes;

use super::error::{Code, PROBLEM_JSON};
use super::{json, msgpack};
use axum::response::Response;
use operations::{Body, Content, Operation, Parameter, Place};
use serde_json::{Map, Value, json as object};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Lines of JSON.
const LINES: &str = "application/x-ndjson";
/// Whatever was stored.
const ANY: &str = "*/*";

/// Codes that any path under `/api/` may answer with.
const COMMON: [Code; 8] = [
    Code::MalformedRequest,
    Code::MethodNotAllowed,
    Code::UriTooLong,
    Code::HeadTooLarge,
    Code::Overloaded,
    Code::Timeout,
    Code::ShuttingDown,
    Code::Internal,
];

/// Codes of those paths that ask for a token.
const OF_TOKENS: [Code; 3] = [Code::Unauthorized, Code::Forbidden, Code::RateLimited];

/// Codes of a body that does not arrive or is not understood.
const OF_BODIES: [Code; 4] = [Code::BodyMalformed, Code::BodyInvalid, Code::BodyTooLarge, Code::BodyTimeout];

/// `GET /api/cache/openapi.json`, `GET /openapi.json`.
pub(super) async fn openapi() -> Response {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    json(TEXT.get_or_init(|| document().to_string().into_bytes()).clone())
}

/// The document.
fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations::all() {
        let path = paths.entry(operation.path).or_insert_with(|| Value::Object(Map::new()));
        path[operation.method] = described(&operation);
    }
    object!({
        "openapi": "3.1.0",
        "info": {
            "title": "terrace",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A cache of several tiers: memory, Redis or Valkey, and the origin that you already have. Every answer has the `X-Request-Id` of its request.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": shapes::all(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "Asked for where `auth.mode` is `token`." },
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = object!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": operation.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses(operation),
    });
    let body = match operation.body {
        Body::None => None,
        Body::Json(form) => Some(object!({ "application/json": { "schema": shapes::reference(form) } })),
        Body::Lines(form) => Some(
            object!({ "application/json": { "schema": shapes::reference(form) }, LINES: { "schema": { "type": "string" } } }),
        ),
        Body::Bytes => Some(object!({ ANY: {} })),
    };
    if let Some(content) = body {
        described["requestBody"] = object!({ "required": true, "content": content });
    }
    if operation.is_open {
        described["security"] = object!([]);
    }
    described
}

fn parameter(Parameter { name, place, description, schema }: &Parameter) -> Value {
    let (place, is_required) = match place {
        Place::Path => ("path", true),
        Place::Query => ("query", false),
        Place::NeededQuery => ("query", true),
        Place::Header => ("header", false),
    };
    object!({ "name": name, "in": place, "required": is_required, "description": description, "schema": schema })
}

/// A form in JSON and in `MessagePack`.
fn packed(form: &str) -> Value {
    let schema = object!({ "schema": shapes::reference(form) });
    object!({ "application/json": schema, msgpack::MEDIA_TYPES[0]: schema })
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for (status, description, content) in &operation.answers {
        let mut response = object!({ "description": description });
        match content {
            Content::Json(form) => {
                response["content"] = object!({ "application/json": { "schema": shapes::reference(form) } });
            }
            Content::Envelope(form) => response["content"] = packed(form),
            Content::Lines(form) => {
                response["content"] = packed(form);
                response["content"][LINES] = object!({ "schema": { "type": "string" } });
            }
            Content::Text(kind) => {
                response["content"] = object!({ *kind: { "schema": { "type": "string" } } });
            }
            Content::Bytes => response["content"] = object!({ ANY: {} }),
            Content::Nothing => {}
        }
        if operation.has_tag {
            let tag = "What `If-Match` and `If-None-Match` compare with.";
            response["headers"] = object!({ "ETag": { "description": tag, "schema": { "type": "string" } } });
        }
        if operation.has_location && *status == 202 {
            let text = "Where it is told what becomes of it: `whereIsWrite`. A path of the admin listener, if there is one.";
            response["headers"]["Location"] =
                object!({ "description": text, "schema": { "type": "string" } });
        }
        responses.insert(status.to_string(), response);
    }
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let of_tokens = OF_TOKENS.into_iter().filter(|_| !operation.is_open);
    let of_bodies = OF_BODIES.into_iter().filter(|_| !matches!(operation.body, Body::None));
    for code in operation.problems.iter().copied().chain(COMMON).chain(of_tokens).chain(of_bodies) {
        let words = codes.entry(code.status().as_u16()).or_default();
        if !words.contains(&code.word()) {
            words.push(code.word());
        }
    }
    for (status, words) in codes {
        // What is answered at this status otherwise is described already: `/readyz` says why it is not ready.
        let response = responses.entry(status.to_string()).or_insert_with(|| object!({ "description": "" }));
        let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let before = response["description"]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| format!("{text} Or "));
        response["description"] = format!("{}{listed}.", before.unwrap_or_default()).into();
        response["content"][PROBLEM_JSON] = object!({ "schema": shapes::reference("Problem") });
        if status == 429 || status == 503 {
            response["headers"] = object!({ "Retry-After": { "description": "Seconds to wait.", "schema": { "type": "integer" } } });
        }
    }
    Value::Object(responses)
}

#[cfg(test)]
mod tests;
