//! Which life of a server is a connection to?
//!
//! A server that was restarted, or that took over from another, may have forgotten what was acknowledged. Its process has
//! another `run_id` then, or its history another `master_replid`, which `INFO` tells.
//!
//! 1. Two connections with the same incarnation are to one process with one history: it forgets nothing by itself between them,
//!    but for what somebody flushes or memory runs short of.
//! 2. It is asked once per connection, over it. A server becomes no other while a connection lasts: who has been a replica was
//!    refused, and who becomes one is left.
//! 3. A server that does not say has a new incarnation with each connection that listens. That costs copies, nothing else.

use crate::error;
use crate::link::Link;
use redis::{Pipeline, Value};
use terrace_core::RemoteError;
use terrace_core::bus::Incarnation;

/// Asks for it; `None` if the server does not say.
pub(crate) async fn ask(link: &Link) -> Result<Option<Incarnation>, RemoteError> {
    let mut sections = Pipeline::with_capacity(2);
    sections.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    let replies = match link.ask(&sections).await {
        Ok(replies) => replies,
        Err(RemoteError::Refused { reason }) if !link.is_lost() => {
            tracing::debug!(reason, "the server does not tell its incarnation");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let texts: Option<String> = replies.iter().map(text).collect();
    let texts = texts.ok_or_else(|| error::unexpected("text from INFO", &replies))?;
    let field = |name| texts.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Ok(field("run_id:").zip(field("master_replid:")).map(|(process, history)| of(process, history)))
}

/// One that nobody else has, for a server that does not say.
pub(crate) fn unknown() -> Incarnation {
    Incarnation(getrandom::u64().expect("the operating system has randomness"))
}

/// As it stands in a counter.
pub(crate) fn text_of(incarnation: Incarnation) -> String {
    format!("{:016x}", incarnation.0)
}

/// The same on all nodes, of whatever version and machine: FNV-1a over both names.
fn of(process: &str, history: &str) -> Incarnation {
    let bytes = process.bytes().chain([b' ']).chain(history.bytes());
    Incarnation(
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    )
}

fn text(reply: &Value) -> Option<&str> {
    match reply {
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_is_on_every_node() {
        assert_eq!(of("", ""), Incarnation(0xaf63_9d4c_8601_817f));
        assert_ne!(of("a", "b"), of("b", "a"));
        assert_ne!(of("a", "b"), of("a", "c"));
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_eq!(text_of(Incarnation(0xab)), "00000000000000ab");
    }
}
