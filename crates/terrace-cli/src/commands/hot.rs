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
        vec![text("key"), text("keyspace"), count("lookups"), count("error")]
    };
    let rows = keys.iter().map(row);
    words::table(&["key", "keyspace", "lookups", "at most too high by"], 2, rows).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_key_has_its_row() {
        let keys = json!([{"keyspace": "users", "key": "user:1", "lookups": 61_000, "error": 61}]);
        let shown = table(&json!({ "keys": keys }));
        for part in ["user:1", "users", "61,000", "61"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert!(table(&json!({"keys": []})).contains("one lookup in 61"));
    }
}
