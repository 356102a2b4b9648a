//! Another configuration for a service that runs.
//!
//! 1. It is taken whole or not at all. What is wrong with it, or cannot be changed while the service runs, is said, and the old one stays.
//! 2. What can be changed is named in [`CHANGEABLE`]; everything else is refused by its name, so no setting looks as if it were in force
//!    that is not.
//! 3. A request goes by the configuration that held when it came: none is disturbed.
//! 4. Entries stay. But keys that belong to another keyspace than before begin without any, on every change: their old entries may be of
//!    an earlier time, when they belonged there. They are dropped before the change, and again when no request is left that began before it.
//! 5. Files with certificates are read again by each reload, also by one that changes no setting. So are those with secrets: what Redis and the
//!    collector of traces are shown changes without a restart, and nothing else of them does.
//! 6. A keyspace that is taken out goes on to hear of changes, so that it can come back. So do those of a tenant whose tokens are taken out.
//! 7. Who may come in changes last: a new tenant's keyspaces are there before anybody is taken for it, and nothing can fail after that.
//! 8. What was a tenant's in this process is nobody else's in it, and the other way round: a name that would be both is refused.
//!
//! What a new part of the service has to do on a reload is done in [`Reloader::take`]; tokens and certificates are an example.

use crate::api::App;
use crate::api::gate::Gate;
use crate::config::{Config, ConfigError, OriginConfig, Sources, Strategy, is_keyspace_of};
use crate::keyspaces::{Keyspaces, OfTenants, Opened};
use crate::origin::{Origins, Renewal, SetupError};
use crate::runtime;
use crate::security::{Security, SecurityError};
use crate::server::limits;
use crate::tiers;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Glob, KeyspaceError, RedisPasswords};
use tokio::sync::Mutex;

/// What can be changed while the service runs: these settings, and what is below them.
const CHANGEABLE: [&str; 12] = [
    "server.request_timeout",
    "server.max_body",
    "server.max_requests",
    "server.tls",
    "auth",
    "defaults",
    "origin",
    "keyspace",
    "ready",
    "l2.password",
    "l2.sentinel.password",
    "telemetry.otlp.headers",
];

/// How long a change may go on that was begun by a request: as long as a load of the library.
const CHANGE_MAX: Duration = Duration::from_secs(30);

/// Why another configuration was not taken. The old one stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It cannot be: all that is wrong with it, each with its place.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what cannot be changed while the service runs.
    #[error("{} cannot be changed while the service runs: start it anew, or leave {} as it was", list(.0), if .0.len() == 1 { "it" } else { "them" })]
    Fixed(
        /// The settings.
        Vec<String>,
    ),
    /// An origin cannot be set up.
    #[error(transparent)]
    Origin(#[from] SetupError),
    /// Redis or the collector cannot be told another password or other headers.
    #[error("credentials cannot be changed: {0}")]
    Credentials(
        /// Why.
        String,
    ),
    /// A keyspace cannot be opened.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),
    /// Credentials or certificates cannot take the place of those in force.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Entries of keys that belong to another keyspace now could not be dropped.
    #[error("what is kept of keys that change their keyspace cannot be dropped: {0}")]
    Sweep(
        /// Why.
        String,
    ),
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// How reloads went, for metrics.
#[derive(Debug)]
pub(crate) struct Reloads {
    is_last_good: AtomicBool,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { is_last_good: AtomicBool::new(true), taken: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

impl Reloads {
    /// As metrics for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let is_last_good = u8::from(self.is_last_good.load(Ordering::Relaxed));
        let (taken, refused) = (self.taken.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        format!(
            "# HELP terrace_config_reload_success Whether the last configuration that was to be taken was taken.\n\
             # TYPE terrace_config_reload_success gauge\n\
             terrace_config_reload_success {is_last_good}\n\
             # HELP terrace_config_reloads Configurations that were taken or refused while the service ran.\n\
             # TYPE terrace_config_reloads counter\n\
             terrace_config_reloads_total{{result=\"taken\"}} {taken}\n\
             terrace_config_reloads_total{{result=\"refused\"}} {refused}\n"
        )
    }

    /// Whether the last configuration that was to be taken was taken.
    pub(crate) fn is_last_good(&self) -> bool {
        self.is_last_good.load(Ordering::Relaxed)
    }

    fn note(&self, is_good: bool) {
        self.is_last_good.store(is_good, Ordering::Relaxed);
        if is_good { &self.taken } else { &self.refused }.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the service goes by.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
    pub(crate) opened: Opened,
    pub(crate) passwords: Option<RedisPasswords>,
    pub(crate) app: Arc<App>,
}

/// The hand that gives a service that runs another configuration.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::config::{Config, Sources};
/// use terrace_server::{ReloadError, Server};
///
/// let listen = "server.listen = '127.0.0.1:0'\n";
/// let server = Server::bind(&Config::load(&Sources::text(listen))?).await?;
/// let reloader = server.reloader();
/// let changed = reloader.reload(&Sources::text(format!("{listen}defaults.ttl = '5m'"))).await?;
/// assert_eq!(changed, ["defaults.ttl"]);
/// let refused = reloader.reload(&Sources::text(format!("{listen}l1.max_entries = 5"))).await;
/// assert!(matches!(refused, Err(ReloadError::Fixed(settings)) if settings == ["l1.max_entries"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Reloader {
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) security: Security,
    pub(crate) in_force: Arc<Mutex<InForce>>,
}

impl Reloader {
    /// Reads a configuration and goes by it from now on. Says which settings changed, and of which the file has other certificates.
    ///
    /// How it went is in the log, in the metric `terrace_config_reload_success`, and an event `config` for those who read events.
    ///
    /// # Errors
    /// [`ReloadError`]: the old configuration stays in force, whole.
    ///
    /// # Cost
    /// Reads the file. Where patterns changed, a sweep of each keyspace that may get keys; with L2, a round trip for each.
    ///
    /// # Races
    /// Two reloads go one after the other.
    ///
    /// # Cancel safety
    /// Not safe while patterns change: entries may have been dropped, and the old configuration stays in force.
    pub async fn reload(&self, sources: &Sources) -> Result<Vec<String>, ReloadError> {
        let mut in_force = self.in_force.lock().await;
        let result = match Config::load(sources) {
            Ok(config) => self.take(&mut in_force, config).await,
            Err(error) => Err(error.into()),
        };
        let app = &in_force.app;
        app.reloads.note(result.is_ok());
        let at = app.clock.wall();
        match &result {
            Ok(changed) => {
                tracing::info!(changed = changed.join(", "), "another configuration is in force");
                app.feed.tell_config(at, Ok(changed));
            }
            Err(error) => {
                tracing::error!("the configuration was refused, and the old one stays in force\n{error}");
                let settings =
                    if let ReloadError::Fixed(settings) = error { settings.as_slice() } else { &[] };
                app.feed.tell_config(at, Err(settings));
            }
        }
        result
    }

    async fn take(&self, in_force: &mut InForce, config: Config) -> Result<Vec<String>, ReloadError> {
        let changed = changed(&in_force.config, &config);
        let fixed = fixed(in_force, &config, &changed);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        if changed.is_empty() {
            // Files that it names may have changed.
            let renewals = in_force.origins.renewals(&config)?;
            self.security.prepare(&config)?.replace(false);
            return Ok(renew(renewals));
        }
        let origins = in_force.origins.next(&in_force.config, &config)?;
        let security = self.security.prepare(&config)?;
        let renewals = origins.renewals(&config)?;
        let (show_redis, show_collector) = credentials(in_force, &config)?;
        let moved = moved(&in_force.config, &config);
        let settled = settle(in_force, &config, &origins, security.tenants(), &moved).await;
        let (spaces, spaces_of_tenants) = match settled {
            Ok(keyspaces) => keyspaces,
            Err(error) => {
                // What was opened with the old settings can be opened with them again.
                let InForce { config, origins, opened, app, .. } = in_force;
                if let Err(error) = Keyspaces::all(config, &app.cache, origins, &app.auth.tenants(), opened) {
                    tracing::error!(%error, "keyspaces may have settings of a configuration that was refused: start anew");
                }
                return Err(error);
            }
        };
        let breakers = Arc::new(origins.breakers().clone());
        let (limits, requires_l2) = (limits(&config), config.ready.require_l2);
        let app =
            App { spaces, spaces_of_tenants, breakers, limits, requires_l2, ..App::clone(&in_force.app) };
        let app = Arc::new(app);
        app.feed.grow(&app.spaces, &app.clock);
        app.feed.watch(&app.breakers);
        for gate in &self.gates {
            gate.turn_to(Arc::clone(&app));
        }
        show_redis();
        show_collector();
        security.replace(in_force.config.auth != config.auth);
        let patience = in_force.config.server.request_timeout.0;
        if !moved.is_empty() {
            app.tasks.spawn(sweep_again(Arc::clone(&app), moved, patience));
        }
        let (opened, passwords) = (std::mem::take(&mut in_force.opened), in_force.passwords.take());
        *in_force = InForce { config, origins, opened, passwords, app };
        Ok(changed.into_iter().chain(renew(renewals)).collect())
    }
}

/// Readies what Redis and the collector are shown from now on: each is done when it is called.
fn credentials(
    in_force: &InForce,
    config: &Config,
) -> Result<(impl FnOnce() + use<>, impl FnOnce() + use<>), ReloadError> {
    let failed = |error: &dyn std::fmt::Display| ReloadError::Credentials(error.to_string());
    let mut to_redis = None;
    if let (Some(passwords), Some(l2)) = (&in_force.passwords, &config.l2)
        && in_force.config.l2 != config.l2
    {
        let others = tiers::l2(l2, config.bus.mode).map_err(|error| failed(&error))?.passwords();
        to_redis = Some((passwords.clone(), others));
    }
    let traces = in_force.app.traces.as_ref();
    let to_collector = traces.map(|traces| traces.renew(&config.telemetry)).transpose();
    let to_collector = to_collector.map_err(|error| failed(&error))?;
    let show_redis = || {
        if let Some((passwords, others)) = to_redis {
            passwords.set_to_those_of(&others);
        }
    };
    Ok((show_redis, || to_collector.into_iter().for_each(|show| show())))
}

/// Gives the keyspaces that there are to be the settings of a configuration.
async fn settle(
    in_force: &mut InForce,
    config: &Config,
    origins: &Origins,
    tenants: &BTreeSet<String>,
    moved: &[Glob],
) -> Result<(Keyspaces, OfTenants), ReloadError> {
    let InForce { opened, app, .. } = in_force;
    let keyspaces = Keyspaces::all(config, &app.cache, origins, tenants, opened)?;
    for of_one in [&keyspaces.0].into_iter().chain(keyspaces.1.values()) {
        sweep(of_one, moved).await?;
    }
    Ok(keyspaces)
}

/// Lets origins believe other roots, and names the settings whose files have changed.
fn renew(renewals: Vec<(String, Renewal)>) -> Vec<String> {
    let renew = |(name, renewal): (String, Renewal)| {
        renewal.take();
        format!("origin.{name}.root_certificate_file")
    };
    renewals.into_iter().map(renew).collect()
}

/// The settings that are not the same in both, sorted. One that is hidden is named by the address or password that it is likely to be.
fn changed(before: &Config, after: &Config) -> Vec<String> {
    let (old, new) = (before.leaves(), after.leaves());
    let mut changed: BTreeSet<String> = BTreeSet::new();
    for key in old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)) {
        changed.insert(key.clone());
    }
    let is_named = |changed: &BTreeSet<String>, part: &str| changed.iter().any(|key| key.starts_with(part));
    if let (Some(before), Some(after)) = (&before.l2, &after.l2) {
        if !before.url.is_same_but_password(&after.url) {
            changed.insert("l2.url".to_owned());
        }
        if before != after && !is_named(&changed, "l2.") {
            changed.insert("l2.password".to_owned());
        }
    }
    for (name, origin) in &after.origins {
        let is_other = before.origins.get(name).is_some_and(|before| before != origin);
        if is_other && !is_named(&changed, &format!("origin.{name}.")) {
            let hidden = if matches!(origin, OriginConfig::Http(_)) { "headers" } else { "url" };
            changed.insert(format!("origin.{name}.{hidden}"));
        }
    }
    for (name, keyspace) in &after.keyspaces {
        let is_other = before.keyspaces.get(name).is_some_and(|old| old.compression != keyspace.compression);
        if is_other && !is_named(&changed, &format!("keyspace.{name}.compression")) {
            changed.insert(format!("keyspace.{name}.compression.dictionary"));
        }
    }
    if before.auth != after.auth && !is_named(&changed, "auth.") {
        changed.insert("auth.token".to_owned());
    }
    if before.telemetry != after.telemetry && !is_named(&changed, "telemetry.") {
        changed.insert("telemetry.otlp.headers".to_owned());
    }
    if before != after && changed.is_empty() {
        changed.insert("a secret".to_owned());
    }
    let is_whole = |name: &str, kind: &str| match kind {
        "keyspace" => before.keyspaces.contains_key(name) == after.keyspaces.contains_key(name),
        _ => before.origins.contains_key(name) == after.origins.contains_key(name),
    };
    let shortened = |key: String| {
        let parts = key.split_once('.').and_then(|(kind, rest)| Some((kind, rest.split_once('.')?.0)));
        match parts {
            Some((kind @ ("keyspace" | "origin"), name)) if !is_whole(name, kind) => format!("{kind}.{name}"),
            _ => key,
        }
    };
    let changed: BTreeSet<String> = changed.into_iter().map(shortened).collect();
    changed.into_iter().collect()
}

/// Those of the changes that cannot be made while the service runs.
fn fixed(in_force: &InForce, config: &Config, changed: &[String]) -> Vec<String> {
    let below = |key: &str, part: &str| {
        key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let may_change = |key: &str| CHANGEABLE.iter().any(|part| below(key, part));
    let mut fixed: BTreeSet<String> = changed.iter().filter(|key| !may_change(key)).cloned().collect();
    let is_behind = |config: &Config, name: &str| {
        config.keyspaces.get(name).is_some_and(|keyspace| keyspace.strategy == Strategy::WriteBehind)
    };
    let known = in_force.app.auth.tenants();
    let tenants: BTreeSet<String> = known.union(&config.auth.tenants()).cloned().collect();
    let is_of_tenant = |name: &&String| tenants.iter().any(|tenant| is_keyspace_of(tenant, name));
    // Also what nobody has opened yet: the tenant's and this one would be opened as one.
    let theirs = config.keyspaces.keys().filter(is_of_tenant);
    fixed.extend(theirs.map(|name| format!("keyspace.{name}")));
    for (name, open) in &in_force.opened {
        let is_named = config.keyspaces.contains_key(name);
        if open.is_of_tenant && is_named || !open.is_of_tenant && is_of_tenant(&name) {
            fixed.insert(format!("keyspace.{name}"));
        }
        let (was, is) = (is_behind(&in_force.config, name), is_behind(config, name));
        let keyspace = config.keyspaces.get(name);
        if was != is && keyspace.is_some() {
            fixed.insert(format!("keyspace.{name}.strategy"));
        } else if was && keyspace.is_none() {
            fixed.insert(format!("keyspace.{name}"));
        }
        let uses_l1 = keyspace.map(|keyspace| keyspace.l1.enabled);
        if uses_l1.is_some_and(|uses_l1| uses_l1 != open.uses_l1) {
            fixed.insert(format!("keyspace.{name}.l1.enabled"));
        }
        if was && is {
            let of_lane = ["pattern", "source", "write_behind"].map(|part| format!("keyspace.{name}.{part}"));
            let source = in_force.config.keyspaces.get(name).and_then(|keyspace| keyspace.source.as_ref());
            let of_origin = source.map(|source| format!("origin.{}", source.origin));
            let parts: Vec<String> = of_lane.into_iter().chain(of_origin).collect();
            let of_it = changed.iter().filter(|key| parts.iter().any(|part| below(key, part)));
            fixed.extend(of_it.cloned());
        }
    }
    fixed.into_iter().collect()
}

/// The patterns whose keys may belong to another keyspace than before.
fn moved(before: &Config, after: &Config) -> Vec<Glob> {
    let names: BTreeSet<&String> = before.keyspaces.keys().chain(after.keyspaces.keys()).collect();
    let mut moved = Vec::new();
    for name in names {
        let patterns =
            [before, after].map(|config| config.keyspaces.get(name).map(|keyspace| &keyspace.pattern));
        if patterns[0] != patterns[1] {
            let globs = patterns.into_iter().flatten();
            // Without the part that a pattern excludes: more than it matches is dropped, and nothing less.
            moved.extend(globs.filter_map(|pattern| Glob::new(&pattern.glob()).ok()));
        }
    }
    moved
}

/// Drops what keyspaces have of keys that may not have been theirs.
async fn sweep(keyspaces: &Keyspaces, moved: &[Glob]) -> Result<(), ReloadError> {
    for glob in moved {
        for (index, keyspace) in keyspaces.iter().enumerate() {
            if keyspaces.could_match(index, glob) {
                let failed = |error: &dyn std::fmt::Display| ReloadError::Sweep(error.to_string());
                let swept = keyspace.invalidate().pattern(glob.as_str()).map_err(|error| failed(&error))?;
                swept.send().await.map_err(|error| failed(&error))?;
            }
        }
    }
    Ok(())
}

/// Does so again, when the requests have ended that came before, and when what they began has.
async fn sweep_again(app: Arc<App>, moved: Vec<Glob>, patience: Duration) {
    for wait in [patience, CHANGE_MAX] {
        if runtime::within(wait, app.tasks.stopped()).await.is_some() {
            return;
        }
        for keyspaces in [&app.spaces].into_iter().chain(app.spaces_of_tenants.values()) {
            if let Err(error) = sweep(keyspaces, &moved).await {
                tracing::error!(%error, "keys that changed their keyspace may have old entries until their TTL");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        Config::load(&Sources::text(toml)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_changed_is_named_also_what_is_hidden() {
        let before = config(
            "[l2]\nurl = 'redis://a:one@h'\n[origin.o]\ntype = 'postgres'\nurl = 'postgres://u:one@h/d'\n\
             [keyspace.a]\npattern = 'a:{id}'\n[keyspace.b]\npattern = 'b:{id}'\n",
        );
        let after = config(
            "[l2]\nurl = 'redis://a:two@h'\n[origin.o]\ntype = 'postgres'\nurl = 'postgres://u:two@h/d'\n\
             [keyspace.a]\npattern = 'a:{id}'\nttl = '1m'\n[keyspace.c]\npattern = 'c:{id}'\n",
        );
        let names = ["keyspace.a.ttl", "keyspace.b", "keyspace.c", "l2.password", "origin.o.url"];
        assert_eq!(changed(&before, &after), names);
        assert!(changed(&before, &before).is_empty());
        for (url, name) in [("redis://a:two@h", "l2.password"), ("redis://b:one@h", "l2.url")] {
            let [before, after] = ["redis://a:one@h", url].map(|url| config(&format!("l2.url = '{url}'\n")));
            assert_eq!(changed(&before, &after), [name], "{url}");
        }
    }

    #[test]
    fn keys_move_where_a_pattern_comes_goes_or_changes() {
        let before = config("keyspace.a.pattern = 'a:{id}'\nkeyspace.b.pattern = 'b[1]:{*id}'");
        let after = config("keyspace.a.pattern = 'a:{id}:x'\nkeyspace.c.pattern = 'c'");
        let moved = moved(&before, &after);
        let globs: Vec<&str> = moved.iter().map(Glob::as_str).collect();
        assert_eq!(globs, ["a:*", "a:*:x", r"b\[1\]:*", "c"]);
        assert!(super::moved(&before, &before).is_empty());
    }
}
