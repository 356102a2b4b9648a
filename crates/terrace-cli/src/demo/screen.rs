//! The live picture: on a terminal it redraws itself, elsewhere it is a line per look.

use crate::output;
use crate::tally::{TIERS, Tally, quantile};
use crate::words;
use std::time::Duration;
use terrace::Tier;

/// Draws one picture over the last.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines_drawn: usize,
}

impl Screen {
    /// Shows what happened during the last `interval`.
    pub(crate) fn draw(
        &mut self,
        since_start: Duration,
        interval: Duration,
        now: &Tally,
    ) -> anyhow::Result<()> {
        let summary = summary(since_start, interval, now);
        if !output::can_redraw() {
            let latencies = answered(now).map(|tier| format!("{tier} {}", latency(now, tier)));
            let latencies = latencies.collect::<Vec<_>>().join(", ");
            return output::line(&format!("{summary}  p50 / p99: {latencies}"));
        }
        let mut picture = vec![summary];
        picture.extend(TIERS.map(|tier| bar(now, tier)));
        let back =
            if self.lines_drawn == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.lines_drawn) };
        self.lines_drawn = picture.len();
        output::data(format!("{back}{}\n", picture.join("\n")).as_bytes())
    }
}

fn answered(now: &Tally) -> impl Iterator<Item = Tier> {
    TIERS.into_iter().filter(|tier| now.served(*tier) > 0)
}

fn summary(since_start: Duration, interval: Duration, now: &Tally) -> String {
    let failed = now.failed + now.wrong;
    format!(
        "{:>4} s  {:>7} req/s  hit rate {:>7}{}",
        since_start.as_secs(),
        words::count(words::rate(now.requests(), interval)),
        words::percent(now.hit_ratio()),
        if failed > 0 { format!("  FAILED {}", words::count(failed)) } else { String::new() },
    )
}

fn latency(now: &Tally, tier: Tier) -> String {
    let [p50, p99] = [0.5, 0.99].map(|share| words::time(quantile(&now.tier(tier).latency, share)));
    format!("{p50} / {p99}")
}

/// How much of the load a tier carries, and how fast it is; less than 80 columns.
fn bar(now: &Tally, tier: Tier) -> String {
    const WIDTH: usize = 30;
    let ratio = now.ratio(tier);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio is between 0 and 1")]
    let filled = ((ratio * WIDTH as f64).round() as usize).min(WIDTH);
    let bar = "█".repeat(filled) + &"·".repeat(WIDTH - filled);
    let latency = if now.served(tier) > 0 { latency(now, tier) } else { "-".to_owned() };
    format!("  {:6} {bar} {:>8}  p50 / p99: {latency}", tier.as_str(), words::percent(ratio))
}

/// What all of it came to.
pub(crate) fn table(total: &Tally) -> String {
    let rows = answered(total).map(|tier| {
        let mut row =
            vec![tier.to_string(), words::count(total.served(tier)), words::percent(total.ratio(tier))];
        row.extend([0.5, 0.99, 0.999].map(|share| words::time(quantile(&total.tier(tier).latency, share))));
        row
    });
    words::table(&["answered by", "requests", "share", "p50", "p99", "p99.9"], 1, rows).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.serve(Tier::L1, Duration::from_micros(2), 1, 0);
        }
        tally.serve(Tier::Origin, Duration::from_millis(21), 1, 0);
        tally
    }

    #[test]
    fn the_summary_says_rate_ratio_and_failures() {
        let line = summary(Duration::from_secs(7), Duration::from_millis(500), &tally());
        assert_eq!(line, "   7 s        8 req/s  hit rate 75.00 %");
        let mut failed = tally();
        failed.fail(String::new);
        assert!(summary(Duration::ZERO, Duration::from_secs(1), &failed).ends_with("FAILED 1"));
    }

    #[test]
    fn bars_are_as_long_as_the_ratio_and_fit_a_terminal() {
        let l1 = bar(&tally(), Tier::L1);
        assert_eq!(l1.matches('█').count(), 23);
        assert!(l1.ends_with("75.00 %  p50 / p99: 2.0 µs / 2.0 µs"), "{l1}");
        assert!(l1.chars().count() < 80);
        assert_eq!(bar(&tally(), Tier::L2).matches('█').count(), 0);
    }

    #[test]
    fn the_table_leaves_out_tiers_that_are_not_there() {
        let table = table(&tally());
        assert!(
            table.contains("| l1 ") && table.contains("| origin ") && !table.contains("| l2 "),
            "{table}"
        );
    }
}
