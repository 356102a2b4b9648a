//! The rules of `[auth.tenant.NAME]` and `[auth.tenant_defaults]`: how much a tenant may ask for.
//!
//! 1. A tenant is one that a token names: what is said of another is refused, as a word that was meant to be one of them.
//! 2. What a tenant does not say itself it has from the defaults.
//! 3. A bound that would never be reached, because that of the service is lower, is refused.

use super::check::Checker;
use super::report::{Refusal, nearest};
use super::units::Count;
use super::{AuthConfig, file};
use crate::auth::RateLimit;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// How much a tenant may ask for, with all its tokens together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TenantLimits {
    /// How often it may ask. Default as often as its tokens may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// Most requests at work at a time, of which a quarter, at least one, may be sending bodies; more are answered 429. Default as many as
    /// the service may have, and at most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
}

impl TenantLimits {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn or(self, defaults: Self) -> Self {
        Self { rate: self.rate.or(defaults.rate), max_requests: self.max_requests.or(defaults.max_requests) }
    }
}

impl AuthConfig {
    /// How much a tenant may ask for.
    pub fn limits_of(&self, tenant: &str) -> TenantLimits {
        self.tenant_limits.get(tenant).copied().unwrap_or(self.tenant_defaults)
    }
}

impl Checker<'_> {
    /// What all tenants have, and what each has that is named.
    pub(super) fn tenant_limits(
        &mut self,
        defaults: Option<Spanned<file::Tenant>>,
        named: BTreeMap<Spanned<String>, Spanned<file::Tenant>>,
        tenants: &BTreeSet<String>,
        requests_max: u64,
    ) -> (TenantLimits, BTreeMap<String, TenantLimits>) {
        let at = defaults.as_ref().map(Spanned::span).filter(|_| tenants.is_empty());
        self.needs(at, "tenant = …` of a token, or of any `[[auth.token]]");
        let defaults = defaults.map(|limits| self.limits_of_tenant(limits.into_inner(), requests_max));
        let defaults = defaults.unwrap_or_default();
        let mut all = BTreeMap::new();
        for (name, limits) in named {
            if !tenants.contains(name.get_ref()) {
                self.unknown_tenant(&name, tenants);
            }
            let limits = self.limits_of_tenant(limits.into_inner(), requests_max).or(defaults);
            all.insert(name.into_inner(), limits);
        }
        (defaults, all)
    }

    fn limits_of_tenant(&mut self, limits: file::Tenant, requests_max: u64) -> TenantLimits {
        let allowed = format!("it must be from 1 to {requests_max}, the `server.max_requests` of all");
        let is_allowed = |most: &Count| (1..=requests_max).contains(&most.0);
        let max_requests =
            limits.max_requests.map(|most| self.ranged(Some(most), Count(1), is_allowed, &allowed).0);
        TenantLimits { rate: limits.rate.and_then(|rate| self.rate(rate)), max_requests }
    }

    fn unknown_tenant(&mut self, name: &Spanned<String>, tenants: &BTreeSet<String>) {
        let near = nearest(name.get_ref(), tenants.iter().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("give a token `tenant = \"{}\"`, or remove this", name.get_ref()),
        };
        let title = format!("no token is of a tenant `{}`", name.get_ref());
        self.refuse(&Refusal::new(name.span(), title).help(help));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    fn token(tenant: &str) -> String {
        let of_name = tenant.bytes().fold(0_u64, |number, byte| number << 8 | u64::from(byte));
        let digest = format!("{of_name:064x}");
        format!(
            "[[auth.token]]\nname = '{tenant}'\ntenant = '{tenant}'\nsha256 = '{digest}'\nscopes = ['read:*']\n"
        )
    }

    #[test]
    fn a_tenant_has_what_it_says_and_else_what_all_have_and_what_is_printed_loads_again() {
        let toml = token("acme")
            + &token("zeta")
            + "[auth.tenant_defaults]\nmax_requests = 8\nrate = { per_second = 10 }\n\
               [auth.tenant.acme]\nrate = { per_second = 20, burst = 40 }\n";
        let config = Config::load(&Sources::text(&toml)).unwrap_or_else(|error| panic!("{error}"));
        let (acme, zeta) = (config.auth.limits_of("acme"), config.auth.limits_of("zeta"));
        assert_eq!((acme.max_requests, zeta.max_requests), (Some(8), Some(8)));
        let burst = |limits: super::TenantLimits| limits.rate.map(|rate| rate.burst.get());
        assert_eq!((burst(acme), burst(zeta)), (Some(40), Some(10)));
        let settings = Config::settings(&Sources::text(&toml)).expect("the same");
        let from = |key: &str| {
            settings.iter().find(|setting| setting.key == key).map(|setting| setting.from.to_string())
        };
        let line = toml.lines().position(|line| line == "max_requests = 8").expect("it is there") + 1;
        let line = format!("configuration:{line}");
        for key in ["auth.tenant_defaults.max_requests", "auth.tenant.acme.max_requests"] {
            assert_eq!(from(key), Some(line.clone()), "{key}");
        }
        assert_eq!(from("auth.tenant_defaults.rate.burst"), Some("default".into()), "as many as in a second");
        let leaves = config.leaves();
        assert_eq!(leaves["auth.tenant.acme.rate.burst"].as_integer(), Some(40));
    }

    #[test]
    fn a_rate_is_inherited_whole_and_so_is_the_place_that_it_is_from() {
        let toml = token("acme")
            + &token("zeta")
            + "[auth.tenant_defaults]\nrate = { per_second = 10, burst = 40 }\n\
               [auth.tenant.acme]\nrate = { per_second = 20 }\n[auth.tenant.zeta]\nmax_requests = 8\n";
        let settings = Config::settings(&Sources::text(&toml)).unwrap_or_else(|error| panic!("{error}"));
        let of = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key == key).expect(key);
            format!("{} {}", setting.value, setting.from)
        };
        assert_eq!(of("auth.tenant.acme.rate.burst"), "20 default");
        let line = toml.lines().position(|line| line.contains("burst")).expect("it is there") + 1;
        assert_eq!(of("auth.tenant.zeta.rate.burst"), format!("40 configuration:{line}"));
    }

    #[test]
    fn what_is_said_of_nobody_or_cannot_be_is_refused_where_it_stands() {
        for (toml, words) in [
            (token("acme") + "[auth.tenant.acne]\nmax_requests = 1", "did you mean `acme`?"),
            (token("acme") + "[auth.tenant.other]\nmax_requests = 1", "no token is of a tenant `other`"),
            ("[auth.tenant_defaults]\nmax_requests = 1".to_owned(), "nothing without"),
            (token("acme") + "[auth.tenant.acme]\nmax_requests = 0", "from 1 to 4096"),
            (token("acme") + "[auth.tenant.acme]\nmax_requests = 4097", "`server.max_requests`"),
            (
                "server.max_requests = 16\n".to_owned()
                    + &token("acme")
                    + "[auth.tenant_defaults]\nmax_requests = 17",
                "from 1 to 16",
            ),
            (token("acme") + "[auth.tenant.acme]\nmax_request = 1", "did you mean `max_requests`?"),
            (token("acme") + "[auth.tenant.acme]\nrate = { burst = 1 }", "no `per_second`"),
            (token("acme") + "[auth.tenant_defaults]\nrate = { per_second = 0 }", "from 1 to"),
        ] {
            let error = Config::load(&Sources::text(&toml)).expect_err(&toml).to_string();
            assert!(error.contains(words) && error.contains('^'), "{toml}: {error}");
        }
    }
}
