//! The rules of keyspaces: their patterns against each other, their statements against their patterns.

use super::check::Checker;
use super::freshness::Given;
use super::limits;
use super::origins::Origins;
use super::report::{Refusal, nearest};
use super::{Defaults, KeyspaceConfig, KeyspaceL1, SourceConfig, Strategy, TtlSetting, file};
use crate::origin::sql::Statement;
use crate::template::{Captures, Template};
use std::collections::BTreeMap;
use std::ops::Range;
use terrace::{Namespace, Ttl};
use toml::Spanned;

/// Where keys go that no pattern matches.
pub(crate) const UNMATCHED: &str = "default";

/// The strategies there will be.
#[derive(Clone, Copy)]
enum Named {
    Built(Strategy),
    Planned,
}

const STRATEGIES: [(&str, Named); 5] = [
    ("cache-aside", Named::Built(Strategy::CacheAside)),
    ("read-through", Named::Built(Strategy::ReadThrough)),
    ("write-through", Named::Planned),
    ("write-behind", Named::Planned),
    ("write-around", Named::Planned),
];

pub(super) fn check(
    checker: &mut Checker<'_>,
    keyspaces: BTreeMap<Spanned<String>, Spanned<file::Keyspace>>,
    origins: &Origins,
    defaults: &Defaults,
    has_l2: bool,
) -> BTreeMap<String, KeyspaceConfig> {
    let mut checked: Vec<(String, Range<usize>, KeyspaceConfig)> = Vec::new();
    for (name, keyspace) in keyspaces {
        checker.keyspace_name(&name);
        let pattern_at = keyspace.get_ref().pattern.as_ref().map_or(name.span(), Spanned::span);
        if let Some(config) = checker.keyspace(&name.span(), keyspace.into_inner(), origins, defaults, has_l2)
        {
            checker.overlap(&config.pattern, &pattern_at, &checked);
            checked.push((name.into_inner(), pattern_at, config));
        }
    }
    checked.into_iter().map(|(name, _, config)| (name, config)).collect()
}

impl Checker<'_> {
    fn keyspace_name(&mut self, name: &Spanned<String>) {
        if name.get_ref() == UNMATCHED {
            let title = "`default` is the keyspace of all keys that no pattern matches; it has no section";
            let help = "give this keyspace another name, or set the rules in `[defaults]`";
            self.refuse(&Refusal::new(name.span(), title).help(help));
        } else if let Err(error) = Namespace::new(name.get_ref()) {
            let title = error.to_string().replacen("the namespace", "the name of a keyspace", 1);
            self.refuse(&Refusal::new(name.span(), title));
        }
    }

    fn keyspace(
        &mut self,
        at: &Range<usize>,
        keyspace: file::Keyspace,
        origins: &Origins,
        defaults: &Defaults,
        has_l2: bool,
    ) -> Option<KeyspaceConfig> {
        let Some(text) = keyspace.pattern else {
            let refusal = Refusal::new(at.clone(), "this keyspace has no pattern");
            self.refuse(&refusal.help("add `pattern = \"user:{id}\"`"));
            return None;
        };
        let pattern = match Template::parse(text.get_ref()) {
            Ok(pattern) => pattern,
            Err(error) => {
                self.refuse(&Refusal::new(text.span(), error.to_string()));
                return None;
            }
        };
        let strategy = self.strategy(keyspace.strategy, keyspace.source.as_ref(), at)?;
        let source = match keyspace.source {
            Some(source) => Some(self.source(source, &pattern, &text.span(), origins)?),
            None => None,
        };
        let freshness = self.freshness(
            Given {
                stale_while_revalidate: keyspace.stale_while_revalidate,
                stale_if_error: keyspace.stale_if_error,
                soft_timeout: keyspace.soft_timeout,
                hard_timeout: keyspace.hard_timeout,
                negative_ttl: keyspace.negative_ttl,
                jitter: keyspace.jitter,
                refresh_ahead: keyspace.refresh_ahead,
            },
            &defaults.freshness,
        );
        let limits = self.limits(
            limits::Given {
                loads_max: keyspace.loads_max,
                loads_wait_max: keyspace.loads_wait_max,
                flight_age_max: keyspace.flight_age_max,
                adaptive_ttl: keyspace.adaptive_ttl,
                adaptive_ttl_reads: keyspace.adaptive_ttl_reads,
                stale_share_max: keyspace.stale_share_max,
                stale_age_max: keyspace.stale_age_max,
            },
            at,
            &defaults.limits,
            &freshness,
        );
        Some(KeyspaceConfig {
            pattern,
            strategy,
            ttl: keyspace.ttl.unwrap_or(defaults.ttl),
            l1: KeyspaceL1 {
                enabled: self.l1_enabled(keyspace.l1.enabled.as_ref(), has_l2),
                ttl: keyspace.l1.ttl.unwrap_or(TtlSetting(Ttl::Never)),
            },
            suspect: self.suspect(keyspace.suspect, defaults.suspect),
            freshness,
            limits,
            source,
        })
    }

    fn strategy(
        &mut self,
        given: Option<Spanned<String>>,
        source: Option<&Spanned<file::Source>>,
        at: &Range<usize>,
    ) -> Option<Strategy> {
        let natural = if source.is_some() { Strategy::ReadThrough } else { Strategy::CacheAside };
        let place = given.as_ref().map_or(at.clone(), Spanned::span);
        let text = given.as_ref().map(|given| given.get_ref().clone()).unwrap_or_default();
        let strategy = match self.word(given, "strategy", &STRATEGIES, Named::Built(natural)) {
            Named::Built(strategy) => strategy,
            Named::Planned => {
                let title = format!("the strategy `{text}` is not built yet");
                let help = "use `read-through`, and write to the origin in your program: write there, \
                            then delete the key here";
                self.refuse(&Refusal::new(place, title).help(help));
                return None;
            }
        };
        match (strategy, source) {
            (Strategy::ReadThrough, None) => {
                let title = "`read-through` needs a source to read from";
                let help = "add `source = { origin = \"...\", load = \"select ...\" }`";
                self.refuse(&Refusal::new(place, title).help(help));
                None
            }
            (Strategy::CacheAside, Some(source)) => {
                let title = "`cache-aside` never reads from a source";
                let help = "remove the source, or use `read-through`";
                let refusal = Refusal::new(place, title).help(help).also(source.span(), "this source");
                self.refuse(&refusal);
                None
            }
            _ => Some(strategy),
        }
    }

    fn source(
        &mut self,
        source: Spanned<file::Source>,
        pattern: &Template,
        pattern_at: &Range<usize>,
        origins: &Origins,
    ) -> Option<SourceConfig> {
        let at = source.span();
        let source = source.into_inner();
        let (Some(origin), Some(load)) = (source.origin, source.load) else {
            let refusal = Refusal::new(at, "a source needs an origin and a statement that loads a value");
            self.refuse(&refusal.help("write `source = { origin = \"...\", load = \"select ...\" }`"));
            return None;
        };
        if !origins.contains_key(origin.get_ref()) {
            let near = nearest(origin.get_ref(), origins.keys().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `[origin.{}]`", origin.get_ref()),
            };
            let refusal = Refusal::new(origin.span(), format!("there is no origin `{}`", origin.get_ref()));
            self.refuse(&refusal.help(help));
        }
        let load = self.statement(&load, pattern, pattern_at);
        let load_many = source.load_many.map(|text| self.statement(&text, pattern, pattern_at));
        Some(SourceConfig {
            origin: origin.into_inner(),
            load: load?,
            load_many: match load_many {
                Some(load_many) => Some(load_many?),
                None => None,
            },
        })
    }

    /// A statement that uses exactly the captures of its pattern.
    fn statement(
        &mut self,
        text: &Spanned<String>,
        pattern: &Template,
        pattern_at: &Range<usize>,
    ) -> Option<Statement> {
        let statement = match Statement::parse(text.get_ref()) {
            Ok(statement) => statement,
            Err(error) => {
                self.refuse(&Refusal::new(text.span(), error.to_string()));
                return None;
            }
        };
        let captures: Vec<&str> = pattern.names().collect();
        let is_known = |name: &str| name == Captures::WHOLE_KEY || captures.contains(&name);
        if let Some(unknown) = statement.names().iter().find(|name| !is_known(name)) {
            let help = nearest(unknown, captures.iter().copied().chain([Captures::WHOLE_KEY])).map_or_else(
                || format!("add `{{{unknown}}}` to the pattern, or use `:key`, the whole key"),
                |near| format!("did you mean `:{near}`?"),
            );
            let refusal = Refusal::new(text.span(), format!("`:{unknown}` is not captured by the pattern"));
            self.refuse(&refusal.also(pattern_at.clone(), "this pattern").help(help));
            return None;
        }
        let uses = |name: &str| statement.names().iter().any(|own| own == name);
        let is_ignored = |name: &str| name.starts_with('_');
        let unused = captures.iter().find(|name| !is_ignored(name) && !uses(name));
        if let Some(unused) = unused.filter(|_| !uses(Captures::WHOLE_KEY)) {
            let title =
                format!("`{{{unused}}}` is not used by this statement, so all its keys would load the same");
            let help = format!("use `:{unused}`, or name it `{{_{unused}}}` if that is meant");
            let refusal = Refusal::new(text.span(), title).also(pattern_at.clone(), "this pattern");
            self.refuse(&refusal.help(help));
            return None;
        }
        if captures.is_empty() && statement.names().is_empty() && pattern.prefix() != pattern.as_str() {
            let title = "this statement has no parameter, so all keys of the pattern would load the same";
            self.refuse(&Refusal::new(text.span(), title).help("use `:key`, the whole key"));
            return None;
        }
        Some(statement)
    }

    fn overlap(
        &mut self,
        pattern: &Template,
        at: &Range<usize>,
        others: &[(String, Range<usize>, KeyspaceConfig)],
    ) {
        let clash = others.iter().find(|(_, _, other)| other.pattern.overlaps(pattern));
        if let Some((name, other_at, _)) = clash {
            let title = format!("some keys match this pattern and that of keyspace `{name}`");
            let help = "give one of them a longer plain text before its first capture";
            let refusal = Refusal::new(at.clone(), title).label("this pattern").help(help);
            self.refuse(&refusal.also(other_at.clone(), "and this one"));
        }
    }
}
