//! Is a message of a partition missing, and can the log fill the gap?
//!
//! Each message names the number of the one before it. A node keeps the number of the last one it has applied, and
//! applies the next only if that follows on.
//!
//! 1. [`Step::Apply`] is answered for each change once, in the order of their numbers, as long as no other answer comes between.
//! 2. A change that was never to be applied is followed by [`Step::Suspect`] for its partition, at the latest when the next
//!    message is heard, when a counter is read ([`Chain::joined`], [`Chain::lags`]), or at [`Chain::settle`] if the chain was
//!    not settled. After that the node knows nothing of the partition's entries.
//! 3. Numbers that go back mean that the server has lost what it knew. That is suspect too. Only for a short while after a
//!    counter or the log was read are such messages expected: they were published before, and were read there already.
//!    They have to be what was read, in order and up to its end: whatever else is heard then is not known, and is suspect
//!    as soon as that shows.
//! 4. Zero is the number of no change, so nothing follows on from it: where no change is known, a whole history may have
//!    come and gone unheard. The first change of a new counter is always suspect.
//!
//! What numbers cannot show: a change that the server forgot before this node heard of it or of a later one; by a counter
//! that was read while a forgotten change was still on its way, what was lost behind that (the next one shows it); and two
//! changes of the same number, one of them forgotten. So a server that may have forgotten something is told to the chain
//! ([`Chain::renewed`]), which then takes nothing for known.

use crate::bus::{Message, MessageError};
use crate::mutants::{self, Mutant};
use crate::version::Version;

/// What a node knows of one partition's changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Chain {
    /// The number of the last change that was applied, or that the node has begun after.
    last: Option<Version>,
    /// Messages up to here were seen in the log or lie before a counter that was read; zero if none are expected any more.
    overlap: Version,
    /// The last of them that was heard, until the end of the overlap is.
    echo: Option<Version>,
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
        let last = (counter != Version::ZERO).then_some(counter);
        Self { last, overlap: counter, echo: None }
    }

    /// The number of the last change that was applied, or that the node has begun after.
    pub fn last(&self) -> Option<Version> {
        self.last
    }

    /// The partition's counter was read, and every message after it will be heard.
    pub fn joined(&mut self, counter: Version) -> Step {
        match self.last {
            Some(last) if last == counter => {
                self.expect_again(counter);
                Step::Known
            }
            Some(last) if counter.supersedes(last) => Step::Missing { after: last, until: counter },
            _ => self.restart_read(counter),
        }
    }

    /// The partition's counter was read as by [`Chain::joined`], on a server that may have forgotten what was heard before:
    /// its numbers say nothing of what is known here.
    pub fn renewed(&mut self, counter: Version) -> Step {
        self.restart_read(counter)
    }

    /// A message was heard.
    pub fn heard(&mut self, message: &Message) -> Step {
        if message.number <= self.overlap && message.number != Version::ZERO {
            return self.heard_again(message);
        }
        match self.last {
            Some(last)
                if message.number.supersedes(last)
                    && (message.previous == last || mutants::is(Mutant::NoChain)) =>
            {
                self.last = Some(message.number);
                self.expect_again(Version::ZERO);
                Step::Apply
            }
            Some(last) if message.number.supersedes(last) && message.previous != Version::ZERO => {
                Step::Missing { after: last, until: message.number }
            }
            _ => self.restart(message.number),
        }
    }

    /// Something was heard that is no message: a change was missed, nobody knows which. The next message shows the gap.
    pub fn garbled(&self) -> Step {
        Step::Suspect
    }

    /// The log was read after [`Step::Missing`]. Returns what is to be applied, in order; `None` if the log does not close the
    /// gap: then the partition is suspect, and the chain goes on from the greatest number that is known. A log that
    /// could not be read is an empty one.
    pub fn repair(
        &mut self,
        log: Vec<Result<Message, MessageError>>,
        until: Version,
    ) -> Option<Vec<Message>> {
        let newest = log.iter().flatten().map(|message| message.number).fold(until, Version::max);
        let Some(missed) = self.follow(log, until) else {
            self.restart_read(newest);
            return None;
        };
        self.last = missed.last().map_or(self.last, |message| Some(message.number));
        self.expect_again(newest);
        Some(missed)
    }

    /// All that was published before the last reading has been heard by now: from here on no message is expected twice.
    /// [`Step::Suspect`] if what was heard in its place was something else, else [`Step::Known`].
    pub fn settle(&mut self) -> Step {
        self.overlap = Version::ZERO;
        self.echo.take().map_or(Step::Known, |echo| self.restart(echo))
    }

    /// Whether a counter that was read before the last beat was sent shows a change that should have been heard by now, or
    /// that the server has forgotten one. `began` is [`Chain::last`] from before the reading was begun. If so, the counter
    /// is to be given to [`Chain::joined`].
    pub fn lags(&self, began: Option<Version>, counter: Version) -> bool {
        let has_more = counter.supersedes(self.last.unwrap_or(Version::ZERO));
        let has_forgotten = began.is_some_and(|began| began.supersedes(counter));
        (has_more || has_forgotten) && !mutants::is(Mutant::NoCounters)
    }

    /// The whole log, if it leads from the last number by way of `until` without a gap. A log that passes by `until` is
    /// that of a server which has forgotten it.
    fn follow(&self, log: Vec<Result<Message, MessageError>>, until: Version) -> Option<Vec<Message>> {
        let mut last = self.last?;
        let mut is_reached = last == until;
        let mut missed = Vec::with_capacity(log.len());
        for entry in log {
            let message = entry.ok()?;
            let follows = message.previous == last || mutants::is(Mutant::RepairWithoutOrder);
            if !follows || !message.number.supersedes(last) {
                return None;
            }
            last = message.number;
            is_reached |= last == until;
            missed.push(message);
        }
        is_reached.then_some(missed)
    }

    /// A message was heard that may have been read already.
    fn heard_again(&mut self, message: &Message) -> Step {
        let Message { previous, number, .. } = *message;
        if self.echo.is_some_and(|echo| previous != echo || !number.supersedes(echo)) {
            return self.restart(number);
        }
        if number == self.overlap {
            self.expect_again(Version::ZERO);
        } else {
            self.echo = Some(number);
        }
        Step::Known
    }

    fn expect_again(&mut self, overlap: Version) {
        self.overlap = overlap;
        self.echo = None;
    }

    /// Goes on from a number that was read.
    fn restart_read(&mut self, at: Version) -> Step {
        let step = self.restart(at);
        self.expect_again(at);
        step
    }

    /// Goes on from a number that was heard.
    fn restart(&mut self, at: Version) -> Step {
        self.last = (at != Version::ZERO).then_some(at);
        self.expect_again(Version::ZERO);
        Step::Suspect
    }
}

#[cfg(test)]
mod tests;
