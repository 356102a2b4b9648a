//! The form of an answer that is an error.

use super::{count, has, may, object, text, words};
use crate::api::error::Code;
use serde_json::{Value, json};

pub(super) fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.into_iter().map(Code::word).collect();
    object([
        has(
            "type",
            json!({ "type": "string", "description": "A path of the service that explains the code." }),
        ),
        has("title", text()),
        has("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 })),
        has("detail", text()),
        may("instance", text()),
        has("code", words(&codes)),
        may(
            "key",
            json!({ "type": "string", "description": "The key that it is about, as the client named it." }),
        ),
        may("retry_after", count()),
        may("trace_id", text()),
        may("request_id", json!({ "type": "string", "description": "As `X-Request-Id` of the request." })),
    ])
}
