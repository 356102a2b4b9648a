//! The origin of a keyspace as the place where the journal's writes go.

use crate::behind::{DeadLetter, Outcome, Outcomes, Sink, Write};
use crate::erased::typed;
use crate::events::EventKind;
use crate::origin::bound::{Bound, NotWritten};
use crate::origin::{Fence, OriginWrite, WriteFailure};
use crate::runtime::within;
use crate::space::{Shared, Space, View};
use crate::write::behind::Delivered;
use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;
use terrace_core::{Key, Tag};

/// Makes a key from its text.
pub(super) type Parse<K> = fn(&str) -> Option<K>;

/// Brings the writes of one keyspace to its origin. It keeps neither the cache nor the keyspace alive.
pub(super) struct OriginSink<K, V> {
    pub(super) shared: Weak<Shared>,
    pub(super) space: Weak<Space>,
    pub(super) origin: Arc<dyn Bound<K, V>>,
    pub(super) parse: Parse<K>,
    /// How long a call may take, what is to be told to L2 included.
    pub(super) limit: Duration,
}

impl<K, V> OriginSink<K, V>
where
    K: Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn view(&self) -> Option<View> {
        Some(View { shared: self.shared.upgrade()?, space: self.space.upgrade()? })
    }

    /// The change that a write asks for; why there is none, if its bytes are not of this keyspace.
    fn change(&self, view: &View, write: &Write) -> Result<OriginWrite<K, V>, String> {
        let text = std::str::from_utf8(&write.key).ok();
        let key = text.and_then(self.parse).ok_or("its key is none of this keyspace's type")?;
        let decode = |bytes| view.space.format.decode(bytes).map_err(|error| error.to_string());
        let value = write.operation.value().map(decode).transpose()?.map(typed);
        let fence = Fence { id: write.id, version: write.version, attempt: write.attempt };
        Ok(OriginWrite { key, value, fence: Some(fence) })
    }

    /// Drops copies: at once from this process' memory, and L2 is not believed about them until it has been told.
    fn drop_soon(&self, keys: impl Iterator<Item = Key>) {
        if let Some(view) = self.view() {
            view.forget_behind(&keys.collect::<Vec<_>>());
        }
    }

    /// Tells who listens to the keyspace's events of what became of a key's dead letters.
    fn tell(&self, key: &[u8], kind: impl FnOnce(Key) -> EventKind) {
        if let Some((view, key)) = self.view().zip(key_of(key)) {
            view.space.events.tell(&view.shared.clock, || kind(key));
        }
    }

    async fn store(&self, writes: &[Write]) -> Vec<Outcome> {
        let Some(view) = self.view() else {
            return vec![Outcome::Unavailable("the cache is gone".to_owned()); writes.len()];
        };
        if !view.writes_behind() {
            return vec![Outcome::Unavailable("the keyspace is being opened".to_owned()); writes.len()];
        }
        let begun = view.shared.clock.precise();
        let (mut outcomes, mut changes) = (Vec::with_capacity(writes.len()), Vec::new());
        for write in writes {
            outcomes.push(match self.change(&view, write) {
                Err(reason) => Some(Outcome::Refused(reason)),
                Ok(_) if delivered(write).is_some_and(|delivered| view.is_delivered(&delivered)) => {
                    Some(Outcome::Stored)
                }
                Ok(change) => {
                    changes.push(change);
                    None
                }
            });
        }
        let answers = if changes.is_empty() { Vec::new() } else { self.origin.write_many(changes).await };
        let (made, invalidates): (Vec<_>, Vec<_>) =
            answers.into_iter().map(|answer| (answer.made, answer.invalidates)).unzip();
        // Before the journal forgets the writes: until then they come again, and what the origin says of them with them.
        let took = view.shared.clock.precise().since(begun);
        let untrue: Vec<Tag> = invalidates.into_iter().flatten().collect();
        view.invalidate_for_origin_within(self.limit.saturating_sub(took), &untrue).await;
        let mut answers = made.into_iter();
        let missing = || Outcome::Failed("the origin gave no answer".to_owned());
        let mut answered = || answers.next().map_or_else(missing, outcome);
        let mut outcomes: Vec<Outcome> =
            outcomes.into_iter().map(|known| known.unwrap_or_else(&mut answered)).collect();
        let stored = (0..writes.len()).filter(|&at| outcomes[at] == Outcome::Stored);
        let (places, stored): (Vec<usize>, Vec<Delivered>) =
            stored.filter_map(|at| Some((at, delivered(&writes[at])?))).unzip();
        let took = view.shared.clock.precise().since(begun);
        let settling = within(self.limit.saturating_sub(took), view.settle_behind(&stored)).await;
        let settled = settling.unwrap_or_else(|| view.leave_untold(&stored));
        for (at, is_done) in places.into_iter().zip(settled) {
            if !is_done {
                let reason = "the origin has it, and L2 cannot be told yet";
                outcomes[at] = Outcome::Held(reason.to_owned());
            }
        }
        outcomes
    }
}

fn delivered(write: &Write) -> Option<Delivered> {
    Some(Delivered { key: key_of(&write.key)?, number: write.id.number })
}

impl<K, V> Sink for OriginSink<K, V>
where
    K: Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        Box::pin(self.store(writes))
    }

    fn given_up(&self, letters: &[DeadLetter]) {
        self.drop_soon(letters.iter().filter_map(|letter| key_of(&letter.write.key)));
        for letter in letters {
            let write = letter.write.id;
            self.tell(&letter.write.key, |key| EventKind::GivenUp { key, write });
        }
    }

    fn brought_back(&self, key: &[u8], count: usize) {
        self.drop_soon(key_of(key).into_iter());
        self.tell(key, |key| EventKind::LettersRetried { key, count: count as u64 });
    }

    fn dropped(&self, key: &[u8], count: usize) {
        self.tell(key, |key| EventKind::LettersDropped { key, count: count as u64 });
    }
}

fn outcome(answer: Result<(), NotWritten>) -> Outcome {
    match answer {
        Ok(()) => Outcome::Stored,
        Err(failure) => {
            let reason = failure.to_string();
            match failure {
                WriteFailure::Unsupported | WriteFailure::Refused(_) => Outcome::Refused(reason),
                WriteFailure::Unavailable(_) => Outcome::Unavailable(reason),
                WriteFailure::LeftAlone { again, .. } => Outcome::LeftAlone { reason, again },
                WriteFailure::Failed(_) | WriteFailure::Unknown(_) => Outcome::Failed(reason),
            }
        }
    }
}

pub(super) fn key_of(bytes: &[u8]) -> Option<Key> {
    Key::new(std::str::from_utf8(bytes).ok()?).ok()
}
