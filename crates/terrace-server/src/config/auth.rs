//! The rules of `[auth]`: who may come in, and where nobody is asked.
//!
//! 1. A listener that other machines reach asks for a token, unless `allow_open = true` says that it is meant to be open.
//! 2. What could let the wrong ones in is refused: the digest of an empty token, two credentials with one token, a text that is no
//!    digest. It is never shown, because it may be the token itself.
//! 3. A tenant's name and a keyspace's make a name that no other pair makes.

use super::check::Checker;
use super::file;
use super::report::Refusal;
use super::secret::Secret;
use super::tenants::TenantLimits;
use crate::auth::{Digest, RateLimit, Scope};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use terrace::Namespace;
use toml::Spanned;

/// Most credentials: each request is compared with all of them.
const TOKENS_MAX: usize = 1_000;
/// Longest name of a credential, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest name of a tenant, in bytes.
const TENANT_BYTES_MAX: usize = 12;
/// Most requests in a second that a rate can be.
const RATE_MAX: u64 = 1_000_000_000;
/// What stands between a tenant's name and a keyspace's.
const SEPARATOR: &str = "--";

/// Whether a token is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Everybody may do everything.
    None,
    /// Whoever has a token may do what its scopes say.
    Token,
}

/// Who may come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct AuthConfig {
    /// Whether a token is asked for. Default `token` if there is one, else `none`.
    pub mode: AuthMode,
    /// Whether it is meant that other machines reach a listener where nobody is asked for a token. Default false.
    pub allow_open: bool,
    /// Names with a dot by which browsers and programs reach the service, where nobody is asked for a token: requests for others are refused.
    /// Default none. Addresses and names without a dot are let in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The credentials.
    #[serde(rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenConfig>,
    /// How much each tenant may ask for that has no limits of its own. Default as much as it likes.
    #[serde(skip_serializing_if = "TenantLimits::is_none")]
    pub tenant_defaults: TenantLimits,
    /// How much tenants may ask for that have limits of their own, by name.
    #[serde(rename = "tenant", skip_serializing_if = "BTreeMap::is_empty")]
    pub tenant_limits: BTreeMap<String, TenantLimits>,
}

/// A credential.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct TokenConfig {
    /// What it is called in logs.
    pub name: String,
    /// The SHA-256 of its token.
    pub sha256: Digest,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whose keyspaces it is for. Default nobody's: those of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How often it may ask. Default as often as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
}

impl AuthConfig {
    /// The tenants: whoever has a token that says so.
    pub fn tenants(&self) -> BTreeSet<String> {
        self.tokens.iter().filter_map(|token| token.tenant.clone()).collect()
    }
}

/// What a tenant's keyspace is called.
pub(crate) fn tenant_keyspace(tenant: &str, keyspace: &str) -> String {
    format!("{tenant}{SEPARATOR}{keyspace}")
}

/// Whether a keyspace of this name would be this tenant's.
pub(crate) fn is_keyspace_of(tenant: &str, name: &str) -> bool {
    name.strip_prefix(tenant).is_some_and(|rest| rest.starts_with(SEPARATOR))
}

impl Checker<'_> {
    /// `requests_max` are those of the service that may be at work.
    pub(super) fn auth(&mut self, auth: file::Auth, requests_max: u64) -> AuthConfig {
        const MODES: [(&str, AuthMode); 2] = [("none", AuthMode::None), ("token", AuthMode::Token)];
        let natural = if auth.token.is_empty() { AuthMode::None } else { AuthMode::Token };
        let mode_at = auth.mode.as_ref().map(Spanned::span);
        let mode = self.word(auth.mode, "mode", &MODES, natural);
        if let Some(at) = mode_at.filter(|_| mode != natural) {
            let (title, help) = match mode {
                AuthMode::None => (
                    "there are tokens, and nobody is asked for one",
                    "remove them, or write `mode = \"token\"`",
                ),
                AuthMode::Token => (
                    "there is no token, so nobody could come in",
                    "add `[[auth.token]]` with `name`, `sha256` and `scopes`",
                ),
            };
            self.refuse(&Refusal::new(at, title).help(help));
        }
        if let Some(flag) =
            auth.allow_open.as_ref().filter(|flag| flag.get_ref().0 && mode == AuthMode::Token)
        {
            let refusal = Refusal::new(flag.span(), "nothing is open where a token is asked for");
            self.refuse(&refusal.help("remove this, or the tokens"));
        }
        if let Some(one_more) = auth.token.get(TOKENS_MAX) {
            let title =
                format!("there are at most {TOKENS_MAX} tokens, because a request is compared with all");
            self.refuse(&Refusal::new(one_more.span(), title));
        }
        let mut tokens: Vec<TokenConfig> = Vec::with_capacity(auth.token.len());
        for token in auth.token {
            let at = token.span();
            let Some(token) = self.token(token) else { continue };
            let twice = tokens.iter().find_map(|other| match other {
                other if other.name == token.name => {
                    Some(format!("there are two tokens named `{}`", token.name))
                }
                other if other.sha256 == token.sha256 => {
                    Some(format!("this is the token of `{}`, too", other.name))
                }
                _ => None,
            });
            match twice {
                Some(title) => self.refuse(&Refusal::new(at, title).help("give each its own name and token")),
                None => tokens.push(token),
            }
        }
        if let Some(host) = auth.hosts.first().filter(|_| mode == AuthMode::Token) {
            let refusal = Refusal::new(host.span(), "names are not looked at where a token is asked for");
            self.refuse(&refusal.help("remove `hosts`, or the tokens"));
        }
        let hosts = auth.hosts.into_iter().map(Spanned::into_inner).collect();
        let allow_open = auth.allow_open.is_some_and(|flag| flag.get_ref().0);
        let tenants = tokens.iter().filter_map(|token| token.tenant.clone()).collect();
        let (tenant_defaults, tenant_limits) =
            self.tenant_limits(auth.tenant_defaults, auth.tenant, &tenants, requests_max);
        AuthConfig { mode, allow_open, hosts, tokens, tenant_defaults, tenant_limits }
    }

    fn token(&mut self, token: Spanned<file::Token>) -> Option<TokenConfig> {
        let at = token.span();
        let file::Token { name, sha256, sha256_file, scopes, rate, tenant } = token.into_inner();
        let name = self.token_name(name, &at);
        let sha256 = self.token_digest(sha256, sha256_file, &at);
        let tenant = tenant.and_then(|tenant| self.tenant(&tenant));
        let rate = rate.and_then(|rate| self.rate(rate));
        if scopes.is_empty() {
            let refusal = Refusal::new(at, "this token may do nothing");
            self.refuse(
                &refusal
                    .help("add `scopes = [\"read:*\"]`; the verbs are read, write, invalidate, and admin"),
            );
            return None;
        }
        let mut allowed = Vec::with_capacity(scopes.len());
        for scope in scopes {
            match scope.get_ref().parse::<Scope>() {
                Ok(scope) => allowed.push(scope),
                Err(error) => self.refuse(&Refusal::new(scope.span(), error.to_string())),
            }
        }
        Some(TokenConfig { name: name?, sha256: sha256?, scopes: allowed, tenant, rate })
    }

    fn token_name(&mut self, name: Option<Spanned<String>>, at: &std::ops::Range<usize>) -> Option<String> {
        let Some(name) = name else {
            let refusal = Refusal::new(at.clone(), "this token has no name");
            self.refuse(&refusal.help("add `name = \"web\"`: logs call it so"));
            return None;
        };
        let text = name.get_ref();
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c));
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !is_plain {
            let title = format!(
                "the name of a token is at most {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` and `@`"
            );
            self.refuse(&Refusal::new(name.span(), title));
            return None;
        }
        Some(name.into_inner())
    }

    fn token_digest(
        &mut self,
        text: Option<Spanned<Secret>>,
        file: Option<Spanned<String>>,
        at: &std::ops::Range<usize>,
    ) -> Option<Digest> {
        const HELP: &str =
            "make a token with `openssl rand -hex 32`, and its digest with `printf %s TOKEN | sha256sum`";
        let (text, at) = match (text, file) {
            (Some(text), None) => (text.get_ref().reveal().to_owned(), text.span()),
            (None, Some(file)) => (self.read_secret(&file)?.trim().to_owned(), file.span()),
            (Some(_), Some(file)) => {
                let refusal = Refusal::new(file.span(), "both `sha256` and `sha256_file` are set");
                self.refuse(&refusal.help("keep one of them"));
                return None;
            }
            (None, None) => {
                self.refuse(&Refusal::new(at.clone(), "this token has no `sha256`").help(HELP));
                return None;
            }
        };
        let digest = Digest::from_hex(&text);
        let title = match &digest {
            Some(digest) if *digest == Digest::of(b"") => "this is the digest of no token at all",
            Some(_) => return digest,
            None => "this is not the SHA-256 of a token: 64 hexadecimal digits",
        };
        self.refuse(&Refusal::new(at, title).help(HELP));
        None
    }

    fn tenant(&mut self, tenant: &Spanned<String>) -> Option<String> {
        let text = tenant.get_ref();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if text.is_empty() || text.len() > TENANT_BYTES_MAX || !is_plain {
            let title = format!("the name of a tenant is at most {TENANT_BYTES_MAX} of a-z and 0-9");
            self.refuse(
                &Refusal::new(tenant.span(), title).help("its keyspaces are called `tenant--keyspace`"),
            );
            return None;
        }
        Some(text.clone())
    }

    pub(super) fn rate(&mut self, rate: Spanned<file::Rate>) -> Option<RateLimit> {
        let at = rate.span();
        let file::Rate { per_second, burst } = rate.into_inner();
        if per_second.is_none() {
            let refusal = Refusal::new(at, "this rate has no `per_second`");
            self.refuse(&refusal.help("write `rate = { per_second = 5000, burst = 10000 }`"));
            return None;
        }
        let number = |count: u64| u32::try_from(count).ok().and_then(NonZeroU32::new);
        let per_second = self.count(per_second, 1, RATE_MAX);
        let burst = self.count(burst, per_second, RATE_MAX);
        number(per_second).zip(number(burst)).map(|(per_second, burst)| RateLimit { per_second, burst })
    }

    /// A listener that others reach, where nobody is asked for a token.
    pub(super) fn open_listener(&mut self, listen: &Spanned<String>, auth: &AuthConfig) {
        if auth.mode == AuthMode::Token || auth.allow_open || is_loopback(listen.get_ref()) {
            return;
        }
        let title = "other machines reach this address, and nobody is asked for a token";
        let help = "add `[[auth.token]]`, or listen on 127.0.0.1, or write `auth.allow_open = true` if everybody may do everything";
        self.refuse(&Refusal::new(listen.span(), title).label("reachable from outside").help(help));
    }

    /// What a keyspace cannot be called where there are tenants.
    pub(super) fn name_beside_tenants(&mut self, name: &Spanned<String>, tenants: &BTreeSet<String>) {
        let Some(longest) = tenants.iter().max_by_key(|tenant| tenant.len()) else { return };
        if name.get_ref().contains(SEPARATOR) {
            let title = format!("the name of a keyspace has no `{SEPARATOR}` where there are tenants");
            self.refuse(&Refusal::new(name.span(), title).help("theirs are called `tenant--keyspace`"));
        }
        let full = tenant_keyspace(longest, name.get_ref());
        if Namespace::new(name.get_ref()).is_ok() && Namespace::new(&full).is_err() {
            let title = format!("for the tenant `{longest}` it would be called `{full}`, which is too long");
            let help = format!("the name of a keyspace has at most {} bytes", Namespace::LENGTH_MAX);
            self.refuse(&Refusal::new(name.span(), title).help(help));
        }
    }
}

/// Whether an address is one that only this machine reaches. A name is that only if it is `localhost`.
pub(crate) fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
