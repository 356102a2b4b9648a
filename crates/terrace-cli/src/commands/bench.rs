//! `bench`: how fast a running service answers this machine, by the tier that answers.
//!
//! 1. Latencies are those that a client sees: with the network, HTTP, and this program.
//! 2. What is stored for it is removed in the end, also after Ctrl-C. `--read-only` stores nothing.
//! 3. What it ran on is said with the numbers: they mean nothing without.

use crate::args::BenchArgs;
use crate::client::{Client, path_of_key};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::runtime::{self, Stop};
use crate::tally::{TIERS, Tally, quantile, tier_named};
use crate::words;
use futures_util::stream::{self, StreamExt as _};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What is read of each answer.
#[derive(Deserialize)]
struct Answered<'a> {
    source: &'a str,
}

/// What a run is about.
struct Bench {
    client: Client,
    args: BenchArgs,
}

/// Measures a service.
pub(crate) async fn bench(args: BenchArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let bench = Arc::new(Bench { client, args });
    let (handle, stop) = Stop::on_signals()?;
    if !bench.args.read_only {
        talk.say(format!("storing {} keys", words::count(u64::from(bench.args.keys))));
        bench.each_key(Method::PUT, Some(bench.body())).await?;
    }
    handle.stop_after(bench.args.duration.0);
    talk.say(format!("reading for {}", bench.args.duration));
    let (begun, mut tally) = (runtime::now(), Tally::default());
    let workers = (0..bench.args.concurrency)
        .map(|number| runtime::spawn(Arc::clone(&bench).read(u64::from(number), stop.clone())));
    for worker in workers.collect::<Vec<_>>() {
        tally.merge(worker.await?);
    }
    let took = begun.elapsed();
    if !bench.args.read_only {
        bench.each_key(Method::DELETE, None).await?;
    }
    report(&bench.args, &tally, took)?;
    let failed = tally.failed;
    for example in &tally.examples {
        talk.say(format!("failed: {example}"));
    }
    if tally.requests() == failed {
        return Err(Failure::new(Exit::Failure, "no request was answered").into());
    }
    Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
}

impl Bench {
    fn key(&self, number: u64) -> String {
        format!("{}{}", self.args.prefix, number % u64::from(self.args.keys))
    }

    fn body(&self) -> String {
        json!({ "value": "x".repeat(self.args.value_bytes as usize), "ttl": "1h" }).to_string()
    }

    /// Does the same with every key.
    async fn each_key(&self, method: Method, body: Option<String>) -> anyhow::Result<()> {
        let doing = (0..u64::from(self.args.keys)).map(|number| {
            let (method, body, path) = (method.clone(), body.clone(), path_of_key(&self.key(number)));
            async move {
                match body {
                    Some(body) => self.client.send(method, &path, body).await.map(drop),
                    None => self.client.ask(method, &path).await.map(drop),
                }
            }
        });
        let mut doing = stream::iter(doing).buffer_unordered(usize::from(self.args.concurrency));
        while let Some(done) = doing.next().await {
            done?;
        }
        Ok(())
    }

    /// Reads one key after the other, until it is time to stop.
    async fn read(self: Arc<Self>, worker: u64, stop: Stop) -> Tally {
        let mut tally = Tally::default();
        let step = u64::from(self.args.concurrency);
        for turn in 0.. {
            if stop.is_set() {
                break;
            }
            let path = path_of_key(&self.key(worker + turn * step));
            let begun = runtime::now();
            let answer = self.client.ask(Method::GET, &path).await;
            let took = begun.elapsed();
            match answer {
                Ok(Some(reply)) => {
                    let source = serde_json::from_str::<Answered<'_>>(&reply).ok();
                    match source.and_then(|answered| tier_named(answered.source)) {
                        Some(tier) => tally.serve(tier, took, reply.len() as u64, 0),
                        None => tally.fail(|| "an answer that names no tier".to_owned()),
                    }
                }
                Ok(None) => tally.fail(|| format!("there is no {path}")),
                Err(error) => tally.fail(|| error.to_string()),
            }
        }
        tally
    }
}

fn report(args: &BenchArgs, tally: &Tally, took: Duration) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let mut rows = Vec::new();
    for tier in TIERS.into_iter().filter(|tier| tally.served(*tier) > 0) {
        let latency = &tally.tier(tier).latency;
        let quantiles = [0.5, 0.9, 0.99, 1.0].map(|part| quantile(latency, part));
        if args.service.json {
            let micros = quantiles.map(|time| time.as_secs_f64() * 1e6);
            let line = json!({
                "tier": tier.as_str(), "requests": tally.served(tier), "seconds": took.as_secs_f64(),
                "p50_us": micros[0], "p90_us": micros[1], "p99_us": micros[2], "max_us": micros[3],
                "concurrency": args.concurrency, "keys": args.keys, "failed": tally.failed,
                "environment": { "cores": cores, "os": os, "arch": arch, "url": args.service.url, "version": env!("CARGO_PKG_VERSION") },
            });
            output::line(&line.to_string())?;
        }
        let rate = words::count(words::rate(tally.served(tier), took));
        let mut row = vec![tier.as_str().to_owned(), words::count(tally.served(tier)), rate];
        row.extend(quantiles.map(words::time));
        rows.push(row);
    }
    if !args.service.json {
        let header = ["tier", "requests", "per second", "p50", "p90", "p99", "max"];
        output::line(&words::table(&header, 1, rows).to_string())?;
        output::line(&format!(
            "{} clients, {} keys, {} failed; from {cores} cores, {os} {arch}, terrace {}, to {}",
            args.concurrency,
            words::count(u64::from(args.keys)),
            words::count(tally.failed),
            env!("CARGO_PKG_VERSION"),
            args.service.url,
        ))?;
    }
    Ok(())
}
