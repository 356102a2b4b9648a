//! Where does each setting come from?
//!
//! 1. Every setting that is in force is shown with the place that set it: a line of the file, a variable, a flag, or nobody.
//! 2. What a keyspace or a tenant inherits is shown with the place that all of them have it from.
//! 3. Secrets are hidden, because what is shown is the serialised [`Config`], which hides them.

use super::report::{ConfigError, Document};
use super::{Config, Sources, check, overlay, unknown};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// A setting that is in force, and who set it.
///
/// # Examples
/// ```
/// use terrace_server::config::{Config, Sources};
/// let sources = Sources::text("[l1]\nmax_entries = 500\n").flag("--listen", "server.listen", "127.0.0.1:0");
/// let settings = Config::settings(&sources)?;
/// let of = |key: &str| settings.iter().find(|setting| setting.key == key).map(|setting| setting.from.to_string());
/// assert_eq!(of("l1.max_entries").as_deref(), Some("configuration:2"));
/// assert_eq!(of("server.listen").as_deref(), Some("--listen"));
/// assert_eq!(of("l1.policy").as_deref(), Some("default"));
/// # Ok::<(), terrace_server::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Its name: `l1.max_entries`, `keyspace.users.ttl`.
    pub key: String,
    /// Its value, as TOML. Secrets are hidden.
    pub value: String,
    /// Who set it.
    pub from: SetBy,
}

/// Who set a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SetBy {
    /// Nobody: it is the default.
    Default,
    /// A line of the file; without a path of a text that is in no file.
    Line {
        /// The file.
        path: Option<PathBuf>,
        /// The line, from 1.
        line: usize,
    },
    /// A variable or a flag, in words.
    Beside(String),
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Line { path: Some(path), line } => write!(f, "{}:{line}", path.display()),
            Self::Line { path: None, line } => write!(f, "configuration:{line}"),
            Self::Beside(name) => f.write_str(name),
        }
    }
}

impl Serialize for SetBy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Settings that are set under another name, too.
const OTHER_NAMES: [(&str, &str); 1] = [("l2.max_retries", "l2.retry.max")];

/// What names the file that a secret is in.
fn file_of(key: &str) -> String {
    match key.split_once(".headers.") {
        Some((of, name)) => format!("{of}.headers_file.{name}"),
        None => format!("{key}_file"),
    }
}

impl Config {
    /// Every setting that is in force, and who set it, sorted by name.
    ///
    /// # Errors
    /// As [`Config::load`].
    ///
    /// # Cost
    /// As [`Config::load`].
    pub fn settings(sources: &Sources) -> Result<Vec<Setting>, ConfigError> {
        Self::load_with_settings(sources).map(|(_, settings)| settings)
    }

    /// [`Config::load`] and [`Config::settings`] of one reading: a pipe can be read once.
    ///
    /// # Errors
    /// As [`Config::load`].
    ///
    /// # Cost
    /// As [`Config::load`].
    pub fn load_with_settings(sources: &Sources) -> Result<(Self, Vec<Setting>), ConfigError> {
        let mut places = BTreeMap::new();
        let config = Self::load_noting(sources, |document, root| note(document, "", root, &mut places))?;
        let found = |key: &str| place_of(key, &places).cloned().unwrap_or(SetBy::Default);
        let settings = config.leaves().into_iter();
        let settings = settings
            .map(|(key, value)| Setting { from: found(&key), value: value.to_string(), key })
            .collect();
        Ok((config, settings))
    }

    /// As [`Config::load`]; `note` sees what was written before it is judged.
    pub(super) fn load_noting(
        sources: &Sources,
        note: impl FnOnce(&Document, &DeTable<'_>),
    ) -> Result<Self, ConfigError> {
        let document = sources.document()?;
        let root = overlay::read(&document, &sources.variables)?;
        note(&document, root.get_ref());
        check::check(&document, unknown::read(&document, root)?)
    }

    /// Every setting that has a value, by its name.
    pub(crate) fn leaves(&self) -> BTreeMap<String, Value> {
        let mut leaves = BTreeMap::new();
        let table = Table::try_from(self).expect("every setting has a TOML form");
        flatten("", table, &mut leaves);
        leaves
    }
}

fn place_of<'a>(key: &str, places: &'a BTreeMap<String, SetBy>) -> Option<&'a SetBy> {
    let other = |(one, other): &(&str, &str)| match key {
        key if key == *one => Some(places.get(*other)),
        key if key == *other => Some(places.get(*one)),
        _ => None,
    };
    let inherited = || {
        if let Some((_, setting)) = key.strip_prefix("auth.tenant.").and_then(|rest| rest.split_once('.')) {
            // A rate is inherited whole: one that a tenant says itself has nothing of that of all.
            let own = key.strip_suffix(setting).filter(|_| setting.starts_with("rate."));
            let has_own = own.is_some_and(|of| {
                let rate = format!("{of}rate.");
                places.range(rate.clone()..).next().is_some_and(|(key, _)| key.starts_with(&rate))
            });
            return if has_own { None } else { places.get(&format!("auth.tenant_defaults.{setting}")) };
        }
        let (_, setting) = key.strip_prefix("keyspace.")?.split_once('.')?;
        match setting.strip_prefix("write_behind.") {
            Some(setting) => places.get(&format!("write_behind.{setting}")),
            None => places.get(&format!("defaults.{setting}")),
        }
    };
    let other = || OTHER_NAMES.iter().find_map(other).flatten();
    places.get(key).or_else(other).or_else(|| places.get(&file_of(key))).or_else(inherited)
}

/// Notes where each value of a table stands.
fn note(document: &Document, prefix: &str, table: &DeTable<'_>, places: &mut BTreeMap<String, SetBy>) {
    for (name, value) in table {
        let key = joined(prefix, name.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => note(document, &key, table, places),
            _ => {
                places.insert(key, set_by(document, &value.span(), name));
            }
        }
    }
}

fn set_by(document: &Document, at: &Range<usize>, name: &Spanned<std::borrow::Cow<'_, str>>) -> SetBy {
    if let Some(extra) = document.extra(at) {
        return SetBy::Beside(extra.name.clone());
    }
    let before = document.text.get(..name.span().start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    SetBy::Line { path: document.path.clone(), line }
}

fn flatten(prefix: &str, table: Table, leaves: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = joined(prefix, &name);
        match value {
            Value::Table(table) => flatten(&key, table, leaves),
            value => {
                leaves.insert(key, value);
            }
        }
    }
}

/// A dotted name; what has a dot itself is quoted.
fn joined(prefix: &str, name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name =
        if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { format!("{name:?}") };
    if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_says_who_set_it() {
        let toml = "[defaults]\njitter = 0.1\n[l2]\nurl = 'redis://app:hunter2@h'\nretry = { max = 2 }\n\
                    [write_behind]\npath = 'j'\nack = 'os'\n[origin.o]\ntype = 'sqlite'\nfile = 'x.db'\n\
                    [keyspace.'a b']\npattern = 'a:{id}'\n";
        let variables = [("CACHE_DEFAULT_TTL", "60"), ("TERRACE__L1__MAX_BYTES", "1MiB")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let toml = toml.replace("'a b'", "ab");
        let sources =
            Sources::text(toml).variables(variables).flag("--listen", "server.listen", "127.0.0.1:0");
        let settings = Config::settings(&sources).unwrap_or_else(|error| panic!("{error}"));
        let of = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key == key);
            setting.map(|setting| format!("{} {}", setting.value, setting.from)).unwrap_or_default()
        };
        for (key, shown) in [
            ("server.listen", "\"127.0.0.1:0\" --listen"),
            ("server.max_requests", "4096 default"),
            ("defaults.ttl", "\"1m\" environment variable CACHE_DEFAULT_TTL"),
            ("keyspace.ab.ttl", "\"1m\" environment variable CACHE_DEFAULT_TTL"),
            ("l1.max_bytes", "\"1MiB\" environment variable TERRACE__L1__MAX_BYTES"),
            ("defaults.jitter", "0.1 configuration:2"),
            ("keyspace.ab.jitter", "0.1 configuration:2"),
            ("keyspace.ab.pattern", "\"a:{id}\" configuration:13"),
            ("keyspace.ab.strategy", "\"cache-aside\" default"),
            ("l2.url", "\"redis://***@h\" configuration:4"),
            ("l2.max_retries", "2 configuration:5"),
            ("write_behind.ack", "\"os\" configuration:8"),
            ("origin.o.pool", "2 default"),
        ] {
            assert_eq!(of(key), shown, "{key}");
        }
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(joined("keyspace", "a.b"), "keyspace.\"a.b\"");
    }
}
