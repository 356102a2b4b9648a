//! Which slot of a Cluster does a name belong to, and who owns it?
//!
//! 1. What is between the first `{` and the `}` after it decides alone, if there is anything. All names of a partition
//!    have the same there.
//! 2. A command belongs to the slot of its first name; all others that it has are of the same partition.

use crate::config::Address;
use crate::error::unexpected;
use crate::link::text;
use redis::{Arg, Cmd, Value};
use std::ops::RangeInclusive;
use std::str::Split;
use terrace_core::RemoteError;

/// How many slots a Cluster has.
pub(super) const SLOTS: u16 = 1 << 14;

/// Who owns which slots.
pub(super) type Owners = Vec<(RangeInclusive<u16>, Address)>;

/// CRC-16/XMODEM of each byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// The slot of a name.
pub(super) fn of_name(name: &[u8]) -> u16 {
    let crc = |crc: u16, byte: &u8| (crc << 8) ^ TABLE[usize::from((crc >> 8) ^ u16::from(*byte))];
    tag(name).iter().fold(0, crc) % SLOTS
}

/// What decides on the slot of a name.
fn tag(name: &[u8]) -> &[u8] {
    let tag = name.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        rest.iter().position(|byte| *byte == b'}').map(|length| &rest[..length])
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(name)
}

/// The slot of a command that has a name.
pub(super) fn of_command(command: &Cmd) -> u16 {
    let is_script = matches!(command.args_iter().next(), Some(Arg::Simple(b"EVALSHA")));
    match command.args_iter().nth(if is_script { 3 } else { 1 }) {
        Some(Arg::Simple(name)) => of_name(name),
        _ => 0,
    }
}

/// The least number that, as a hash tag, leads to one of these slots.
pub(super) fn tag_into(is_own: impl Fn(u16) -> bool) -> Option<u32> {
    const MOST: u32 = 1 << 20;
    (0..MOST).find(|tag| is_own(of_name(itoa::Buffer::new().format(*tag).as_bytes())))
}

/// The reply to `CLUSTER SLOTS` of the server at `asked`.
pub(super) fn owners(reply: &Value, asked: &Address) -> Result<Owners, RemoteError> {
    let Value::Array(ranges) = reply else { return Err(unexpected("ranges of slots", reply)) };
    ranges
        .iter()
        .map(|range| owner(range, asked).ok_or_else(|| unexpected("slots and their owner", range)))
        .collect()
}

fn owner(range: &Value, asked: &Address) -> Option<(RangeInclusive<u16>, Address)> {
    let Value::Array(fields) = range else { return None };
    let [first, last, Value::Array(primary), ..] = fields.as_slice() else { return None };
    let [host, port, ..] = primary.as_slice() else { return None };
    let (first, last, port): (u16, u16, u16) = (whole(first)?, whole(last)?, whole(port)?);
    // A server that does not know its own name leaves it to who has found it.
    let host = text(host).filter(|host| !host.is_empty()).unwrap_or(&asked.host);
    let is_known = host != "?" && first <= last && last < SLOTS && port > 0;
    is_known.then(|| (first..=last, Address { host: host.to_owned(), port }))
}

/// The slots that a server has by its own account, from its reply to `CLUSTER NODES`; none if one of them is being moved.
pub(super) fn own(reply: &Value) -> Option<Vec<RangeInclusive<u16>>> {
    let mut lines = text(reply)?.lines().map(|line| line.split(' '));
    let is_own = |line: &Split<'_, char>| line.clone().nth(2).is_some_and(|flags| flags.contains("myself"));
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    lines.find(is_own)?.skip(8).map(range).collect()
}

fn whole(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_slots_that_servers_give_them() {
        for (name, slot) in [
            ("123456789", 0x31c3 % SLOTS),
            ("foo", 12182),
            ("{foo}.bar", 12182),
            ("a{foo}b{bar}", 12182),
            ("foo{}{bar}", 8363),
            ("{bar", of_name(b"{bar")),
            ("", 0),
        ] {
            assert_eq!(of_name(name.as_bytes()), slot, "{name}");
        }
    }

    #[test]
    fn a_command_belongs_where_its_first_name_does() {
        let mut get = redis::cmd("GET");
        get.arg("foo");
        let mut script = redis::cmd("EVALSHA");
        script.arg("hash").arg(2).arg("{foo}:a").arg("{foo}:b").arg("argument");
        assert_eq!([of_command(&get), of_command(&script)], [12182, 12182]);
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in (0..SLOTS).step_by(97).chain([SLOTS - 1]) {
            let tag = tag_into(|found| found == slot).expect("there is one");
            assert_eq!(of_name(format!("p:beat:{{{tag}}}:x").as_bytes()), slot);
        }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let primary = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary])
    }

    #[test]
    fn owners_are_read_and_oddities_refused() {
        let asked = Address { host: "seed".to_owned(), port: 1 };
        let text = |text: &str| Value::BulkString(text.into());
        let reply = Value::Array(vec![
            range(0, 100, text("a"), 7000),
            range(101, 16383, Value::Nil, 7001),
            range(5, 5, text(""), 7002),
        ]);
        let found = owners(&reply, &asked).expect("a map");
        let shown: Vec<_> = found.iter().map(|(range, address)| format!("{range:?} {address}")).collect();
        assert_eq!(shown, ["0..=100 a:7000", "101..=16383 seed:7001", "5..=5 seed:7002"]);
        for odd in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, text("a"), 1)]),
            Value::Array(vec![range(7, 6, text("a"), 1)]),
            Value::Array(vec![range(0, 1, text("?"), 1)]),
            Value::Array(vec![range(0, 1, text("a"), 0)]),
            Value::Array(vec![range(-1, 1, text("a"), 1)]),
        ] {
            assert!(owners(&odd, &asked).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_server_tells_its_own_slots_unless_one_is_moving() {
        let nodes = |own: &str| {
            let text = format!(
                "a 127.0.0.1:1@2 master - 0 1 2 connected 0-5\nb 127.0.0.1:3@4 myself,master - 0 1 2 connected{own}\n"
            );
            Value::VerbatimString { format: redis::VerbatimFormat::Text, text }
        };
        assert_eq!(own(&nodes("")), Some(vec![]));
        assert_eq!(own(&nodes(" 6-10 12")), Some(vec![6..=10, 12..=12]));
        assert_eq!(own(&nodes(" 6-10 [12->-a]")), None);
        assert_eq!(own(&nodes(" 6-10 [93-<-a]")), None);
        assert_eq!(own(&Value::Nil), None);
    }
}
