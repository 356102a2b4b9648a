//! When is a connection opened, trusted, given up and opened again?
//!
//! One task per connection does it, and calls never wait for it, but for the very first attempt. A connection that
//! listens has no task: whoever listens drives it, by [`Aside`], under the same rules. This module is the crate's owner
//! of spawning and waiting.
//!
//! 1. A connection is given up when the server closes it, when an exchange on it fails for good, when the server turns
//!    out to be a replica or to refuse our name, and when two heartbeats in a row go unanswered. Then calls that wait
//!    on it fail at once. A heartbeat asks for the server's role too, so a demoted primary is left within one.
//! 2. It is opened again after 10 ms, doubling to 500 ms, halved at random, for ever.
//! 3. The tasks end when the last handle is dropped or closed. If their runtime ends first, the next call starts new
//!    ones on its own.
//!
//! Deliberately absent: a judgement on the server's health beyond the connection's (the breaker's), and any retry.

use crate::config::Settings;
use crate::link::Link;
use arc_swap::ArcSwapOption;
use redis::{Client, PushInfo};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terrace_core::{Clock, RemoteError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the server is asked whether it lives and still is a primary.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long the answer may take.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(500);
/// Unanswered heartbeats in a row that make a connection lost.
const HEARTBEATS_MISSED_MAX: u32 = 2;
/// After a connection could not be replaced at the end of its lifetime, when to try again.
const REPLACE_AGAIN: Duration = Duration::from_secs(5);

/// What callers have to know of the connections besides themselves.
struct Status {
    /// First attempts that have not ended; zero as soon as one was successful.
    first_attempts: usize,
    /// Why there is no connection.
    reason: RemoteError,
    is_closed: bool,
}

/// The connections, and what they are opened with.
struct Pool {
    settings: Settings,
    client: Client,
    slots: Box<[ArcSwapOption<Link>]>,
    turn: AtomicUsize,
    status: watch::Sender<Status>,
}

impl Pool {
    /// A connection, if there is one, taking turns.
    fn current(&self) -> Option<Arc<Link>> {
        let count = self.slots.len();
        let turn = if count == 1 { 0 } else { self.turn.fetch_add(1, Ordering::Relaxed) };
        (0..count).find_map(|step| {
            let link = self.slots[turn.wrapping_add(step) % count].load_full();
            link.filter(|link| !link.is_lost())
        })
    }

    /// Puts a new connection to use. One that took too long, past the closing, is let go.
    fn up(&self, slot: usize, link: &Arc<Link>) {
        self.status.send_modify(|status| {
            if !status.is_closed {
                self.slots[slot].store(Some(Arc::clone(link)));
                status.first_attempts = 0;
            }
        });
        tracing::debug!(address = %self.settings.address, server = link.server(), "connected to L2");
    }

    fn down(&self, slot: usize, reason: &str) {
        tracing::warn!(address = %self.settings.address, reason, "lost a connection to L2");
        self.slots[slot].store(None);
        let reason = format!("{}: {reason}; reconnecting", self.settings.address);
        self.status.send_modify(|status| status.reason = RemoteError::Unavailable { reason });
    }

    fn failed(&self, error: RemoteError, is_first: bool) {
        if is_first {
            tracing::warn!(address = %self.settings.address, %error, "cannot connect to L2; trying on");
        }
        self.status.send_modify(|status| {
            if is_first {
                status.first_attempts = status.first_attempts.saturating_sub(1);
            }
            if !status.is_closed {
                status.reason = error;
            }
        });
    }

    fn close(&self) {
        self.status.send_modify(|status| {
            status.is_closed = true;
            status.first_attempts = 0;
            status.reason = RemoteError::Unavailable { reason: "the connection was closed".to_owned() };
        });
        for slot in &self.slots {
            if let Some(link) = slot.swap(None) {
                link.give_up("it was closed");
            }
        }
    }

    /// Ends when the connections were closed for good.
    async fn closed(&self) {
        self.status.subscribe().wait_for(|status| status.is_closed).await.ok();
    }

    async fn open(&self) -> Result<Arc<Link>, RemoteError> {
        self.in_time(Link::open(&self.client, &self.settings)).await
    }

    async fn in_time(
        &self,
        opening: impl Future<Output = Result<Link, RemoteError>>,
    ) -> Result<Arc<Link>, RemoteError> {
        let limit = self.settings.connect_timeout;
        let opened = tokio::time::timeout(limit, opening).await;
        let too_slow = |_| {
            let reason = format!("{}: no connection within {limit:?}", self.settings.address);
            Err(RemoteError::Unavailable { reason })
        };
        opened.unwrap_or_else(too_slow).map(Arc::new).map_err(as_unsent)
    }
}

/// Nothing that a caller asked for was sent while a connection was being opened.
fn as_unsent(error: RemoteError) -> RemoteError {
    match error {
        RemoteError::Refused { .. } | RemoteError::Unavailable { .. } => error,
        other => RemoteError::Unavailable { reason: other.to_string() },
    }
}

/// The connections and their tasks. Dropping it ends both.
pub(crate) struct Supervisor {
    pool: Arc<Pool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Supervisor {
    /// Keeps the settings. Opens nothing yet.
    pub(crate) fn new(settings: Settings, client: Client) -> Self {
        let slots = (0..settings.connections).map(|_| ArcSwapOption::empty()).collect();
        let status = Status {
            first_attempts: settings.connections,
            reason: RemoteError::Unavailable { reason: format!("{}: not connected yet", settings.address) },
            is_closed: false,
        };
        let pool =
            Pool { settings, client, slots, turn: AtomicUsize::new(0), status: watch::Sender::new(status) };
        Self { pool: Arc::new(pool), tasks: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.pool.settings
    }

    /// A connection, if there is one.
    #[inline]
    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        self.pool.current()
    }

    /// Starts the tasks if they do not run, and waits while the first attempt is under way, at most for `limit`.
    pub(crate) async fn first(&self, limit: Duration) -> Result<Arc<Link>, RemoteError> {
        self.start()?;
        let mut status = self.pool.status.subscribe();
        let limit = limit.min(self.pool.settings.connect_timeout);
        let ended = tokio::time::timeout(limit, status.wait_for(|status| status.first_attempts == 0)).await;
        match (self.pool.current(), ended) {
            (Some(link), _) => Ok(link),
            (None, Ok(_)) => Err(self.pool.status.borrow().reason.clone()),
            (None, Err(_)) => {
                let reason = format!("{}: still connecting after {limit:?}", self.pool.settings.address);
                Err(RemoteError::Unavailable { reason })
            }
        }
    }

    fn start(&self) -> Result<(), RemoteError> {
        let mut tasks = self.tasks();
        let runs = tasks.iter().any(|task| !task.is_finished());
        if runs || self.pool.status.borrow().is_closed {
            return Ok(());
        }
        let count = self.pool.slots.len();
        self.pool.status.send_modify(|status| status.first_attempts = count);
        *tasks = Vec::with_capacity(count);
        for slot in 0..count {
            tasks.push(spawn(supervise(Arc::clone(&self.pool), slot))?);
        }
        Ok(())
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a connection that listens.
    pub(crate) fn aside(&self) -> Aside {
        Aside { pool: Arc::clone(&self.pool), backoff: None, is_failing: false }
    }

    /// Ends the connections, and waits until their tasks have ended.
    pub(crate) async fn close(&self) {
        self.pool.close();
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            task.abort();
            task.await.ok();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.pool.close();
        self.tasks().iter().for_each(JoinHandle::abort);
    }
}

/// What opens and watches a connection that stands apart from those of the calls, while it is polled.
pub(crate) struct Aside {
    pool: Arc<Pool>,
    /// None before the first attempt, for which nobody has to wait.
    backoff: Option<Backoff>,
    is_failing: bool,
}

impl Aside {
    pub(crate) fn settings(&self) -> &Settings {
        &self.pool.settings
    }

    /// One attempt to open a connection that listens to these channels, after the pause that is due. It never ends once
    /// the connections were closed.
    pub(crate) async fn open(
        &mut self,
        channels: &[String],
        hear: impl Fn(PushInfo) -> Result<(), &'static str> + Send + Sync + 'static,
    ) -> Option<Arc<Link>> {
        let Self { pool, backoff, is_failing } = self;
        let attempt = async {
            match backoff {
                Some(backoff) => pause(backoff.next()).await,
                None => *backoff = Some(Backoff::default()),
            }
            let opening = async {
                let link = Link::listening(&pool.client, &pool.settings, hear).await?;
                link.subscribe(channels).await?;
                Ok(link)
            };
            pool.in_time(opening).await
        };
        let opened = tokio::select! {
            biased;
            () = pool.closed() => std::future::pending().await,
            opened = attempt => opened,
        };
        if let Err(error) = &opened
            && !*is_failing
        {
            tracing::warn!(address = %pool.settings.address, %error, "cannot listen to L2; trying on");
        }
        *is_failing = opened.is_err();
        opened.ok()
    }

    /// Watches a connection until it is lost, then gives back what opens the next.
    pub(crate) async fn watch(mut self, link: Arc<Link>) -> Self {
        let address = self.pool.settings.address.to_string();
        tokio::select! {
            biased;
            () = self.pool.closed() => link.give_up("it was closed"),
            _ = watch(&link, &address, None, self.backoff.get_or_insert_default()) => {
                let reason = link.lost().await;
                tracing::warn!(address, reason, "lost a connection that listens to L2");
            }
        }
        self
    }
}

/// Keeps one connection open, until it is aborted.
async fn supervise(pool: Arc<Pool>, slot: usize) {
    let address = pool.settings.address.to_string();
    let mut backoff = Backoff::default();
    let mut is_first = true;
    let mut serving: Option<Arc<Link>> = None;
    loop {
        let (link, max_age) = match (pool.open().await, serving.take()) {
            (Ok(link), _) => {
                pool.up(slot, &link);
                (link, pool.settings.max_lifetime)
            }
            (Err(_), Some(link)) if !link.is_lost() => (link, Some(REPLACE_AGAIN)),
            (Err(error), _) => {
                pool.failed(error, is_first);
                is_first = false;
                pause(backoff.next()).await;
                continue;
            }
        };
        is_first = false;
        match watch(&link, &address, max_age, &mut backoff).await {
            End::Aged => serving = Some(link),
            End::Lost => {
                pool.down(slot, link.lost().await);
                drop(link);
                pause(backoff.next()).await;
            }
        }
    }
}

/// Why a connection is no longer watched.
enum End {
    Lost,
    Aged,
}

/// Asks a connection again and again whether it lives.
async fn watch(link: &Link, address: &str, max_age: Option<Duration>, backoff: &mut Backoff) -> End {
    let clock = Clock::system();
    let since = clock.now();
    let mut missed = 0;
    loop {
        tokio::select! {
            biased;
            _ = link.lost() => return End::Lost,
            () = pause(HEARTBEAT) => {}
        }
        if max_age.is_some_and(|max_age| clock.now().since(since) >= max_age) {
            return End::Aged;
        }
        let is_answered = tokio::time::timeout(HEARTBEAT_TIMEOUT, link.beat(address)).await.is_ok();
        missed = if is_answered { 0 } else { missed + 1 };
        if missed >= HEARTBEATS_MISSED_MAX {
            link.give_up("heartbeats went unanswered");
        } else if is_answered {
            *backoff = Backoff::default();
        }
    }
}

/// How long to wait before the next attempt.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(500);

    fn next(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(Self::MAX);
        let chance = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        whole / 2 + (whole / 2).mul_f64(chance)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, RemoteError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|error| RemoteError::Unavailable {
        reason: format!("there is no tokio runtime: {error}"),
    })?;
    Ok(runtime.spawn(task))
}

#[expect(clippy::disallowed_methods, reason = "this module is the crate's owner of waiting")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_bound() {
        let mut backoff = Backoff::default();
        for whole in [10, 20, 40, 80, 160, 320, 500, 500] {
            let whole = Duration::from_millis(whole);
            let chosen = backoff.next();
            assert!(chosen >= whole / 2 && chosen <= whole, "{chosen:?} of {whole:?}");
        }
    }
}
