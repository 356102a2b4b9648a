//! What L1 holds, part by part, for whoever lists it.

use super::L1;
use crate::coherence::bans::Bans;
use crate::entry::Resident;

impl L1 {
    /// In how many parts [`L1::for_each_of`] shows the copies.
    pub(crate) fn parts(&self) -> usize {
        self.memory.parts()
    }

    /// Looks at every copy of a namespace that a part held at one moment and that is alive, with its key's text. Returns how many copies,
    /// of whatever namespace, were looked at.
    pub(crate) fn for_each_of(
        &self,
        part: usize,
        space: u32,
        bans: &Bans,
        mut look: impl FnMut(&str, &Resident),
    ) -> usize {
        let mut count = 0;
        self.memory.for_each_of(part, |name, copy| {
            count += 1;
            if name.space == space {
                name.with_text(|text| {
                    if !bans.name(copy.born, text, copy.tags()) {
                        look(text, copy);
                    }
                });
            }
        });
        count
    }
}
