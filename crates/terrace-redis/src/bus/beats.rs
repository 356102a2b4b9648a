//! When has a beat come back from all primaries?
//!
//! 1. A beat is told once, when the last primary has sent it back. Of one that some primary has lost nothing is told.
//! 2. As many are remembered as can be on their way; older ones are forgotten, and never told.

use std::collections::VecDeque;

/// Most beats that are waited for.
const WAITED_MAX: usize = 256;

/// The beats that some primaries have sent back, and others have not.
pub(super) struct Beats {
    /// On which channel each primary sends them back.
    channels: Vec<String>,
    /// The number, and who has sent it back; the oldest first.
    waited: VecDeque<(u64, Vec<bool>)>,
}

impl Beats {
    pub(super) fn of(channels: Vec<String>) -> Self {
        Self { channels, waited: VecDeque::new() }
    }

    /// Whose channel this is, if it is one for beats.
    pub(super) fn primary_of(&self, channel: &[u8]) -> Option<usize> {
        self.channels.iter().position(|own| own.as_bytes() == channel)
    }

    /// A primary has sent a beat back. Whether it was the last to do so.
    pub(super) fn back(&mut self, primary: usize, number: u64) -> bool {
        if self.channels.len() == 1 {
            return true;
        }
        let is_owed = |(waited, back): &(u64, Vec<bool>)| *waited == number && !back[primary];
        let index = self.waited.iter().position(is_owed).unwrap_or_else(|| {
            if self.waited.len() == WAITED_MAX {
                self.waited.pop_front();
            }
            self.waited.push_back((number, vec![false; self.channels.len()]));
            self.waited.len() - 1
        });
        self.waited[index].1[primary] = true;
        let is_back = self.waited[index].1.iter().all(|is_back| *is_back);
        if is_back {
            self.waited.remove(index);
        }
        is_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(primaries: usize) -> Beats {
        Beats::of((0..primaries).map(|primary| format!("beat:{primary}")).collect())
    }

    #[test]
    fn the_last_primary_decides() {
        let mut beats = beats(3);
        assert_eq!([beats.primary_of(b"beat:2"), beats.primary_of(b"other")], [Some(2), None]);
        assert!(!beats.back(0, 7) && !beats.back(2, 7) && !beats.back(0, 8) && !beats.back(2, 8));
        assert!(!beats.back(0, 7), "again is not from another one");
        assert!(beats.back(1, 8), "whichever is complete first");
        assert!(beats.back(1, 7));
        assert!(!beats.back(1, 8), "it was told");
    }

    #[test]
    fn one_primary_is_all() {
        let mut beats = beats(1);
        assert!(beats.back(0, 7) && beats.back(0, 7));
    }

    #[test]
    fn what_a_primary_has_lost_is_forgotten() {
        let mut beats = beats(2);
        for number in 0..=WAITED_MAX as u64 {
            assert!(!beats.back(0, number));
        }
        assert_eq!(beats.waited.len(), WAITED_MAX);
        assert!(!beats.back(1, 0), "it is too old");
        assert!(beats.back(1, WAITED_MAX as u64));
    }
}
