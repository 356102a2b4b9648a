//! `get`, `set` and `del`: one entry of a running service.
//!
//! 1. `get` prints the value and nothing else: a text or bytes as they are, anything else as JSON. A miss prints nothing.
//! 2. A value that `set` was given comes back from `get` byte for byte, if it is compact JSON, or is none.
//! 3. A terminal is shown no bytes that are no text, and control characters of a text escaped.

use crate::args::{DelArgs, GetArgs, SetArgs};
use crate::client::{Changed, Client, IS_IT_TERRACE, path_of_key};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::words;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use std::io::Read as _;

/// What the service says of an entry.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    encoding: Option<&'a str>,
    source: Option<&'a str>,
    cached_at: Option<&'a str>,
    expires_at: Option<&'a str>,
}

/// Prints the value of a key.
pub(crate) async fn get(args: GetArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let Some(reply) = client.ask(Method::GET, &path_of_key(&args.key)).await? else {
        talk.detail(format!("{} has no {:?}", client.base(), args.key));
        return Ok(Exit::NotFound);
    };
    if args.service.json {
        output::line(&reply)?;
        return Ok(Exit::Success);
    }
    let entry: Entry<'_> = serde_json::from_str(&reply).map_err(|error| {
        Failure::new(Exit::Failure, format!("{} did not answer with an entry", client.base()))
            .why(error)
            .next(IS_IT_TERRACE)
    })?;
    talk.detail(format!(
        "from {}, cached at {}, fresh until {}",
        entry.source.unwrap_or("an unnamed tier"),
        entry.cached_at.unwrap_or("an unknown time"),
        entry.expires_at.unwrap_or("it is removed"),
    ));
    match entry.encoding {
        Some("base64") => print_bytes(&args.key, entry.value, talk)?,
        _ => print_value(entry.value)?,
    }
    Ok(Exit::Success)
}

fn print_bytes(key: &str, value: &RawValue, talk: Talk) -> anyhow::Result<()> {
    let bytes = STANDARD.decode(serde_json::from_str::<&str>(value.get())?)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => return output::text(text),
        Err(_) if !output::is_watched() => return output::data(&bytes),
        Err(_) => {}
    }
    let count = words::bytes(bytes.len() as u64);
    talk.say(format!("{count} that are no text; to have them: terrace get {key:?} > FILE"));
    Ok(())
}

fn print_value(value: &RawValue) -> anyhow::Result<()> {
    let text = match serde_json::from_str::<String>(value.get()) {
        Ok(text) => text,
        Err(_) => value.get().to_owned(),
    };
    if output::is_watched() { output::line(&text) } else { output::text(&text) }
}

/// Stores a value.
pub(crate) async fn set(args: SetArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let path = path_of_key(&args.key);
    let given = match args.value.as_deref() {
        None | Some("-") => read_stdin()?,
        Some(value) => value.as_bytes().to_vec(),
    };
    let changed = client.change(Method::PUT, &path, Some(body(&given, &args)?)).await?;
    let changed = changed.ok_or_else(|| client.is_no_terrace(&path))?;
    if args.service.json {
        output::line(&changed.reply)?;
    } else {
        let until = client.json(&changed.reply)?;
        let until = until.get("expires_at").and_then(Value::as_str).unwrap_or("it is removed");
        talk.say(format!("stored {:?}, fresh until {until}", args.key));
        say_waits(&changed, talk);
    }
    Ok(Exit::Success)
}

/// Says how to ask for a change that the origin gets later.
fn say_waits(changed: &Changed, talk: Talk) {
    if let Some((keyspace, id)) = &changed.waits {
        talk.detail(format!("the origin gets it later: `terrace queue show {keyspace} {id}`"));
    }
}

/// The request's body. The value goes in as it was written, so that no number loses a digit.
fn body(given: &[u8], args: &SetArgs) -> anyhow::Result<String> {
    let mut body = match (std::str::from_utf8(given), &args.media) {
        (Ok(text), None) => {
            // The newline that ends it belongs to the shell, not to the value.
            let is_piped = matches!(args.value.as_deref(), None | Some("-"));
            let text = if is_piped { text.strip_suffix('\n').unwrap_or(text) } else { text };
            let is_json = !args.text && serde_json::from_str::<&RawValue>(text).is_ok();
            let value = if is_json { text.trim().to_owned() } else { serde_json::to_string(text)? };
            format!("{{\"value\":{value}")
        }
        (Err(error), None) if args.text => {
            return Err(Failure::usage("the value is no text").why(error).next("leave --text out").into());
        }
        (_, media) => {
            let media = Value::from(media.as_deref().unwrap_or("application/octet-stream"));
            let value = STANDARD.encode(given);
            format!("{{\"value\":\"{value}\",\"encoding\":\"base64\",\"content_type\":{media}")
        }
    };
    if let Some(ttl) = args.ttl {
        write!(body, ",\"ttl\":\"{ttl}\"")?;
    }
    if !args.tags.is_empty() {
        write!(body, ",\"tags\":{}", Value::from(args.tags.clone()))?;
    }
    body.push('}');
    Ok(body)
}

/// The whole of stdin.
fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes keys. A key that was not there is no error: it is gone, as asked.
pub(crate) async fn del(args: DelArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    for key in &args.keys {
        let changed = client.change(Method::DELETE, &path_of_key(key), None).await?;
        let changed = changed.unwrap_or_else(|| Changed { reply: "{}".to_owned(), waits: None });
        if args.service.json {
            output::line(&changed.reply)?;
            continue;
        }
        let was_there = client.json(&changed.reply)?.get("deleted") == Some(&Value::Bool(true));
        talk.say(if was_there { format!("removed {key:?}") } else { format!("there was no {key:?}") });
        say_waits(&changed, talk);
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser as _;

    fn body_of(line: &[&str], text: &str) -> String {
        let line = ["terrace", "set", "k", text].into_iter().chain(line.iter().copied());
        let Verb::Set(args) = Cli::parse_from(line).verb else { panic!("not a set") };
        body(text.as_bytes(), &args).unwrap()
    }

    #[test]
    fn json_goes_in_as_it_was_written_and_the_rest_as_text() {
        assert_eq!(body_of(&[], "{\"n\": 1.10}"), "{\"value\":{\"n\": 1.10}}");
        assert_eq!(body_of(&[], "12345678901234567890123"), "{\"value\":12345678901234567890123}");
        assert_eq!(body_of(&[], "hello \"you\""), "{\"value\":\"hello \\\"you\\\"\"}");
        assert_eq!(body_of(&["--text"], "42"), "{\"value\":\"42\"}");
        assert_eq!(body_of(&[], ""), "{\"value\":\"\"}");
    }

    #[test]
    fn tags_go_along() {
        assert_eq!(
            body_of(&["--tag", "org:7", "--tag", "x\"y"], "1"),
            r#"{"value":1,"tags":["org:7","x\"y"]}"#
        );
    }

    #[test]
    fn a_ttl_is_said_in_words() {
        assert_eq!(body_of(&["--ttl", "90"], "1"), "{\"value\":1,\"ttl\":\"1m 30s\"}");
        assert_eq!(body_of(&["--ttl", "250ms"], "1"), "{\"value\":1,\"ttl\":\"250ms\"}");
        assert_eq!(body_of(&["--ttl", "never"], "1"), "{\"value\":1,\"ttl\":\"never\"}");
    }
}
