//! The listeners, and how they end.
//!
//! 1. Connections are limited in number, for each listener; more wait in the system's queue.
//! 2. Stopping: `/readyz` says 503, and for the drain period nothing else changes; then no new connections, and requests
//!    under way have the grace period; then the cache brings what is written
//!    behind to the origins, and tells L2 what it still has to say. What an origin does not take stays in the journal. The last traces are
//!    sent after that, which takes 2 s at most.
//! 3. The listener for what concerns the service has places and limits of its own, so that it answers while the other is
//!    overloaded.

use crate::api::access::Side;
use crate::api::gate::Gate;
use crate::api::{App, Life, Limits, metrics};
use crate::audit::Refusals;
use crate::auth::Auth;
use crate::config::{AuthMode, Config, ServerConfig};
use crate::connection::{self, Service};
use crate::feed::Feed;
use crate::history;
use crate::keyspaces::{Keyspaces, Opened};
use crate::origin::{Origins, SetupError};
use crate::reload::{InForce, Reloader, Reloads};
use crate::runtime::{self, Tasks};
use crate::security::Security;
use crate::tiers::{self, Tiers};
use crate::tls::{Tls, TlsError};
use crate::traces::Traces;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace::behind::{Journal, OpenError};
use terrace::{Cache, Clock, KeyspaceError, ShutdownError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, Semaphore};

/// Connections of the listener for what concerns the service.
const ADMIN_CONNECTIONS_MAX: usize = 1_000;
/// Connections that wait in the system's queue, unless the system allows fewer. What comes beyond is dropped there, and a client hears nothing
/// of it for seconds.
const WAITING_MAX: u32 = 4096;
/// How long the listener rests when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// A setting of the cache cannot be.
    #[error(transparent)]
    Cache(#[from] terrace::ConfigError),
    /// A setting of L2 cannot be.
    #[error(transparent)]
    L2(#[from] terrace::RedisError),
    /// A keyspace cannot be opened.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// An origin cannot be set up.
    #[error(transparent)]
    Origin(#[from] SetupError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How the service stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Goes on serving for the drain period first, so that load balancers notice.
    Drain,
    /// Without the drain period. Requests under way still have the grace period.
    Now,
}

impl From<()> for Stop {
    fn from((): ()) -> Self {
        Self::Drain
    }
}

/// How the service ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Connections that were cut because the grace period was over.
    pub connections_cut: usize,
    /// What the cache could not finish.
    pub cache: Result<(), ShutdownError>,
}

impl Ended {
    /// Whether nothing was cut short. Writes that stay in the journal for the next start were not.
    pub fn is_clean(&self) -> bool {
        let is_done =
            |error: &ShutdownError| error.loads == 0 && error.invalidations == 0 && error.writes > 0;
        self.connections_cut == 0 && self.cache.as_ref().err().is_none_or(is_done)
    }
}

/// The service, listening.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::config::{Config, Sources};
/// use terrace_server::{Server, Stop};
///
/// let config = Config::load(&Sources::text("server.listen = '127.0.0.1:0'"))?;
/// let server = Server::bind(&config).await?;
/// println!("listening on http://{}", server.local_addr());
/// let ended = server.run(async { Stop::Now }).await;
/// assert!(ended.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Server {
    door: Door,
    admin: Option<Door>,
    config: ServerConfig,
    metrics_interval: Option<Duration>,
    app: Arc<App>,
    security: Security,
    reloader: Reloader,
    tasks: Tasks,
}

/// A listener, and what comes in by it is served with.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
    service: Arc<Service>,
}

impl Door {
    async fn open(listen: &str, places: usize, service: Service) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address: listen.to_owned(), error };
        let listener = self::listen(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, places: Arc::new(Semaphore::new(places)), service: Arc::new(service) })
    }

    /// Accepts connections for ever.
    async fn accept(&self) -> Infallible {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let serving = connection::serve(stream, Arc::clone(&self.service));
                    self.service.tasks.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    runtime::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Server {
    /// Sets up tiers, origins and keyspaces, and listens. Neither L2 nor an origin has to be up.
    ///
    /// # Errors
    /// [`StartError`] if the address is taken, the journal cannot be opened, or a setting cannot be that [`Config::load`] could
    /// not judge.
    ///
    /// # Cost
    /// Blocks while it reads the journal's file, if there is one.
    ///
    /// # Cancel safety
    /// Safe: what was set up is dropped.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        Self::bind_with(config, None).await
    }

    /// As [`Server::bind`], with traces of its requests, which are sent to the end when the service ends.
    ///
    /// # Errors
    /// As [`Server::bind`].
    ///
    /// # Cancel safety
    /// As [`Server::bind`].
    #[cfg(feature = "otlp")]
    pub async fn bind_traced(config: &Config, traces: Option<Traces>) -> Result<Self, StartError> {
        Self::bind_with(config, traces).await
    }

    async fn bind_with(config: &Config, traces: Option<Traces>) -> Result<Self, StartError> {
        let tls = config.server.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let in_force = app(config, traces)?;
        let app = Arc::clone(&in_force.app);
        let tasks = app.tasks.clone();
        let service = |side| Service {
            gate: Arc::new(Gate::new(Arc::clone(&app), side)),
            tls: tls.clone(),
            tasks: tasks.clone(),
            patience: config.server.header_timeout.0,
        };
        let (side, admin) = match &config.server.admin_listen {
            None => (Side::Whole, None),
            Some(listen) => {
                (Side::Public, Some(Door::open(listen, ADMIN_CONNECTIONS_MAX, service(Side::Whole)).await?))
            }
        };
        let places = clamp(config.server.max_connections);
        let door = Door::open(&config.server.listen, places, service(side)).await?;
        report_start(config, door.address);
        for door in admin.iter().chain([&door]) {
            warn_of_what_is_open(config, door.address);
        }
        let security = Security { auth: Arc::clone(&app.auth), tls };
        let gates = admin.iter().chain([&door]).map(|door| Arc::clone(&door.service.gate)).collect();
        let reloader =
            Reloader { gates, security: security.clone(), in_force: Arc::new(Mutex::new(in_force)) };
        Ok(Self {
            door,
            admin,
            metrics_interval: config.metrics.enabled.then_some(config.metrics.interval.0),
            security,
            reloader,
            app,
            tasks,
            config: config.server.clone(),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.door.address
    }

    /// Where it listens for what concerns the service, if that is elsewhere.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|door| door.address)
    }

    /// What decides who comes in, to be replaced while the service runs.
    pub fn security(&self) -> Security {
        self.security.clone()
    }

    /// The hand that gives it another configuration while it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// The cache behind the service.
    pub fn cache(&self) -> &Cache {
        &self.app.cache
    }

    /// Serves until `shutdown` completes, then stops as it says.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listener. Connections go on until they end.
    pub async fn run<S: Into<Stop>>(self, shutdown: impl Future<Output = S>) -> Ended {
        self.tasks.spawn(history::keep(Arc::clone(&self.reloader.in_force), self.tasks.clone()));
        if let Some(interval) = self.metrics_interval {
            self.tasks.spawn(log_counters(Arc::clone(&self.app), self.tasks.clone(), interval));
        }
        let stop = {
            let accepting = pin!(self.accept());
            match futures_util::future::select(pin!(shutdown), accepting).await {
                futures_util::future::Either::Left((stop, _)) => stop.into(),
                futures_util::future::Either::Right((never, _)) => match never {},
            }
        };
        self.app.is_draining.store(true, Ordering::Relaxed);
        tracing::info!(connections = self.tasks.count(), ?stop, "stopping");
        if stop == Stop::Drain {
            runtime::within(self.config.shutdown.drain.0, self.accept()).await;
        }
        let Self { door, admin, tasks, app, config, .. } = self;
        drop((door, admin));
        tasks.stop();
        let grace = config.shutdown.grace.0;
        let since = app.clock.now();
        let connections_cut = tasks.end(grace).await;
        let left = grace.saturating_sub(app.clock.now().since(since)).max(Duration::from_secs(1));
        let cache = app.cache.shutdown(left).await;
        if let Some(traces) = &app.traces {
            traces.end().await;
        }
        Ended { connections_cut, cache }
    }

    /// Accepts connections for ever.
    async fn accept(&self) -> Infallible {
        let Some(admin) = &self.admin else { return self.door.accept().await };
        match futures_util::future::select(pin!(self.door.accept()), pin!(admin.accept())).await {
            futures_util::future::Either::Left((never, _))
            | futures_util::future::Either::Right((never, _)) => match never {},
        }
    }
}

/// Listens on the first address of a name that can be listened on.
async fn listen(name: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in tokio::net::lookup_host(name).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // On Windows this would let others take the port.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

/// Whether an error of the listener is about a connection that is gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Sets up tiers, origins and keyspaces.
pub(crate) fn app(config: &Config, traces: Option<Traces>) -> Result<InForce, StartError> {
    let clock = Clock::system();
    let life = Life { id: random(), began: clock.wall() };
    let auth = Arc::new(Auth::new(&config.auth, clock.clone()));
    let Tiers { cache, passwords } = tiers::open(config, tiers::journal(config)?)?;
    let origins = Origins::start(config)?;
    let mut opened = Opened::new();
    let (spaces, spaces_of_tenants) = Keyspaces::all(config, &cache, &origins, &auth.tenants(), &mut opened)?;
    report_journal(&cache);
    let tasks = Tasks::default();
    let app = Arc::new(App {
        cache,
        spaces,
        spaces_of_tenants,
        breakers: Arc::new(origins.breakers().clone()),
        refusals: Arc::new(Refusals::new(clock.clone())),
        auth,
        clock,
        limits: limits(config),
        is_metrics_enabled: config.metrics.enabled,
        requires_l2: config.ready.require_l2,
        metrics_prefix: config.metrics.prefix.clone(),
        is_draining: Arc::default(),
        feed: Arc::new(Feed::new(life.id, tasks.clone())),
        history: Arc::default(),
        reloads: Arc::new(Reloads::default()),
        traces,
        tasks,
        life,
    });
    app.feed.watch_l2(&app.cache);
    app.feed.watch(&app.breakers);
    Ok(InForce { config: config.clone(), origins, opened, passwords, app })
}

async fn log_counters(app: Arc<App>, tasks: Tasks, interval: Duration) {
    while runtime::within(interval, tasks.stopped()).await.is_none() {
        metrics::log(&app);
    }
}

/// A number that no other life of a service has.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Says what an earlier life has left in the journal.
fn report_journal(cache: &Cache) {
    let Some(figures) = cache.journal().map(Journal::figures) else { return };
    if figures.pending > 0 {
        tracing::info!(writes = figures.pending, "the journal has writes that the origins do not have yet");
    }
    if figures.unattended > 0 {
        let writes = figures.unattended;
        tracing::warn!(writes, "of these the keyspace is not written behind any more: they stay until it is");
    }
}

/// What a configuration lets a request ask for.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        key_bytes_max: clamp(config.defaults.max_key.0),
        value_bytes_max: clamp(config.defaults.max_value.0),
        body_bytes_max: clamp(config.server.max_body.0),
        request_timeout: config.server.request_timeout.0,
        requests_max: clamp(config.server.max_requests),
    }
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Warns of a listener that others reach and that lets in whom it should not, or lets them be listened to.
fn warn_of_what_is_open(config: &Config, address: SocketAddr) {
    if address.ip().is_loopback() {
        return;
    }
    if config.auth.mode == AuthMode::None {
        tracing::warn!(%address, "listening beyond this machine, and everybody may do everything (`auth.allow_open`)");
    } else if config.server.tls.is_none() {
        tracing::warn!(%address, "listening beyond this machine without TLS: tokens can be read on their way");
    }
}

fn report_start(config: &Config, address: SocketAddr) {
    let keyspaces = config.keyspaces.len();
    let origins = config.origins.len();
    if let Some(l2) = &config.l2 {
        tracing::info!(%address, l2 = %l2.url, keyspaces, origins, "listening");
        return;
    }
    tracing::info!(
        %address,
        keyspaces,
        origins,
        "listening, on memory alone: neither REDIS_URL nor REDIS_ADDR nor `l2.url` is set"
    );
}
