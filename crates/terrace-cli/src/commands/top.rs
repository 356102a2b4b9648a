//! `top`: a running service at a glance, redrawn as it goes on.
//!
//! 1. Everything shown is asked for over HTTP; what is shown per second is the difference of two answers.
//! 2. The terminal is given back as it was, however this ends.
//! 3. With `--json` there is no screen: what it would show is an object on a line of its own, as often.
//!
//! | part | shows |
//! |---|---|
//! | [`Seen`] | what a service answered |
//! | [`draw`] | a screen of two answers |

use crate::args::TopArgs;
use crate::client::{Client, path_of_hot};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::runtime::{self, Stop};
use crate::words;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Paragraph, Row, Table};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Keys that are shown.
const HOT: u16 = 10;

/// Counters of a keyspace that are shown per second: first what was answered, then what was done.
const RATES: [&str; 6] = ["hits_l1", "hits_l2", "hits_stale", "misses", "sets", "loads"];

/// What a service answered.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    keyspaces: Vec<Value>,
    hot: Vec<Value>,
    breakers: Vec<Value>,
    bus: Value,
}

/// Shows a service until somebody presses q.
pub(crate) async fn top(args: TopArgs) -> anyhow::Result<Exit> {
    if args.service.json {
        return lines(&args).await;
    }
    if !output::is_watched() {
        return Err(Failure::usage("a screen needs a terminal").next("terrace top --json").into());
    }
    let client = Client::new(&args.service)?;
    let (_handle, stop) = Stop::on_signals()?;
    let Some(mut now) = Seen::until(&client, &stop).await? else { return Ok(Exit::Success) };
    let mut before = Seen::default();
    let mut terminal = ratatui::init();
    let interval = args.interval;
    let shown: anyhow::Result<()> = async {
        while !stop.is_set() {
            terminal.draw(|frame| draw(frame, client.base(), &now, &before))?;
            if runtime::blocking(move || is_over(interval)).await? {
                return Ok(());
            }
            let Some(next) = Seen::until(&client, &stop).await? else { return Ok(()) };
            before = std::mem::replace(&mut now, next);
        }
        Ok(())
    }
    .await;
    ratatui::restore();
    shown.map(|()| Exit::Success)
}

/// Prints what a screen would show, again and again, until a signal.
async fn lines(args: &TopArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let (_handle, stop) = Stop::on_signals()?;
    let mut before = Seen::default();
    while let Some(now) = Seen::until(&client, &stop).await? {
        output::line(&now.json(&before).to_string())?;
        before = now;
        if stop.wait_for(args.interval).await {
            break;
        }
    }
    Ok(Exit::Success)
}

/// Waits for a while, or for a key. Whether somebody wants it to end.
fn is_over(interval: Duration) -> anyhow::Result<bool> {
    if !event::poll(interval)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else { return Ok(false) };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

impl Seen {
    /// Asks a service; `None` if it is time to stop, whether or not that answers.
    async fn until(client: &Client, stop: &Stop) -> anyhow::Result<Option<Self>> {
        tokio::select! {
            () = stop.wait() => Ok(None),
            seen = Self::of(client) => seen.map(Some),
        }
    }

    async fn of(client: &Client) -> anyhow::Result<Self> {
        let list = async |path: &str, field: &str| -> anyhow::Result<Vec<Value>> {
            let reply = client.json(&client.read(path).await?)?;
            Ok(reply[field].as_array().cloned().unwrap_or_default())
        };
        Ok(Self {
            keyspaces: list("/api/cache/keyspaces", "keyspaces").await?,
            hot: list(&path_of_hot(None, HOT), "keys").await?,
            breakers: list("/api/cache/breakers", "breakers").await?,
            bus: client.json(&client.read("/api/cache/bus").await?)?,
            at: Some(runtime::now()),
        })
    }

    /// What was answered, and for each keyspace how much of it happened in a second since the answer before, if there was one.
    fn json(&self, before: &Self) -> Value {
        let keyspaces = self.keyspaces.iter().map(|of| {
            let (mut of, name) = (of.clone(), of["name"].as_str().unwrap_or_default());
            let rates = RATES.iter().filter_map(|counter| {
                Some(((*counter).to_owned(), rate(self, before, name, counter)?.into()))
            });
            let rates: serde_json::Map<String, Value> = rates.collect();
            if let Some(fields) = of.as_object_mut().filter(|_| !rates.is_empty()) {
                fields.insert("per_second".to_owned(), rates.into());
            }
            of
        });
        let keyspaces: Vec<Value> = keyspaces.collect();
        json!({ "keyspaces": keyspaces, "hot": self.hot, "breakers": self.breakers, "bus": self.bus })
    }

    /// A counter of a keyspace.
    fn count(&self, keyspace: &str, name: &str) -> Option<u64> {
        self.keyspaces.iter().find(|of| of["name"] == keyspace)?[name].as_u64()
    }
}

/// How many of something happened in a second between two answers, by keyspace.
fn rate(now: &Seen, before: &Seen, keyspace: &str, name: &str) -> Option<u64> {
    let during = now.at?.duration_since(before.at?);
    let grown = now.count(keyspace, name)?.saturating_sub(before.count(keyspace, name)?);
    Some(words::rate(grown, during))
}

fn draw(frame: &mut Frame<'_>, base: &str, now: &Seen, before: &Seen) {
    let hot_height = u16::try_from(now.hot.len()).unwrap_or(HOT).max(1) + 3;
    let parts =
        [Constraint::Length(3), Constraint::Min(4), Constraint::Length(hot_height), Constraint::Length(1)];
    let [head, keyspaces, hot, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(
        Paragraph::new(headline(now)).block(Block::bordered().title(format!(" terrace at {base} "))),
        head,
    );
    frame.render_widget(keyspaces_table(now, before), keyspaces);
    frame.render_widget(hot_table(now), hot);
    frame.render_widget(Paragraph::new("q ends it"), foot);
}

fn headline(now: &Seen) -> String {
    let instance = &now.bus["instance"];
    let word = |of: &Value| words::printable(of.as_str().unwrap_or("-"));
    let breakers: Vec<String> =
        now.breakers.iter().map(|of| format!("{} {}", word(&of["target"]), word(&of["state"]))).collect();
    let breakers = if breakers.is_empty() { "memory alone".to_owned() } else { breakers.join(", ") };
    let lag = now.bus["lag_seconds"]
        .as_f64()
        .map(|lag| format!(", {} late", words::time(Duration::from_secs_f64(lag.max(0.0)))));
    format!(
        "version {}  ·  {breakers}  ·  bus {}{}",
        word(&instance["version"]),
        word(&now.bus["state"]),
        lag.unwrap_or_default()
    )
}

fn keyspaces_table(now: &Seen, before: &Seen) -> Table<'static> {
    let row = |of: &Value| {
        let name = of["name"].as_str().unwrap_or_default();
        let rates = RATES.map(|counter| rate(now, before, name, counter));
        let (hits, all) =
            (rates[..3].iter().flatten().sum::<u64>(), rates[..4].iter().flatten().sum::<u64>());
        let ratio = if all == 0 { "-".to_owned() } else { words::percent(hits as f64 / all as f64) };
        let entries = words::count(of["l1_entries"].as_u64().unwrap_or_default());
        let mut cells = vec![words::printable(name), ratio, entries];
        cells.extend(rates.map(|rate| rate.map_or("-".to_owned(), words::count)));
        Row::new(cells)
    };
    let header =
        ["keyspace", "hit ratio", "l1 entries", "l1/s", "l2/s", "stale/s", "miss/s", "set/s", "load/s"];
    let widths = [Constraint::Min(12)]
        .into_iter()
        .chain([Constraint::Length(11); 2])
        .chain([Constraint::Length(9); 6]);
    Table::new(now.keyspaces.iter().map(row), widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(" keyspaces "))
}

fn hot_table(now: &Seen) -> Table<'static> {
    let row = |of: &Value| {
        let text = |name: &str| words::printable(of[name].as_str().unwrap_or_default());
        Row::new([text("key"), text("keyspace"), words::count(of["lookups"].as_u64().unwrap_or_default())])
    };
    let widths = [Constraint::Min(20), Constraint::Length(16), Constraint::Length(14)];
    Table::new(now.hot.iter().map(row), widths)
        .header(
            Row::new(["hottest keys", "keyspace", "lookups"])
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .block(Block::bordered())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn seen(at: Instant, hits: u64) -> Seen {
        let users = json!({"name": "users", "l1_entries": 1234, "hits_l1": hits, "hits_l2": 0, "hits_stale": 0, "misses": hits / 3,
            "sets": 0, "loads": 0});
        Seen {
            at: Some(at),
            keyspaces: vec![users],
            hot: vec![json!({"key": "user:\u{1b}[1m", "keyspace": "users", "lookups": 61_000})],
            breakers: vec![json!({"target": "l2", "state": "open"})],
            bus: json!({"state": "lost", "lag_seconds": null, "instance": {"version": "0.1.0"}}),
        }
    }

    #[test]
    fn a_screen_shows_rates_between_two_answers() {
        let begun = runtime::now();
        let (before, now) = (seen(begun, 300), seen(begun + Duration::from_secs(2), 900));
        let mut terminal = Terminal::new(TestBackend::new(120, 20)).expect("a screen in memory");
        terminal.draw(|frame| draw(frame, "http://h", &now, &before)).expect("drawn");
        let cells = terminal.backend().buffer().content().iter();
        let text: String = cells.map(ratatui::buffer::Cell::symbol).collect();
        for part in
            ["terrace at http://h", "l2 open", "bus lost", "users", "1,234", "300", "75.00 %", "61,000"]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "what keys say is no command to the terminal");
    }

    #[test]
    fn an_object_has_rates_once_there_are_two_answers() {
        let begun = runtime::now();
        let (before, now) = (seen(begun, 300), seen(begun + Duration::from_secs(2), 900));
        assert_eq!(now.json(&before)["keyspaces"][0]["per_second"]["hits_l1"], 300);
        assert_eq!(now.json(&Seen::default())["keyspaces"][0]["per_second"], Value::Null);
    }

    #[test]
    fn the_first_answer_has_no_rates() {
        let now = seen(runtime::now(), 300);
        assert_eq!(rate(&now, &Seen::default(), "users", "hits_l1"), None);
    }
}
