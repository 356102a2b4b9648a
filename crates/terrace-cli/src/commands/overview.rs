//! `keyspaces` and `breakers`: how the parts of a service do.

use crate::args::PlainArgs;
use crate::client::Client;
use crate::failure::Exit;
use crate::output;
use crate::words;
use serde_json::Value;

/// Prints the keyspaces.
pub(crate) async fn keyspaces(args: PlainArgs) -> anyhow::Result<Exit> {
    print(args, "/api/cache/keyspaces", "keyspaces", keyspaces_table).await
}

/// Prints the breakers.
pub(crate) async fn breakers(args: PlainArgs) -> anyhow::Result<Exit> {
    print(args, "/api/cache/breakers", "breakers", breakers_table).await
}

async fn print(
    args: PlainArgs,
    path: &str,
    field: &str,
    table: fn(&[Value]) -> String,
) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let reply = client.read(path).await?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        let reply = client.json(&reply)?;
        output::line(&table(reply[field].as_array().map(Vec::as_slice).unwrap_or_default()))?;
    }
    Ok(Exit::Success)
}

fn keyspaces_table(keyspaces: &[Value]) -> String {
    let row = |of: &Value| {
        let number = |name: &str| of[name].as_u64().unwrap_or_default();
        let (l1, l2, stale, misses) =
            (number("hits_l1"), number("hits_l2"), number("hits_stale"), number("misses"));
        let hits = l1 + l2 + stale;
        let ratio = if hits + misses == 0 {
            "-".to_owned()
        } else {
            words::percent(hits as f64 / (hits + misses) as f64)
        };
        let text = |name: &str| words::printable(of[name].as_str().unwrap_or("-"));
        let ttl = of["ttl"].as_f64().map_or("never".to_owned(), |ttl| format!("{ttl} s"));
        let (entries, loads) = (words::count(number("l1_entries")), words::count(number("loads")));
        let failed = words::count(number("load_failures"));
        vec![
            text("name"),
            text("pattern"),
            text("strategy"),
            ttl,
            entries,
            words::count(hits),
            words::count(misses),
            ratio,
            loads,
            failed,
        ]
    };
    let header = [
        "keyspace",
        "pattern",
        "strategy",
        "ttl",
        "l1 entries",
        "hits",
        "misses",
        "hit ratio",
        "loads",
        "failed",
    ];
    words::table(&header, 3, keyspaces.iter().map(row)).to_string()
}

fn breakers_table(breakers: &[Value]) -> String {
    if breakers.is_empty() {
        return "there is nothing that a breaker guards: the service has no L2 and no origin".to_owned();
    }
    let row = |of: &Value| {
        let text = |name: &str| words::printable(of[name].as_str().unwrap_or("-"));
        let count = |name: &str| words::count(of[name].as_u64().unwrap_or_default());
        vec![text("target"), text("state"), text("since"), count("calls"), count("failures")]
    };
    words::table(&["target", "state", "since", "calls", "failures"], 3, breakers.iter().map(row)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_has_its_row() {
        let users = json!({"name": "users", "pattern": "user:{id}", "strategy": "read-through", "ttl": 900.0,
            "l1_entries": 5, "hits_l1": 8, "hits_l2": 1, "hits_stale": 0, "misses": 1, "loads": 1234, "load_failures": 0});
        let shown = keyspaces_table(&[users]);
        for part in ["users", "user:{id}", "read-through", "900 s", "90.00 %", "1,234"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        let l2 = json!({"target": "l2", "state": "open", "since": "2026-11-20T09:00:00.000Z", "calls": 7, "failures": 5});
        assert!(breakers_table(&[l2]).contains("| l2 "));
        assert!(breakers_table(&[]).contains("no L2"));
    }
}
