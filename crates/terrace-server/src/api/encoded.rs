//! Documents within JSON (within `MessagePack`: [`super::msgpack`]): a JSON text is itself, text is a string, and anything else is base64 in a string.
//!
//! | document | `value` | `encoding` | `content_type` |
//! |---|---|---|---|
//! | JSON | itself | | |
//! | of a type that begins with `text/`, in UTF-8 | a string | `text` | its media type |
//! | anything else | a string | `base64` | its media type |

use super::error::{Code, Problem};
use crate::document::Document;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use terrace::codec::JsonText;

/// How a document is written as a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    Text,
    Base64,
}

/// Writes the member `value`, and after it those that say what it is, if it is not JSON.
pub(super) fn push(json: &mut Vec<u8>, document: &Document) {
    json.extend_from_slice(b"\"value\":");
    if document.as_json().is_some() {
        json.extend_from_slice(document.bytes());
        return;
    }
    let text = text_of(document);
    if let Some(text) = text {
        push_string(json, text);
    } else {
        json.push(b'"');
        json.extend_from_slice(STANDARD.encode(document.bytes()).as_bytes());
        json.push(b'"');
    }
    let encoding = if text.is_some() { "text" } else { "base64" };
    json.extend_from_slice(format!(",\"encoding\":\"{encoding}\",\"content_type\":").as_bytes());
    push_string(json, document.media());
}

/// The text that a document is, if its media type says so and it is in UTF-8.
pub(super) fn text_of(document: &Document) -> Option<&str> {
    let is_text = document.media().get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"));
    std::str::from_utf8(document.bytes()).ok().filter(|_| is_text)
}

pub(super) fn push_string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("text has a JSON form");
}

/// What a body names: the value itself, or what its text stands for.
pub(super) fn document(
    value: &RawValue,
    encoding: Option<Encoding>,
    media: Option<&str>,
) -> Result<Document, Problem> {
    let no = |reason: String| Problem::new(Code::ValueInvalid, reason);
    let Some(encoding) = encoding else {
        if media.is_some() {
            return Err(no("a `content_type` needs an `encoding`, \"text\" or \"base64\"".to_owned()));
        }
        let text = JsonText::new(Bytes::copy_from_slice(value.get().as_bytes()));
        return text.map(Document::json).map_err(|error| no(error.to_string()));
    };
    let text: Cow<'_, str> = serde_json::from_str(value.get())
        .map_err(|_| no("with an `encoding` the value is a string".to_owned()))?;
    let (bytes, usual) = match encoding {
        Encoding::Text => (text.into_owned().into_bytes(), "text/plain; charset=utf-8"),
        Encoding::Base64 => {
            let bytes = STANDARD
                .decode(text.as_bytes())
                .map_err(|error| no(format!("the value is no base64: {error}")))?;
            (bytes, "application/octet-stream")
        }
    };
    Document::of(media.unwrap_or(usual), bytes.into()).map_err(|error| no(error.to_string()))
}
