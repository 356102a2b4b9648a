//! Which connections does a listener need?
//!
//! 1. One to each primary on the map, all or none.
//! 2. They end together: when one is lost, and when the map is replaced. What was published on a slot that moved may have
//!    been missed, and the others cannot tell.
//! 3. That a server does not let us track is known as long as it does not.

use super::{Map, State};
use crate::commands::Commands;
use crate::incarnation;
use crate::link::Link;
use crate::supervisor::{Backoff, End, in_time, pause, watch};
use futures_util::future::{FutureExt, select_all, try_join_all};
use redis::PushInfo;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::bus::Incarnation;
use terrace_core::{Namespace, Partition, RemoteError};

/// What a listener has to know of one server.
pub(crate) struct Part<'a> {
    pub(crate) link: &'a Link,
    pub(crate) incarnation: Incarnation,
    /// Those of a namespace that the server has.
    pub(crate) partitions: Vec<Partition>,
}

/// Open connections to all primaries of a map.
pub(crate) struct Listening {
    state: Arc<State>,
    map: Arc<Map>,
    /// In the order of the map's shards.
    links: Vec<Arc<Link>>,
    incarnations: Vec<Incarnation>,
    /// The channel of each on which this node's beats come back.
    pub(crate) beats: Vec<String>,
}

impl Listening {
    /// Whether touched values are told of, too.
    pub(crate) fn is_tracking(&self) -> bool {
        self.state.settings.tracking
    }

    /// Notes whether that could be begun.
    pub(crate) fn note_tracking(&self, error: Option<&RemoteError>) {
        match error {
            None => self.state.untracked.store(None),
            Some(RemoteError::Refused { reason }) => {
                self.state.untracked.store(Some(Arc::new(reason.clone())));
            }
            // It says nothing about what the server would have said.
            Some(_) => {}
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.links.iter().any(|link| link.is_lost())
    }

    pub(crate) fn give_up(&self, reason: &str) {
        self.links.iter().for_each(|link| link.give_up(reason));
    }

    /// The connection to the primary of this number.
    pub(crate) fn link(&self, primary: usize) -> Option<&Link> {
        self.links.get(primary).map(Arc::as_ref)
    }

    /// The connections, each with the partitions of a namespace that its server has.
    pub(crate) fn parts(
        &self,
        commands: &Commands,
        namespace: &Namespace,
    ) -> Result<Vec<Part<'_>>, RemoteError> {
        let each = self.links.iter().zip(&self.incarnations);
        let mut parts: Vec<_> =
            each.map(|(link, &incarnation)| Part { link, incarnation, partitions: Vec::new() }).collect();
        for partition in commands.names.partitions() {
            let index = self.map.of_name(&commands.names.channel(namespace, partition)).ok_or_else(|| {
                let reason = format!("partition {} of `{namespace}` has no primary", partition.0);
                RemoteError::Unavailable { reason }
            })?;
            parts[index].partitions.push(partition);
        }
        Ok(parts)
    }
}

/// What opens and watches connections that stand apart from those of the calls, while it is polled.
pub(crate) struct Aside {
    state: Arc<State>,
    /// None before the first attempt, for which nobody has to wait.
    backoff: Option<Backoff>,
    is_failing: bool,
}

impl Aside {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, backoff: None, is_failing: false }
    }

    /// How long opening and joining may take.
    pub(crate) fn limit(&self) -> Duration {
        self.state.settings.connect_timeout
    }

    /// One attempt to open connections that listen to this node's beats, after the pause that is due. It never ends once
    /// everything was closed.
    pub(crate) async fn open(
        &mut self,
        commands: &Commands,
        hear: impl Fn(PushInfo) -> Result<(), &'static str> + Clone + Send + Sync + 'static,
    ) -> Option<Arc<Listening>> {
        let Self { state, backoff, is_failing } = self;
        let attempt = async {
            match backoff {
                Some(backoff) => pause(backoff.next()).await,
                None => *backoff = Some(Backoff::default()),
            }
            in_time(&state.settings, &"a listener", open(state, commands, hear)).await
        };
        let opened = tokio::select! {
            biased;
            () = state.closed() => std::future::pending().await,
            opened = attempt => opened,
        };
        if let Err(error) = &opened {
            state.doubt.notify_one();
            if !*is_failing {
                tracing::warn!(%error, "cannot listen to L2; trying on");
            }
        }
        *is_failing = opened.is_err();
        opened.ok().map(Arc::new)
    }

    /// Watches connections until one is lost, gives the others up, then gives back what opens the next.
    pub(crate) async fn watch(mut self, listening: Arc<Listening>) -> Self {
        let watched = listening.links.iter().map(|link| watch(link, |_| false).boxed());
        let generation = listening.map.generation;
        tokio::select! {
            biased;
            () = self.state.closed() => listening.give_up("it was closed"),
            () = self.state.replaced(generation) => {
                tracing::info!("what listens to L2 starts over: it is served by others now");
                listening.give_up("the map was replaced");
            }
            (end, index, _) = select_all(watched) => {
                if let End::Lost { was_well: true } = end {
                    self.backoff = Some(Backoff::default());
                }
                let link = &listening.links[index];
                let reason = link.lost().await;
                tracing::warn!(address = %link.address(), reason, "lost a connection that listens to L2");
                listening.give_up("another connection was lost");
                self.state.doubt.notify_one();
            }
        }
        self
    }
}

async fn open(
    state: &Arc<State>,
    commands: &Commands,
    hear: impl Fn(PushInfo) -> Result<(), &'static str> + Clone + Send + Sync + 'static,
) -> Result<Listening, RemoteError> {
    let map = state.map(state.settings.connect_timeout).await?;
    let beats: Vec<_> =
        map.shards.iter().map(|shard| commands.names.beat(shard.tag, &commands.origin)).collect();
    let opened = map.shards.iter().zip(&beats).map(async |(shard, beats)| {
        let (supervisor, client) = (&shard.supervisor, shard.supervisor.client()?);
        let link = Link::listening(&client, supervisor.address(), &state.settings, hear.clone()).await?;
        link.subscribe(std::slice::from_ref(beats)).await?;
        Ok::<_, RemoteError>(Arc::new(link))
    });
    let links = try_join_all(opened).await?;
    let incarnations =
        links.iter().map(|link| link.incarnation().unwrap_or_else(incarnation::unknown)).collect();
    Ok(Listening { state: Arc::clone(state), map, links, incarnations, beats })
}
