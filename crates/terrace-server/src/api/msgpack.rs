//! Envelopes in `MessagePack`: the same members as in JSON, under the same names.
//!
//! | document | `value` | `encoding` | `content_type` |
//! |---|---|---|---|
//! | JSON | the same value | | |
//! | JSON that `MessagePack` cannot hold without a loss | the JSON text, a string | `json` | `application/json` |
//! | of a type that begins with `text/`, in UTF-8 | a string | `text` | its media type |
//! | `MessagePack` that is one whole value | itself, byte for byte | | its media type |
//! | anything else | `bin` | `binary` | its media type |
//!
//! 1. No number is another one than that which was stored: see [`transcode`]. Where one would be, the whole value is its JSON text, and
//!    says so.
//! 2. What was stored as `MessagePack` becomes a part of an answer only if it is one value, nested at most [`whole::DEPTH_MAX`] deep: else it
//!    would make the answer unreadable, or be taken for members of it.
//! 3. An answer is at most about three times as long as that in JSON (`-0` are two bytes there and nine here), and made in two passes and without
//!    recursion. That takes longer than a copy: it is done where a request has its place, not before.

mod transcode;
mod whole;

use super::encoded;
use super::render::{end_of, rfc_3339};
use crate::document::{Document, JSON};
use rmp::encode;
use std::time::SystemTime;
use terrace::{Entry, Tier};

/// What it is called, the usual name first.
pub(super) const MEDIA_TYPES: [&str; 3] =
    ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"];

/// Bytes of everything but the value, about.
const FRAME_BYTES: usize = 144;
/// What says of an empty map that it is one; its members are added to it.
const MAP: u8 = 0x80;
/// Members of a map whose length is in its first byte.
const MEMBERS_MAX: u8 = 15;

/// Memory takes all that is written to it.
fn written<T, E: std::fmt::Debug>(result: Result<T, E>) {
    result.expect("memory takes all that is written to it");
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("no request has so many items")
}

/// A map in the making.
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// Where its first byte is.
    at: usize,
    count: u8,
}

impl<'a> Members<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        let at = out.len();
        out.push(MAP);
        Self { out, at, count: 0 }
    }

    /// Goes on with the map with which the bytes begin, or begins it.
    pub(super) fn next(out: &'a mut Vec<u8>) -> Self {
        match out.first() {
            Some(first) => Self { count: first & MEMBERS_MAX, out, at: 0 },
            None => Self::begin(out),
        }
    }

    /// The name of the next member, whose value is to be written.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        assert!(self.count < MEMBERS_MAX, "an envelope has few members");
        self.count += 1;
        self.out[self.at] = MAP | self.count;
        written(encode::write_str(self.out, name));
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        written(encode::write_str(self.name(name), text));
    }

    pub(super) fn number(&mut self, name: &str, number: u64) {
        written(encode::write_uint(self.name(name), number));
    }

    /// The beginning of a list of so many items, which are to be written.
    pub(super) fn list(&mut self, name: &str, items: usize) -> &mut Vec<u8> {
        let out = self.name(name);
        written(encode::write_array_len(out, length(items)));
        out
    }

    fn flag(&mut self, name: &str, is_so: bool) {
        written(encode::write_bool(self.name(name), is_so));
    }

    fn time(&mut self, name: &str, time: Option<SystemTime>) {
        match time.and_then(rfc_3339) {
            Some(time) => self.text(name, &time),
            None => written(encode::write_nil(self.name(name))),
        }
    }

    fn float(&mut self, name: &str, number: Option<f64>) {
        let out = self.name(name);
        match number {
            Some(number) => written(encode::write_f64(out, number)),
            None => written(encode::write_nil(out)),
        }
    }

    /// The members of an entry, as [`super::render::push_entry`] has them in JSON.
    pub(super) fn entry(&mut self, entry: &Entry<Document>, now: SystemTime, verbose_key: Option<&str>) {
        self.value(&entry.value);
        self.flag("hit", entry.tier != Tier::Origin);
        self.text("source", if entry.is_stale { "stale" } else { entry.tier.as_str() });
        self.time("cached_at", Some(entry.created));
        self.time("expires_at", end_of(now, entry));
        let Some(key) = verbose_key else { return };
        self.text("key", key);
        self.float("ttl", entry.ttl.duration().map(|left| left.as_secs_f64()));
        self.float("age", Some(entry.age.as_secs_f64()));
        self.number("version", entry.version.get());
        let out = self.list("tags", entry.tags.len());
        entry.tags.iter().for_each(|tag| written(encode::write_str(out, tag.as_ref())));
    }

    pub(super) fn value(&mut self, document: &Document) {
        let (media, bytes) = (document.media(), document.bytes());
        let out = self.name("value");
        if let Some(text) = document.as_json() {
            if transcode::push(out, text.as_str()) {
                return;
            }
            written(encode::write_str(out, text.as_str()));
            self.text("encoding", "json");
            self.text("content_type", JSON);
            return;
        }
        if let Some(text) = encoded::text_of(document) {
            written(encode::write_str(out, text));
            self.text("encoding", "text");
        } else if is_msgpack(media) && whole::is_whole(bytes) {
            out.extend_from_slice(bytes);
        } else {
            written(encode::write_bin(out, bytes));
            self.text("encoding", "binary");
        }
        self.text("content_type", media);
    }
}

fn is_msgpack(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim();
    MEDIA_TYPES.iter().any(|own| essence.eq_ignore_ascii_case(own))
}

/// An entry.
pub(super) fn entry(entry: &Entry<Document>, now: SystemTime, verbose_key: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.value.bytes().len() + FRAME_BYTES);
    Members::begin(&mut out).entry(entry, now, verbose_key);
    out
}

/// What was made as JSON of our own: no acknowledgement has a number that `MessagePack` cannot hold.
pub(super) fn reply(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    assert!(transcode::push(&mut out, text), "what is written here can be read anywhere");
    out
}
