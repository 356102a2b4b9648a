//! What came of it, as text.

use crate::chapter::Chapter;
use crate::lag::Lags;
use crate::single::{Death, Single};
use crate::world::Source;
use std::fmt::Write as _;
use std::time::Duration;

/// Violations of one chapter that are told in full.
const TOLD_MAX: usize = 5;

/// The titles of the columns of [`row`].
pub fn titles() -> String {
    format!(
        "{:<22} {:>6} {:>7} {:>6} {:>7} {:>7} {:>9} {:>8} {:>11} {:>6}  {}",
        "fault",
        "lasted",
        "reads",
        "stale",
        "failed",
        "changes",
        "old/lease",
        "healed",
        "loads/key",
        "broken",
        ""
    )
}

/// A chapter in one line.
pub fn row(chapter: &Chapter) -> String {
    let reads = chapter.reads().max(1);
    let percent = |part: u64| format!("{:.1}%", part as f64 * 100.0 / reads as f64);
    let failed: u64 = chapter.failed.values().sum();
    let healed = chapter.healed_after.map_or_else(|| "never".to_owned(), time);
    let per_key = chapter.loads.0 as f64 / chapter.keys_loaded.max(1) as f64;
    format!(
        "{:<22} {:>6} {:>7} {:>6} {:>7} {:>7} {:>9} {:>8} {:>11} {:>6}  {}",
        chapter.fault.name(),
        time(chapter.lasted),
        reads,
        percent(chapter.stale),
        failed,
        chapter.changes.iter().sum::<u64>(),
        format!("{}/{}", chapter.oldest_fresh.as_millis(), chapter.lease.as_millis()),
        healed,
        format!("{per_key:.1} max {}", chapter.loads.1),
        chapter.violations.len(),
        chapter.met
    )
}

/// What a line does not say: where values came from, why reads failed, what became of changes, what was broken.
pub fn details(chapter: &Chapter) -> String {
    let mut text = String::new();
    let of = |source| chapter.fresh.get(&source).copied().unwrap_or(0);
    let (l1, l2, origin) = (of(Source::L1), of(Source::L2), of(Source::Origin));
    let [applied, queued, unknown] = chapter.changes;
    writeln!(
        text,
        "    fresh: l1 {l1}, l2 {l2}, origin {origin}; none {}; loose {}; changes: applied {applied}, queued {queued}, unknown {unknown} {:?}",
        chapter.nothing, chapter.loose, chapter.by_way
    )
    .ok();
    if !chapter.failed.is_empty() {
        writeln!(text, "    failed: {:?}", chapter.failed).ok();
    }
    for violation in chapter.violations.iter().take(TOLD_MAX) {
        writeln!(text, "    BROKEN {violation}").ok();
    }
    if chapter.healed_after.is_none() {
        writeln!(text, "    BROKEN it did not heal").ok();
    }
    text
}

/// Lags in one line.
pub fn lags(what: &str, lags: &Lags) -> String {
    format!(
        "{what}: p50 {} p99 {} longest {} of {}; certainly old for {}",
        fine(lags.percentile(50)),
        fine(lags.percentile(99)),
        fine(lags.longest()),
        lags.count(),
        fine(lags.old_for())
    )
}

/// Many reads of one key in one line.
pub fn single(single: &Single) -> String {
    format!(
        "{} cold reads of one key: {} load seen, {} counted by the nodes; wait p50 {} p99 {} longest {}",
        single.reads,
        single.loads,
        single.counted,
        fine(single.percentile(50)),
        fine(single.percentile(99)),
        fine(single.percentile(100))
    )
}

/// The death of a loading node in one line.
pub fn death(death: &Death) -> String {
    format!(
        "the loading node killed: {} load by the others, the last answer after {}",
        death.loads,
        time(death.answered_after)
    )
}

fn time(time: Duration) -> String {
    format!("{:.2}s", time.as_secs_f64())
}

fn fine(time: Duration) -> String {
    format!("{:.2}ms", time.as_secs_f64() * 1e3)
}
