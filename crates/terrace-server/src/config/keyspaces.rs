//! The rules of keyspaces: their names, and their patterns against each other.

use super::check::Checker;
use super::freshness::Given;
use super::limits;
use super::origins::Origins;
use super::report::Refusal;
use super::sources::Place;
use super::units::Flag;
use super::{Defaults, KeyspaceConfig, KeyspaceL1, TtlSetting, WriteBehindConfig, file};
use crate::tagging::TagRule;
use crate::template::Template;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use terrace::{Namespace, Tag, Ttl};
use toml::Spanned;

/// Where keys go that no pattern matches.
pub(crate) const UNMATCHED: &str = "default";

/// What keyspaces refer to.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) origins: &'a Origins,
    pub(super) defaults: &'a Defaults,
    pub(super) write_behind: &'a WriteBehindConfig,
    pub(super) has_l2: bool,
    /// Who has keyspaces of their own.
    pub(super) tenants: &'a BTreeSet<String>,
}

pub(super) fn check(
    checker: &mut Checker<'_>,
    keyspaces: BTreeMap<Spanned<String>, Spanned<file::Keyspace>>,
    around: Around<'_>,
) -> BTreeMap<String, KeyspaceConfig> {
    let mut checked: Vec<(String, Range<usize>, KeyspaceConfig)> = Vec::new();
    for (name, keyspace) in keyspaces {
        checker.keyspace_name(&name);
        checker.name_beside_tenants(&name, around.tenants);
        let pattern_at = keyspace.get_ref().pattern.as_ref().map_or(name.span(), Spanned::span);
        if let Some(config) = checker.keyspace(&name.span(), keyspace.into_inner(), around) {
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
        around: Around<'_>,
    ) -> Option<KeyspaceConfig> {
        let defaults = around.defaults;
        let (pattern, pattern_at) = self.pattern(at, keyspace.pattern)?;
        let strategy_at = keyspace.strategy.as_ref().map_or(at.clone(), Spanned::span);
        let strategy = self.strategy(keyspace.strategy, keyspace.source.as_ref(), at)?;
        let place = Place { pattern: &pattern, at: &pattern_at, strategy, tenants: around.tenants };
        let source = match keyspace.source {
            Some(source) => Some(self.source(source, place, around.origins)?),
            None => None,
        };
        let write_behind =
            self.keyspace_lane(strategy, strategy_at, keyspace.write_behind, around.write_behind);
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
        let tags = self.tags(&keyspace.tags, &pattern);
        Some(KeyspaceConfig {
            pattern,
            strategy,
            ttl: keyspace.ttl.unwrap_or(defaults.ttl),
            l1: KeyspaceL1 {
                enabled: self.l1_enabled(keyspace.l1.enabled.as_ref(), around.has_l2),
                ttl: keyspace.l1.ttl.unwrap_or(TtlSetting(Ttl::Never)),
            },
            compression: keyspace
                .compression
                .dictionary
                .and_then(|file| self.dictionary(&file, defaults.compression.algo)),
            suspect: self.suspect(keyspace.suspect, defaults.suspect),
            private: self.private(keyspace.private, around.tenants),
            tags,
            freshness,
            limits,
            source,
            write_behind,
        })
    }

    /// Which tags entries have.
    fn tags(&mut self, given: &[Spanned<String>], pattern: &Template) -> Vec<TagRule> {
        if let Some(one_more) = given.get(Tag::PER_ENTRY_MAX) {
            let title = format!("an entry has {} tags at most", Tag::PER_ENTRY_MAX);
            self.refuse(&Refusal::new(one_more.span(), title).help("leave this one out, and those after it"));
        }
        let mut rules = Vec::with_capacity(given.len());
        for text in given {
            match TagRule::parse(text.get_ref(), pattern) {
                Ok(rule) => rules.push(rule),
                Err(error) => self.refuse(&Refusal::new(text.span(), error.to_string())),
            }
        }
        rules
    }

    /// Whether answers are for who asked alone. A shared cache knows an entry by its address, which is the same for every tenant.
    fn private(&mut self, given: Option<Spanned<Flag>>, tenants: &BTreeSet<String>) -> bool {
        let Some(flag) = given.filter(|flag| !flag.get_ref().0) else { return true };
        if let Some(tenant) = tenants.first() {
            let title =
                "a keyspace is private where there are tenants: the same address is another entry for each";
            let help = format!(
                "remove it, or the tenants (the first is `{tenant}`): a proxy between would give one tenant what is another's"
            );
            self.refuse(&Refusal::new(flag.span(), title).help(help));
        }
        false
    }

    /// Which keys are meant, and where that is said.
    fn pattern(
        &mut self,
        at: &Range<usize>,
        text: Option<Spanned<String>>,
    ) -> Option<(Template, Range<usize>)> {
        let Some(text) = text else {
            let refusal = Refusal::new(at.clone(), "this keyspace has no pattern");
            self.refuse(&refusal.help("add `pattern = \"user:{id}\"`"));
            return None;
        };
        match Template::parse(text.get_ref()) {
            Ok(pattern) => Some((pattern, text.span())),
            Err(error) => {
                self.refuse(&Refusal::new(text.span(), error.to_string()));
                None
            }
        }
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
