//! What is known of a namespace that is heard: its chains, and whose counters are read next.

use std::collections::HashSet;
use std::ops::Range;
use terrace_core::coherence::{Chain, Step};
use terrace_core::{Namespace, Partition, Version};

/// Every counter of a namespace is read once in so many beats that read counters of it; each beat reads one namespace's.
const BEATS_PER_ROUND: u16 = 20;

/// What is known of one namespace.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) chains: Vec<Chain>,
    /// Whether the connection that is open now hands out all its messages.
    pub(super) is_joined: bool,
    /// The first beat that is sent after the last joining or reading of the log.
    pub(super) settles_with: u64,
    /// The partition whose counter is read next.
    pub(super) next_read: u16,
}

/// Counters that were read before a beat was sent.
pub(super) struct Reading {
    pub(super) beat: u64,
    pub(super) namespace: Namespace,
    pub(super) first: u16,
    /// What was known before they were read.
    pub(super) began: Vec<Option<Version>>,
    pub(super) counters: Vec<Version>,
}

impl Reading {
    pub(super) fn partitions(&self) -> Range<u16> {
        let count = u16::try_from(self.began.len()).unwrap_or(u16::MAX);
        self.first..self.first.saturating_add(count)
    }
}

impl Heard {
    /// The counters to be read next.
    pub(super) fn next_reading(&mut self, beat: u64, namespace: &Namespace) -> Reading {
        let count = u16::try_from(self.chains.len()).unwrap_or(u16::MAX);
        let first = if self.next_read < count { self.next_read } else { 0 };
        self.next_read = count.min(first + count.div_ceil(BEATS_PER_ROUND));
        let read = usize::from(first)..usize::from(self.next_read);
        let began = self.chains[read].iter().map(Chain::last).collect();
        Reading { beat, namespace: namespace.clone(), first, began, counters: Vec::new() }
    }

    /// All that was published before the last reading has been heard. Returns the partitions of which that does not hold.
    pub(super) fn settle(&mut self) -> HashSet<Partition> {
        self.settles_with = u64::MAX;
        let settled = (0..).map(Partition).zip(self.chains.iter_mut().map(Chain::settle));
        settled.filter(|(_, step)| *step == Step::Suspect).map(|(partition, _)| partition).collect()
    }
}
