//! Is a value dead that the server still has?
//!
//! With each value come two fields of its partition's counter: the number that the counter began with, and the rules of the sweeps whose
//! victims may still be there. They are read *before* the value: a sweep that was ended meanwhile has removed the value, and
//! one that began meanwhile has not returned yet.
//!
//! 1. A value of a partition without a counter, or older than it, is dead: nobody knows what was swept. One without a version is
//!    no envelope, which whoever opens it finds out.
//! 2. A value is dead if a rule names its key and has a greater number than its version.
//! 3. What cannot be read as rules is an error, never a value.

use crate::error::unexpected;
use redis::Value;
use terrace_core::remote::{Stored, Sweep, SweepRule};
use terrace_core::{Glob, RemoteError, Version};

/// What kills values of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    /// The number that the counter began with; none if there is no counter.
    first: Option<Version>,
    rules: Vec<(Version, Sweep)>,
}

impl Rules {
    /// The reply to `HMGET counter first rules`.
    pub(crate) fn read(reply: &Value) -> Result<Self, RemoteError> {
        let Value::Array(fields) = reply else { return Err(unexpected("fields of a counter", reply)) };
        let [first, rules] = fields.as_slice() else { return Err(unexpected("two fields", reply)) };
        let first = match first {
            Value::Nil => None,
            first => Some(number(text(first)?).ok_or_else(|| unexpected("a number", first))?),
        };
        Ok(Self { first, rules: read_rules(rules)? })
    }

    /// What was read field by field.
    pub(crate) fn of(first: Option<Version>, rules: Vec<(Version, Sweep)>) -> Self {
        Self { first, rules }
    }

    pub(crate) fn all(&self) -> &[(Version, Sweep)] {
        &self.rules
    }

    /// Whether the value under this key is dead.
    pub(crate) fn kill(&self, key: &str, stored: &Stored) -> bool {
        let version = stored.claimed_version();
        let is_older = version != Version::ZERO && self.first.is_none_or(|first| version < first);
        is_older || self.rules.iter().any(|(number, sweep)| version < *number && sweep.rule.names(key))
    }
}

/// The sweeps in the field `rules`.
pub(crate) fn sweeps(field: &Value) -> Result<impl Iterator<Item = Sweep>, RemoteError> {
    Ok(read_rules(field)?.into_iter().map(|(_, sweep)| sweep))
}

fn read_rules(field: &Value) -> Result<Vec<(Version, Sweep)>, RemoteError> {
    match field {
        Value::Nil => Ok(Vec::new()),
        rules => parse(text(rules)?).ok_or_else(|| unexpected("rules of sweeps", rules)),
    }
}

fn text(value: &Value) -> Result<&str, RemoteError> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("text", value)),
        other => Err(unexpected("text", other)),
    }
}

fn number(text: &str) -> Option<Version> {
    text.parse::<u64>().ok().map(Version::from)
}

/// Each is `number:id:length:pattern`.
fn parse(mut rest: &str) -> Option<Vec<(Version, Sweep)>> {
    let mut rules = Vec::new();
    while !rest.is_empty() {
        let mut parts = rest.splitn(4, ':');
        let number = number(parts.next()?)?;
        let id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let length: usize = parts.next()?.parse().ok()?;
        let after = parts.next()?;
        let rule = match after.get(..length)? {
            "" => SweepRule::All,
            pattern => SweepRule::Matching(Glob::new(pattern).ok()?),
        };
        rules.push((number, Sweep { rule, id }));
        rest = &after[length..];
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(first: &str, rules: &str) -> Value {
        let field = |text: &str| if text.is_empty() { Value::Nil } else { Value::BulkString(text.into()) };
        Value::Array(vec![field(first), field(rules)])
    }

    fn stored(version: u64) -> Stored {
        let bytes = [&[1][..], &version.to_be_bytes()].concat();
        Stored { bytes: bytes.into(), remaining: None }
    }

    #[test]
    fn rules_kill_what_is_older_and_named() {
        let rules = Rules::read(&fields("5", "10:a1:6:user:*20:ff:3:a:b30:0:0:")).expect("rules");
        for (key, version, is_dead) in [
            ("user:1", 9, true),
            ("a:b", 19, true),
            ("other", 4, true),
            ("other", 29, true),
            ("other", 30, false),
        ] {
            assert_eq!(rules.kill(key, &stored(version)), is_dead, "{key} {version}");
        }
        let rules = Rules::read(&fields("5", "10:a1:6:user:*")).expect("rules");
        assert!(!rules.kill("user:1", &stored(10)) && !rules.kill("other", &stored(9)));
        assert!(rules.kill("other", &stored(4)), "older than the counter");
    }

    #[test]
    fn sweeps_are_told_apart() {
        let field = Value::BulkString("10:a1:6:user:*30:0:0:".into());
        let sweeps: Vec<_> = sweeps(&field).expect("rules").map(|sweep| (sweep.rule, sweep.id)).collect();
        let users = SweepRule::Matching(Glob::new("user:*").expect("valid"));
        assert_eq!(sweeps, [(users, 0xa1), (SweepRule::All, 0)]);
    }

    #[test]
    fn without_a_counter_everything_is_dead() {
        let rules = Rules::read(&fields("", "")).expect("rules");
        assert!(rules.kill("k", &stored(u64::MAX)));
        assert!(!rules.kill("k", &Stored { bytes: "x".into(), remaining: None }), "it is no value of ours");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for rules in ["x", "1:1:5:ab", "1:1:x:ab", "1:g:0:", "1:1:1:\u{e9}", "1:1:0:x"] {
            assert!(Rules::read(&fields("5", rules)).is_err(), "{rules}");
        }
        assert!(Rules::read(&Value::Int(1)).is_err());
    }
}
