//! The rules of a keyspace's source: which statements its strategy needs, and which parameters each may have.
//!
//! 1. What a statement names is a capture of the pattern, the whole key (`:key`), in `store` the document (`:value`), and in what is
//!    written behind the version of the write (`:version`).
//! 2. Each capture is used, so that two keys never mean one row unless that is said.
//! 3. Where there are tenants each statement names the one that asks (`:tenant`), so that two tenants never mean one row unless that
//!    is said.

use super::answers::SourceFreshness;
use super::check::Checker;
use super::origins::Origins;
use super::report::{Refusal, nearest};
use super::{OriginConfig, Strategy, file};
use crate::origin::Ask;
use crate::origin::endpoint::{Endpoint, Verb};
use crate::origin::sql::Statement;
use crate::template::{Captures, Template};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;

/// Where the values of a keyspace are loaded from, and written to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct SourceConfig {
    /// The name of the origin.
    pub origin: String,
    /// The statement or request that loads one value. Default none, of what is written around alone: then nothing is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Ask>,
    /// The column of `load` that is the whole document. Default none: the row becomes an object of its columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The statement that loads many values at once: it is given a list of the one part by which the pattern tells keys apart, and its rows
    /// have that part as the column of its name. Default none: many are loaded one by one, several at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_many: Option<Ask>,
    /// The statement or request that stores one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Ask>,
    /// The statement or request that removes one value. Default none: then the keyspace's entries cannot be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<Ask>,
    /// Who says how long what is loaded is fresh. Default `keyspace`; `answer` is for an HTTP API.
    #[serde(skip_serializing_if = "SourceFreshness::is_keyspace")]
    pub freshness: SourceFreshness,
    /// Whether an HTTP API is asked if the old value still holds, where there is one. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub conditional: bool,
}

/// What the document is called in a statement.
pub(crate) const DOCUMENT: &str = "value";
/// What the version of a write that is written behind is called.
pub(crate) const VERSION: &str = "version";
/// What the tenant that asks is called; null where nobody's tenant does.
pub(crate) const TENANT: &str = "tenant";

const STRATEGIES: [(&str, Strategy); 5] = [
    ("cache-aside", Strategy::CacheAside),
    ("read-through", Strategy::ReadThrough),
    ("write-through", Strategy::WriteThrough),
    ("write-around", Strategy::WriteAround),
    ("write-behind", Strategy::WriteBehind),
];

/// The strategies that there are.
pub(super) fn strategy_words() -> Vec<&'static str> {
    STRATEGIES.iter().map(|(word, _)| *word).collect()
}

/// What a statement is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Load,
    LoadMany,
    Store,
    Delete,
}

impl Role {
    /// What it may name besides captures and the key.
    fn extras(self, strategy: Strategy) -> &'static [&'static str] {
        match (self, strategy) {
            (Self::Store, Strategy::WriteBehind) => &[DOCUMENT, VERSION],
            (Self::Store, _) => &[DOCUMENT],
            (Self::Delete, Strategy::WriteBehind) => &[VERSION],
            (Self::Load | Self::LoadMany | Self::Delete, _) => &[],
        }
    }

    /// What would be the same for keys that it does not tell apart.
    fn same(self) -> &'static str {
        match self {
            Self::Load | Self::LoadMany => "load the same",
            Self::Store => "be stored as one",
            Self::Delete => "be removed as one",
        }
    }
}

/// The pattern of a keyspace, where it stands, and the strategy.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) pattern: &'a Template,
    pub(super) at: &'a Range<usize>,
    pub(super) strategy: Strategy,
    pub(super) tenants: &'a BTreeSet<String>,
}

impl Checker<'_> {
    pub(super) fn strategy(
        &mut self,
        given: Option<Spanned<String>>,
        source: Option<&Spanned<file::Source>>,
        at: &Range<usize>,
    ) -> Option<Strategy> {
        let natural = if source.is_some() { Strategy::ReadThrough } else { Strategy::CacheAside };
        let place = given.as_ref().map_or(at.clone(), Spanned::span);
        let strategy = self.word(given, "strategy", &STRATEGIES, natural);
        let name = strategy.as_str();
        let refused = |title: String, help: &str, other: Option<Range<usize>>| {
            let refusal = Refusal::new(place.clone(), title).help(help);
            match other {
                Some(other) => refusal.also(other, "this source"),
                None => refusal,
            }
        };
        let writes =
            source.and_then(|source| source.get_ref().store.as_ref().or(source.get_ref().delete.as_ref()));
        let refusal = match (strategy, source) {
            (Strategy::ReadThrough, None) => refused(
                format!("`{name}` needs a source to read from"),
                "add `source = { origin = \"...\", load = \"select ...\" }`",
                None,
            ),
            (Strategy::CacheAside, Some(source)) => refused(
                format!("`{name}` never reads from a source"),
                "remove the source, or use `read-through`",
                Some(source.span()),
            ),
            (Strategy::ReadThrough, Some(_)) => {
                let Some(statement) = writes else { return Some(strategy) };
                let title = format!("`{name}` never writes to its source");
                let help =
                    "set `strategy` to `write-through`, `write-around` or `write-behind`, or remove this";
                Refusal::new(statement.span(), title).help(help)
            }
            (Strategy::CacheAside, None) => return Some(strategy),
            (_, None) => refused(
                format!("`{name}` needs a source to write to"),
                "add `source = { origin = \"...\", load = \"select ...\", store = \"insert ...\" }`",
                None,
            ),
            (_, Some(source)) if source.get_ref().store.is_none() => refused(
                format!("`{name}` needs a statement that stores a value"),
                "add `store = \"insert ...\"` to the source, with `:value` for the document; or use `read-through`",
                Some(source.span()),
            ),
            _ => return Some(strategy),
        };
        self.refuse(&refusal);
        None
    }

    pub(super) fn source(
        &mut self,
        source: Spanned<file::Source>,
        place: Place<'_>,
        origins: &Origins,
    ) -> Option<SourceConfig> {
        let at = source.span();
        let source = source.into_inner();
        let Some(origin) = source.origin else {
            let refusal = Refusal::new(at, "a source needs an origin");
            self.refuse(&refusal.help("write `source = { origin = \"...\", load = \"select ...\" }`"));
            return None;
        };
        if source.load.is_none() {
            let texts = [&source.load_many, &source.document, &source.freshness];
            let of_loads = texts.into_iter().flatten().map(Spanned::span);
            let of_loads = of_loads.chain(source.conditional.as_ref().map(Spanned::span));
            self.without_load(&at, of_loads.min_by_key(|at| at.start), place.strategy)?;
        }
        if !origins.contains_key(origin.get_ref()) {
            let near = nearest(origin.get_ref(), origins.keys().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `[origin.{}]`", origin.get_ref()),
            };
            let refusal = Refusal::new(origin.span(), format!("there is no origin `{}`", origin.get_ref()));
            self.refuse(&refusal.help(help));
        }
        let of_origin = origins.get(origin.get_ref()).and_then(Option::as_ref);
        let is_http = matches!(of_origin, Some(OriginConfig::Http(_)));
        if is_http {
            self.refuse_statements(source.load_many.as_ref(), source.document.as_ref());
        }
        let mut ask = |text: &Spanned<String>, role| {
            if is_http { self.request(text, role, place) } else { self.statement(text, role, place) }
        };
        let mut given = |text: Option<&Spanned<String>>, role| match text {
            Some(text) => ask(text, role).map(Some),
            None => Some(None),
        };
        let load = given(source.load.as_ref(), Role::Load);
        let load_many = given(source.load_many.as_ref().filter(|_| !is_http), Role::LoadMany);
        let store = given(source.store.as_ref(), Role::Store);
        let delete = given(source.delete.as_ref(), Role::Delete);
        if let Some(text) = source.load_many.as_ref().filter(|_| is_sqlite(of_origin)) {
            self.needs_json_list(text);
        }
        let answers = self.answers(of_origin, source.freshness, source.conditional);
        let document = source.document.map(Spanned::into_inner).filter(|name| !name.is_empty());
        Some(SourceConfig {
            origin: origin.into_inner(),
            load: load?,
            document,
            load_many: load_many?,
            store: store?,
            delete: delete?,
            freshness: answers.freshness,
            conditional: answers.conditional,
        })
    }

    /// A source that loads nothing: only what is written around can have one, and then nothing is said of loads. `None` if it is refused.
    fn without_load(
        &mut self,
        at: &Range<usize>,
        of_loads: Option<Range<usize>>,
        strategy: Strategy,
    ) -> Option<()> {
        let name = strategy.as_str();
        let why = match strategy {
            Strategy::WriteAround => {
                let Some(idle) = of_loads else { return Some(()) };
                let refusal = Refusal::new(idle, "this source loads nothing, so this says nothing");
                self.refuse(&refusal.also(at.clone(), "this source").help("add a `load`, or remove this"));
                return None;
            }
            Strategy::WriteThrough | Strategy::WriteBehind => {
                "what it has stored leaves the tiers some time, and has to be loaded then"
            }
            _ => "what no tier has is loaded",
        };
        let title = format!("`{name}` needs a statement that loads a value: {why}");
        let help = "add `load = \"select ...\"`, or `load = \"GET /...\"`; only `write-around` can do without, and never loads";
        self.refuse(&Refusal::new(at.clone(), title).help(help));
        None
    }

    fn refuse_statements(&mut self, load_many: Option<&Spanned<String>>, document: Option<&Spanned<String>>) {
        if let Some(load_many) = load_many {
            let title = "an origin of type `http` has no `load_many`";
            let help = "leave it out: many keys are loaded by `load`, several at the same time";
            self.refuse(&Refusal::new(load_many.span(), title).help(help));
        }
        if let Some(document) = document {
            let title = "an origin of type `http` has no columns: its answer is the document";
            self.refuse(&Refusal::new(document.span(), title).help("leave `document` out"));
        }
    }

    /// SQLite has no lists: a statement that does not open its JSON text would find nothing, and all keys would count as absent.
    fn needs_json_list(&mut self, text: &Spanned<String>) {
        if !text.get_ref().to_ascii_lowercase().contains("json_each") {
            let title = "`load_many` is given its list as a JSON text, and does not read it";
            let help = "write `where id in (select value from json_each(:id))`";
            self.refuse(&Refusal::new(text.span(), title).help(help));
        }
    }

    /// A request with a method of its role that uses exactly the captures of its pattern.
    fn request(&mut self, text: &Spanned<String>, role: Role, place: Place<'_>) -> Option<Ask> {
        let endpoint = match Endpoint::parse(text.get_ref()) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                self.refuse(&Refusal::new(text.span(), error.to_string()));
                return None;
            }
        };
        let verbs: &[Verb] = match role {
            Role::Load | Role::LoadMany => &[Verb::Get],
            Role::Store => &[Verb::Put, Verb::Post, Verb::Patch],
            Role::Delete => &[Verb::Delete, Verb::Post],
        };
        if !verbs.contains(&endpoint.verb()) {
            let allowed: Vec<&str> = verbs.iter().map(|verb| verb.as_str()).collect();
            let title = format!("{} is not a method for this", endpoint.verb().as_str());
            let help = format!("write {}", allowed.join(" or "));
            self.refuse(&Refusal::new(text.span(), title).help(help));
            return None;
        }
        let captures: Vec<&str> = place.pattern.names().collect();
        let ask = Ask::Http(endpoint);
        let refusal = ambiguous(&captures, &[], place)
            .or_else(|| unknown(text, &ask, &captures, &[], place))
            .or_else(|| one_for_all_tenants(text, &ask, place))
            .or_else(|| unused(text, &ask, &captures, role, place));
        match refusal {
            Some(refusal) => {
                self.refuse(&refusal);
                None
            }
            None => Some(ask),
        }
    }

    /// A statement that uses exactly the captures of its pattern, and what else its role allows.
    fn statement(&mut self, text: &Spanned<String>, role: Role, place: Place<'_>) -> Option<Ask> {
        let ask = match Statement::parse(text.get_ref()) {
            Ok(statement) => Ask::Sql(statement),
            Err(error) => {
                self.refuse(&Refusal::new(text.span(), error.to_string()));
                return None;
            }
        };
        let captures: Vec<&str> = place.pattern.names().collect();
        let extras = role.extras(place.strategy);
        let refusal = ambiguous(&captures, extras, place)
            .or_else(|| unknown(text, &ask, &captures, extras, place))
            .or_else(|| one_for_all_tenants(text, &ask, place))
            .or_else(|| not_one_list(text, &ask, role, place))
            .or_else(|| unused(text, &ask, &captures, role, place));
        match refusal {
            Some(refusal) => {
                self.refuse(&refusal);
                None
            }
            None => Some(ask),
        }
    }
}

fn is_sqlite(origin: Option<&OriginConfig>) -> bool {
    matches!(origin, Some(OriginConfig::Sqlite(_)))
}

/// The part of a key of which `load_many` is given a list.
pub(crate) fn list_of(load_many: &Ask) -> Option<&str> {
    let mut names = load_many.names().iter().filter(|name| *name != TENANT);
    names.next().filter(|_| names.next().is_none()).map(String::as_str)
}

/// What is given several lists would pair each of one with all of another; what is given none loads nothing in particular.
fn not_one_list<'a>(text: &Spanned<String>, ask: &Ask, role: Role, place: Place<'_>) -> Option<Refusal<'a>> {
    (role == Role::LoadMany && list_of(ask).is_none()).then(|| {
        let title = "`load_many` is given a list of one part of the key, and names none or several";
        let help = "name one, as in `where id = any(:id)`; of keys with several parts leave `load_many` out: they are \
                    loaded one by one, several at the same time";
        Refusal::new(text.span(), title).also(place.at.clone(), "this pattern").help(help)
    })
}

/// A capture that has the name of something else.
fn ambiguous<'a>(captures: &[&str], extras: &[&str], place: Place<'_>) -> Option<Refusal<'a>> {
    let is_taken = |name: &str| extras.contains(&name) || (name == TENANT && !place.tenants.is_empty());
    let name = captures.iter().find(|name| is_taken(name))?;
    let what = match *name {
        DOCUMENT => "the document",
        TENANT => "the tenant that asks",
        _ => "the version of a write",
    };
    let title = format!("`:{name}` is {what} in this keyspace's statements, so no capture can be called so");
    Some(Refusal::new(place.at.clone(), title).help("give the capture another name"))
}

/// A parameter that is nothing.
fn unknown<'a>(
    text: &Spanned<String>,
    ask: &Ask,
    captures: &[&str],
    extras: &[&str],
    place: Place<'_>,
) -> Option<Refusal<'a>> {
    // A statement may name the tenant where there is none yet; a request would have nothing to put there.
    let has_tenant = !place.tenants.is_empty() || matches!(ask, Ask::Sql(_));
    let is_known = |name: &str| {
        let is_tenant = name == TENANT && has_tenant;
        is_tenant || name == Captures::WHOLE_KEY || captures.contains(&name) || extras.contains(&name)
    };
    let unknown = ask.names().iter().find(|name| !is_known(name))?;
    let known = captures.iter().chain(extras).copied().chain([Captures::WHOLE_KEY]);
    let parameter = |name: &str| match ask {
        Ask::Sql(_) => format!("`:{name}`"),
        Ask::Http(_) => format!("`{{{name}}}`"),
    };
    let help = match (nearest(unknown, known), unknown.as_str()) {
        (_, VERSION | DOCUMENT) if matches!(ask, Ask::Http(_)) => {
            "a request has the document as its body, and the version of a write in the header `Terrace-Version`"
                .to_owned()
        }
        (_, VERSION) => "only the statements of a keyspace with `write-behind` have a `:version`".to_owned(),
        (_, DOCUMENT) => "only `store` has a `:value`, the document".to_owned(),
        (Some(near), _) => format!("did you mean {}?", parameter(near)),
        (None, _) => format!("add `{{{unknown}}}` to the pattern, or use {}, the whole key", parameter(Captures::WHOLE_KEY)),
    };
    let refusal = Refusal::new(text.span(), format!("{} is not captured by the pattern", parameter(unknown)));
    Some(refusal.also(place.at.clone(), "this pattern").help(help))
}

/// What would make the rows of one tenant another's.
fn one_for_all_tenants<'a>(text: &Spanned<String>, ask: &Ask, place: Place<'_>) -> Option<Refusal<'a>> {
    let is_named = ask.names().iter().any(|name| name == TENANT);
    (!place.tenants.is_empty() && !is_named).then(|| {
        let title = "there are tenants, and this does the same for all of them";
        let help = match ask {
            Ask::Sql(_) => "name `:tenant`, as in `where tenant = :tenant`; it is null where no tenant asks",
            Ask::Http(_) => "name `{tenant}`, as in `GET /{tenant}/users/{id}`; where no tenant asks, nothing is asked for",
        };
        Refusal::new(text.span(), title).help(help)
    })
}

/// What would make different keys the same, and a `store` that stores nothing.
fn unused<'a>(
    text: &Spanned<String>,
    ask: &Ask,
    captures: &[&str],
    role: Role,
    place: Place<'_>,
) -> Option<Refusal<'a>> {
    let uses = |name: &str| ask.names().iter().any(|own| own == name);
    let is_ignored = |name: &str| name.starts_with('_');
    let unused = captures.iter().find(|name| !is_ignored(name) && !uses(name));
    if let Some(unused) = unused.filter(|_| !uses(Captures::WHOLE_KEY)) {
        let same = role.same();
        let title = format!("`{{{unused}}}` is not used by this statement, so all its keys would {same}");
        let help = format!("use `:{unused}`, or name it `{{_{unused}}}` if that is meant");
        let refusal = Refusal::new(text.span(), title).also(place.at.clone(), "this pattern");
        return Some(refusal.help(help));
    }
    let tells_no_keys = captures.is_empty() && !uses(Captures::WHOLE_KEY);
    if tells_no_keys && place.pattern.prefix() != place.pattern.as_str() {
        let same = role.same();
        let title = format!("this statement has no parameter, so all keys of the pattern would {same}");
        return Some(Refusal::new(text.span(), title).help("use `:key`, the whole key"));
    }
    (role == Role::Store && matches!(ask, Ask::Sql(_)) && !uses(DOCUMENT)).then(|| {
        let title = "this statement stores no document";
        Refusal::new(text.span(), title).help("use `:value`, the document that was put, as JSON text")
    })
}
