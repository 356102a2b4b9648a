//! K6: what an origin is brought of writes that are written behind.
//!
//! A writer says of each write that it was acknowledged; the origin of each that it was brought; a writer that starts again of
//! each that it found in its journal. Writes of one journal have numbers, which rise.
//!
//! 1. An acknowledged write is at the origin, or in the journal, or a newer one of its key is (else it is *lost*).
//! 2. Of one key, no write comes to the origin after a newer one, unless it is repeated after a restart; and in one life never
//!    (else they are *reordered*).
//! 3. A write that comes again is the same write (else it is *changed*).

use std::collections::HashMap;

/// A key and the value that is stored under it; `None` if it is removed.
type Content = (String, Option<String>);

/// What is known of the writes of one journal, in all of its lives.
#[derive(Debug, Default)]
pub struct SinkHistory {
    /// Each write that was acknowledged or found.
    writes: HashMap<u64, Content>,
    /// Per key the newest acknowledged number.
    acknowledged: HashMap<String, u64>,
    /// Per key the newest number at the origin.
    origin: HashMap<String, u64>,
    /// Each write at the origin.
    stored: HashMap<u64, Content>,
    /// Per key the newest number at the origin in this life.
    this_life: HashMap<String, u64>,
    figures: SinkFigures,
}

/// What came of the writes of one journal. All but `repeated` have to be zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SinkFigures {
    /// Acknowledged writes that nobody has.
    pub lost: u64,
    /// Writes that came after a newer one of their key.
    pub reordered: u64,
    /// Writes that came more than once.
    pub repeated: u64,
    /// Writes that came again as something else.
    pub changed: u64,
}

impl SinkFigures {
    /// Whether what is promised was kept.
    pub fn is_kept(&self) -> bool {
        Self { repeated: 0, ..*self } == Self::default()
    }
}

impl SinkHistory {
    /// A write was acknowledged.
    pub fn acknowledged(&mut self, number: u64, key: &str, value: Option<&str>) {
        self.figures.changed += u64::from(!is_same(&mut self.writes, number, key, value));
        let newest = self.acknowledged.entry(key.to_owned()).or_default();
        *newest = (*newest).max(number);
    }

    /// The writer begins another life.
    pub fn begin_life(&mut self) {
        self.this_life.clear();
    }

    /// The origin was brought a write.
    pub fn stored(&mut self, number: u64, key: &str, value: Option<&str>) {
        self.figures.changed += u64::from(!is_same(&mut self.writes, number, key, value));
        let is_repeated = self.stored.contains_key(&number);
        self.figures.changed += u64::from(!is_same(&mut self.stored, number, key, value));
        self.figures.repeated += u64::from(is_repeated);
        let newest = self.origin.entry(key.to_owned()).or_default();
        self.figures.reordered += u64::from(number < *newest && !is_repeated);
        *newest = (*newest).max(number);
        let before = self.this_life.insert(key.to_owned(), number);
        self.figures.reordered += u64::from(before.is_some_and(|before| before > number));
    }

    /// What a life found in its journal, in the order of the numbers: compared with what is acknowledged so far.
    pub fn found(&mut self, found: &[(u64, String, Option<String>)]) {
        let mut waiting: HashMap<&str, u64> = HashMap::new();
        for (number, key, value) in found {
            self.figures.changed += u64::from(!is_same(&mut self.writes, *number, key, value.as_deref()));
            waiting.insert(key, *number);
        }
        for (key, number) in &self.acknowledged {
            let waits = waiting.get(key.as_str()).copied().unwrap_or(0);
            let stored = self.origin.get(key).copied().unwrap_or(0);
            self.figures.lost += u64::from(waits < *number && stored < *number);
        }
    }

    /// How many different writes the origin has been brought.
    pub fn count_stored(&self) -> usize {
        self.stored.len()
    }

    /// The newest acknowledged number of each key, to be put back by [`SinkHistory::reset_acknowledged`].
    pub fn known(&self) -> HashMap<String, u64> {
        self.acknowledged.clone()
    }

    /// Takes other numbers for the newest acknowledged ones, and gives those of before.
    pub fn reset_acknowledged(&mut self, known: HashMap<String, u64>) -> HashMap<String, u64> {
        std::mem::replace(&mut self.acknowledged, known)
    }

    /// What came of it so far.
    pub fn figures(&self) -> SinkFigures {
        self.figures
    }
}

fn is_same(known: &mut HashMap<u64, Content>, number: u64, key: &str, value: Option<&str>) -> bool {
    let known = known.entry(number).or_insert_with(|| (key.to_owned(), value.map(str::to_owned)));
    known.0 == key && known.1.as_deref() == value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(tell: impl FnOnce(&mut SinkHistory)) -> SinkFigures {
        let mut history = SinkHistory::default();
        tell(&mut history);
        history.figures()
    }

    #[test]
    fn what_nobody_has_is_lost() {
        let lost = |found: &[(u64, String, Option<String>)], stored: bool| {
            figures(|history| {
                history.acknowledged(7, "k", Some("v"));
                if stored {
                    history.stored(8, "k", None);
                }
                history.found(found);
            })
            .lost
        };
        assert_eq!((lost(&[], false), lost(&[], true)), (1, 0), "a newer one is as good");
        assert_eq!(lost(&[(7, "k".into(), Some("v".into()))], false), 0);
        assert_eq!(lost(&[(6, "k".into(), Some("u".into()))], false), 1);
    }

    #[test]
    fn what_comes_after_a_newer_one_is_reordered_unless_it_comes_again_in_another_life() {
        let told = |again: bool, life: bool| {
            figures(|history| {
                if again {
                    history.stored(1, "k", Some("a"));
                }
                history.stored(2, "k", Some("b"));
                if life {
                    history.begin_life();
                }
                history.stored(1, "k", Some("a"));
            })
        };
        assert!(told(false, false).reordered > 0 && told(false, true).reordered > 0);
        assert!(told(true, false).reordered > 0, "in one life");
        assert_eq!((told(true, true).reordered, told(true, true).repeated), (0, 1));
    }

    #[test]
    fn what_comes_again_as_something_else_is_changed() {
        let changed = |value| {
            figures(|history| {
                history.acknowledged(1, "k", Some("a"));
                history.stored(1, "k", value);
            })
            .changed
        };
        assert_eq!(changed(Some("a")), 0);
        assert!(changed(Some("b")) > 0 && changed(None) > 0);
    }
}
