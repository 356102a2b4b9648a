//! Which connection serves this name?
//!
//! One server, the primary that sentinels know and the primaries of a Cluster are one thing here: a [`Map`] of shards, each
//! with its own connections under the supervisor's rules. They differ in who draws the map: nobody, as there is but one;
//! sentinels; or the Cluster's members.
//!
//! | module | decides |
//! |---|---|
//! | `map` | which primary has what, at one time |
//! | `slots` | which slot a name belongs to |
//! | `fit` | which lives of its servers a call is for |
//! | `discovery` | who is asked for the map, and when |
//! | `routing` | how a call of several slots is cut, and what a redirection is worth |
//! | `listening` | which connections a listener needs |
//!
//! 1. A map never changes; it is replaced. Shards that are on both keep their connections.
//! 2. A call works by the map of its moment. It waits for one only while the very first is asked for.
//! 3. Whoever listens by a map learns when it is replaced.

mod discovery;
mod fit;
mod listening;
mod map;
mod routing;
mod slots;

pub(crate) use fit::Fit;
pub(crate) use listening::{Aside, Listening};
pub(crate) use map::{Map, Shard};

use crate::call;
use crate::config::{Address, ConfigError, List, Servers, Settings};
use crate::error;
use crate::link::{self, Link};
use crate::sending::{Sending, batches, one};
use crate::supervisor::{Supervisor, Tasks, until};
use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use slots::{Owners, SLOTS};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terrace_core::{Clock, RemoteError};
use tokio::sync::{Notify, watch};

/// What everybody has to know of the map besides itself.
struct Status {
    /// That of the map.
    generation: u64,
    /// Whether the map was asked for, with whatever outcome.
    is_asked: bool,
    /// Why there is none.
    reason: RemoteError,
    is_closed: bool,
}

/// What calls, listeners and those who draw the map share.
struct State {
    settings: Arc<Settings>,
    map: ArcSwap<Map>,
    /// Servers to which the Cluster has sent us, and that own no slots on the map.
    guests: Mutex<HashMap<Address, Arc<Supervisor>>>,
    status: watch::Sender<Status>,
    /// Told when there is reason to doubt the map.
    doubt: Arc<Notify>,
    /// Why touched values cannot be told of, though they are to be.
    untracked: ArcSwapOption<String>,
    tasks: Tasks,
}

impl State {
    fn new(settings: Settings) -> Self {
        let reason = RemoteError::Unavailable { reason: "L2 was not looked for yet".to_owned() };
        Self {
            settings: Arc::new(settings),
            map: ArcSwap::from_pointee(Map::empty()),
            guests: Mutex::default(),
            status: watch::Sender::new(Status { generation: 0, is_asked: false, reason, is_closed: false }),
            doubt: Arc::default(),
            untracked: ArcSwapOption::empty(),
            tasks: Tasks::default(),
        }
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<Address, Arc<Supervisor>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections to a server that somebody has named.
    fn connections(&self, address: &Address) -> Result<Arc<Supervisor>, RemoteError> {
        if let Some(supervisor) = self.map.load().supervisor(address) {
            return Ok(Arc::clone(supervisor));
        }
        let mut guests = self.guests();
        if let Some(supervisor) = guests.get(address) {
            return Ok(Arc::clone(supervisor));
        }
        let made = Supervisor::new(&self.settings, address, &self.doubt);
        let made = Arc::new(made.map_err(|error| error::of_opening(address, &error, self.settings.mode))?);
        guests.insert(address.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// Puts a map of these owners to use, if it is not the one that is.
    fn adopt(&self, found: &Owners) -> Result<(), RemoteError> {
        let old = self.map.load_full();
        let generation = old.generation + 1;
        let connections = |address: &Address| self.connections(address);
        let new = Map::draw(found, self.settings.servers.is_cluster(), generation, connections)?;
        if !new.is_same(&old) {
            if !matches!(self.settings.servers, Servers::One(_)) {
                tracing::info!(primaries = %List(&new.addresses()), "these are the primaries of L2");
            }
            self.map.store(Arc::new(new));
        }
        self.guests().clear();
        let generation = self.map.load().generation;
        self.status.send_modify(|status| (status.generation, status.is_asked) = (generation, true));
        Ok(())
    }

    fn failed(&self, error: RemoteError) {
        self.status.send_modify(|status| {
            if !status.is_asked {
                tracing::warn!(%error, "cannot find out who serves L2; trying on");
            }
            status.is_asked = true;
            if !status.is_closed {
                status.reason = error;
            }
        });
    }

    /// Begins to ask for the map, if anybody has to be asked and nobody does it yet.
    fn start(self: &Arc<Self>) -> Result<(), RemoteError> {
        if matches!(self.settings.servers, Servers::One(_)) || self.status.borrow().is_closed {
            return Ok(());
        }
        self.tasks.start(|| {
            self.status.send_modify(|status| status.is_asked = false);
            vec![discovery::discover(Arc::clone(self))]
        })
    }

    /// The map; waits while it is asked for the first time, at most for `limit`.
    async fn map(self: &Arc<Self>, limit: Duration) -> Result<Arc<Map>, RemoteError> {
        self.start()?;
        if let Some(map) = self.current() {
            return Ok(map);
        }
        let mut status = self.status.subscribe();
        let limit = limit.min(self.settings.connect_timeout);
        tokio::time::timeout(limit, status.wait_for(|status| status.is_asked)).await.ok();
        self.current().ok_or_else(|| self.status.borrow().reason.clone())
    }

    /// The map, if there is one.
    fn current(&self) -> Option<Arc<Map>> {
        Some(self.map.load_full()).filter(|map| !map.shards.is_empty())
    }

    fn supervisors(&self) -> Vec<Arc<Supervisor>> {
        let map = self.map.load();
        let mut all: Vec<_> = map.shards.iter().map(|shard| Arc::clone(&shard.supervisor)).collect();
        all.extend(self.guests().values().cloned());
        all
    }

    fn close(&self) {
        let reason = "the connection was closed".to_owned();
        self.status.send_modify(|status| {
            (status.is_closed, status.is_asked) = (true, true);
            status.reason = RemoteError::Unavailable { reason };
        });
        self.tasks.abort();
        self.supervisors().iter().for_each(|supervisor| supervisor.abort());
    }

    /// Ends when the map is another one than that of so many before it.
    async fn replaced(&self, generation: u64) {
        self.status.subscribe().wait_for(|status| status.generation != generation).await.ok();
    }

    /// Ends when everything was closed for good.
    async fn closed(&self) {
        self.status.subscribe().wait_for(|status| status.is_closed).await.ok();
    }
}

/// The servers, and what leads to them. Dropping it ends all connections.
pub(crate) struct Topology(Arc<State>);

impl Topology {
    /// Keeps the settings. Opens nothing yet.
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let first = match &settings.servers {
            Servers::One(address) => address.clone(),
            Servers::Sentinel { sentinels: all, .. } | Servers::Cluster(all) => all[0].clone(),
        };
        let is_one = matches!(settings.servers, Servers::One(_));
        let made = Supervisor::new(&Arc::new(settings.clone()), &first, &Arc::default());
        made.map_err(|error| ConfigError::of_client(settings.login.tls, &error))?;
        let state = State::new(settings);
        if is_one {
            state.adopt(&vec![(0..=SLOTS - 1, first)]).expect("it was made before");
        }
        Ok(Self(Arc::new(state)))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What else is to be known by whoever asks how it is.
    pub(crate) fn warning(&self) -> Option<String> {
        self.0.untracked.load().as_deref().cloned()
    }

    /// All shards.
    pub(crate) async fn map(&self, limit: Duration) -> Result<Arc<Map>, RemoteError> {
        self.0.map(limit).await
    }

    /// The index of the shard that has a name by the map of now; zero where there is none.
    pub(crate) fn shard_of(&self, name: &str) -> usize {
        match self.settings().servers {
            Servers::Cluster(_) => self.0.map.load().of_name(name).unwrap_or_default(),
            Servers::One(_) | Servers::Sentinel { .. } => 0,
        }
    }

    /// Sends commands to whoever has what they name, and returns their replies in order. None of them is an error.
    pub(crate) async fn exchange(
        &self,
        commands: Vec<Cmd>,
        sending: Sending,
        limit: Duration,
    ) -> Result<Vec<Value>, RemoteError> {
        self.exchange_on(&Fit::Any, commands, sending, limit).await
    }

    /// [`Topology::exchange`] with servers that fit.
    pub(crate) async fn exchange_on(
        &self,
        fit: &Fit,
        commands: Vec<Cmd>,
        sending: Sending,
        limit: Duration,
    ) -> Result<Vec<Value>, RemoteError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let replies = if self.settings().servers.is_cluster() {
            let routed = routing::exchange(&self.0, fit, commands, sending, limit);
            let ended = tokio::time::timeout(limit, routed).await;
            ended.unwrap_or(Err(RemoteError::Timeout { after: limit }))
        } else {
            self.exchange_with_only(fit, commands, sending, limit).await
        };
        match (sending, &replies) {
            (Sending::Sets { by }, Err(error)) if !error.is_unsent() => until(by).await,
            _ => {}
        }
        link::accept(replies?)
    }

    /// [`Topology::exchange_on`] where there is one shard, with errors of the server among the replies.
    async fn exchange_with_only(
        &self,
        fit: &Fit,
        commands: Vec<Cmd>,
        sending: Sending,
        limit: Duration,
    ) -> Result<Vec<Value>, RemoteError> {
        let (link, limit) = self.only(limit).await?;
        fit.check(&link, 0..SLOTS)?;
        let batches = batches(link.dated(commands, sending)?, sending);
        call::on(&link, limit, link.exchange(&batches, sending)).await
    }

    /// A connection to the only shard that there is, and what is left of `limit`.
    pub(crate) async fn only(&self, limit: Duration) -> Result<(Arc<Link>, Duration), RemoteError> {
        let current = self.0.map.load().shards.first().and_then(|shard| shard.supervisor.current());
        if let Some(link) = current {
            return Ok((link, limit));
        }
        let clock = Clock::system();
        let since = clock.precise();
        let map = self.map(limit).await?;
        let left = limit.saturating_sub(clock.precise().since(since));
        let shard = map.shards.first().ok_or_else(|| self.0.status.borrow().reason.clone())?;
        call::connection(&shard.supervisor, left).await
    }

    /// Fails if anything has moved since the map was drawn, or is being moved: each primary is asked what it has.
    pub(crate) async fn check_settled(&self, map: &Map, limit: Duration) -> Result<(), RemoteError> {
        let is_all = async |(index, shard): (usize, &Shard)| {
            let (link, limit) = call::connection(&shard.supervisor, limit).await?;
            let mut command = redis::cmd("CLUSTER");
            command.arg("NODES");
            let answer = call::on(&link, limit, link.ask(&one(command))).await?;
            let own = answer.first().and_then(slots::own);
            Ok::<_, RemoteError>(own.is_some_and(|own| map.is_all_of(index, &own)))
        };
        let mut is_settled = self.0.map.load().generation == map.generation;
        if self.settings().servers.is_cluster() {
            let asked = try_join_all(map.shards.iter().enumerate().map(is_all)).await?;
            is_settled &= asked.into_iter().all(|is_all| is_all);
        }
        if is_settled {
            return Ok(());
        }
        self.0.doubt.notify_one();
        Err(RemoteError::Broken { reason: "slots have moved meanwhile".to_owned() })
    }

    /// For connections that listen.
    pub(crate) fn aside(&self) -> Aside {
        Aside::new(Arc::clone(&self.0))
    }

    /// Ends the connections, and waits until their tasks have ended.
    pub(crate) async fn close(&self) {
        self.0.close();
        self.0.tasks.ended().await;
        for supervisor in self.0.supervisors() {
            supervisor.close().await;
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.0.close();
    }
}
