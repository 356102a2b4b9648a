//! `hot`: the keys that a running service looks up most.

use crate::args::HotArgs;
use crate::client::{Client, path_of_hot};
use crate::failure::Exit;
use crate::output;
use crate::words;
use serde_json::Value;

/// Prints the hottest keys.
pub(crate) async fn hot(args: HotArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let keyspace = args.keyspace.as_deref();
    let reply = client.read_of(keyspace, &path_of_hot(keyspace, args.limit)).await?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        output::line(&table(&client.json(&reply)?))?;
    }
    Ok(Exit::Success)
}

/// A row for each key.
fn table(hot: &Value) -> String {
    let keys = hot["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        return "no key was looked up often enough to be seen: one lookup in 61 is looked at".to_owned();
    }
    let row = |hot: &Value| {
        let text = |name: &str| words::printable(hot[name].as_str().unwrap_or_default());
        let count = |name: &str| words::count(hot[name].as_u64().unwrap_or_default());
        let per_second = hot["per_second"].as_f64().map(|rate| format!("{rate:.1}"));
        let tier = hot["tier"].as_str().map(words::printable);
        let bytes = hot["bytes"].as_u64().map(words::bytes);
        let known = |column: Option<String>| column.unwrap_or_else(|| "-".to_owned());
        let [per_second, tier, bytes] = [per_second, tier, bytes].map(known);
        vec![text("key"), text("keyspace"), tier, per_second, bytes, count("lookups"), count("error")]
    };
    let rows = keys.iter().map(row);
    let header = ["key", "keyspace", "tier", "per second", "bytes", "lookups", "at most too high by"];
    words::table(&header, 3, rows).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_key_has_its_row() {
        let keys = json!([
            {"keyspace": "users", "key": "user:1", "lookups": 61_000, "error": 61, "per_second": 508.26, "tier": "l1", "bytes": 2048},
            {"keyspace": "users", "key": "user:2", "lookups": 122, "error": 0, "per_second": 1.0, "tier": null, "bytes": null},
            {"keyspace": "users", "key": "user:3", "lookups": 61, "error": 0},
        ]);
        let shown = table(&json!({ "keys": keys }));
        let cells = |line: &str| {
            line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()[1..8].join(" ")
        };
        let rows: Vec<String> = shown.lines().map(cells).collect();
        assert_eq!(rows[0], "key keyspace tier per second bytes lookups at most too high by");
        assert_eq!(
            rows[2..],
            [
                "user:1 users l1 508.3 2.0 KiB 61,000 61",
                "user:2 users - 1.0 - 122 0",
                "user:3 users - - - 61 0"
            ]
        );
        assert!(table(&json!({"keys": []})).contains("one lookup in 61"));
    }
}
