//! `explain`: what a configuration does with a key, without asking anybody.

use crate::args::ExplainArgs;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::words;
use std::fmt::Write as _;
use terrace_server::Explained;
use terrace_server::config::Config;

/// Prints what would be done with a key.
pub(crate) fn explain(args: ExplainArgs) -> anyhow::Result<Exit> {
    let sources = super::check::sources(args.file.config)?;
    let (config, settings) =
        Config::load_with_settings(&sources).map_err(|error| Failure::framed(error.to_string()))?;
    let explained = Explained::of(&config, &args.key)
        .map_err(|error| Failure::usage(format!("{:?} cannot be a key", args.key)).why(error))?
        .set_by(&settings);
    if args.json {
        output::line(&serde_json::to_string(&explained)?)?;
    } else {
        output::line(words::printable(&text(&explained)).trim_end())?;
    }
    Ok(Exit::Success)
}

/// A line for each thing.
fn text(explained: &Explained) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, words: &str| writeln!(lines, "{name:<9} {words}").expect("a text takes all");
    line("key", &explained.key);
    line("keyspace", &explained.keyspace);
    if let (Some(pattern), Some(from)) = (&explained.pattern, &explained.pattern_from) {
        line("pattern", &format!("{pattern}  ({from})"));
    }
    line("why", &explained.why);
    for (name, value) in &explained.captures {
        line("part", &format!("{name} = {value}"));
    }
    line("strategy", explained.strategy);
    line("ttl", &explained.ttl);
    for lifetime in &explained.lifetimes {
        line("", &format!("{} = {}  ({})", lifetime.name, lifetime.value, lifetime.from));
    }
    let copies = match explained.l1_ttl.as_deref() {
        None => "no copies".to_owned(),
        Some("never") => "copies as long as their entries".to_owned(),
        Some(ttl) => format!("copies for {ttl} at most"),
    };
    line("l1", &copies);
    for tag in &explained.tags {
        line("tag", tag);
    }
    if let Some(origin) = &explained.origin {
        line("origin", origin);
    }
    for asked in &explained.asks {
        line(asked.what, &asked.ask);
        for (name, value) in &asked.parameters {
            let value =
                value.as_ref().map_or("given with the write".to_owned(), |value| format!("{value:?}"));
            line("", &format!(":{name} = {value}"));
        }
    }
    lines
}
