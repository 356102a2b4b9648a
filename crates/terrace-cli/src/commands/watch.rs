//! `watch`: what happens to the entries of all instances, line by line, until Ctrl-C.
//!
//! A connection that is lost is opened again, and goes on where it was; what was missed is said.

use crate::args::WatchArgs;
use crate::client::Client;
use crate::failure::Exit;
use crate::output::{self, Talk};
use crate::runtime::Stop;
use crate::words;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::time::Duration;

/// How long to wait before a lost connection is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// After so long without a byte a connection is taken for lost: the service sends something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Prints events.
pub(crate) async fn watch(args: WatchArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let (_handle, stop) = Stop::on_signals()?;
    let path = path(&args);
    let mut blocks = Blocks::default();
    let mut stream = client.stream(&path, None).await?;
    talk.say(format!("watching {}; Ctrl-C ends it", client.base()));
    loop {
        let chunk = tokio::select! {
            () = stop.wait() => return Ok(Exit::Success),
            chunk = tokio::time::timeout(SILENCE_MAX, stream.chunk()) => chunk,
        };
        if let Ok(Ok(Some(bytes))) = chunk {
            for told in blocks.take(&bytes) {
                output::line(&if args.service.json { told.json() } else { words::printable(&told.words()) })?;
            }
            continue;
        }
        talk.say("the connection is lost; trying on");
        blocks.broken();
        loop {
            if stop.wait_for(PAUSE).await {
                return Ok(Exit::Success);
            }
            if let Ok(again) = client.stream(&path, blocks.last.as_deref()).await {
                stream = again;
                talk.detail("connected again");
                break;
            }
        }
    }
}

fn path(args: &WatchArgs) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let types = (!args.types.is_empty()).then(|| format!("types={}", encoded(&args.types.join(","))));
    let pattern = args.pattern.as_ref().map(|pattern| format!("pattern={}", encoded(pattern)));
    let query: Vec<String> = types.into_iter().chain(pattern).collect();
    if query.is_empty() {
        return "/api/cache/events".to_owned();
    }
    format!("/api/cache/events?{}", query.join("&"))
}

/// One event.
#[derive(Debug, Default, PartialEq)]
struct Told {
    name: String,
    data: Value,
}

impl Told {
    fn text(&self, field: &str) -> Option<&str> {
        self.data.get(field).and_then(Value::as_str)
    }

    /// For programs: what the service said, and the type.
    fn json(&self) -> String {
        let mut data = self.data.clone();
        if let Some(fields) = data.as_object_mut() {
            fields.insert("event".to_owned(), self.name.clone().into());
        }
        data.to_string()
    }

    /// For people.
    fn words(&self) -> String {
        let time = self.text("at").unwrap_or("-");
        let keyspace = self.text("keyspace").unwrap_or("-");
        let own = self.data.get("own").and_then(Value::as_bool).unwrap_or(false);
        let place = if own { "here" } else { "elsewhere" };
        let what = match (self.name.as_str(), self.data.get("missed")) {
            ("gap", Some(Value::Number(count))) => return format!("{time}  {count} events were missed"),
            ("gap", _) => return format!("{time}  events were missed"),
            ("breaker", _) => return format!("{time}  {}", self.breaker()),
            ("queue", _) => return format!("{time}  {keyspace}  queue  {}", self.queue()),
            _ => ["key", "tag", "pattern", "state"].into_iter().find_map(|field| {
                let text = self.text(field)?;
                Some(if field == "key" || field == "state" {
                    text.to_owned()
                } else {
                    format!("{field} {text}")
                })
            }),
        };
        let what = what.unwrap_or_else(|| "all".to_owned());
        match self.name.as_str() {
            "bus" => format!("{time}  {keyspace}  bus  {what}"),
            name => format!("{time}  {keyspace}  {name}  {what}  ({place})"),
        }
    }
}

impl Told {
    fn breaker(&self) -> String {
        let [target, was, state] = ["target", "was", "state"].map(|field| self.text(field).unwrap_or("-"));
        format!("{target}  breaker  {was} -> {state}")
    }

    fn queue(&self) -> String {
        let number = |field| self.data.get(field).and_then(Value::as_u64).unwrap_or(0);
        match self.text("state").unwrap_or("-") {
            "standing" => format!("{} wait, {} dead", number("pending"), number("dead")),
            state => format!("{state}  {}", self.text("key").unwrap_or("-")),
        }
    }
}

/// Blocks of lines, each an event, out of bytes that come in any pieces.
#[derive(Debug, Default)]
struct Blocks {
    rest: Vec<u8>,
    name: String,
    data: String,
    /// The `id` of the last event.
    last: Option<String>,
}

impl Blocks {
    fn take(&mut self, bytes: &[u8]) -> Vec<Told> {
        self.rest.extend_from_slice(bytes);
        let mut told = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            told.extend(self.line(line.trim_end_matches(['\r', '\n'])));
        }
        told
    }

    fn line(&mut self, line: &str) -> Option<Told> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return serde_json::from_str(&data).ok().map(|data| Told { name, data });
        }
        let (field, value) = line.split_once(": ")?;
        match field {
            "id" => self.last = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.name),
            "data" => value.clone_into(&mut self.data),
            _ => {}
        }
        None
    }

    /// The connection broke: what has come of a block counts for nothing.
    fn broken(&mut self) {
        self.rest.clear();
        self.name.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\nid: a-0\n\n:\n\nid: a-1\nevent: invalidate\ndata: {\"keyspace\":\"users\",\"key\":\"user:1\",\
                          \"own\":true,\"at\":\"T\"}\n\nevent: gap\ndata: {\"missed\":3}\n\n";

    #[test]
    fn events_come_out_whole_however_their_bytes_are_cut() {
        for size in 1..STREAM.len() {
            let mut blocks = Blocks::default();
            let told: Vec<Told> =
                STREAM.as_bytes().chunks(size).flat_map(|bytes| blocks.take(bytes)).collect();
            let words: Vec<String> = told.iter().map(Told::words).collect();
            assert_eq!(words, ["T  users  invalidate  user:1  (here)", "-  3 events were missed"], "{size}");
            assert_eq!(blocks.last.as_deref(), Some("a-1"));
            assert!(told[0].json().contains("\"event\":\"invalidate\""));
        }
    }
}
