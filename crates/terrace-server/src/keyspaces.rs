//! Which keyspace of the library does a key belong to?
//!
//! 1. Every key belongs to exactly one: that of the matching pattern with the longest plain text in front, else
//!    `default`. The configuration refuses patterns that would leave a choice.
//! 2. Each is a namespace of the library with the keyspace's name. The library's key is the whole key, so a key looks the
//!    same in the service, in L2 and in a log.
//! 3. A tenant has all of them once more, as `tenant--keyspace`: nothing is shared but room and origins, which are told the tenant.
//! 4. A tenant's keyspaces stay while the process lives, tokens or none, so that it can come back and what it has written behind goes on.
//!    Where no tenant is left, statements need not tell tenants apart: then theirs ask no origin any more.

use crate::config::{Config, KeyspaceConfig, L2OnError, Strategy, Suspect, UNMATCHED, tenant_keyspace};
use crate::document::{Document, Documents, JsonOrigin};
use crate::origin::{Loader, Origins};
use crate::tagging::tags_of;
use crate::template::Template;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use terrace::{Cache, Glob, Key, Keyspace, KeyspaceBuilder, KeyspaceError, SuspectPolicy, Ttl};

/// What part of the time of a request a write may wait for the journal, so that its refusal is still answered. Loads of such a
/// keyspace may take as long.
const SHARE_OF_REQUEST: f64 = 0.8;

/// A keyspace of the service.
pub(crate) type DocumentKeyspace = Keyspace<Key, Document>;

/// All keyspaces, the longest prefix first, `default` last.
#[derive(Clone, Debug)]
pub(crate) struct Keyspaces {
    named: Vec<Named>,
    unmatched: DocumentKeyspace,
    about_unmatched: About,
}

/// What the configuration says of a keyspace, for people.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) pattern: String,
    pub(crate) strategy: Strategy,
    pub(crate) ttl: Ttl,
    /// The name of its origin.
    pub(crate) origin: Option<String>,
}

impl About {
    fn of(keyspace: &KeyspaceConfig) -> Self {
        Self {
            pattern: keyspace.pattern.as_str().to_owned(),
            strategy: keyspace.strategy,
            ttl: keyspace.ttl.0,
            origin: keyspace.source.as_ref().map(|source| source.origin.clone()),
        }
    }
}

#[derive(Clone, Debug)]
struct Named {
    pattern: Template,
    keyspace: DocumentKeyspace,
    about: About,
    /// Whether its entries can be removed: where changes go to an origin, that needs a statement.
    can_delete: bool,
    conduct: Conduct,
}

/// What answers about keys of a keyspace depend on besides the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    /// Whether it keeps copies in L1.
    pub(crate) has_l1: bool,
    /// Whether caches that several people share may not keep its entries.
    pub(crate) is_private: bool,
}

impl Conduct {
    /// That of keys that no pattern matches.
    const UNMATCHED: Self = Self { has_l1: true, is_private: true };
}

/// A keyspace that was opened, whether it is in the configuration still or not.
#[derive(Debug)]
pub(crate) struct Open {
    keyspace: DocumentKeyspace,
    pub(crate) uses_l1: bool,
    pub(crate) is_of_tenant: bool,
}

/// The keyspaces that were opened in this process, by name: a name can be opened once.
pub(crate) type Opened = BTreeMap<String, Open>;

/// The keyspaces of each tenant, by its name.
pub(crate) type OfTenants = HashMap<Box<str>, Keyspaces>;

/// The name of a keyspace that is a tenant's, or nobody's in particular.
fn name_of(tenant: Option<&str>, name: &str) -> String {
    match tenant {
        Some(tenant) => tenant_keyspace(tenant, name),
        None => name.to_owned(),
    }
}

/// What asks the origin of a keyspace on behalf of a tenant, or of nobody in particular.
fn loader(
    config: &Config,
    origins: &Origins,
    keyspace: &KeyspaceConfig,
    tenant: Option<&str>,
) -> Option<Loader> {
    // What is written behind has the statements that it was opened with, which do tell tenants apart.
    let is_told_apart = keyspace.strategy == Strategy::WriteBehind || !config.auth.tenants().is_empty();
    if tenant.is_none() || is_told_apart { origins.loader(keyspace, tenant) } else { None }
}

impl Keyspaces {
    /// Opens the keyspaces of a configuration, and gives those that are open its settings: first those of nobody in particular, then those
    /// of each tenant. What is open and not in the configuration any more keeps nothing of an origin, but for what is written behind: that
    /// stays as it was opened, and what is not in the configuration has only been opened for one that was refused.
    pub(crate) fn all(
        config: &Config,
        cache: &Cache,
        origins: &Origins,
        tenants: &BTreeSet<String>,
        opened: &mut Opened,
    ) -> Result<(Self, OfTenants), KeyspaceError> {
        let whose: Vec<Option<&str>> =
            [None].into_iter().chain(tenants.iter().map(|t| Some(t.as_str()))).collect();
        let names = || config.keyspaces.keys().map(String::as_str).chain([UNMATCHED]);
        let current: BTreeSet<String> =
            whose.iter().flat_map(|tenant| names().map(|name| name_of(*tenant, name))).collect();
        let is_gone =
            |(name, open): &(&String, &Open)| !current.contains(*name) && open.keyspace.behind().is_none();
        let gone = opened.iter().filter(is_gone);
        let gone: Vec<_> =
            gone.map(|(name, open)| (name.clone(), (open.uses_l1, open.is_of_tenant))).collect();
        for (name, is) in gone {
            settle(rules(config, cache, &name), &name, is, opened)?;
        }
        // Those that are open come first: a bound that is shared by name is another one for all of them before one more has it.
        for tenant in &whose {
            for (name, keyspace) in &config.keyspaces {
                let full = name_of(*tenant, name);
                if opened.contains_key(&full) {
                    open(config, cache, origins, (*tenant, &full, keyspace), opened)?;
                }
            }
        }
        let own = Self::of_tenant(config, cache, origins, None, opened)?;
        let mut of_tenants = OfTenants::with_capacity(tenants.len());
        for tenant in tenants {
            let keyspaces = Self::of_tenant(config, cache, origins, Some(tenant), opened)?;
            of_tenants.insert(tenant.as_str().into(), keyspaces);
        }
        Ok((own, of_tenants))
    }

    fn of_tenant(
        config: &Config,
        cache: &Cache,
        origins: &Origins,
        tenant: Option<&str>,
        opened: &mut Opened,
    ) -> Result<Self, KeyspaceError> {
        let mut named = Vec::with_capacity(config.keyspaces.len());
        for (name, keyspace) in &config.keyspaces {
            let has_delete = keyspace.source.as_ref().is_some_and(|source| source.delete.is_some());
            named.push(Named {
                pattern: keyspace.pattern.clone(),
                keyspace: open(config, cache, origins, (tenant, &name_of(tenant, name), keyspace), opened)?,
                about: About::of(keyspace),
                can_delete: has_delete || !keyspace.strategy.writes(),
                conduct: Conduct { has_l1: keyspace.l1.enabled, is_private: keyspace.private },
            });
        }
        named.sort_by_key(|named| std::cmp::Reverse(named.pattern.prefix().len()));
        let name = name_of(tenant, UNMATCHED);
        let unmatched = rules(config, cache, &name).ttl(config.defaults.ttl.0);
        let unmatched = config.defaults.limits.on(unmatched);
        let about_unmatched = About {
            pattern: "*".to_owned(),
            strategy: Strategy::CacheAside,
            ttl: config.defaults.ttl.0,
            origin: None,
        };
        let unmatched = settle(unmatched, &name, (true, tenant.is_some()), opened)?;
        Ok(Self { named, unmatched, about_unmatched })
    }

    /// The keyspace of a key.
    pub(crate) fn of(&self, key: &Key) -> &DocumentKeyspace {
        self.named_of(key).map_or(&self.unmatched, |named| &named.keyspace)
    }

    /// Whether a key can be removed.
    pub(crate) fn can_delete(&self, key: &Key) -> bool {
        self.named_of(key).is_none_or(|named| named.can_delete)
    }

    fn named_of(&self, key: &Key) -> Option<&Named> {
        self.named.iter().find(|named| named.pattern.matches(key.as_str()))
    }

    /// The keyspace of a key, and what answers about it depend on.
    pub(crate) fn with_conduct(&self, key: &Key) -> (&DocumentKeyspace, Conduct) {
        let named = self.named_of(key);
        named.map_or((&self.unmatched, Conduct::UNMATCHED), |named| (&named.keyspace, named.conduct))
    }

    /// The place of a key's keyspace in [`Keyspaces::iter`].
    pub(crate) fn index_of(&self, key: &Key) -> usize {
        let found = self.named.iter().position(|named| named.pattern.matches(key.as_str()));
        found.unwrap_or(self.named.len())
    }

    /// All keyspaces.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &DocumentKeyspace> {
        self.named.iter().map(|named| &named.keyspace).chain([&self.unmatched])
    }

    /// What the configuration says of them, in the order of [`Keyspaces::iter`].
    pub(crate) fn about(&self) -> impl Iterator<Item = &About> {
        self.named.iter().map(|named| &named.about).chain([&self.about_unmatched])
    }

    /// Whether a glob could match a key of the keyspace at this place: `false` only if it certainly cannot.
    pub(crate) fn could_match(&self, index: usize, glob: &Glob) -> bool {
        let text = glob.as_str();
        let literal = &text[..text.find(['*', '?', '[', '\\']).unwrap_or(text.len())];
        self.named.get(index).is_none_or(|Named { pattern, .. }| {
            literal.starts_with(pattern.prefix()) || pattern.prefix().starts_with(literal)
        })
    }
}

fn rules(config: &Config, cache: &Cache, name: &str) -> KeyspaceBuilder<Key, Document> {
    let keyspace = cache.keyspace(name);
    let fails = config.l2.as_ref().is_some_and(|l2| l2.on_error == L2OnError::Fail);
    let keyspace = if fails { keyspace.fail_closed() } else { keyspace };
    keyspace
        .weigher(|document: &Document| document.bytes().len() as u64)
        .compression(config.defaults.compression.of_library())
        .value_bytes_max(config.defaults.max_value.0)
        .suspect(policy(config.defaults.suspect))
        .options(config.defaults.freshness.options())
}

fn policy(suspect: Suspect) -> SuspectPolicy {
    match suspect {
        Suspect::Validate => SuspectPolicy::Validate,
        Suspect::Stale => SuspectPolicy::Stale,
        Suspect::Error => SuspectPolicy::Error,
    }
}

/// Opens a keyspace, or gives it these settings if it is open.
fn settle(
    builder: KeyspaceBuilder<Key, Document>,
    name: &str,
    (uses_l1, is_of_tenant): (bool, bool),
    opened: &mut Opened,
) -> Result<DocumentKeyspace, KeyspaceError> {
    let builder = if uses_l1 { builder } else { builder.no_l1() }.codec(Documents);
    let keyspace = match opened.get(name) {
        Some(open) => builder.replace(&open.keyspace)?,
        None => builder.build()?,
    };
    opened.insert(name.to_owned(), Open { keyspace: keyspace.clone(), uses_l1, is_of_tenant });
    Ok(keyspace)
}

fn open(
    config: &Config,
    cache: &Cache,
    origins: &Origins,
    (tenant, name, keyspace): (Option<&str>, &str, &KeyspaceConfig),
    opened: &mut Opened,
) -> Result<DocumentKeyspace, KeyspaceError> {
    let mut builder = rules(config, cache, name).ttl(keyspace.ttl.0).l1_ttl(keyspace.l1.ttl.0);
    builder = builder.suspect(policy(keyspace.suspect)).options(keyspace.freshness.options());
    builder = keyspace.limits.on(builder);
    if let Some(of_values) = &keyspace.compression {
        builder = builder.dictionary(of_values.dictionary.clone());
    }
    if !keyspace.tags.is_empty() {
        let (pattern, rules) = (keyspace.pattern.clone(), keyspace.tags.clone());
        builder = builder.tags(move |key, document| tags_of(&rules, &pattern, key, document));
    }
    if let Some(bulkhead) = keyspace.source.as_ref().and_then(|source| origins.bulkhead(&source.origin)) {
        builder = builder.bulkhead(bulkhead);
    }
    let is = (keyspace.l1.enabled, tenant.is_some());
    let loader = loader(config, origins, keyspace, tenant).map(JsonOrigin);
    let Some(loader) = loader else { return settle(builder, name, is, opened) };
    let builder = match (keyspace.strategy, &keyspace.write_behind) {
        (Strategy::WriteThrough, _) => builder.write_through(loader),
        (Strategy::WriteAround, _) => builder.write_around(loader),
        (Strategy::WriteBehind, Some(lane)) => builder
            .load_timeout(config.server.request_timeout.0.mul_f64(SHARE_OF_REQUEST))
            .write_behind(loader, lane.options()),
        _ => builder.read_through(loader),
    };
    Ok(settle(builder, name, is, opened)?.with_refresh(|text| Key::new(text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn keyspaces(toml: &str) -> Keyspaces {
        let config = Config::load(&Sources::text(toml)).expect("a valid configuration");
        let origins = Origins::start(&config).expect("origins start");
        let cache = Cache::memory().expect("a cache");
        Keyspaces::all(&config, &cache, &origins, &BTreeSet::new(), &mut Opened::new())
            .expect("keyspaces open")
            .0
    }

    const THREE: &str = r#"
        keyspace.users.pattern = "user:{id}"
        keyspace.me.pattern = "user:me"
        keyspace.orders.pattern = "user:{id}:orders"
    "#;

    #[test]
    fn the_longest_prefix_wins_and_the_rest_is_default() {
        let keyspaces = keyspaces(THREE);
        for (key, name) in [
            ("user:42", "users"),
            ("user:me", "me"),
            ("user:mean", "users"),
            ("user:42:orders", "orders"),
            ("user:42:basket", "default"),
            ("motd", "default"),
        ] {
            let key = Key::new(key).expect("a key");
            assert_eq!(keyspaces.of(&key).name(), name, "{key}");
            let index = keyspaces.index_of(&key);
            assert_eq!(keyspaces.iter().nth(index).map(Keyspace::name), Some(name), "{key}");
        }
    }

    #[test]
    fn what_does_not_tell_tenants_apart_is_asked_for_no_tenant() {
        let source = |load: &str| {
            let source = format!("source = {{ origin = 'lite', load = '{load}' }}");
            format!(
                "[origin.lite]\ntype = 'sqlite'\nfile = 'x.db'\n[keyspace.k]\npattern = 'k:{{id}}'\n{source}\n"
            )
        };
        let token = format!(
            "[[auth.token]]\nname = 'a'\nsha256 = '{}'\nscopes = ['read:*']\ntenant = 'a'\n",
            "ab".repeat(32)
        );
        for (toml, is_asked) in [
            (source("select 1 where :id = 1"), false),
            (source("select :tenant where :id = 1") + &token, true),
        ] {
            let config = Config::load(&Sources::text(&toml)).unwrap_or_else(|error| panic!("{error}"));
            let origins = Origins::start(&config).expect("origins start");
            let asks = |tenant| loader(&config, &origins, &config.keyspaces["k"], tenant).is_some();
            assert_eq!((asks(None), asks(Some("a"))), (true, is_asked), "{toml}");
        }
    }

    #[test]
    fn patterns_are_sent_only_where_they_could_match() {
        let keyspaces = keyspaces(THREE);
        let sent_to = |glob: &str| {
            let glob = Glob::new(glob).expect("a glob");
            let names =
                keyspaces.iter().enumerate().filter(|(index, _)| keyspaces.could_match(*index, &glob));
            let mut names: Vec<_> = names.map(|(_, keyspace)| keyspace.name().to_owned()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(sent_to("*"), "default me orders users");
        assert_eq!(sent_to("us*"), "default me orders users");
        assert_eq!(sent_to("user:1*"), "default orders users");
        assert_eq!(sent_to("user:me"), "default me orders users");
        assert_eq!(sent_to("order:*"), "default");
        assert_eq!(sent_to(r"\u*"), "default me orders users");
    }
}
