//! What a replay came to: tables for people and Markdown, one JSON object per trace for programs.

use super::run::Outcome;
use crate::tally::{TIERS, Tally, TierTally, quantile};
use crate::words;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;
use terrace::Tier;

/// What a replay of one trace came to.
#[derive(Debug)]
pub(crate) struct Report {
    /// The trace's name.
    pub(crate) trace: String,
    /// How many different keys it has.
    pub(crate) distinct: u32,
    /// Entries that L1 could hold, if the replay decided that.
    pub(crate) l1_entries: Option<u64>,
    /// Loads from the origin, if they could be counted.
    pub(crate) loads: Option<u64>,
    /// Errors of L2 that did not become failed requests, if they could be counted.
    pub(crate) l2_errors: Option<u64>,
    /// What became of the requests.
    pub(crate) outcome: Outcome,
}

impl Report {
    fn tally(&self) -> &Tally {
        &self.outcome.tally
    }

    /// Whether every request of the trace was answered, and rightly.
    pub(crate) fn is_clean(&self) -> bool {
        self.tally().failed == 0 && self.tally().wrong == 0 && !self.outcome.was_stopped
    }

    fn hits_row(&self) -> Vec<String> {
        let tally = self.tally();
        let share =
            |tier| format!("{} ({})", words::percent(tally.ratio(tier)), words::count(tally.served(tier)));
        vec![
            self.trace.clone(),
            words::count(tally.requests()),
            words::count(self.distinct.into()),
            optional(self.l1_entries),
            share(Tier::L1),
            share(Tier::L2),
            share(Tier::Origin),
            optional(self.loads),
            words::bytes(tally.bytes()),
            optional(self.l2_errors),
            words::count(tally.failed),
            words::count(tally.wrong),
            words::count(words::rate(tally.requests(), self.outcome.took)),
        ]
    }

    fn latency_rows(&self) -> Vec<Vec<String>> {
        let row = |tier: &str, latency: &Histogram<u64>| {
            let mut row = vec![self.trace.clone(), tier.to_owned(), words::count(latency.len())];
            row.extend([0.5, 0.99, 0.999].map(|share| words::time(quantile(latency, share))));
            row
        };
        let answered = TIERS.into_iter().filter(|tier| self.tally().served(*tier) > 0);
        let mut rows: Vec<_> =
            answered.map(|tier| row(tier.as_str(), &self.tally().tier(tier).latency)).collect();
        rows.push(row("all", &self.tally().latency()));
        rows
    }

    fn bytes_row(&self) -> Option<Vec<String>> {
        let ratios = TIERS.map(|tier| self.tally().byte_ratio(tier).map(words::percent));
        let [Some(l1), Some(l2), Some(origin)] = ratios else { return None };
        Some(vec![self.trace.clone(), l1, l2, origin])
    }

    /// The same as one JSON object.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let tally = self.tally();
        let tier = |tier: Tier| JsonTier::new(tally.tier(tier), tally.ratio(tier), tally.byte_ratio(tier));
        Ok(serde_json::to_string(&Json {
            trace: &self.trace,
            requests: tally.requests(),
            distinct_keys: self.distinct,
            l1_entries: self.l1_entries,
            hit_ratio: tally.hit_ratio(),
            l1: tier(Tier::L1),
            l2: tier(Tier::L2),
            origin: tier(Tier::Origin),
            latency: Quantiles::new(&tally.latency()),
            loads: self.loads,
            bytes: tally.bytes(),
            l2_errors: self.l2_errors,
            failed: tally.failed,
            wrong: tally.wrong,
            examples: &tally.examples,
            seconds: self.outcome.took.as_secs_f64(),
            requests_per_second: words::rate(tally.requests(), self.outcome.took),
            is_complete: !self.outcome.was_stopped,
        })?)
    }
}

fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), words::count)
}

/// All reports as tables: who answered, how fast, and whose bytes.
pub(crate) fn tables(reports: &[Report]) -> String {
    const HITS: [&str; 13] = [
        "trace",
        "requests",
        "keys",
        "L1 entries",
        "L1",
        "L2",
        "origin",
        "loads",
        "bytes",
        "L2 errors",
        "failed",
        "wrong",
        "req/s",
    ];
    let mut tables = vec![
        words::table(&HITS, 1, reports.iter().map(Report::hits_row)),
        words::table(
            &["trace", "tier", "answers", "p50", "p99", "p99.9"],
            2,
            reports.iter().flat_map(Report::latency_rows),
        ),
    ];
    let bytes: Vec<_> = reports.iter().filter_map(Report::bytes_row).collect();
    if !bytes.is_empty() {
        let header = ["trace", "object bytes from L1", "from L2", "from origin"];
        tables.push(words::table(&header, 1, bytes));
    }
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

#[derive(Serialize)]
struct Json<'a> {
    trace: &'a str,
    requests: u64,
    distinct_keys: u32,
    l1_entries: Option<u64>,
    hit_ratio: f64,
    l1: JsonTier,
    l2: JsonTier,
    origin: JsonTier,
    latency: Quantiles,
    loads: Option<u64>,
    bytes: u64,
    l2_errors: Option<u64>,
    failed: u64,
    wrong: u64,
    examples: &'a [String],
    seconds: f64,
    requests_per_second: u64,
    is_complete: bool,
}

#[derive(Serialize)]
struct JsonTier {
    answers: u64,
    ratio: f64,
    byte_ratio: Option<f64>,
    bytes: u64,
    latency: Quantiles,
}

impl JsonTier {
    fn new(tier: &TierTally, ratio: f64, byte_ratio: Option<f64>) -> Self {
        let latency = Quantiles::new(&tier.latency);
        Self { answers: tier.latency.len(), ratio, byte_ratio, bytes: tier.bytes, latency }
    }
}

#[derive(Serialize)]
struct Quantiles {
    #[serde(rename = "p50_us")]
    p50: f64,
    #[serde(rename = "p99_us")]
    p99: f64,
    #[serde(rename = "p999_us")]
    p999: f64,
}

impl Quantiles {
    fn new(latency: &Histogram<u64>) -> Self {
        let micros = |share| Duration::as_secs_f64(&quantile(latency, share)) * 1e6;
        Self { p50: micros(0.5), p99: micros(0.99), p999: micros(0.999) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.serve(Tier::L1, Duration::from_micros(2), 10, 100);
        }
        tally.serve(Tier::Origin, Duration::from_millis(3), 10, 700);
        let outcome = Outcome { tally, took: Duration::from_secs(2), was_stopped: false };
        let trace = "web12".to_owned();
        Report { trace, distinct: 2, l1_entries: Some(16), loads: Some(1), l2_errors: None, outcome }
    }

    #[test]
    fn tables_say_who_answered_and_how_fast() {
        let tables = tables(&[report()]);
        for part in ["75.00 % (3)", "0.00 % (0)", "25.00 % (1)", "| web12 | l1 ", "| web12 | all ", "70.00 %"]
        {
            assert!(tables.contains(part), "{part} is missing in\n{tables}");
        }
        assert!(!tables.contains("| web12 | l2 "), "{tables}");
    }

    #[test]
    fn json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!((json["requests"].as_u64(), json["l1"]["answers"].as_u64()), (Some(4), Some(3)));
        assert_eq!((json["hit_ratio"].as_f64(), json["requests_per_second"].as_u64()), (Some(0.75), Some(2)));
        assert!(json["l1"]["latency"]["p50_us"].as_f64().unwrap() < 2.1);
    }

    #[test]
    fn a_replay_is_clean_only_if_nothing_failed() {
        assert!(report().is_clean());
        let mut stopped = report();
        stopped.outcome.was_stopped = true;
        let mut failed = report();
        failed.outcome.tally.fail(String::new);
        let mut wrong = report();
        wrong.outcome.tally.mistake(String::new);
        assert!(!stopped.is_clean() && !failed.is_clean() && !wrong.is_clean());
    }
}
