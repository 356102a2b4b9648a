//! `why`: why a running service answers a key as it does.

use crate::args::GetArgs;
use crate::client::{Client, path_of_why};
use crate::failure::Exit;
use crate::output;
use crate::words;
use reqwest::Method;
use serde_json::Value;
use std::fmt::Write as _;

/// Prints what decides how a key is read.
pub(crate) async fn why(args: GetArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let reply = client.send(Method::GET, &path_of_why(&args.key), String::new()).await?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        output::line(words::printable(&explain(&client.json(&reply)?)).trim_end())?;
    }
    Ok(Exit::Success)
}

/// The answer in words, a line for each thing.
fn explain(why: &Value) -> String {
    let text = |name: &str| why[name].as_str().unwrap_or("unknown");
    let mut lines = String::new();
    let mut line = |name: &str, words: &str| writeln!(lines, "{name:<9} {words}").expect("a text takes all");
    line("answer", text("answer"));
    line("keyspace", text("keyspace"));
    line("l1", &held(&why["l1"]));
    let l2_error = why["l2_error"].as_str().map(|error| format!("cannot be asked: {error}"));
    line("l2", &l2_error.unwrap_or_else(|| held(&why["l2"])));
    line(
        "trust",
        &match why["trusted_for"].as_f64() {
            None => "always: no other instance can change it, or none is heard".to_owned(),
            Some(left) if left > 0.0 => format!("for {left:.3} s, unless a beat comes back before"),
            Some(_) => "lapsed: copies in memory are asked about".to_owned(),
        },
    );
    for (name, words) in [("pending", "an invalidation waits for Redis"), ("loading", "a load is under way")]
    {
        if why[name].as_bool() == Some(true) {
            line(name, words);
        }
    }
    for change in why["changes"].as_array().into_iter().flatten() {
        let part = |name: &str| change[name].as_str().unwrap_or_default();
        line(
            "changed",
            &format!("{} {} by {}, number {}", part("what"), part("of"), part("by"), change["number"]),
        );
    }
    lines
}

fn held(held: &Value) -> String {
    if held.is_null() {
        return "nothing".to_owned();
    }
    let left = held["ttl"].as_f64().map(|left| format!(", for {left:.3} s")).unwrap_or_default();
    let tags: Vec<&str> = held["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let tags = if tags.is_empty() { String::new() } else { format!(", tags {}", tags.join(" ")) };
    let dead = held["dead_by"].as_str().map(|reason| format!("; not returned: {reason}")).unwrap_or_default();
    format!("version {}{left}{tags}{dead}", held["version"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_line_by_line() {
        let why = serde_json::json!({
            "key": "k", "keyspace": "users", "answer": "l2", "l2_error": null, "trusted_for": 0.5, "loading": true,
            "l1": { "version": 7, "ttl": 60.0, "tags": ["t"], "dead_by": "the tag t" }, "l2": null,
            "changes": [{ "number": 9, "by": "ab", "what": "tag", "of": "t" }],
        });
        let expected = "answer    l2\nkeyspace  users\nl1        version 7, for 60.000 s, tags t; not returned: the tag t\n\
            l2        nothing\ntrust     for 0.500 s, unless a beat comes back before\nloading   a load is under way\n\
            changed   tag t by ab, number 9\n";
        assert_eq!(explain(&why), expected);
    }
}
