//! `stats`: the counters of a running service, once or again and again.

use crate::args::StatsArgs;
use crate::client::Client;
use crate::failure::Exit;
use crate::output;
use crate::runtime::Stop;
use crate::words;
use serde_json::{Number, Value};
use std::time::Duration;

const PATH: &str = "/api/cache/metrics";

/// Prints counters.
pub(crate) async fn stats(args: StatsArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let watch = match args.watch {
        Some(interval) => Some((interval, Stop::on_signals()?.1)),
        None => None,
    };
    let mut before: Option<Value> = None;
    loop {
        let reply = client.read(PATH).await?;
        let now = client.json(&reply)?;
        match (args.service.json, args.watch) {
            (true, _) => output::line(&now.to_string())?,
            (false, None) => output::line(&table(&now))?,
            (false, Some(_)) => output::line(&changes(&now, before.as_ref()))?,
        }
        before = Some(now);
        match &watch {
            Some((interval, stop)) if !stop.wait_for(*interval).await => {}
            _ => return Ok(Exit::Success),
        }
    }
}

/// All counters by name.
fn table(stats: &Value) -> String {
    let mut rows = Vec::new();
    collect(stats, "", &mut rows);
    words::table(&["counter", "value"], 1, rows).to_string()
}

/// Nested objects become dotted names.
fn collect(value: &Value, name: &str, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                collect(value, &name, rows);
            }
        }
        Value::Number(number) => {
            let (name, shown) = shown(name, number);
            rows.push(vec![name.to_owned(), shown]);
        }
        Value::String(text) => rows.push(vec![name.to_owned(), text.clone()]),
        other => rows.push(vec![name.to_owned(), other.to_string()]),
    }
}

/// A number as a person reads it, by what its name says that it is: a time, bytes, a share or a count.
fn shown<'a>(name: &'a str, number: &Number) -> (&'a str, String) {
    let float = number.as_f64().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    if let (Some(name), Some(nanos)) = (name.strip_suffix("_ns"), number.as_u64()) {
        return (name, words::time(Duration::from_nanos(nanos)));
    }
    let shown = match number.as_u64() {
        _ if last == "seconds" || last.ends_with("_seconds") => {
            words::time(Duration::try_from_secs_f64(float).unwrap_or_default())
        }
        Some(bytes) if last == "bytes" || last.ends_with("_bytes") => words::bytes(bytes),
        _ if last.ends_with("_rate") || last.ends_with("_ratio") => words::percent(float),
        Some(count) => words::count(count),
        None => format!("{float:.2}"),
    };
    (name, shown)
}

/// One line: what happened since the last look.
fn changes(now: &Value, before: Option<&Value>) -> String {
    let count = |stats: &Value, name: &str| stats.get(name).and_then(Value::as_u64).unwrap_or(0);
    let since = |name: &str| count(now, name).saturating_sub(before.map_or(0, |before| count(before, name)));
    let (hits, misses) = (since("hits"), since("misses"));
    let ratio = match hits + misses {
        0 => "-".to_owned(),
        all => words::percent(hits as f64 / all as f64),
    };
    format!(
        "hits {}  misses {}  hit ratio {ratio}  sets {}  deletes {}  evictions {}  l1 entries {}  l2 errors {}",
        words::count(hits),
        words::count(misses),
        words::count(since("sets")),
        words::count(since("deletes")),
        words::count(since("evictions")),
        words::count(count(now, "l1_size")),
        words::count(since("l2_errors")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_counters_have_dotted_names() {
        let shown = table(&json!({"hits": 1234, "hit_rate": 0.5, "l2": {"errors": 0}, "mode": "memory"}));
        for part in ["1,234", "50.00 %", "l2.errors", "memory"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }

    #[test]
    fn numbers_have_the_unit_that_their_name_says() {
        let rows = json!({"average_latency_ns": 59_804, "seconds": 59.804, "l1_bytes": 1536, "hit_rate": 0.558_823, "x": 1.0 / 3.0});
        let shown = table(&rows);
        for (name, value) in [
            ("average_latency", "60 µs"),
            ("seconds", "60 s"),
            ("l1_bytes", "1.5 KiB"),
            ("hit_rate", "55.88 %"),
            ("x", "0.33"),
        ] {
            let line = shown.lines().find(|line| line.starts_with(&format!("| {name} ")));
            assert!(line.is_some_and(|line| line.ends_with(&format!(" {value} |"))), "{name} in\n{shown}");
        }
    }

    #[test]
    fn watching_shows_what_changed() {
        let before = json!({"hits": 100, "misses": 100, "l1_size": 7});
        let now = json!({"hits": 130, "misses": 110, "l1_size": 9});
        let line = changes(&now, Some(&before));
        assert!(line.starts_with("hits 30  misses 10  hit ratio 75.00 %"), "{line}");
        assert!(line.contains("l1 entries 9"), "{line}");
    }
}
