//! Is a message of a partition missing, and can the log fill the hole?
//!
//! Each message names the number of the one before it. A node keeps the number of the last one it has applied, and
//! applies the next only if that follows on.
//!
//! 1. [`Step::Apply`] is answered for each change once, in the order of their numbers, as long as no other answer comes between.
//! 2. A change that was never to be applied is followed by [`Step::Suspect`] for its partition, at the latest when the next
//!    message is heard or a counter is read. After that the node knows nothing of the partition's entries.
//! 3. Numbers that go back mean that the server has lost what it knew. That is suspect too. Only for a short while after a
//!    counter or the log was read are such messages expected: they were published before, and were read there already
//!    ([`Chain::settle`] ends it).

use crate::bus::{Message, MessageError};
use crate::version::Version;

/// What a node knows of one partition's changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// The number of the last change that was applied, or that the node has begun after.
    last: Option<Version>,
    /// Messages up to here were seen in the log or lie before a counter that was read.
    overlap: Version,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Apply the message.
    Apply,
    /// Nothing: it is known.
    Known,
    /// Read the log after this number and give it to [`Chain::repair`], with `until`, before anything else.
    Missing {
        /// The last number that was applied.
        after: Version,
        /// The number that the log has to reach.
        until: Version,
    },
    /// Forget all entries of the partition: changes of some of them may have been missed.
    Suspect,
}

impl Chain {
    /// The chain of a node that has no entries of the partition yet, from a counter on that was read.
    pub fn begun_at(counter: Version) -> Self {
        Self { last: Some(counter), overlap: counter }
    }

    /// The number of the last change that was applied.
    pub fn last(&self) -> Option<Version> {
        self.last
    }

    /// The partition's counter was read, and every message after it will be heard.
    pub fn joined(&mut self, counter: Version) -> Step {
        match self.last {
            Some(last) if last == counter => {
                self.overlap = self.overlap.max(counter);
                Step::Known
            }
            Some(last) if counter.supersedes(last) => Step::Missing { after: last, until: counter },
            _ => self.restart(counter),
        }
    }

    /// A message was heard.
    pub fn heard(&mut self, message: &Message) -> Step {
        let Some(last) = self.last else { return self.restart(message.number) };
        if message.previous == last && message.number.supersedes(last) {
            self.last = Some(message.number);
            return Step::Apply;
        }
        if message.number <= self.overlap {
            return Step::Known;
        }
        if message.number <= last {
            return self.restart(message.number);
        }
        Step::Missing { after: last, until: message.number }
    }

    /// Something was heard that is no message: a change was missed, nobody knows which. The next message shows the hole.
    pub fn garbled(&self) -> Step {
        Step::Suspect
    }

    /// The log was read after [`Step::Missing`]. Returns what is to be applied, in order; `None` if the log does not close the
    /// hole: then the partition is suspect, and the chain goes on from `until`.
    pub fn repair(
        &mut self,
        log: Vec<Result<Message, MessageError>>,
        until: Version,
    ) -> Option<Vec<Message>> {
        let newest = log.iter().flatten().map(|message| message.number).fold(until, Version::max);
        let mut last = self.last;
        let mut missed = Vec::with_capacity(log.len());
        for entry in log {
            let follows = entry.ok().filter(|message| {
                Some(message.previous) == last && last.is_some_and(|last| message.number.supersedes(last))
            });
            let Some(message) = follows else {
                self.restart(newest);
                return None;
            };
            last = Some(message.number);
            missed.push(message);
        }
        if last.is_none_or(|last| until.supersedes(last)) {
            self.restart(newest);
            return None;
        }
        self.last = last;
        self.overlap = newest;
        Some(missed)
    }

    /// All that was published before the last reading has been heard by now: from here on no message is expected twice.
    pub fn settle(&mut self) {
        self.overlap = Version::ZERO;
    }

    /// Whether a counter that was read before the last beat was sent shows a change that should have been heard by now.
    pub fn lags(&self, counter: Version) -> bool {
        self.last.is_none_or(|last| counter.supersedes(last))
    }

    fn restart(&mut self, at: Version) -> Step {
        self.last = Some(at);
        self.overlap = at;
        Step::Suspect
    }
}
