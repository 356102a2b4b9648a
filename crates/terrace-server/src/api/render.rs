//! The JSON that is written by hand: entries and acknowledgements.
//!
//! 1. A value goes out as the bytes it came in as. It is never parsed here, and no other member can be mistaken for a
//!    part of it, because it was checked to be one JSON value when it was made.
//! 2. The members and their order are part of the interface.

use super::encoded;
use crate::document::Document;
use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};
use terrace::behind::Acknowledged;
use terrace::{Entry, Tier, Ttl};

/// Bytes of everything but the value, about.
const FRAME_BYTES: usize = 144;

/// An entry: `{"value":…,"hit":…,"source":…,"cached_at":…,"expires_at":…}`.
///
/// `hit` says whether a tier had the value, so it is `false` for a value that was loaded for this request. The source of a
/// value that could not be proven fresh is `stale`.
pub(crate) fn entry(entry: &Entry<Document>, now: SystemTime, verbose_key: Option<&str>) -> Vec<u8> {
    let mut json = Vec::with_capacity(entry.value.bytes().len() + FRAME_BYTES);
    json.push(b'{');
    push_entry(&mut json, entry, now, verbose_key);
    json.push(b'}');
    json
}

/// The members of an entry.
pub(crate) fn push_entry(
    json: &mut Vec<u8>,
    entry: &Entry<Document>,
    now: SystemTime,
    verbose_key: Option<&str>,
) {
    encoded::push(json, &entry.value);
    json.extend_from_slice(if entry.tier == Tier::Origin { b",\"hit\":false" } else { b",\"hit\":true" });
    json.extend_from_slice(b",\"source\":\"");
    json.extend_from_slice(if entry.is_stale { "stale" } else { entry.tier.as_str() }.as_bytes());
    json.extend_from_slice(b"\",\"cached_at\":");
    push_time(json, Some(entry.created));
    json.extend_from_slice(b",\"expires_at\":");
    push_time(json, end_of(now, entry));
    if let Some(key) = verbose_key {
        push_details(json, entry, key);
    }
}

fn push_details(json: &mut Vec<u8>, entry: &Entry<Document>, key: &str) {
    #[derive(Serialize)]
    struct Details<'a> {
        key: &'a str,
        ttl: Option<f64>,
        age: f64,
        version: u64,
        tags: Vec<&'a str>,
    }
    let details = Details {
        key,
        ttl: entry.ttl.duration().map(|left| left.as_secs_f64()),
        age: entry.age.as_secs_f64(),
        version: entry.version.get(),
        tags: entry.tags.iter().map(AsRef::as_ref).collect(),
    };
    let object = serde_json::to_vec(&details).expect("text and numbers have a JSON form");
    json.push(b',');
    json.extend_from_slice(&object[1..object.len() - 1]);
}

/// The acknowledgement of a write: `{"success":true,"expires_at":…}`, and of one that is written behind also what that stands for:
/// `"ack":"fsync","write_id":"…"`.
pub(crate) fn written(now: SystemTime, ttl: Ttl, journaled: Option<Acknowledged>) -> Vec<u8> {
    let mut json = b"{\"success\":true,\"expires_at\":".to_vec();
    push_time(&mut json, expiry(now, ttl));
    push_journaled(&mut json, journaled);
    json.push(b'}');
    json
}

/// The acknowledgement of a removal: `{"success":true,"deleted":…}`, and the same of one that is written behind.
pub(crate) fn deleted(existed: bool, journaled: Option<Acknowledged>) -> Vec<u8> {
    let mut json = format!("{{\"success\":true,\"deleted\":{existed}").into_bytes();
    push_journaled(&mut json, journaled);
    json.push(b'}');
    json
}

/// What the journal says of a change: `,"ack":"fsync","write_id":"…"`, of a repetition also `,"repeated":true`; or nothing.
pub(super) fn push_journaled(json: &mut Vec<u8>, journaled: Option<Acknowledged>) {
    if let Some(Acknowledged { ack, id, is_repetition, .. }) = journaled {
        let more = format!(",\"ack\":\"{}\",\"write_id\":\"{id}\"", ack.as_str());
        json.extend_from_slice(more.as_bytes());
        if is_repetition {
            json.extend_from_slice(b",\"repeated\":true");
        }
    }
}

/// What an invalidation would come to.
pub(crate) fn matched(matched: u64, is_exact: bool, sample: &[String]) -> Vec<u8> {
    serde_json::json!({ "matched": matched, "exact": is_exact, "sample": sample, "success": true })
        .to_string()
        .into_bytes()
}

/// What an invalidation came to. That the count is not all there was is said only where it is so.
pub(crate) fn invalidated(count: u64, is_exact: bool, id: Option<&[u64]>) -> Vec<u8> {
    let more = if is_exact { "" } else { "\"exact\":false," };
    let id = id.map_or_else(String::new, |id| {
        let numbers: Vec<String> = id.iter().map(u64::to_string).collect();
        format!(",\"id\":[{}]", numbers.join(","))
    });
    format!("{{\"invalidated\":{count},{more}\"success\":true{id}}}").into_bytes()
}

/// When an entry expires, or did: one that is returned as stale is past its time.
pub(super) fn end_of(now: SystemTime, entry: &Entry<Document>) -> Option<SystemTime> {
    if entry.past.is_zero() { expiry(now, entry.ttl) } else { now.checked_sub(entry.past) }
}

pub(crate) fn expiry(now: SystemTime, ttl: Ttl) -> Option<SystemTime> {
    ttl.duration().and_then(|left| now.checked_add(left))
}

/// A time as RFC 3339 with milliseconds; `None` if four digits of a year do not hold it.
pub(super) fn rfc_3339(time: SystemTime) -> Option<String> {
    printed(time).map(|time| time.to_string())
}

fn printed(time: SystemTime) -> Option<impl fmt::Display> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let is_printable = since.is_ok_and(|since| since < Duration::from_secs(YEAR_10000_SECS));
    is_printable.then(|| humantime::format_rfc3339_millis(time))
}

/// A time in quotes; `null` if there is none that can be written.
pub(crate) fn push_time(json: &mut Vec<u8>, time: Option<SystemTime>) {
    let written = match time.and_then(printed) {
        Some(time) => write!(json, "\"{time}\""),
        None => json.write_all(b"null"),
    };
    written.expect("memory takes all that is written to it");
}

/// 10000-01-01T00:00:00Z, in seconds since the Unix epoch.
const YEAR_10000_SECS: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    fn time(time: Option<SystemTime>) -> String {
        let mut json = Vec::new();
        push_time(&mut json, time);
        String::from_utf8(json).expect("UTF-8")
    }

    #[test]
    fn times_are_rfc_3339_or_null() {
        let at = |secs| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secs));
        assert_eq!(time(at(0)), "\"1970-01-01T00:00:00.000Z\"");
        assert_eq!(time(at(YEAR_10000_SECS - 1)), "\"9999-12-31T23:59:59.000Z\"");
        assert_eq!(time(at(YEAR_10000_SECS)), "null");
        assert_eq!(time(at(1 << 62)), "null");
        assert_eq!(time(SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1))), "null");
        assert_eq!(time(None), "null");
    }

    #[test]
    fn acknowledgements_have_their_shapes() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(written(now, Ttl::Never, None), br#"{"success":true,"expires_at":null}"#);
        assert_eq!(
            written(now, Ttl::After(Duration::from_mins(1)), None),
            br#"{"success":true,"expires_at":"1970-01-01T00:01:00.000Z"}"#
        );
        assert_eq!(deleted(true, None), br#"{"success":true,"deleted":true}"#);
        assert_eq!(invalidated(2, true, None), br#"{"invalidated":2,"success":true}"#);
        assert_eq!(invalidated(2, false, None), br#"{"invalidated":2,"exact":false,"success":true}"#);
        let numbered = br#"{"invalidated":2,"success":true,"id":[7,9]}"#;
        assert_eq!(invalidated(2, true, Some(&[7, 9])), numbered);
    }
}
