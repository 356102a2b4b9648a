//! Where writes go: the only thing that write-behind knows of an origin.

use super::record::{DeadLetter, Outcome, Write};
use std::future::Future;
use std::pin::Pin;

/// The answer of a sink, one outcome for each write, in their order.
pub type Outcomes<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;

/// Brings writes to an origin.
///
/// Writes come at least once: after a timeout, a panic or a restart, some that the origin has already come again, with the same
/// [`id`](Write::id). Two attempts of one write can even overlap, if the sink goes on with one that timed out. What makes that
/// harmless is a fence at the origin: apply a write only if its [`version`](Write::version) is above the one stored with the key.
///
/// # Examples
/// ```
/// use terrace::behind::{Operation, Outcome, Outcomes, Sink, Write};
///
/// struct Lines(parking_lot::Mutex<Vec<String>>);
///
/// impl Sink for Lines {
///     fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
///         Box::pin(async move {
///             let mut lines = self.0.lock();
///             writes.iter().map(|write| {
///                 lines.push(format!("{} {:?}", write.id, write.operation));
///                 Outcome::Stored
///             }).collect()
///         })
///     }
/// }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// Brings these writes to the origin, at most one of each key. Gives as many outcomes, in the same order.
    ///
    /// Runs in a task of its own. A panic, another number of outcomes and a call that takes longer than
    /// [`attempt_timeout`](super::LaneOptions::attempt_timeout) count as a failure of all of them; then it is dropped.
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a>;

    /// These writes were given up just now: local reads no longer see them, so copies of their values have to go.
    fn given_up(&self, letters: &[DeadLetter]) {
        let _: &[DeadLetter] = letters;
    }

    /// So many dead letters of this key were brought back: local reads see them again, so copies of other values have to go.
    fn brought_back(&self, key: &[u8], count: usize) {
        let _: (&[u8], usize) = (key, count);
    }

    /// So many dead letters of this key were dropped for good. Local reads do not see them since they were given up.
    fn dropped(&self, key: &[u8], count: usize) {
        let _: (&[u8], usize) = (key, count);
    }
}
