//! What do the server's replies say?
//!
//! 1. Nothing about a reply is taken for granted: one of another shape is [`RemoteError::Protocol`], never a panic.

use crate::error::unexpected;
use crate::rules::Rules;
use bytes::Bytes;
use redis::Value;
use std::time::Duration;
use terrace_core::remote::{
    Compared, Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken,
    ServerTime, Stored,
};
use terrace_core::{Key, RemoteError, Ttl, Version};

type Parsed<T> = Result<T, RemoteError>;

fn whole(value: &Value) -> Parsed<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| unexpected("a number that counts", value)),
        _ => Err(unexpected("a number", value)),
    }
}

fn array(value: Value) -> Parsed<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected("an array", &other)),
    }
}

pub(crate) fn version(value: &Value) -> Parsed<Version> {
    whole(value).map(Version::from)
}

/// The reply to a set: a version, or a version and a count where a TTL of zero made it an invalidation.
pub(crate) fn changed(reply: Value) -> Parsed<Version> {
    match reply {
        Value::Array(_) => invalidated(reply).map(|invalidated| invalidated.version),
        reply => version(&reply),
    }
}

/// A time to live as `PTTL` has it: negative for none.
fn remaining(value: &Value) -> Parsed<Option<Ttl>> {
    match value {
        Value::Int(millis) => {
            Ok(u64::try_from(*millis).ok().map(|millis| Ttl::After(Duration::from_millis(millis))))
        }
        _ => Err(unexpected("milliseconds", value)),
    }
}

/// The replies to `PTTL` and `GET`.
pub(crate) fn stored(ttl: &Value, value: Value) -> Parsed<Option<Stored>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Stored { bytes: bytes.into(), remaining: remaining(ttl)? })),
        other => Err(unexpected("a value or none", &other)),
    }
}

/// What asking for a lease came to, or the version of a value that is there and that a sweep has killed.
pub(crate) fn lease(reply: Value, key: &Key, token: LeaseToken) -> Parsed<Result<LeaseOutcome, Version>> {
    let mut fields = array(reply)?.into_iter();
    let (outcome, first, second, third) = (fields.next(), fields.next(), fields.next(), fields.next());
    let outcome = match &outcome {
        Some(Value::BulkString(outcome)) => outcome.as_slice(),
        other => return Err(unexpected("the outcome of a lease", other)),
    };
    let outcome = match (outcome, first, second, third) {
        (b"hit", Some(value), Some(ttl), Some(rules)) => {
            let found = stored(&ttl, value)?.ok_or_else(|| unexpected("a value", &"none"))?;
            if Rules::read(&rules)?.kill(key.as_str(), &found) {
                return Ok(Err(found.claimed_version()));
            }
            LeaseOutcome::Hit(found)
        }
        (b"granted", Some(number), Some(time), None) => {
            let granted_at = ServerTime(whole(&time)?);
            LeaseOutcome::Granted(Lease { token, version: version(&number)?, granted_at })
        }
        (b"held", Some(ttl), None, None) => {
            let remaining = remaining(&ttl)?.and_then(Ttl::duration).unwrap_or_default();
            LeaseOutcome::Held { remaining }
        }
        (_, first, second, _) => return Err(unexpected("the outcome of a lease", &(first, second))),
    };
    Ok(Ok(outcome))
}

/// What the caller of a change on a condition knows of the sweeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Judged {
    /// A value that they have killed.
    pub(crate) dead: Option<Version>,
    /// Those up to this number were looked at.
    pub(crate) until: Version,
}

/// What a change on a condition came to, or what is known of the sweeps now, and it is to be asked for again.
pub(crate) fn compared(reply: Value, key: &Key, known: Judged) -> Parsed<Result<Compared, Judged>> {
    let mut fields = array(reply)?.into_iter();
    let (outcome, what, more) = (fields.next(), fields.next(), fields.next());
    let outcome = match &outcome {
        Some(Value::BulkString(outcome)) => outcome.as_slice(),
        other => return Err(unexpected("the outcome of a comparison", other)),
    };
    match (outcome, what, more) {
        (b"changed", Some(number), None) => Ok(Ok(Compared::Changed(version(&number)?))),
        (b"differs", Some(Value::BulkString(bytes)), None) => {
            let there = (!bytes.is_empty()).then(|| version_bytes(&bytes)).transpose()?;
            Ok(Ok(Compared::Differs { there }))
        }
        (b"swept", Some(Value::BulkString(bytes)), Some(fields)) => {
            let (there, rules) = (version_bytes(&bytes)?, Rules::read(&fields)?);
            let claimed = [&[0][..], &bytes].concat();
            let stored = Stored { bytes: claimed.into(), remaining: None };
            let dead = rules.kill(key.as_str(), &stored).then_some(there);
            let until = rules.all().iter().map(|(number, _)| *number).max().unwrap_or_default();
            Ok(Err(Judged { dead: dead.or(known.dead), until }))
        }
        (_, what, _) => Err(unexpected("the outcome of a comparison", &what)),
    }
}

/// A version as the eight bytes that stand for it in a value.
fn version_bytes(bytes: &[u8]) -> Parsed<Version> {
    let bytes = bytes.try_into().map_err(|_| unexpected("eight bytes of a version", &bytes))?;
    Ok(u64::from_be_bytes(bytes).into())
}

pub(crate) fn renewed(reply: &Value) -> Parsed<bool> {
    whole(reply).map(|is_held| is_held == 1)
}

pub(crate) fn fill(reply: &Value) -> Parsed<FillOutcome> {
    Ok(if whole(reply)? == 1 { FillOutcome::Stored } else { FillOutcome::Rejected })
}

pub(crate) fn invalidated(reply: Value) -> Parsed<Invalidated> {
    match array(reply)?.as_slice() {
        [number, existed] => Ok(Invalidated { version: version(number)?, existed: whole(existed)? > 0 }),
        other => Err(unexpected("a version and a count", &other)),
    }
}

pub(crate) fn generation(reply: &Value) -> Parsed<Generation> {
    let parse = |bytes: &[u8]| {
        let (version, bumped_at) = std::str::from_utf8(bytes).ok()?.split_once(':')?;
        let version: u64 = version.parse().ok()?;
        Some(Generation { version: version.into(), bumped_at: ServerTime(bumped_at.parse().ok()?) })
    };
    match reply {
        Value::BulkString(bytes) => parse(bytes).ok_or_else(|| unexpected("version:time", reply)),
        _ => Err(unexpected("a generation", reply)),
    }
}

/// The reply to asking for what is due. What is no invalidation, a later version's perhaps, is left to others.
pub(crate) fn due(reply: Value) -> Parsed<Due> {
    let mut fields = array(reply)?.into_iter();
    let (Some(taken), Some(next)) = (fields.next(), fields.next()) else {
        return Err(unexpected("what is due", &"something else"));
    };
    let parsed = |value: &Value| match value {
        Value::BulkString(text) => Ok(std::str::from_utf8(text).ok().and_then(Delayed::parse)),
        other => Err(unexpected("an invalidation", other)),
    };
    let now = array(taken)?.iter().map(parsed).filter_map(Result::transpose).collect::<Parsed<_>>()?;
    let next = array(next)?.first().map(whole).transpose()?.map(Duration::from_micros);
    Ok(Due { now, next })
}

/// The reply to `SCAN`: where to go on, and names.
pub(crate) fn scanned(reply: Value) -> Parsed<(u64, Vec<Vec<u8>>)> {
    let mut fields = array(reply)?.into_iter();
    let (Some(Value::BulkString(cursor)), Some(names)) = (fields.next(), fields.next()) else {
        return Err(unexpected("a cursor and names", &"something else"));
    };
    let parsed = std::str::from_utf8(&cursor).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = parsed.ok_or_else(|| unexpected("a cursor", &cursor))?;
    let name = |name| match name {
        Value::BulkString(name) => Ok(name),
        other => Err(unexpected("a name", &other)),
    };
    Ok((cursor, array(names)?.into_iter().map(name).collect::<Parsed<_>>()?))
}

/// How many names an `UNLINK` has removed.
pub(crate) fn count(reply: &Value) -> Parsed<u64> {
    whole(reply)
}

/// The reply to `TIME`: seconds and microseconds.
pub(crate) fn time(reply: Option<&Value>) -> Parsed<ServerTime> {
    let parse = |value: &Value| match value {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let told = match reply {
        Some(Value::Array(parts)) => match parts.as_slice() {
            [seconds, micros] => parse(seconds).zip(parse(micros)),
            _ => None,
        },
        _ => None,
    };
    let told = told.and_then(|(seconds, micros)| seconds.checked_mul(1_000_000)?.checked_add(micros));
    told.map(ServerTime).ok_or_else(|| unexpected("the server's time", &reply))
}

/// The settings that are written down, as texts.
pub(crate) fn settings(reply: Value) -> Parsed<Vec<Option<String>>> {
    let text = |value: Value| match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        other => Err(unexpected("a setting", &other)),
    };
    array(reply)?.into_iter().map(text).collect()
}

/// The number of the last change of a partition; zero where none is known.
pub(crate) fn counter(reply: &Value) -> Parsed<Version> {
    let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    match reply {
        Value::Nil => Ok(Version::ZERO),
        Value::BulkString(bytes) => {
            parse(bytes).map(Version::from).ok_or_else(|| unexpected("the number of a change", reply))
        }
        _ => Err(unexpected("the number of a change", reply)),
    }
}

/// The number of the last change of a partition, and whether it was greeted by this incarnation.
pub(crate) fn greeted(reply: Value, incarnation: &str) -> Parsed<(Version, bool)> {
    match array(reply)?.as_slice() {
        [number, Value::BulkString(by)] => Ok((counter(number)?, by == incarnation.as_bytes())),
        [number, Value::Nil] => Ok((counter(number)?, false)),
        other => Err(unexpected("a number and an incarnation", &other)),
    }
}

/// The number that a partition has after it was greeted; zero if it has no counter.
pub(crate) fn hello(reply: &Value) -> Parsed<Version> {
    version(reply)
}

/// The messages that are in a part of a log.
pub(crate) fn logged(reply: Value) -> Parsed<Vec<Bytes>> {
    array(reply)?.into_iter().map(message).collect()
}

/// The message of an entry, which is an id and then names and values in turns.
fn message(entry: Value) -> Parsed<Bytes> {
    let fields = array(entry)?.into_iter().nth(1);
    let mut fields = array(fields.unwrap_or(Value::Nil))?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (name, value) {
            (Value::BulkString(name), Value::BulkString(message)) if name == b"m" => {
                return Ok(message.into());
            }
            _ => {}
        }
    }
    Err(unexpected("a message in an entry of the log", &"none"))
}

/// Reads replies as what each of them is expected to be somewhere.
#[cfg(any(test, fuzzing))]
fn read_as_each(reply: &Value, other: &Value) {
    let key = Key::new("k").expect("valid");
    let _ = stored(other, reply.clone());
    let _ = lease(reply.clone(), &key, LeaseToken(1));
    let _ = compared(reply.clone(), &key, Judged::default());
    let _ = renewed(reply);
    let _ = fill(reply);
    let _ = due(reply.clone());
    let _ = changed(reply.clone());
    let _ = invalidated(reply.clone());
    let _ = generation(reply);
    let _ = scanned(reply.clone());
    let _ = settings(reply.clone());
    let _ = counter(reply);
    let _ = greeted(reply.clone(), "");
    let _ = hello(reply);
    let _ = time(Some(reply));
    let _ = logged(reply.clone());
}

/// For fuzzing alone: reads bytes that a server might send as each reply that there is.
#[cfg(fuzzing)]
pub fn read_any_reply(bytes: &[u8]) {
    let Ok(reply) = redis::parse_redis_value(bytes) else { return };
    let other = match &reply {
        Value::Array(replies) => replies.first().cloned().unwrap_or(Value::Nil),
        _ => Value::Nil,
    };
    read_as_each(&reply, &other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replies() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            prop_oneof![
                Just("hit"),
                Just("granted"),
                Just("held"),
                Just("changed"),
                Just("differs"),
                Just("swept"),
                Just("1:2"),
                Just(""),
                Just("-1")
            ]
            .prop_map(|text| Value::BulkString(text.into())),
            any::<Vec<u8>>().prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn no_reply_makes_a_panic(reply in replies(), other in replies()) {
            read_as_each(&reply, &other);
        }
    }
}
