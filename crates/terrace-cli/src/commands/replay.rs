//! `replay`: real request traces against a cache in this process or a running service.

use crate::args::{PolicyArg, ReplayArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure, reasons};
use crate::output::{self, Talk};
use crate::replay::config;
use crate::replay::expected::Expected;
use crate::replay::local::{LocalCache, LocalSettings};
use crate::replay::remote::{KEY_PREFIX, RemoteAsker, Service};
use crate::replay::report::{Report, tables};
use crate::replay::rows::{OriginPlace, Rows, TABLE};
use crate::replay::run::{Job, Outcome};
use crate::runtime::{self, Stop};
use crate::trace::Trace;
use crate::words;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use terrace::Policy;

/// The fewest entries that a share of a trace comes to.
const L1_ENTRIES_MIN: u32 = 1;

/// Replays traces, or prepares for it.
pub(crate) async fn replay(args: ReplayArgs, talk: Talk) -> anyhow::Result<Exit> {
    let place: OriginPlace = args.origin.parse()?;
    if place == OriginPlace::Temporary
        && (args.url.is_some() || args.instead.prepare || args.instead.print_config)
    {
        return Err(Failure::usage("a service cannot read a file that is removed when this command ends")
            .next("say where the rows are: --origin sqlite:FILE or --origin postgres://USER@HOST/DATABASE")
            .into());
    }
    if args.instead.print_config {
        return print_config(&args, &place).await;
    }
    let (_handle, stop) = Stop::on_signals()?;
    let rows = Arc::new(Rows::open(&place).await?);
    Replay { args, rows, talk, stop }.run().await
}

async fn read_trace(path: &Path, limit: Option<usize>) -> anyhow::Result<Trace> {
    let path = path.to_owned();
    runtime::blocking(move || Trace::read(&path, limit)).await
}

fn l1_entries(args: &ReplayArgs, trace: &Trace) -> u32 {
    let of_share = || {
        let entries = (f64::from(trace.distinct) * args.l1_share).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u32 is a u32"
        )]
        let entries = entries as u32;
        entries.max(L1_ENTRIES_MIN)
    };
    args.l1_entries.unwrap_or_else(of_share)
}

async fn print_config(args: &ReplayArgs, place: &OriginPlace) -> anyhow::Result<Exit> {
    let l1_entries = match (args.l1_entries, &args.traces[..]) {
        (Some(entries), _) => entries,
        (None, [path]) => l1_entries(args, &read_trace(path, args.limit).await?),
        (None, _) => {
            return Err(Failure::usage("a share of several traces is no number")
                .next("name one trace, or give --l1-entries")
                .into());
        }
    };
    let settings = config::Settings {
        l1_entries,
        policy: args.policy,
        ttl: args.ttl,
        redis: args.redis.as_deref(),
        place,
    };
    output::data(settings.to_toml()?.as_bytes())?;
    Ok(Exit::Success)
}

struct Replay {
    args: ReplayArgs,
    rows: Arc<Rows>,
    talk: Talk,
    stop: Stop,
}

impl Replay {
    async fn run(self) -> anyhow::Result<Exit> {
        let mut reports = Vec::new();
        for path in &self.args.traces {
            let trace = read_trace(path, self.args.limit).await?;
            let added = self.rows.prepare(&trace.name, trace.distinct).await?;
            if added > 0 {
                self.talk.say(format!("{}: added {} rows to {TABLE}", trace.name, words::count(added)));
            }
            if self.args.instead.prepare {
                continue;
            }
            let report = self.replay(trace).await?;
            if self.args.json {
                output::line(&report.json()?)?;
            }
            for example in &report.outcome.tally.examples {
                self.talk.say(format!("{}: {example}", report.trace));
            }
            reports.push(report);
            if self.stop.is_set() {
                break;
            }
        }
        self.conclude(&reports)
    }

    fn conclude(&self, reports: &[Report]) -> anyhow::Result<Exit> {
        if !self.args.json && !reports.is_empty() {
            output::line(&tables(reports))?;
        }
        let is_complete = self.args.instead.prepare || reports.len() == self.args.traces.len();
        if is_complete && reports.iter().all(Report::is_clean) {
            return Ok(Exit::Success);
        }
        if self.stop.is_set() {
            self.talk.say("stopped before the end");
        }
        Ok(Exit::Failure)
    }

    async fn replay(&self, trace: Trace) -> anyhow::Result<Report> {
        let expected = Expected::new(self.rows.fingerprints(&trace.name, trace.distinct).await?);
        self.talk.detail(format!(
            "{}: {} requests for {} keys",
            trace.name,
            words::count(trace.requests.len() as u64),
            words::count(trace.distinct.into())
        ));
        match &self.args.url {
            Some(url) => self.replay_remote(url, trace, expected).await,
            None => self.replay_local(trace, expected).await,
        }
    }

    async fn replay_local(&self, trace: Trace, expected: Expected) -> anyhow::Result<Report> {
        let (name, distinct) = (trace.name.clone(), trace.distinct);
        let entries = l1_entries(&self.args, &trace);
        let settings = LocalSettings {
            l1_entries: entries as usize,
            policy: policy(self.args.policy),
            ttl: self.args.ttl.0,
            redis: self.args.redis.clone(),
        };
        let cache = LocalCache::new(&settings, Arc::clone(&self.rows)).await?;
        if !self.args.warm {
            cache.clear().await?;
        }
        let askers = (0..self.args.concurrency).map(|_| cache.asker()).collect();
        let outcome = Job::new(trace, expected, self.stop.clone()).run(askers, self.talk).await?;
        let figures = cache.figures();
        if !self.args.warm
            && let Err(error) = cache.clear().await
        {
            self.talk
                .say(format!("warning: L2 keeps the values of this replay: {}", reasons(error.as_ref())));
        }
        if let Err(error) = cache.close().await {
            self.talk.say(format!("warning: {}", reasons(error.as_ref())));
        }
        Ok(Report {
            trace: name,
            distinct,
            l1_entries: Some(entries.into()),
            loads: Some(figures.loads),
            l2_errors: self.args.redis.is_some().then_some(figures.l2_errors),
            outcome,
        })
    }

    async fn replay_remote(&self, url: &str, trace: Trace, expected: Expected) -> anyhow::Result<Report> {
        let (name, distinct) = (trace.name.clone(), trace.distinct);
        let service = Service::at(url, &self.args.tls)?;
        let client = Client::at(url, &self.args.tls)?;
        if !self.args.warm {
            let pattern = json!({ "pattern": format!("{KEY_PREFIX}{name}:*") });
            client.send(Method::POST, "/api/cache/invalidate", pattern.to_string()).await?;
        }
        let before = Counters::read(&client).await?;
        let askers =
            (0..self.args.concurrency).map(|_| RemoteAsker::new(service.clone(), KEY_PREFIX)).collect();
        let outcome: Outcome = Job::new(trace, expected, self.stop.clone()).run(askers, self.talk).await?;
        let after = Counters::read(&client).await.unwrap_or_default();
        Ok(Report {
            trace: name,
            distinct,
            l1_entries: None,
            loads: since(after.loads, before.loads),
            l2_errors: since(after.l2_errors, before.l2_errors),
            outcome,
        })
    }
}

const fn policy(policy: PolicyArg) -> Policy {
    match policy {
        PolicyArg::Default => Policy::Default,
        PolicyArg::Lru => Policy::Lru,
    }
}

/// Counters of a service that tell what its replies do not.
#[derive(Clone, Copy, Default)]
struct Counters {
    loads: Option<u64>,
    l2_errors: Option<u64>,
}

impl Counters {
    async fn read(client: &Client) -> anyhow::Result<Self> {
        let reply = client.read("/api/cache/metrics").await?;
        let stats = client.json(&reply)?;
        let count = |name: &str| stats.get(name).and_then(Value::as_u64);
        Ok(Self { loads: count("loads"), l2_errors: count("l2_errors") })
    }
}

fn since(after: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}
