//! Who is asking, and what may they?
//!
//! ```text
//! Authorization: Bearer TOKEN ─▶ digest ─▶ credential: scopes, rate, tenant and its quota ─▶ Who ─▶ guard and handlers
//! ```
//!
//! 1. A credential is found by the digest of its token, which is compared with all of them, in a time that does not depend on which
//!    it is, or on where two differ.
//! 2. What is not allowed is refused. There is no request without a `Who`: with `mode = "none"` it is somebody who may do everything.
//! 3. Whose keyspaces a key is looked for in follows from the credential, never from the request: a tenant has keyspaces of its own, and
//!    nobody else has a name for them.
//! 4. Credentials are replaced as a whole, between two requests. Who is asking keeps what it came with; what goes on for long asks again
//!    (`Auth::again`).
//! 5. A tenant is known here once its keyspaces are there, and for as long as the service runs. It is known by its name: nobody gets
//!    the place of somebody else.
//!
//! Deliberately absent: what each path needs, which is `api::access`.

mod digest;
mod quota;
mod rate;
mod scope;

pub use digest::Digest;
pub(crate) use quota::UPLOAD_SHARE;
pub use rate::RateLimit;
pub(crate) use rate::{Rate, TooMuch};
pub use scope::{Scope, ScopeError, Verb};

use crate::config::{AuthConfig, AuthMode, TokenConfig};
use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
use quota::Tenant;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConditionallySelectable;
use terrace::{Clock, Glob};
use tokio::sync::OwnedSemaphorePermit;

/// Why nobody is let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// There is no token, or more than one, or what is there is none.
    NoToken,
    /// Nobody has this token.
    Unknown,
    /// The owner of the token asks too often.
    TooOften,
    /// Its tenant does, with all its tokens.
    TenantTooOften,
}

/// What a request is made with.
#[derive(Debug)]
struct Identity {
    name: Box<str>,
    /// That of their token, if they were asked for one.
    digest: Option<Digest>,
    tenant: Option<Arc<Tenant>>,
    scopes: Vec<Scope>,
    rate: Option<Arc<Rate>>,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub(crate) struct Who(Arc<Identity>);

impl Who {
    /// The name that the configuration has for them.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of their tenant.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.0.tenant.as_ref().map(|tenant| &*tenant.name)
    }

    /// A place for one more request of their tenant, to be kept while it is at work, if such places are counted.
    ///
    /// # Errors
    /// How many places there are, if all are taken.
    pub(crate) fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, u64> {
        self.0.tenant.as_ref().map_or(Ok(None), |tenant| tenant.enter())
    }

    /// A place for one more request of their tenant that sends a body, to be kept until that is there, if such places are counted.
    ///
    /// # Errors
    /// How many places there are, if all are taken.
    pub(crate) fn upload(&self) -> Result<Option<OwnedSemaphorePermit>, usize> {
        self.0.tenant.as_ref().map_or(Ok(None), |tenant| tenant.upload())
    }

    /// Takes note of `count` requests at once, of which `noted` were noted before. What could never be is noted nowhere. Where the token may
    /// now and its tenant may not, the token has used so many.
    ///
    /// # Errors
    /// [`TooMuch`] if that is more than the token or its tenant may ask for.
    pub(crate) fn ask_for(&self, count: usize, noted: u32) -> Result<(), TooMuch> {
        self.rates().try_for_each(|rate| rate.could_allow(count))?;
        self.rates().try_for_each(|rate| rate.allows_all(count, noted))
    }

    /// How much they may ask for at once, if that is bounded.
    pub(crate) fn burst(&self) -> Option<usize> {
        self.rates().map(|rate| usize::try_from(rate.limit.burst.get()).unwrap_or(usize::MAX)).min()
    }

    fn rates(&self) -> impl Iterator<Item = &Rate> {
        let of_tenant = self.0.tenant.as_ref().and_then(|tenant| tenant.rate.as_deref());
        self.0.rate.as_deref().into_iter().chain(of_tenant)
    }

    /// Whether they may see and do what concerns the service, or their part of it.
    pub(crate) fn is_admin(&self) -> bool {
        self.0.scopes.iter().any(Scope::is_admin)
    }

    /// Whether they run the service: what concerns all of it is for them alone.
    pub(crate) fn is_operator(&self) -> bool {
        self.0.tenant.is_none() && self.is_admin()
    }

    /// Whether there is any key that they may do this with.
    pub(crate) fn has(&self, verb: Verb) -> bool {
        self.0.scopes.iter().any(|scope| scope.is_for(verb))
    }

    /// Whether they may do this with a key.
    pub(crate) fn may(&self, verb: Verb, key: &str) -> bool {
        self.0.scopes.iter().any(|scope| scope.covers_key(verb, key))
    }

    /// Whether they may do this with every key that a pattern matches.
    pub(crate) fn may_all(&self, verb: Verb, pattern: &Glob) -> bool {
        self.0.scopes.iter().any(|scope| scope.covers_pattern(verb, pattern))
    }

    /// Whether they may do this with every key that there is for them: what names no keys, as a tag does, can be any of them.
    pub(crate) fn may_any(&self, verb: Verb) -> bool {
        self.0.scopes.iter().any(|scope| scope.is_for_all(verb))
    }
}

/// Why credentials cannot take the place of others.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// A tenant that has no keyspaces yet.
    #[error("the tenant `{0}` is new: its keyspaces are opened with a whole configuration, so reload that")]
    NewTenant(String),
    /// There would be no tokens any more, and everybody would be let in.
    #[error("there are no tokens in it, so everybody would be let in: that needs a restart")]
    Opened,
}

/// All credentials there are at a time.
struct Credentials {
    /// Who everybody is, where nobody is asked for a token.
    everybody: Option<Who>,
    /// Names that a service has, where nobody is asked for a token.
    hosts: Vec<String>,
    digests: Vec<Digest>,
    owners: Vec<Who>,
    tenants: HashMap<String, Arc<Tenant>>,
}

/// No place among the credentials.
const NONE: u32 = u32::MAX;

impl Credentials {
    /// Who has a token, by its digest. All are compared, always.
    fn owner(&self, digest: &Digest) -> Option<&Who> {
        let mut place = NONE;
        for (number, own) in (0_u32..).zip(&self.digests) {
            place.conditional_assign(&number, own.same(digest));
        }
        self.owners.get(usize::try_from(place).unwrap_or(usize::MAX))
    }
}

/// Who may come in.
pub(crate) struct Auth {
    credentials: ArcSwap<Credentials>,
    /// The tenants that have keyspaces. Held while credentials are replaced.
    tenants: Mutex<BTreeSet<String>>,
    clock: Clock,
}

/// Credentials that can take the place of others.
pub(crate) struct Prepared<'a> {
    auth: &'a Auth,
    credentials: Arc<Credentials>,
    tenants: BTreeSet<String>,
}

impl Prepared<'_> {
    /// The tenants that have to have keyspaces: those that have, and those that are new.
    pub(crate) fn tenants(&self) -> &BTreeSet<String> {
        &self.tenants
    }

    /// Lets the next request be judged by these. The keyspaces of all tenants are there by now.
    pub(crate) fn replace(self) {
        let mut tenants = self.auth.lock();
        tenants.extend(self.tenants);
        self.auth.credentials.store(self.credentials);
    }
}

impl Auth {
    /// The credentials of a configuration.
    pub(crate) fn new(config: &AuthConfig, clock: Clock) -> Self {
        let tenants = Mutex::new(config.tenants());
        Self { credentials: ArcSwap::from_pointee(credentials(config, &clock, None)), tenants, clock }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenants that have keyspaces: those that had a token once, since the service began.
    pub(crate) fn tenants(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    /// Makes the credentials of another configuration, to take the place of these. Those that stay go on with the rate that they have
    /// used. Where a tenant is new, its keyspaces have to be there first.
    ///
    /// # Errors
    /// [`ReplaceError::Opened`] if everybody would be let in.
    pub(crate) fn prepare(&self, config: &AuthConfig) -> Result<Prepared<'_>, ReplaceError> {
        let old = self.credentials.load();
        if old.everybody.is_none() && config.mode == AuthMode::None {
            return Err(ReplaceError::Opened);
        }
        let tenants = self.lock().union(&config.tenants()).cloned().collect();
        Ok(Prepared {
            auth: self,
            credentials: Arc::new(credentials(config, &self.clock, Some(&old))),
            tenants,
        })
    }

    /// Refuses a tenant that has no keyspaces yet.
    ///
    /// # Errors
    /// [`ReplaceError::NewTenant`].
    pub(crate) fn knows_all(&self, tenants: &BTreeSet<String>) -> Result<(), ReplaceError> {
        match tenants.difference(&self.lock()).next() {
            Some(new) => Err(ReplaceError::NewTenant(new.clone())),
            None => Ok(()),
        }
    }

    /// Whether a request may be for a host of this name. Where nobody is asked for a token, a page of any site could have its own name
    /// lead to this machine, and its browser would take this service for the page's own. No such page has an address for a name, a name
    /// without a dot, or one of this machine's.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        let credentials = self.credentials.load();
        let name = name_of(host);
        credentials.everybody.is_none()
            || !name.contains('.')
            || name.parse::<IpAddr>().is_ok()
            || name.to_ascii_lowercase().ends_with(".localhost")
            || credentials.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Who somebody is by now that was let in before: `None` if nobody has that name with that token and that tenant any more, or everybody
    /// is asked for a token now.
    ///
    /// # Cost
    /// A comparison per credential. No allocation.
    pub(crate) fn again(&self, who: &Who) -> Option<Who> {
        let credentials = self.credentials.load();
        let Some(digest) = &who.0.digest else { return credentials.everybody.clone() };
        let owner = credentials.owner(digest)?;
        (owner.name() == who.name() && owner.tenant() == who.tenant()).then(|| owner.clone())
    }

    /// Who is asking.
    ///
    /// # Cost
    /// One SHA-256 of the token, one comparison per credential, one atomic exchange if its owner has a rate, and one if its tenant has. No
    /// allocation.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Result<Who, Denied> {
        let credentials = self.credentials.load();
        if let Some(everybody) = &credentials.everybody {
            return Ok(everybody.clone());
        }
        let token = bearer(headers).ok_or(Denied::NoToken)?;
        let owner = credentials.owner(&Digest::of(token)).ok_or(Denied::Unknown)?;
        if owner.0.rate.as_ref().is_some_and(|rate| !rate.allows()) {
            return Err(Denied::TooOften);
        }
        let of_tenant = owner.0.tenant.as_ref().and_then(|tenant| tenant.rate.as_ref());
        if of_tenant.is_some_and(|rate| !rate.allows()) {
            return Err(Denied::TenantTooOften);
        }
        Ok(owner.clone())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({} credentials)", self.credentials.load().owners.len())
    }
}

/// The name or address of a host, without its port.
fn name_of(host: &str) -> &str {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match bracketed {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.'),
    }
}

/// The token of a request: the only header `Authorization`, with the scheme `Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().filter(|_| given.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

/// Makes the credentials of a configuration; those that were there before keep their rates.
fn credentials(config: &AuthConfig, clock: &Clock, old: Option<&Credentials>) -> Credentials {
    let tenant = |name: String| {
        let before = old.and_then(|old| old.tenants.get(&name)).map(|before| &**before);
        let tenant = Arc::new(Tenant::new(&name, config.limits_of(&name), clock, before));
        (name, tenant)
    };
    let tenants: HashMap<String, Arc<Tenant>> = config.tenants().into_iter().map(tenant).collect();
    let owner = |token: &TokenConfig| {
        let tenant = token.tenant.as_ref().and_then(|name| tenants.get(name)).cloned();
        let before = old.iter().flat_map(|old| &old.owners).find(|who| who.name() == token.name);
        let rate = Rate::again(token.rate, before.and_then(|who| who.0.rate.as_ref()), clock);
        let (name, scopes) = (token.name.as_str().into(), token.scopes.clone());
        Who(Arc::new(Identity { name, digest: Some(token.sha256), tenant, scopes, rate }))
    };
    Credentials {
        everybody: (config.mode == AuthMode::None).then(everybody),
        hosts: config.hosts.clone(),
        digests: config.tokens.iter().map(|token| token.sha256).collect(),
        owners: config.tokens.iter().map(owner).collect(),
        tenants,
    }
}

/// Who everybody is, where nobody is asked for a token.
fn everybody() -> Who {
    let verbs = [Verb::Read, Verb::Write, Verb::Invalidate].map(Scope::all);
    let scopes = verbs.into_iter().chain([Scope::ADMIN]).collect();
    Who(Arc::new(Identity { name: "anybody".into(), digest: None, tenant: None, scopes, rate: None }))
}

#[cfg(test)]
mod tests;
