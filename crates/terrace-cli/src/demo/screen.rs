//! The live picture: on a terminal it redraws itself, elsewhere it is a line per look.

use crate::output;
use crate::tally::{TIERS, Tally, quantile};
use crate::words;
use std::time::Duration;

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
        if !output::is_watched() {
            return output::line(&summary);
        }
        let picture: Vec<String> = std::iter::once(summary).chain(TIERS.map(|tier| bar(now, tier))).collect();
        let back =
            if self.lines_drawn == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.lines_drawn) };
        self.lines_drawn = picture.len();
        output::line(&format!("{back}{}", picture.join("\n")))
    }
}

fn summary(since_start: Duration, interval: Duration, now: &Tally) -> String {
    let quantiles = TIERS.into_iter().filter(|tier| now.served(*tier) > 0).map(|tier| {
        let latency = &now.tier(tier).latency;
        let [p50, p99] = [0.5, 0.99].map(|share| words::time(quantile(latency, share)));
        format!("{tier} {p50} / {p99}")
    });
    format!(
        "{:>4} s  {:>7} req/s  hit rate {:>7}  p50 / p99: {}{}",
        since_start.as_secs(),
        words::count(words::rate(now.requests(), interval)),
        words::percent(now.hit_ratio()),
        quantiles.collect::<Vec<_>>().join(", "),
        if now.failed + now.wrong > 0 {
            format!("  FAILED {}", now.failed + now.wrong)
        } else {
            String::new()
        },
    )
}

/// How much of the load a tier carries.
fn bar(now: &Tally, tier: terrace::Tier) -> String {
    const WIDTH: usize = 50;
    let ratio = now.ratio(tier);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio is between 0 and 1")]
    let filled = ((ratio * WIDTH as f64).round() as usize).min(WIDTH);
    format!(
        "  {:6} {:>8} {}{}",
        tier.as_str(),
        words::percent(ratio),
        "█".repeat(filled),
        "·".repeat(WIDTH - filled)
    )
}

/// What all of it came to.
pub(crate) fn table(total: &Tally) -> String {
    let rows = TIERS.into_iter().filter(|tier| total.served(*tier) > 0).map(|tier| {
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
    use terrace::Tier;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.serve(Tier::L1, Duration::from_micros(2), 1, 0);
        }
        tally.serve(Tier::Origin, Duration::from_millis(21), 1, 0);
        tally
    }

    #[test]
    fn a_line_says_rate_ratio_and_latencies() {
        let line = summary(Duration::from_secs(7), Duration::from_millis(500), &tally());
        assert_eq!(
            line,
            "   7 s        8 req/s  hit rate 75.00 %  p50 / p99: l1 2.0 µs / 2.0 µs, origin 21 ms / 21 ms"
        );
        let mut failed = tally();
        failed.fail(String::new);
        assert!(summary(Duration::ZERO, Duration::from_secs(1), &failed).ends_with("FAILED 1"));
    }

    #[test]
    fn bars_are_as_long_as_the_ratio() {
        assert_eq!(bar(&tally(), Tier::L1).matches('█').count(), 38);
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
