//! What would be done with a key, from the configuration alone?

use crate::config::{Config, KeyspaceConfig, SetBy, Setting, UNMATCHED};
use crate::origin::Ask;
use crate::template::Template;
use serde::Serialize;
use std::collections::BTreeMap;
use terrace::{Key, KeyError};

/// What a configuration says of a key.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Explained {
    /// The key.
    pub key: String,
    /// The keyspace that it belongs to.
    pub keyspace: String,
    /// The keyspace's pattern; `None` for `default`.
    pub pattern: Option<String>,
    /// Why it belongs there, in words.
    pub why: String,
    /// The parts of the key, by name.
    pub captures: BTreeMap<String, String>,
    /// What is done at the origin.
    pub strategy: &'static str,
    /// How long an entry is fresh.
    pub ttl: String,
    /// How long a copy stays in memory at most; `None` if there is none.
    pub l1_ttl: Option<String>,
    /// Where the pattern was set, and what other times and shares hold: known once [`Explained::set_by`] was told.
    pub pattern_from: Option<SetBy>,
    /// The other times and shares that hold, where any do.
    pub lifetimes: Vec<Lifetime>,
    /// The rules by which an entry has tags, besides those that whoever stores it gives.
    pub tags: Vec<String>,
    /// The origin that it is loaded from.
    pub origin: Option<String>,
    /// What the origin is asked.
    pub asks: Vec<Asked>,
}

/// A time, or a share of one, that holds for a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Lifetime {
    /// What it is called in a keyspace.
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// Who set it.
    pub from: SetBy,
}

/// The times, and shares of them, beside TTLs that a keyspace can have.
const LIFETIMES: [&str; 11] = [
    "stale_while_revalidate",
    "stale_if_error",
    "negative_ttl",
    "jitter",
    "refresh_ahead",
    "adaptive_ttl",
    "soft_timeout",
    "hard_timeout",
    "loads_wait_max",
    "flight_age_max",
    "write_behind.interval",
];

/// What an origin is asked for a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Asked {
    /// What for: `load`, `store` or `delete`.
    pub what: &'static str,
    /// The statement, or the request with its parts filled in.
    pub ask: String,
    /// The parameters of a statement, in their order. What the key does not say, the document for example, is `None`.
    pub parameters: Vec<(String, Option<String>)>,
}

impl Explained {
    /// What this configuration says of this key.
    ///
    /// # Errors
    /// [`KeyError`] if it cannot be a key.
    ///
    /// # Cost
    /// Nothing is asked.
    ///
    /// # Examples
    /// ```
    /// use terrace_server::Explained;
    /// use terrace_server::config::{Config, Sources};
    /// let config = Config::load(&Sources::text("[keyspace.users]\npattern = 'user:{id}'\nttl = '15m'\n"))?;
    /// let explained = Explained::of(&config, "user:42")?;
    /// assert_eq!((explained.keyspace.as_str(), explained.ttl.as_str()), ("users", "15m"));
    /// assert_eq!(explained.captures["id"], "42");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(config: &Config, key: &str) -> Result<Self, KeyError> {
        let key = Key::new(key)?;
        let mut matching: Vec<(&str, &KeyspaceConfig)> = Vec::new();
        for (name, keyspace) in &config.keyspaces {
            if keyspace.pattern.matches(key.as_str()) {
                matching.push((name, keyspace));
            }
        }
        matching.sort_by_key(|(_, keyspace)| std::cmp::Reverse(keyspace.pattern.prefix().len()));
        let l1_max = &config.l1;
        let shortest = |own: String| if l1_max.enabled { Some(own) } else { None };
        let Some((name, keyspace)) = matching.first() else {
            return Ok(Self {
                key: key.as_str().to_owned(),
                keyspace: UNMATCHED.to_owned(),
                pattern: None,
                why: unmatched(config, key.as_str()),
                captures: BTreeMap::new(),
                strategy: "cache-aside",
                ttl: config.defaults.ttl.to_string(),
                l1_ttl: shortest(l1_max.ttl.to_string()),
                pattern_from: None,
                lifetimes: Vec::new(),
                tags: Vec::new(),
                origin: None,
                asks: Vec::new(),
            });
        };
        let captures = keyspace.pattern.captures(key.as_str());
        let value = |name: &str| captures.as_ref().and_then(|captures| captures.get(name)).map(str::to_owned);
        let names = keyspace.pattern.names();
        let l1_ttl = keyspace.l1.ttl.0.min(l1_max.ttl.0);
        let l1_ttl = keyspace.l1.enabled.then(|| crate::config::TtlSetting(l1_ttl).to_string());
        let source = keyspace.source.as_ref();
        let asks = source.map_or_else(Vec::new, |source| {
            let asks = [
                ("load", source.load.as_ref()),
                ("store", source.store.as_ref()),
                ("delete", source.delete.as_ref()),
            ];
            asks.into_iter().filter_map(|(what, ask)| Some(asked(what, ask?, &value))).collect()
        });
        Ok(Self {
            key: key.as_str().to_owned(),
            keyspace: (*name).to_owned(),
            pattern: Some(keyspace.pattern.as_str().to_owned()),
            why: why(&keyspace.pattern, &matching[1..]),
            captures: names.filter_map(|name| Some((name.to_owned(), value(name)?))).collect(),
            strategy: keyspace.strategy.as_str(),
            ttl: keyspace.ttl.to_string(),
            l1_ttl: l1_ttl.and_then(shortest),
            pattern_from: None,
            lifetimes: Vec::new(),
            tags: keyspace.tags.iter().map(|rule| rule.as_str().to_owned()).collect(),
            origin: source.map(|source| source.origin.clone()),
            asks,
        })
    }

    /// The same, with what [`Config::settings`] says of who set the pattern, and of the other times that hold.
    ///
    /// # Examples
    /// ```
    /// use terrace_server::Explained;
    /// use terrace_server::config::{Config, Sources};
    /// let sources = Sources::text("[keyspace.users]\npattern = 'user:{id}'\nnegative_ttl = '10s'\n");
    /// let (config, settings) = (Config::load(&sources)?, Config::settings(&sources)?);
    /// let explained = Explained::of(&config, "user:42")?.set_by(&settings);
    /// assert_eq!(explained.pattern_from.map(|from| from.to_string()).as_deref(), Some("configuration:2"));
    /// assert_eq!((explained.lifetimes[0].name, explained.lifetimes[0].value.as_str()), ("negative_ttl", "10s"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn set_by(mut self, settings: &[Setting]) -> Self {
        let of = match &self.pattern {
            Some(_) => format!("keyspace.{}.", self.keyspace),
            None => "defaults.".to_owned(),
        };
        let setting =
            |name: &str| settings.iter().find(|setting| setting.key.strip_prefix(&of) == Some(name));
        self.pattern_from = setting("pattern").map(|setting| setting.from.clone());
        let holds = |name| Some((name, setting(name)?)).filter(|(_, setting)| setting.value != "0.0");
        let lifetimes = LIFETIMES.into_iter().filter_map(holds).map(|(name, setting)| Lifetime {
            name,
            value: setting.value.trim_matches('"').to_owned(),
            from: setting.from.clone(),
        });
        self.lifetimes = lifetimes.collect();
        self
    }
}

fn why(pattern: &Template, others: &[(&str, &KeyspaceConfig)]) -> String {
    if others.is_empty() {
        return format!("`{}` is the only pattern that matches it", pattern.as_str());
    }
    let others: Vec<String> =
        others.iter().map(|(name, other)| format!("`{}` of {name}", other.pattern.as_str())).collect();
    let (own, prefix) = (pattern.as_str(), pattern.prefix());
    format!(
        "of the patterns that match it, `{own}` has the longest plain beginning, `{prefix}`; also {}",
        others.join(", ")
    )
}

/// Why no pattern matches: with the one that comes nearest.
fn unmatched(config: &Config, key: &str) -> String {
    let beginning = |keyspace: &&KeyspaceConfig| key.starts_with(keyspace.pattern.prefix());
    let nearest =
        config.keyspaces.values().filter(beginning).max_by_key(|keyspace| keyspace.pattern.prefix().len());
    match nearest {
        None => "no pattern matches it".to_owned(),
        Some(near) => {
            format!(
                "no pattern matches it; `{}` begins like it, and a capture ends at the next `:`",
                near.pattern.as_str()
            )
        }
    }
}

fn asked(what: &'static str, ask: &Ask, value: &dyn Fn(&str) -> Option<String>) -> Asked {
    if let Ask::Http(endpoint) = ask {
        let values: Vec<String> =
            endpoint.names().iter().map(|name| value(name).unwrap_or_default()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let method = endpoint.as_str().split(' ').next().unwrap_or_default();
        let request = match endpoint.path(&values) {
            Some(path) => format!("{method} {path}"),
            None => format!("{} (nothing is asked: the key would lead elsewhere)", endpoint.as_str()),
        };
        return Asked { what, ask: request, parameters: Vec::new() };
    }
    let parameters = ask.names().iter().map(|name| (name.clone(), value(name))).collect();
    Asked { what, ask: ask.as_str().to_owned(), parameters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const FILE: &str = "
        [origin.lite]
        type = 'sqlite'
        file = 'x.db'
        [origin.api]
        type = 'http'
        base_url = 'http://127.0.0.1:1'
        [keyspace.users]
        pattern = 'user:{id}'
        strategy = 'write-through'
        [keyspace.users.source]
        origin = 'lite'
        load = 'select * from users where id = :id'
        store = 'insert into users values (:id, :value)'
        [keyspace.me]
        pattern = 'user:me'
        ttl = '10s'
        l1 = { ttl = '5s' }
        [keyspace.orders]
        pattern = 'order:{shop}:{id}'
        source = { origin = 'api', load = 'GET /{shop}/orders?id={id}' }
    ";

    fn explained(key: &str) -> Explained {
        let config = Config::load(&Sources::text(FILE)).unwrap_or_else(|error| panic!("{error}"));
        Explained::of(&config, key).expect("a key")
    }

    #[test]
    fn a_key_is_told_its_keyspace_its_parts_and_what_is_asked() {
        let user = explained("user:42");
        assert_eq!(
            (user.keyspace.as_str(), user.strategy, user.origin.as_deref()),
            ("users", "write-through", Some("lite"))
        );
        assert_eq!(user.asks[0].ask, "select * from users where id = :id");
        assert_eq!(user.asks[0].parameters, [("id".to_owned(), Some("42".to_owned()))]);
        assert_eq!(user.asks[1].parameters[1], ("value".to_owned(), None));
        assert_eq!(user.why, "`user:{id}` is the only pattern that matches it");
        let order = explained("order:berlin/mitte:7");
        assert_eq!(order.asks[0].ask, "GET /berlin%2Fmitte/orders?id=7");
    }

    #[test]
    fn every_time_that_holds_is_told_with_who_set_it() {
        let told = |key: &str| {
            let file = "
                [defaults]
                stale_if_error = '10m'
                [write_behind]
                path = 'j'
                [origin.o]
                type = 'sqlite'
                file = 'x.db'
                [keyspace.users]
                pattern = 'user:{id}'
                strategy = 'write-behind'
                refresh_ahead = 0.8
                hard_timeout = '2s'
                source = { origin = 'o', load = 'select 1 where 1 = :id', store = 'insert into t values (:id, :value, :version)' }
            ";
            let sources = Sources::text(file);
            let config = Config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
            let settings = Config::settings(&sources).expect("it loads");
            let explained = Explained::of(&config, key).expect("a key").set_by(&settings);
            let lifetimes = explained.lifetimes.iter();
            let lifetimes =
                lifetimes.map(|it| format!("{} {} {}", it.name, it.value, it.from)).collect::<Vec<_>>();
            (explained.pattern_from.map(|from| from.to_string()), lifetimes)
        };
        let (pattern, lifetimes) = told("user:1");
        assert_eq!(pattern.as_deref(), Some("configuration:10"));
        assert_eq!(
            lifetimes,
            [
                "stale_if_error 10m configuration:3",
                "refresh_ahead 0.8 configuration:12",
                "hard_timeout 2s configuration:13",
                "write_behind.interval 10s default"
            ]
        );
        assert_eq!(told("other"), (None, vec!["stale_if_error 10m configuration:3".to_owned()]));
    }

    #[test]
    fn the_choice_is_explained() {
        let me = explained("user:me");
        assert_eq!((me.keyspace.as_str(), me.ttl.as_str(), me.l1_ttl.as_deref()), ("me", "10s", Some("5s")));
        assert!(
            me.why.contains("longest plain beginning") && me.why.contains("`user:{id}` of users"),
            "{}",
            me.why
        );
        let basket = explained("user:42:basket");
        assert_eq!(basket.keyspace, "default");
        assert!(basket.why.contains("`user:{id}` begins like it"), "{}", basket.why);
        assert_eq!(explained("motd").why, "no pattern matches it");
        assert!(Explained::of(&Config::load(&Sources::none()).expect("the defaults"), "").is_err());
    }
}
