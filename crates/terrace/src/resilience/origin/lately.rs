//! What is remembered of the things that an origin was asked for, by their hashes.
//!
//! 1. All of it is bounded: [`FAILED_MAX`] things that failed, [`BLAMED_MAX`] whose probes did, the last two that succeeded. What is
//!    forgotten counts as if it had never been.

use std::collections::VecDeque;
use std::time::Duration;
use terrace_core::Moment;

/// Things of which it is remembered that they failed.
const FAILED_MAX: usize = 64;
/// Things of which it is remembered that their probes failed.
const BLAMED_MAX: usize = 8;

/// All of it.
#[derive(Default)]
pub(super) struct Lately {
    /// What failed, each thing once: the oldest first.
    failed: VecDeque<(u64, Moment)>,
    /// The last two different things that succeeded, the newest first; what was for no one thing is one, too.
    well: [Option<(Option<u64>, Moment)>; 2],
    /// What a probe was for that failed, since it was closed: the oldest first.
    blamed: VecDeque<u64>,
}

impl Lately {
    /// A call has ended: whether it counts.
    pub(super) fn called(
        &mut self,
        thing: Option<u64>,
        is_failure: bool,
        now: Moment,
        window: Duration,
    ) -> bool {
        match thing {
            _ if !is_failure => {
                self.succeeded(thing, now);
                true
            }
            Some(thing) => self.is_first(thing, now, window) || !self.is_well_but_for(thing, now, window),
            None => true,
        }
    }

    /// A probe has ended. One that failed, and may have for what it was for, is remembered.
    pub(super) fn probed(&mut self, thing: Option<u64>, is_failure: bool, now: Moment) {
        match thing {
            _ if !is_failure => self.succeeded(thing, now),
            Some(thing) if !self.is_blamed(thing) => {
                if self.blamed.len() == BLAMED_MAX {
                    self.blamed.pop_front();
                }
                self.blamed.push_back(thing);
            }
            _ => {}
        }
    }

    /// Whether the last probe for it failed.
    pub(super) fn is_blamed(&self, thing: u64) -> bool {
        self.blamed.contains(&thing)
    }

    pub(super) fn opened(&mut self) {
        self.failed.clear();
        self.well = [None; 2];
    }

    pub(super) fn closed(&mut self) {
        self.blamed.clear();
    }

    /// Whether this is the first failure of the thing in the window, or it is forgotten that it was not.
    fn is_first(&mut self, thing: u64, now: Moment, window: Duration) -> bool {
        self.failed.retain(|(_, at)| now.since(*at) < window);
        let is_first = self.failed.iter().all(|(other, _)| *other != thing);
        if is_first {
            if self.failed.len() == FAILED_MAX {
                self.failed.pop_front();
            }
            self.failed.push_back((thing, now));
        }
        is_first
    }

    fn succeeded(&mut self, thing: Option<u64>, now: Moment) {
        match &mut self.well {
            [Some((newest, at)), _] if *newest == thing => *at = now,
            [newest, _] => self.well = [Some((thing, now)), *newest],
        }
    }

    /// Whether something else succeeded in the window.
    fn is_well_but_for(&self, thing: u64, now: Moment, window: Duration) -> bool {
        self.well.iter().flatten().any(|(of, at)| *of != Some(thing) && now.since(*at) < window)
    }
}
