//! The rules, as scans over the operations of one key at a time.
//!
//! Changes are sorted by version and each carries the earliest end of those from it on ([`Changes`]). So what a read has
//! missed longest is found by one search, and the rules that ask "did it end before" become one comparison.
//!
//! K5 needs no search for an order, because versions are one: a register that only grows can be put in order exactly if no read
//! brings what is older than a change, or another read, that ended before it began, and none brings what had not begun
//! when it ended. The tests hold that against a search through all orders.

use super::{Answer, Figures, Operation, Outcome, Promises, Read, Report, Rule, Source, Violation, What};
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts what needs no comparing.
pub(super) fn count(operations: &[Operation], figures: &mut Figures) {
    for operation in operations {
        match operation.what {
            What::Read(Answer::Fresh(_)) => figures.fresh += 1,
            What::Read(Answer::Stale(_)) => figures.stale += 1,
            What::Read(Answer::Nothing) => figures.nothing += 1,
            What::Read(Answer::Failed) => figures.failed += 1,
            What::Change { outcome: Outcome::Applied, .. } => figures.applied += 1,
            What::Change { outcome: Outcome::Queued, .. } => figures.queued += 1,
            What::Change { outcome: Outcome::Refused | Outcome::Untold | Outcome::Unknown, .. } => {
                figures.unsure += 1;
            }
            What::Load { .. } => figures.loads += 1,
        }
        if !matches!(operation.what, What::Load { .. }) {
            figures.operations += 1;
            let took = Duration::from_nanos(operation.ended.saturating_sub(operation.begun));
            figures.longest_call = figures.longest_call.max(took);
        }
    }
}

/// Some changes of one key, by version.
#[derive(Default)]
struct Changes<'a> {
    by_version: Vec<(u64, &'a Operation)>,
    /// By place in the other, which change from there on ended first.
    first_ended: Vec<&'a Operation>,
}

impl<'a> Changes<'a> {
    fn new(changes: impl IntoIterator<Item = (u64, &'a Operation)>) -> Self {
        let mut by_version: Vec<_> = changes.into_iter().collect();
        by_version.sort_by_key(|(version, operation)| (*version, operation.ended));
        let mut first_ended: Vec<&Operation> = by_version.iter().map(|(_, operation)| *operation).collect();
        for at in (1..first_ended.len()).rev() {
            if first_ended[at].ended < first_ended[at - 1].ended {
                first_ended[at - 1] = first_ended[at];
            }
        }
        Self { by_version, first_ended }
    }

    fn newer_from(&self, version: u64) -> usize {
        self.by_version.partition_point(|(of, _)| *of <= version)
    }

    /// Of the changes to later versions, the one that ended first; of those that a read must know of.
    fn missed_longest(&self, version: u64, read: &Operation, promises: &Promises) -> Option<&'a Operation> {
        let from = self.newer_from(version);
        let excused = promises.forgettings.iter().filter(|while_| read.overlaps(while_.at, while_.until));
        let excused: Vec<_> = excused.collect();
        if excused.is_empty() {
            return self.first_ended.get(from).copied();
        }
        let newer = self.by_version[from..].iter().map(|(_, operation)| *operation);
        newer
            .filter(|change| !excused.iter().any(|while_| change.overlaps(while_.from, while_.at)))
            .min_by_key(|change| change.ended)
    }

    /// The change that made this version.
    fn of(&self, version: u64) -> Option<&'a Operation> {
        let at = self.by_version.partition_point(|(of, _)| *of < version);
        self.by_version.get(at).filter(|(of, _)| *of == version).map(|(_, operation)| *operation)
    }
}

/// A check under way.
pub(super) struct Checking<'a> {
    pub(super) promises: &'a Promises,
    pub(super) report: &'a mut Report,
}

impl Checking<'_> {
    pub(super) fn all(&mut self, operations: &[Operation]) {
        self.bounded(operations);
        let mut by_key: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in operations {
            by_key.entry(operation.key).or_default().push(operation);
        }
        for of_key in by_key.values_mut() {
            of_key.sort_by_key(|operation| (operation.begun, operation.ended));
            self.genuine(of_key);
            self.node(of_key);
            self.fleet(of_key);
            self.lifetime(of_key);
            self.quiet(of_key);
            self.linearizable(of_key);
            let mut by_node: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
            for operation in of_key.iter() {
                by_node.entry(operation.node).or_default().push(operation);
            }
            by_node.retain(|node, _| !self.promises.unordered.contains(node));
            for of_node in by_node.values() {
                self.monotonic(of_node);
            }
        }
    }

    fn broken(&mut self, rule: Rule, operation: &Operation, because: Option<&Operation>) {
        self.report.violations.push(Violation {
            rule,
            operation: *operation,
            because: because.copied(),
            promises: self.promises.clone(),
        });
    }

    /// K7.
    fn bounded(&mut self, operations: &[Operation]) {
        let call_max = self.promises.call_max;
        let reads_max = self.promises.reads_max.map_or(call_max, |max| max.min(call_max));
        for operation in operations {
            let limit = match operation.what {
                What::Load { .. } => continue,
                What::Read(_) => nanos(reads_max),
                What::Change { .. } => nanos(call_max),
            };
            if operation.ended.saturating_sub(operation.begun) > limit {
                self.broken(Rule::Bounded, operation, None);
            }
        }
    }

    /// K8.
    fn genuine(&mut self, of_key: &[&Operation]) {
        let changes = changes_of(of_key, |_| true);
        for &operation in of_key {
            let What::Read(Answer::Fresh(read) | Answer::Stale(read)) = operation.what else { continue };
            if read.key != operation.key {
                self.broken(Rule::Genuine, operation, None);
            } else if let Some(change) = changes.of(read.version).filter(|change| operation.precedes(change))
            {
                self.broken(Rule::Genuine, operation, Some(change));
            }
        }
    }

    /// K1.
    fn node(&mut self, of_key: &[&Operation]) {
        let mut nodes: BTreeMap<u32, Vec<(u64, &Operation)>> = BTreeMap::new();
        for (version, change) in told(of_key) {
            nodes.entry(change.node).or_default().push((version, change));
        }
        let nodes: BTreeMap<u32, Changes<'_>> =
            nodes.into_iter().map(|(node, changes)| (node, Changes::new(changes))).collect();
        for &operation in of_key {
            let Some(read) = operation.brought() else { continue };
            let missed = nodes
                .get(&operation.node)
                .and_then(|changes| changes.missed_longest(read.version, operation, self.promises));
            let is_broken =
                |missed: &&Operation| missed.precedes(operation) || self.is_late(operation, missed);
            if let Some(missed) = missed.filter(is_broken) {
                self.broken(Rule::Node, operation, Some(missed));
            }
        }
    }

    /// Whether a stale value that a tier had of before a change was under way for too long after it.
    fn is_late(&self, operation: &Operation, change: &Operation) -> bool {
        let What::Read(Answer::Stale(Read { source: Some(Source::L1 | Source::L2), .. })) = operation.what
        else {
            return false;
        };
        let homeward = self.promises.homeward.map(nanos);
        homeward.is_some_and(|while_| change.ended.saturating_add(while_) < operation.ended)
    }

    /// K2, and how old fresh reads are.
    fn fleet(&mut self, of_key: &[&Operation]) {
        let applied = changes_of(of_key, |outcome| outcome == Outcome::Applied);
        for (operation, read) in fresh(of_key) {
            let missed = applied.missed_longest(read.version, operation, self.promises);
            let Some(missed) = missed.filter(|missed| missed.precedes(operation)) else { continue };
            let since = Duration::from_nanos(operation.begun - missed.ended);
            self.report.figures.fresh_but_old += 1;
            self.report.figures.oldest_fresh = self.report.figures.oldest_fresh.max(since);
            if self.promises.staleness_max.is_some_and(|max| since > max + self.promises.slack) {
                self.broken(Rule::Fleet, operation, Some(missed));
            }
        }
    }

    /// K4 of what nobody was told of.
    fn lifetime(&mut self, of_key: &[&Operation]) {
        let Some(ttl_max) = self.promises.ttl_max else { return };
        let untold = changes_of(of_key, |outcome| outcome == Outcome::Untold);
        for (operation, read) in fresh(of_key) {
            let missed = untold.missed_longest(read.version, operation, self.promises);
            let is_over = |missed: &&Operation| missed.ended.saturating_add(nanos(ttl_max)) < operation.begun;
            if let Some(missed) = missed.filter(is_over) {
                self.broken(Rule::Lifetime, operation, Some(missed));
            }
        }
    }

    /// K3, for one key and one node.
    fn monotonic(&mut self, of_node: &[&Operation]) {
        let is_kept = |read: &Read| read.is_anchored && read.source != Some(Source::Origin);
        for pair in self.steps_back(of_node, is_kept) {
            self.broken(Rule::Monotonic, pair.0, Some(pair.1));
        }
    }

    /// K4.
    fn quiet(&mut self, of_key: &[&Operation]) {
        let Some(calm_from) = self.promises.calm_from else { return };
        let changes = Changes::new(told(of_key));
        for (operation, read) in fresh(of_key).filter(|(operation, _)| operation.begun >= calm_from) {
            self.report.figures.calm += 1;
            let missed = changes.missed_longest(read.version, operation, self.promises);
            if let Some(missed) = missed.filter(|missed| missed.precedes(operation)) {
                self.broken(Rule::Quiet, operation, Some(missed));
            }
        }
    }

    /// K5.
    fn linearizable(&mut self, of_key: &[&Operation]) {
        let asked: Vec<&Operation> =
            fresh(of_key).filter(|(_, read)| read.has_asked).map(|(operation, _)| operation).collect();
        self.report.figures.linearized += asked.len() as u64;
        let applied = changes_of(of_key, |outcome| outcome == Outcome::Applied);
        for (operation, read) in fresh(&asked) {
            let missed = applied.missed_longest(read.version, operation, self.promises);
            if let Some(missed) = missed.filter(|missed| missed.precedes(operation)) {
                self.broken(Rule::Linearizable, operation, Some(missed));
            }
        }
        for pair in self.steps_back(&asked, |_| true) {
            self.broken(Rule::Linearizable, pair.0, Some(pair.1));
        }
    }

    /// The fresh reads that brought less than one before them that `counts`, each with that one. The operations are in the
    /// order in which they began.
    fn steps_back<'o>(
        &self,
        operations: &[&'o Operation],
        counts: impl Fn(&Read) -> bool,
    ) -> Vec<(&'o Operation, &'o Operation)> {
        let mut ended: Vec<(&Operation, Read)> = fresh(operations).filter(|(_, read)| counts(read)).collect();
        ended.sort_by_key(|(operation, _)| operation.ended);
        let mut ended = ended.into_iter().peekable();
        let mut newest: Option<(&Operation, Read)> = None;
        let mut back = Vec::new();
        for (operation, read) in fresh(operations) {
            while let Some(before) = ended.next_if(|(before, _)| before.precedes(operation)) {
                if newest.is_none_or(|(_, newest)| before.1.version > newest.version)
                    || newest.is_some_and(|(newest, _)| self.is_order_lost(newest, before.0))
                {
                    newest = Some(before);
                }
            }
            if let Some((before, _)) = newest.filter(|(_, newest)| newest.version > read.version)
                && !self.is_order_lost(before, operation)
            {
                back.push((operation, before));
            }
        }
        back
    }

    /// Whether L2 has forgotten something between two reads, or while one was made.
    fn is_order_lost(&self, before: &Operation, after: &Operation) -> bool {
        let lost = |at: u64, until: u64| before.begun <= until && after.ended >= at;
        self.promises.forgettings.iter().any(|while_| lost(while_.at, while_.until))
    }
}

fn fresh<'o>(operations: &[&'o Operation]) -> impl Iterator<Item = (&'o Operation, Read)> {
    operations.iter().filter_map(|operation| Some((*operation, operation.fresh()?)))
}

fn changes_of<'o>(operations: &[&'o Operation], counts: impl Fn(Outcome) -> bool) -> Changes<'o> {
    Changes::new(operations.iter().filter_map(|operation| match operation.what {
        What::Change { version, outcome } if counts(outcome) => Some((version, *operation)),
        _ => None,
    }))
}

/// The changes of which a node has said that they hold, on it at least.
fn told<'o>(operations: &[&'o Operation]) -> Vec<(u64, &'o Operation)> {
    let told = operations.iter().filter_map(|operation| match operation.what {
        What::Change { version, outcome } if !matches!(outcome, Outcome::Unknown | Outcome::Untold) => {
            Some((version, *operation))
        }
        _ => None,
    });
    told.collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
