//! Which values were touched since somebody asked last, as a node is told that tracks.

use futures_util::StreamExt;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use terrace_core::bus::{Bus, BusEvent, BusEvents};
use terrace_core::{Key, Namespace};
use tokio::sync::Mutex;

/// A node that tracks and does nothing else.
pub struct Touches(Mutex<State>);

struct State {
    bus: Box<dyn Bus>,
    events: BusEvents,
    /// What was told as touched as a whole, as it has to be after it was joined.
    begun: HashSet<Namespace>,
    beats: u64,
}

impl Touches {
    /// What this node is told from now on.
    pub fn of(bus: impl Bus) -> Self {
        let events = bus.listen();
        Self(Mutex::new(State { bus: Box::new(bus), events, begun: HashSet::new(), beats: 0 }))
    }

    /// The keys of a namespace that were touched since this was asked last; since now, if it never was.
    ///
    /// # Panics
    /// If the server cannot be asked, or tells of a namespace that was not joined.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was told meanwhile.
    pub async fn take(&self, namespace: &Namespace) -> BTreeSet<Key> {
        let mut state = self.0.lock().await;
        let State { bus, events, begun, beats } = &mut *state;
        bus.join(namespace);
        while !begun.contains(namespace) {
            if let BusEvent::Touched { namespace, key: None } = events.next().await.expect("it never ends") {
                begun.insert(namespace);
            }
        }
        *beats += 1;
        bus.beat(*beats).await.expect("a beat is sent");
        let mut touched = BTreeSet::new();
        loop {
            match events.next().await.expect("it never ends") {
                BusEvent::Beat(number) if number == *beats => return touched,
                BusEvent::Touched { namespace: of, key: Some(key) } => {
                    assert!(begun.contains(&of), "`{of}` was not joined");
                    touched.extend((of == *namespace).then_some(key));
                }
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Touches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Touches")
    }
}
