//! What a violation says.

use super::{Answer, Operation, Outcome, Read, Report, Rule, Source, Violation, What};
use std::fmt;
use std::time::Duration;

/// Violations that are told in full.
const TOLD_MAX: usize = 5;

impl Rule {
    /// `K1` to `K8`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "K1",
            Self::Fleet => "K2",
            Self::Monotonic => "K3",
            Self::Lifetime | Self::Quiet => "K4",
            Self::Linearizable => "K5",
            Self::Bounded => "K7",
            Self::Genuine => "K8",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A time of the history, in seconds.
struct At(u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::NEVER => f.write_str("never"),
            nanos => write!(f, "{}.{:09} s", nanos / 1_000_000_000, nanos % 1_000_000_000),
        }
    }
}

struct Brought(Read);

impl fmt::Display for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Read { key, version, source, is_anchored, has_asked: _ }) = self;
        write!(f, "version {version} of key {key}")?;
        match source {
            Some(Source::L1) => f.write_str(" from L1")?,
            Some(Source::L2) => f.write_str(" from L2")?,
            Some(Source::Origin) => f.write_str(" from the origin")?,
            None => {}
        }
        if *is_anchored { Ok(()) } else { f.write_str(", not anchored") }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, key, begun, ended, what } = *self;
        match what {
            What::Read(_) => write!(f, "the read of key {key} on node {node}")?,
            What::Change { version, .. } => {
                write!(f, "the change of key {key} to version {version} on node {node}")?;
            }
            What::Load { version } => {
                write!(f, "the load of version {version} of key {key} for node {node}")?;
            }
        }
        write!(f, ", begun at {}, ended at {}", At(begun), At(ended))?;
        match what {
            What::Read(Answer::Fresh(read)) => write!(f, ", brought {} as fresh", Brought(read)),
            What::Read(Answer::Stale(read)) => write!(f, ", brought {} as stale", Brought(read)),
            What::Read(Answer::Nothing) => f.write_str(", brought nothing"),
            What::Read(Answer::Failed) => f.write_str(", failed"),
            What::Change { outcome: Outcome::Applied, .. } => f.write_str(", was applied"),
            What::Change { outcome: Outcome::Queued, .. } => f.write_str(", was queued"),
            What::Change { outcome: Outcome::Refused, .. } => f.write_str(", was refused by L2"),
            What::Change { outcome: Outcome::Untold, .. } => f.write_str(", was told to no cache"),
            What::Change { outcome: Outcome::Unknown, .. } => f.write_str(", came to nobody knows what"),
            What::Load { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, operation, because, promises } = self;
        write!(f, "{rule}: {operation}; ")?;
        let Some(because) = because else {
            let took = Duration::from_nanos(operation.ended.saturating_sub(operation.begun));
            return match rule {
                Rule::Bounded if operation.ended == Operation::NEVER => {
                    write!(f, "every call has to end within {:?}", promises.call_max)
                }
                Rule::Bounded => write!(f, "it took {took:?}, and {:?} are allowed", promises.call_max),
                _ => f.write_str("that is another key"),
            };
        };
        let since = Duration::from_nanos(operation.begun.saturating_sub(because.ended));
        match rule {
            Rule::Node if because.ended >= operation.begun => {
                let on = Duration::from_nanos(operation.ended.saturating_sub(because.ended));
                write!(f, "{because}, on the same node, and it went on for {on:?} after that")
            }
            Rule::Node => write!(f, "{because}, {since:?} before it on the same node"),
            Rule::Fleet => {
                let max = promises.staleness_max.unwrap_or_default();
                write!(f, "{because}, {since:?} before it, and {max:?} are allowed")
            }
            Rule::Lifetime => {
                let max = promises.ttl_max.unwrap_or_default();
                write!(f, "{because}, {since:?} before it, and nothing lives longer than {max:?}")
            }
            Rule::Quiet => write!(f, "{because}, and all was calm since"),
            Rule::Genuine => write!(f, "{because}, had not begun"),
            Rule::Monotonic | Rule::Linearizable | Rule::Bounded => {
                write!(f, "{because}, {since:?} before it")
            }
        }
    }
}

impl fmt::Display for Report {
    /// The figures, then what was broken: the first few of it in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, violations } = self;
        write!(
            f,
            "{} operations, {} loads; {} fresh reads, {} of them older than what was applied, by {:?} at most; \
             {} stale, {} without a value, {} failed; {} violations",
            figures.operations,
            figures.loads,
            figures.fresh,
            figures.fresh_but_old,
            figures.oldest_fresh,
            figures.stale,
            figures.nothing,
            figures.failed,
            violations.len(),
        )?;
        for violation in violations.iter().take(TOLD_MAX) {
            write!(f, "\n{violation}")?;
        }
        if violations.len() > TOLD_MAX {
            write!(f, "\nand {} more", violations.len() - TOLD_MAX)
        } else {
            Ok(())
        }
    }
}

impl Report {
    /// Goes on if nothing was broken.
    ///
    /// # Panics
    /// With the report, if something was.
    pub fn expect_kept(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}
