//! What does a namespace remember, and how is it read?
//!
//! A hash: `first`, the number that it began with; `inc`, the incarnation that it was last greeted by; and for each sweep whose
//! victims may still be there `r:<id>`, which holds `<number>:<pattern>`. It is read before values are, in the same exchange.

use crate::commands::named;
use crate::error::unexpected;
use crate::keys::Names;
use crate::link::text;
use crate::rules::Rules;
use redis::{Cmd, Value};
use terrace_core::remote::{Sweep, SweepRule};
use terrace_core::{Glob, Namespace, RemoteError, Version};

/// What the names of fields begin with that hold rules.
const RULE: &str = "r:";

pub(super) fn asking(names: &Names, namespace: &Namespace) -> Cmd {
    named("HGETALL", names.state(namespace))
}

/// The name of the field that holds a sweep's rule.
pub(super) fn field_of(sweep: &Sweep) -> String {
    format!("{RULE}{:016x}", sweep.id)
}

/// What that field holds.
pub(super) fn rule_text(number: Version, sweep: &Sweep) -> String {
    format!("{number}:{}", sweep.rule.pattern())
}

/// The number in such a field, and the pattern.
pub(super) fn read_rule(held: &Value) -> Result<(Version, SweepRule), RemoteError> {
    let read = text(held).and_then(|held| {
        let (number, pattern) = held.split_once(':')?;
        let number: u64 = number.parse().ok()?;
        let rule = match pattern {
            "" => SweepRule::All,
            pattern => SweepRule::Matching(Glob::new(pattern).ok()?),
        };
        Some((number.into(), rule))
    });
    read.ok_or_else(|| unexpected("a rule", held))
}

/// What kills values, from the whole hash.
pub(super) fn rules(reply: &Value) -> Result<Rules, RemoteError> {
    let mut first = None;
    let mut rules = Vec::new();
    for (name, held) in pairs(reply)? {
        let name = text(name).unwrap_or_default();
        if name == "first" {
            let number = text(held).and_then(|number| number.parse::<u64>().ok());
            first = Some(number.ok_or_else(|| unexpected("a number", held))?.into());
        } else if let Some(id) = name.strip_prefix(RULE) {
            let id = u64::from_str_radix(id, 16).map_err(|_| unexpected("the id of a sweep", &id))?;
            let (number, rule) = read_rule(held)?;
            rules.push((number, Sweep { rule, id }));
        }
    }
    Ok(Rules::of(first, rules))
}

/// Names and values, in either form that servers have for them.
fn pairs(reply: &Value) -> Result<Vec<(&Value, &Value)>, RemoteError> {
    match reply {
        Value::Map(pairs) => Ok(pairs.iter().map(|(name, value)| (name, value)).collect()),
        Value::Array(flat) if flat.len() % 2 == 0 => {
            Ok(flat.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
        }
        other => Err(unexpected("names and values", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::remote::Stored;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn stored(version: u64) -> Stored {
        let bytes = [&[1][..], &version.to_be_bytes()].concat();
        Stored { bytes: bytes.into(), remaining: None }
    }

    #[test]
    fn what_was_written_is_read() {
        let users = SweepRule::Matching(Glob::new("user:*").expect("valid"));
        let sweeps = [Sweep { rule: users, id: 0xa1 }, Sweep { rule: SweepRule::All, id: 7 }];
        let field =
            |number: u64, sweep: &Sweep| (bulk(&field_of(sweep)), bulk(&rule_text(number.into(), sweep)));
        let reply = Value::Map(vec![
            (bulk("first"), bulk("5")),
            (bulk("inc"), bulk("00000000000000ab")),
            field(20, &sweeps[0]),
            field(10, &sweeps[1]),
        ]);
        let rules = rules(&reply).expect("it can be read");
        assert_eq!(rules.all(), [(20.into(), sweeps[0].clone()), (10.into(), sweeps[1].clone())]);
        for (key, version, is_dead) in
            [("user:1", 19, true), ("user:1", 20, false), ("org:1", 9, true), ("org:1", 10, false)]
        {
            assert_eq!(rules.kill(key, &stored(version)), is_dead, "{key} {version}");
        }
    }

    #[test]
    fn where_nothing_is_remembered_everything_is_dead() {
        for nothing in [Value::Map(Vec::new()), Value::Array(Vec::new())] {
            assert!(rules(&nothing).expect("an empty hash").kill("k", &stored(u64::MAX)));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let of = |name: &str, held: &str| Value::Array(vec![bulk(name), bulk(held)]);
        for odd in [of("first", "x"), of("r:x", "1:"), of("r:1", "1"), of("r:1", "x:"), Value::Int(1)] {
            assert!(rules(&odd).is_err(), "{odd:?}");
        }
    }
}
