//! When is a connection opened, trusted, given up and opened again?
//!
//! One task per connection does it, and calls never wait for it, but for the very first attempt. A connection that
//! listens has no task: whoever listens drives it, by [`crate::topology::Aside`], under the same rules. This module is the
//! crate's owner of spawning and waiting.
//!
//! 1. A connection is given up when the server closes it, when an exchange on it fails for good, when the server turns
//!    out to be a replica or to refuse our name, and when two heartbeats in a row go unanswered. Then calls that wait
//!    on it fail at once. A heartbeat asks for the server's role too, so a demoted primary is left within one.
//!    A connection that is due, for its age or because it was opened with a password that does not hold any more, is let go only when
//!    another is open.
//! 2. It is opened again after 10 ms, doubling to 500 ms, halved at random, for ever.
//! 3. The tasks end when the last handle is dropped or closed. If their runtime ends first, the next call starts new
//!    ones on its own.
//!
//! Deliberately absent: a judgement on the server's health beyond the connection's (the breaker's), and any retry.

use crate::config::{Address, Settings};
use crate::link::Link;
use crate::{bounds, error, tls};
use arc_swap::ArcSwapOption;
use redis::{Client, RedisResult};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terrace_core::{Clock, Moment, RemoteError};
use tokio::sync::{Notify, watch};
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
    /// What the server's settings leave open.
    warning: Option<String>,
    is_closed: bool,
}

/// The connections to one server, and what they are opened with.
struct Pool {
    settings: Arc<Settings>,
    address: Address,
    /// Told when a connection is lost.
    doubt: Arc<Notify>,
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
        tracing::debug!(address = %self.address, server = link.server(), "connected to L2");
    }

    fn down(&self, slot: usize, reason: &str) {
        tracing::warn!(address = %self.address, reason, "lost a connection to L2");
        self.slots[slot].store(None);
        let reason = format!("{}: {reason}; reconnecting", self.address);
        self.status.send_modify(|status| status.reason = RemoteError::Unavailable { reason });
        self.doubt.notify_one();
    }

    fn failed(&self, error: RemoteError, is_first: bool) {
        if is_first {
            tracing::warn!(address = %self.address, %error, "cannot connect to L2; trying on");
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

    /// What a connection is opened with now.
    fn client(&self) -> Result<Client, RemoteError> {
        let client = tls::client(&self.settings, &self.address);
        client.map_err(|error| error::of_opening(&self.address, &error, self.settings.mode))
    }

    async fn open(&self) -> Result<Arc<Link>, RemoteError> {
        let client = self.client()?;
        let opening = Link::open(&client, &self.address, &self.settings);
        in_time(&self.settings, &self.address, opening).await.map(Arc::new)
    }

    /// Looks at what the server's settings leave open.
    async fn examine(&self, link: &Link) {
        let examined = bounds::examine(link, &self.settings.servers);
        let Ok(warning) = tokio::time::timeout(HEARTBEAT_TIMEOUT, examined).await else { return };
        self.status.send_if_modified(|status| {
            let is_new = status.warning != warning;
            if let Some(warning) = warning.as_ref().filter(|_| is_new) {
                tracing::warn!(address = %self.address, warning, "L2 gives no bound on a split brain");
            }
            status.warning = warning;
            is_new
        });
    }
}

/// Bounds the time that opening may take.
pub(crate) async fn in_time<T>(
    settings: &Settings,
    what: &impl fmt::Display,
    opening: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let limit = settings.connect_timeout;
    let opened = tokio::time::timeout(limit, opening).await;
    let too_slow = |_| {
        let reason = format!("{what}: no connection within {limit:?}");
        Err(RemoteError::Unavailable { reason })
    };
    opened.unwrap_or_else(too_slow).map_err(as_unsent)
}

/// Nothing that a caller asked for was sent while a connection was being opened.
fn as_unsent(error: RemoteError) -> RemoteError {
    match error {
        RemoteError::Refused { .. } | RemoteError::Unavailable { .. } => error,
        other => RemoteError::Unavailable { reason: other.to_string() },
    }
}

/// Tasks that run on the runtime of whoever needed them first. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<Vec<JoinHandle<()>>>);

impl Tasks {
    fn all(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts them, if they do not run.
    pub(crate) fn start<T>(&self, make: impl FnOnce() -> Vec<T>) -> Result<(), RemoteError>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut all = self.all();
        if all.iter().any(|task| !task.is_finished()) {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| RemoteError::Unavailable {
            reason: format!("there is no tokio runtime: {error}"),
        })?;
        *all = make().into_iter().map(|task| runtime.spawn(task)).collect();
        Ok(())
    }

    pub(crate) fn abort(&self) {
        self.all().iter().for_each(JoinHandle::abort);
    }

    /// Waits until all have ended that were aborted.
    pub(crate) async fn ended(&self) {
        let all = std::mem::take(&mut *self.all());
        for task in all {
            task.abort();
            task.await.ok();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}

/// The connections to one server, and their tasks. Dropping it ends both.
pub(crate) struct Supervisor {
    pool: Arc<Pool>,
    tasks: Tasks,
}

impl Supervisor {
    /// Keeps the settings. Opens nothing yet.
    pub(crate) fn new(settings: &Arc<Settings>, address: &Address, doubt: &Arc<Notify>) -> RedisResult<Self> {
        // Settings that cannot be are told at once.
        tls::client(settings, address)?;
        let status = Status {
            first_attempts: settings.connections,
            reason: RemoteError::Unavailable { reason: format!("{address}: not connected yet") },
            warning: None,
            is_closed: false,
        };
        let pool = Pool {
            settings: Arc::clone(settings),
            address: address.clone(),
            doubt: Arc::clone(doubt),
            slots: (0..settings.connections).map(|_| ArcSwapOption::empty()).collect(),
            turn: AtomicUsize::new(0),
            status: watch::Sender::new(status),
        };
        Ok(Self { pool: Arc::new(pool), tasks: Tasks::default() })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.pool.address
    }

    /// What a connection is opened with now.
    pub(crate) fn client(&self) -> Result<Client, RemoteError> {
        self.pool.client()
    }

    /// What the server's settings leave open, as far as is known.
    pub(crate) fn warning(&self) -> Option<String> {
        self.pool.status.borrow().warning.clone()
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
        let ending = status.wait_for(|status| status.first_attempts == 0);
        // What was seen is let go at once: it is a lock, which is taken once more below, and between the two nobody could write.
        let has_ended = tokio::time::timeout(limit, ending).await.is_ok();
        match (self.pool.current(), has_ended) {
            (Some(link), _) => Ok(link),
            (None, true) => Err(self.pool.status.borrow().reason.clone()),
            (None, false) => {
                let reason = format!("{}: still connecting after {limit:?}", self.pool.address);
                Err(RemoteError::Unavailable { reason })
            }
        }
    }

    /// Starts the tasks if they do not run.
    pub(crate) fn start(&self) -> Result<(), RemoteError> {
        if self.pool.status.borrow().is_closed {
            return Ok(());
        }
        self.tasks.start(|| {
            let count = self.pool.slots.len();
            self.pool.status.send_modify(|status| status.first_attempts = count);
            (0..count).map(|slot| supervise(Arc::clone(&self.pool), slot)).collect()
        })
    }

    /// Ends the connections.
    pub(crate) fn abort(&self) {
        self.pool.close();
        self.tasks.abort();
    }

    /// Ends the connections, and waits until their tasks have ended.
    pub(crate) async fn close(&self) {
        self.abort();
        self.tasks.ended().await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Keeps one connection open, until it is aborted.
async fn supervise(pool: Arc<Pool>, slot: usize) {
    let mut backoff = Backoff::default();
    let mut is_first = true;
    let mut serving: Option<Arc<Link>> = None;
    loop {
        let password = pool.settings.login.password.seen();
        let (link, max_age) = match (pool.open().await, serving.take()) {
            (Ok(link), _) => {
                pool.up(slot, &link);
                if slot == 0 {
                    pool.examine(&link).await;
                }
                (link, pool.settings.max_lifetime)
            }
            (Err(error), Some(link)) if !link.is_lost() => {
                tracing::warn!(address = %pool.address, %error, "cannot replace a connection to L2, which stays in use; trying on");
                (link, Some(REPLACE_AGAIN))
            }
            (Err(error), _) => {
                pool.failed(error, is_first);
                is_first = false;
                pause(backoff.next()).await;
                continue;
            }
        };
        is_first = false;
        let is_due = |age| max_age.is_some_and(|max_age| age >= max_age) || password.is_outdated();
        match watch(&link, is_due).await {
            End::Aged => (serving, backoff) = (Some(link), Backoff::default()),
            End::Lost { was_well } => {
                if was_well {
                    backoff = Backoff::default();
                }
                pool.down(slot, link.lost().await);
                drop(link);
                pause(backoff.next()).await;
            }
        }
    }
}

/// Why a connection is no longer watched.
pub(crate) enum End {
    /// It is lost.
    Lost {
        /// Whether a heartbeat was answered on it.
        was_well: bool,
    },
    Aged,
}

/// Asks a connection again and again whether it lives, until its age is what `is_due` to be replaced.
pub(crate) async fn watch(link: &Link, is_due: impl Fn(Duration) -> bool) -> End {
    let clock = Clock::system();
    let since = clock.now();
    let (mut missed, mut was_well) = (0, false);
    loop {
        tokio::select! {
            biased;
            _ = link.lost() => return End::Lost { was_well },
            () = pause(HEARTBEAT) => {}
        }
        if is_due(clock.now().since(since)) {
            return End::Aged;
        }
        let is_answered = tokio::time::timeout(HEARTBEAT_TIMEOUT, link.beat()).await.is_ok();
        missed = if is_answered { 0 } else { missed + 1 };
        was_well |= is_answered;
        if missed >= HEARTBEATS_MISSED_MAX {
            link.give_up("heartbeats went unanswered");
        }
    }
}

/// How long to wait before the next attempt.
pub(crate) struct Backoff {
    whole: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(500);

    pub(crate) fn up_to(max: Duration) -> Self {
        Self { whole: Self::FIRST.min(max), max }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.whole;
        self.whole = (whole * 2).min(self.max);
        let chance = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        whole / 2 + (whole / 2).mul_f64(chance)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Self::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the crate's owner of waiting")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits for a moment.
pub(crate) async fn until(moment: Moment) {
    let clock = Clock::system();
    loop {
        match moment.since(clock.precise()) {
            Duration::ZERO => return,
            left => pause(left).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn who_asks_for_a_connection_keeps_nobody_from_saying_why_there_is_none() {
        let settings = Arc::new(crate::Redis::address("127.0.0.1:1").check().expect("valid settings"));
        let address = Address { host: "127.0.0.1".to_owned(), port: 1 };
        let supervisor = Supervisor::new(&settings, &address, &Arc::default()).expect("valid settings");
        let (pool, is_over) = (Arc::clone(&supervisor.pool), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&is_over);
        let telling = std::thread::spawn(move || {
            let refused = || RemoteError::Unavailable { reason: "nobody listens there".to_owned() };
            while !until.load(Ordering::Relaxed) {
                pool.failed(refused(), false);
            }
        });
        let (asked, was_asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for _ in 0..5_000 {
                    assert!(supervisor.first(Duration::from_secs(1)).await.is_err(), "nobody listens there");
                }
            });
            asked.send(()).ok();
        });
        let answered = was_asked.recv_timeout(Duration::from_secs(30));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answered, Ok(()), "each waits for the other");
        telling.join().expect("it does not panic");
    }

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
