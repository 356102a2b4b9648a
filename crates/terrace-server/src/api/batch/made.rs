//! What came of the items of a batch, in the form that was asked for.

use super::{ANSWER_BYTES_MAX, Read};
use crate::api::encoded::push_string;
use crate::api::error::{Code, Problem};
use crate::api::form::Form;
use crate::api::msgpack::{self, Members};
use crate::api::render::push_entry;
use axum::response::Response;
use std::time::SystemTime;
use terrace::Key;

/// Bytes of an answer that are made in one go.
const TURN_BYTES: usize = 64 << 10;

/// Bytes that the answer to a read has besides its key and its value, about.
const READ_BYTES: usize = 160;

/// What came of one item, in bytes.
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) kind: &'static str,
}

impl Made {
    /// `{"key":…,"status":…` and what `more` adds.
    pub(super) fn new(
        kind: &'static str,
        key: Option<&str>,
        status: u16,
        more: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let mut bytes = vec![b'{'];
        if let Some(key) = key {
            bytes.extend_from_slice(b"\"key\":");
            push_string(&mut bytes, key);
            bytes.push(b',');
        }
        bytes.extend_from_slice(format!("\"status\":{status}").as_bytes());
        more(&mut bytes);
        bytes.push(b'}');
        Self { bytes, kind }
    }

    pub(super) fn failed(kind: &'static str, key: Option<&str>, problem: &Problem) -> Self {
        Self::new(kind, key, problem.code.status().as_u16(), |bytes| {
            bytes.extend_from_slice(format!(",\"code\":\"{}\",\"detail\":", problem.code.word()).as_bytes());
            push_string(bytes, &problem.detail);
        })
    }

    /// What was read, where there is no room for it.
    fn without_value(key: &Key) -> Self {
        let detail = format!(
            "the answer to the batch would have more than {ANSWER_BYTES_MAX} bytes; ask for this by itself"
        );
        Self::failed("get", Some(key.as_str()), &Problem::new(Code::ValueTooLarge, detail))
    }
}

/// What an item has come to.
pub(super) enum Done {
    Made(Made),
    /// What was found under a key, and when.
    Read(Key, Option<Read>, SystemTime),
}

impl Done {
    /// How long the answer is, about.
    pub(super) fn about(&self) -> usize {
        match self {
            Self::Made(made) => made.bytes.len(),
            Self::Read(key, Some(Ok(Some(entry))), _) => {
                key.as_str().len() + READ_BYTES + entry.value.bytes().len()
            }
            // The key is in what is said of it, too.
            Self::Read(key, ..) => key.as_str().len() * 2 + READ_BYTES,
        }
    }

    /// The answer. A value that needs more room than this is not in it.
    pub(super) fn made(self, form: Form, room: usize) -> Made {
        let made = self.read_or_json(form, room);
        match made {
            Ok(packed) => packed,
            Err(made) if form == Form::Json => made,
            Err(made) => Made { bytes: msgpack::reply(&made.bytes), ..made },
        }
    }

    /// A value that was read, in its form; anything else as JSON.
    fn read_or_json(self, form: Form, room: usize) -> Result<Made, Made> {
        let (key, found, at) = match self {
            Self::Made(made) => return Err(made),
            Self::Read(key, found, at) => (key, found, at),
        };
        let entry = match found {
            Some(Ok(Some(entry))) => entry,
            Some(Err(error)) => {
                return Err(Made::failed("get", Some(key.as_str()), &Problem::of_read(error)));
            }
            _ => {
                let problem = Problem::new(Code::KeyNotFound, format!("nothing is stored under {key}"));
                return Err(Made::failed("get", Some(key.as_str()), &problem));
            }
        };
        if entry.value.bytes().len() > room {
            return Err(Made::without_value(&key));
        }
        let made = if form == Form::Json {
            Made::new("get", Some(key.as_str()), 200, |bytes| {
                bytes.push(b',');
                push_entry(bytes, &entry, at, None);
            })
        } else {
            let mut bytes = Vec::with_capacity(entry.value.bytes().len());
            let mut members = Members::begin(&mut bytes);
            members.text("key", key.as_str());
            members.number("status", 200);
            members.entry(&entry, at, None);
            Made { bytes, kind: "get" }
        };
        if made.bytes.len() > room { Err(Made::without_value(&key)) } else { Ok(made) }
    }
}

/// The lists of an answer, in the making.
pub(super) struct Lists {
    form: Form,
    bytes: Vec<u8>,
}

impl Lists {
    pub(super) fn new(form: Form) -> Self {
        Self { form, bytes: Vec::new() }
    }

    /// Adds a list that has this name, of all of these. Others have their turn every [`TURN_BYTES`].
    pub(super) async fn add(&mut self, name: &str, all: Vec<Done>) {
        // The lists are the members of one object, however many they are.
        if self.form == Form::Json {
            self.bytes.push(if self.bytes.is_empty() { b'{' } else { b',' });
            self.bytes.extend_from_slice(format!("\"{name}\":[").as_bytes());
        } else {
            Members::next(&mut self.bytes).list(name, all.len());
        }
        let mut turn_ends = self.bytes.len() + TURN_BYTES;
        for (place, done) in all.into_iter().enumerate() {
            if self.bytes.len() >= turn_ends {
                tokio::task::yield_now().await;
                turn_ends = self.bytes.len() + TURN_BYTES;
            }
            if place > 0 && self.form == Form::Json {
                self.bytes.push(b',');
            }
            let room = ANSWER_BYTES_MAX.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&done.made(self.form, room).bytes);
        }
        if self.form == Form::Json {
            self.bytes.push(b']');
        }
    }

    /// All of them.
    pub(super) fn done(mut self) -> Response {
        if self.form == Form::Json {
            self.bytes.push(b'}');
        }
        self.form.response(self.bytes)
    }
}
