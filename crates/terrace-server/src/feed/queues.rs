//! Tells readers how what is written behind stands.
//!
//! 1. A keyspace is looked at every [`INTERVAL`], by one task for all, and told of if something waits or died that did not before, or does not
//!    any more. How old the oldest write is changes all the time, and is no reason.
//! 2. What became of one write is an event of its keyspace, and comes with those.

use super::{Feed, Told};
use crate::keyspaces::DocumentKeyspace;
use crate::runtime;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use terrace::Clock;
use terrace::behind::{Lane, LaneFigures};

/// How often a keyspace is told of at most.
const INTERVAL: Duration = Duration::from_secs(1);

impl Feed {
    /// Tells of those of the keyspaces that are written behind, until the service stops.
    pub(super) fn survey(self: &Arc<Self>, keyspaces: &[DocumentKeyspace], clock: &Clock) {
        let queues = keyspaces.iter().filter_map(|keyspace| {
            let lane = keyspace.behind()?.clone();
            Some(Queue { keyspace: keyspace.name().to_owned(), counts: Counts::of(&lane.figures()), lane })
        });
        let mut queues: Vec<Queue> = queues.collect();
        if queues.is_empty() {
            return;
        }
        let (feed, tasks, clock) = (Arc::clone(self), self.tasks.clone(), clock.clone());
        self.tasks.spawn(async move {
            while runtime::within(INTERVAL, tasks.stopped()).await.is_none() {
                for told in queues.iter_mut().filter_map(|queue| queue.look(&clock)) {
                    feed.tell(told);
                }
            }
        });
    }
}

/// A keyspace that is written behind, and how it stood when it was looked at last.
struct Queue {
    keyspace: String,
    lane: Lane,
    counts: Counts,
}

/// What is a reason to tell of a keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    pending: u64,
    parked: u64,
    dead: u64,
}

impl Counts {
    fn of(figures: &LaneFigures) -> Self {
        Self { pending: figures.pending, parked: figures.parked_keys, dead: figures.dead_letters }
    }
}

impl Queue {
    fn look(&mut self, clock: &Clock) -> Option<Told> {
        let figures = self.lane.figures();
        let counts = Counts::of(&figures);
        if std::mem::replace(&mut self.counts, counts) == counts {
            return None;
        }
        let data = json!({
            "keyspace": self.keyspace,
            "state": "standing",
            "pending": counts.pending,
            "parked": counts.parked,
            "dead": counts.dead,
            "oldest_seconds": figures.oldest_seconds,
            "at": humantime::format_rfc3339_millis(clock.wall()).to_string(),
        });
        Some(Told::Service { name: super::QUEUE, data: data.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use terrace::behind::{Journal, JournalOptions, LaneOptions, Operation, Outcome, Outcomes, Sink, Write};

    /// Takes whatever comes.
    struct Anything;

    impl Sink for Anything {
        fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
            Box::pin(async move { vec![Outcome::Stored; writes.len()] })
        }
    }

    #[tokio::test]
    async fn a_keyspace_is_told_of_if_it_stands_otherwise_than_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal =
            Journal::open(folder.path().join("journal"), JournalOptions::default()).expect("a journal");
        let lane = journal.lane("docs", LaneOptions::default(), Arc::new(Anything)).expect("a lane");
        let counts = Counts::of(&lane.figures());
        let (mut queue, clock) = (Queue { keyspace: "docs".to_owned(), lane, counts }, Clock::manual());
        assert!(queue.look(&clock).is_none(), "nothing was written");
        let value = Operation::Store(Bytes::from_static(b"1"));
        queue.lane.write("k".into(), value, None, Duration::from_secs(20)).await.expect("it is taken");
        let Some(Told::Service { name: "queue", data }) = queue.look(&clock) else { panic!("one waits") };
        assert!(data.contains("\"pending\":1") && !data.contains("\"k\""), "{data}");
        assert!(queue.look(&clock).is_none(), "it is as it was, but older");
        assert_eq!(queue.lane.flush().await.left(), 0);
        assert!(queue.look(&clock).is_some(), "none waits");
    }
}
