//! Who has a connection for himself, to watch something?
//!
//! `WATCH` belongs to a connection: what is watched on one that others use would be theirs to end.
//!
//! 1. At most [`CONNECTIONS_MAX`] calls watch something at a time; others wait, within their deadline.
//! 2. A connection is used again only after a call that ended well. One that was dropped in between, or failed, is closed, and
//!    what it watched with it. The first that a call does is to end what an earlier one watched.
//! 3. A connection is used only for the primary of the moment.

use super::PlainRedis;
use super::steps::{Step, check_fit, outcome, pipelines};
use crate::call;
use crate::config::Address;
use crate::error::unexpected;
use crate::link::{Link, accept};
use crate::supervisor::in_time;
use redis::{Cmd, Pipeline, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terrace_core::RemoteError;
use terrace_core::bus::Incarnation;
use tokio::sync::Semaphore;

/// Most connections that watch something.
const CONNECTIONS_MAX: usize = 8;

/// Connections that nobody uses.
#[derive(Default)]
struct Idle(Mutex<Vec<Arc<Link>>>);

impl Idle {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One to this server that is not lost. Others than that are closed.
    fn take(&self, address: &Address) -> Option<Arc<Link>> {
        let mut idle = self.all();
        idle.retain(|link| !link.is_lost() && link.address() == address);
        idle.pop()
    }
}

/// The connections that are used by one call at a time.
pub(super) struct Exclusive {
    places: Semaphore,
    idle: Idle,
}

impl Default for Exclusive {
    fn default() -> Self {
        Self { places: Semaphore::new(CONNECTIONS_MAX), idle: Idle::default() }
    }
}

impl Exclusive {
    pub(super) fn close(&self) {
        self.places.close();
        self.idle.all().clear();
    }
}

/// What is to be done with what was read.
pub(super) enum Judged<T> {
    /// Nothing.
    Leave(T),
    /// This, if nothing has changed since.
    Change(Step, T),
}

/// What came of it.
pub(super) enum Guarded<T> {
    /// It was left as it is.
    Left(T),
    /// It was changed, with these replies.
    Changed(T, Vec<Value>),
    /// Something that was watched has changed, and nothing was done.
    Overtaken,
}

impl PlainRedis {
    /// Watches names, reads, and changes what `judge` decides unless what is watched has changed since.
    ///
    /// # Cost
    /// Two round trips; one if nothing is to be changed.
    pub(super) async fn guarded<T>(
        &self,
        on: Option<Incarnation>,
        watched: &[String],
        reads: &[Cmd],
        judge: impl FnOnce(Vec<Value>, Option<Incarnation>) -> Result<Judged<T>, RemoteError>,
    ) -> Result<Guarded<T>, RemoteError> {
        let limit = self.settings().write_timeout;
        let closed = |_| RemoteError::Unavailable { reason: "the connection was closed".to_owned() };
        let _place = self.0.exclusive.places.acquire().await.map_err(closed)?;
        let link = self.take(limit).await?;
        check_fit(&link, on)?;
        let guarded = async {
            let mut replies = accept(link.send(&watching(watched, reads)).await?)?;
            let read = replies.split_off(replies.len().saturating_sub(reads.len()));
            match judge(read, link.incarnation())? {
                Judged::Leave(left) => Ok(Guarded::Left(left)),
                Judged::Change(step, done) => {
                    let pipeline = pipelines(&[step]).pop();
                    let pipeline = pipeline.ok_or_else(|| unexpected("a step", &"none"))?;
                    let changed = outcome(link.send(&pipeline).await?)?;
                    Ok(changed.map_or(Guarded::Overtaken, |replies| Guarded::Changed(done, replies)))
                }
            }
        };
        let guarded = call::on(&link, limit, guarded).await?;
        if !self.0.exclusive.places.is_closed() {
            self.0.exclusive.idle.all().push(link);
        }
        Ok(guarded)
    }

    /// A connection that nobody else uses.
    async fn take(&self, limit: Duration) -> Result<Arc<Link>, RemoteError> {
        let map = self.0.topology.map(limit).await?;
        let shard = map.shards.first().ok_or_else(|| unexpected("a server", &"none"))?;
        let (supervisor, settings) = (&shard.supervisor, self.settings());
        if let Some(link) = self.0.exclusive.idle.take(supervisor.address()) {
            return Ok(link);
        }
        let client = supervisor.client()?;
        let opening = Link::listening(&client, supervisor.address(), settings, |_| Ok(()));
        in_time(settings, supervisor.address(), opening).await.map(Arc::new)
    }
}

fn watching(watched: &[String], reads: &[Cmd]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(reads.len() + 2);
    pipeline.cmd("UNWATCH").cmd("WATCH").arg(watched);
    for read in reads {
        pipeline.add_command(read.clone());
    }
    pipeline
}
