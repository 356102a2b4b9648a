//! `queue`: what is written behind, and what people do about it.

use crate::args::{DropArgs, FlushArgs, LetterArgs, QueueArgs, QueueLsArgs, QueueVerb, WriteArgs};
use crate::client::{Client, encoded, path_of_queue, queued_write};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::words;
use reqwest::Method;
use serde_json::{Value, json};

/// Sees to what is written behind.
pub(crate) async fn queue(args: QueueArgs, talk: Talk) -> anyhow::Result<Exit> {
    match args.what {
        QueueVerb::Ls(args) => list(args).await,
        QueueVerb::Show(args) => show(args).await,
        QueueVerb::Flush(args) => flush(args, talk).await,
        QueueVerb::Retry(args) => letter(args, "retry", "retried", talk).await,
        QueueVerb::Drop(args) => forget(args, talk).await,
    }
}

async fn list(args: QueueLsArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let reply = client.read(&path_of_queue(args.keyspace.as_deref(), args.limit)).await?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        output::line(&text(&client.json(&reply)?))?;
    }
    Ok(Exit::Success)
}

async fn show(args: WriteArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let path = action(&args.keyspace, &format!("writes/{}", encoded(&args.write)));
    let reply = client.read(&path).await?;
    let told = client.json(&reply)?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        output::line(&sentence(&told))?;
    }
    Ok(if told["state"] == "dead" { Exit::Failure } else { Exit::Success })
}

/// What has become of a write, in words.
fn sentence(told: &Value) -> String {
    let word = |name: &str| told[name].as_str().unwrap_or_default();
    let key = told["key"].as_str().map_or_else(|| "a key".to_owned(), words::printable);
    let attempts = match told["attempts"].as_u64().unwrap_or_default() {
        0 => "not tried yet".to_owned(),
        1 => "tried once".to_owned(),
        count => format!("tried {} times", words::count(count)),
    };
    match word("state") {
        "waiting" => {
            let seconds = told["waiting_seconds"].as_f64().unwrap_or_default();
            format!("waits to {} {key} for {seconds:.1} s, {attempts}", word("operation"))
        }
        "dead" => {
            let newer = if told["overtaken"] == true { "; a newer write was acknowledged since" } else { "" };
            let reason = words::printable(word("reason"));
            format!("was given up, {attempts}: to {} {key}: {reason}{newer}", word("operation"))
        }
        "coalesced" => match queued_write(word("by")) {
            Some((keyspace, id)) => {
                format!("a newer write of its key took its place: terrace queue show {keyspace} {id}")
            }
            None => "a newer write of its key took its place, and waits no more".to_owned(),
        },
        _ => "waits no more: the origin has it, or a newer write of its key took its place, or somebody dropped it"
            .to_owned(),
    }
}

async fn flush(args: FlushArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let reply = client.send(Method::POST, &action(&args.keyspace, "flush"), String::new()).await?;
    let flushed = client.json(&reply)?;
    let count = |name: &str| flushed[name].as_u64().unwrap_or_default();
    if args.service.json {
        output::line(&reply)?;
    } else {
        let counts = ["stored", "parked", "dead"].map(|name| words::count(count(name)));
        talk.say(format!(
            "{} reached the origin, {} failed and wait, {} were given up",
            counts[0], counts[1], counts[2]
        ));
    }
    Ok(if count("parked") + count("dead") == 0 { Exit::Success } else { Exit::Failure })
}

async fn forget(args: DropArgs, talk: Talk) -> anyhow::Result<Exit> {
    let key = &args.letter.key;
    if !args.yes {
        if !output::can_ask() {
            return Err(Failure::usage("this needs a yes, and nobody is here to give it")
                .next("add --yes")
                .into());
        }
        if !output::ask(&format!("Shall the origin never get the writes of {key:?} that were given up?"))? {
            talk.say("nothing was dropped");
            return Ok(Exit::Failure);
        }
    }
    letter(args.letter, "drop", "dropped", talk).await
}

async fn letter(args: LetterArgs, verb: &str, done: &str, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let body = json!({ "key": args.key }).to_string();
    let reply = client.send(Method::POST, &action(&args.keyspace, verb), body).await?;
    if args.service.json {
        output::line(&reply)?;
    } else {
        let count = client.json(&reply)?[done].as_u64().unwrap_or_default();
        talk.say(format!("{done} {}", words::count(count)));
    }
    Ok(Exit::Success)
}

fn action(keyspace: &str, verb: &str) -> String {
    format!("/api/cache/behind/{}/{verb}", encoded(keyspace))
}

/// A row for each keyspace, and then one for each dead letter.
fn text(behind: &Value) -> String {
    let keyspaces = behind["keyspaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keyspaces.is_empty() {
        return "no keyspace is written behind".to_owned();
    }
    let word = |of: &Value, name: &str| words::printable(of[name].as_str().unwrap_or_default());
    let count = |of: &Value, name: &str| words::count(of[name].as_u64().unwrap_or_default());
    let rows = keyspaces.iter().map(|of| {
        let oldest = of["oldest_seconds"].as_f64().unwrap_or_default();
        vec![
            word(of, "keyspace"),
            count(of, "pending"),
            format!("{oldest:.1} s"),
            count(of, "parked"),
            count(of, "dead"),
        ]
    });
    let mut text =
        words::table(&["keyspace", "waiting", "oldest", "failing keys", "dead letters"], 1, rows).to_string();
    let letters = keyspaces.iter().flat_map(|of| {
        let letters = of["dead_letters"].as_array().into_iter().flatten();
        letters.map(move |letter| {
            vec![
                word(of, "keyspace"),
                word(letter, "key"),
                word(letter, "operation"),
                word(letter, "reason"),
                count(letter, "attempts"),
            ]
        })
    });
    let letters: Vec<Vec<String>> = letters.collect();
    if !letters.is_empty() {
        let header = ["keyspace", "key", "operation", "reason", "attempts"];
        text.extend(["\n\nGiven up:\n", &words::table(&header, 4, letters).to_string()]);
    }
    if let Some(unattended) = behind["journal"]["unattended"].as_u64().filter(|count| *count > 0) {
        let count = words::count(unattended);
        text.extend(["\n\n", &count, " writes are of keyspaces that are not written behind any more"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_become_of_a_write_is_said_in_words() {
        let of = |told: Value| sentence(&told);
        let waiting = json!({"state": "waiting", "key": "k", "operation": "store", "attempts": 2, "waiting_seconds": 1.25});
        assert_eq!(of(waiting), "waits to store k for 1.2 s, tried 2 times");
        let dead =
            json!({"state": "dead", "operation": "delete", "attempts": 1, "reason": "no", "overtaken": true});
        assert_eq!(
            of(dead),
            "was given up, tried once: to delete a key: no; a newer write was acknowledged since"
        );
        let by = json!({"state": "coalesced", "by": "/api/cache/behind/docs/writes/ab-18"});
        assert!(of(by).ends_with("terrace queue show docs ab-18"));
        assert!(of(json!({"state": "coalesced"})).ends_with("waits no more"));
        assert!(of(json!({"state": "gone"})).contains("or somebody dropped it"));
    }

    #[test]
    fn dead_letters_come_after_the_keyspaces() {
        let letter = json!({"key": "metrics:7", "operation": "store", "reason": "the origin does not take it", "attempts": 8});
        let counters = json!({"keyspace": "counters", "pending": 3, "oldest_seconds": 2.5, "parked": 1, "dead": 1, "dead_letters": [letter]});
        let shown = text(&json!({"journal": {"unattended": 2}, "keyspaces": [counters]}));
        for part in ["counters", "2.5 s", "metrics:7", "does not take it", "2 writes are of keyspaces"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert_eq!(text(&json!({"journal": null, "keyspaces": []})), "no keyspace is written behind");
    }
}
