//! What stands beside the file: `${VAR}` in its text, environment variables, command line flags.
//!
//! 1. Order: defaults < file < well-known variables < `TERRACE__*` variables < flags. The later wins.
//! 2. `TERRACE__SECTION__KEY` reaches every key there is: `TERRACE__L1__MAX_BYTES=1GiB`.
//! 3. A well-known variable that is empty counts as not set: compose files pass them on that way. An empty
//!    `TERRACE__*` variable is the empty text.
//! 4. `${VAR}` without a value and without `:-default` is refused, never silently empty. `$${` is a plain `${`.

use super::report::{ConfigError, Document, Extra, Refusal};
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The variables that other services are set up with, and what they set here.
const WELL_KNOWN: [(&str, &[&str]); 15] = [
    ("CACHE_L1_MAX_ENTRIES", &["l1", "max_entries"]),
    ("CACHE_DEFAULT_TTL", &["defaults", "ttl"]),
    ("CACHE_CLEANUP_INTERVAL", &["l1", "cleanup_interval"]),
    ("REDIS_ADDR", &["l2", "url"]),
    ("REDIS_URL", &["l2", "url"]),
    ("REDIS_PASSWORD", &["l2", "password"]),
    ("REDIS_DB", &["l2", "database"]),
    ("REDIS_POOL_SIZE", &["l2", "pool_size"]),
    ("REDIS_MIN_IDLE_CONNS", &["l2", "min_idle"]),
    ("REDIS_WRITE_BEHIND_ENABLED", &["write_behind", "enabled"]),
    ("REDIS_WRITE_BEHIND_BATCH", &["write_behind", "interval"]),
    ("METRICS_ENABLED", &["metrics", "enabled"]),
    ("METRICS_INTERVAL", &["metrics", "interval"]),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", &["telemetry", "otlp", "endpoint"]),
    ("OTEL_SERVICE_NAME", &["telemetry", "otlp", "service"]),
];

const ANY_KEY: &str = "TERRACE__";

/// The values that the environment sets, in order: the later wins.
pub(super) fn from_environment(variables: &[(String, String)]) -> Vec<Extra> {
    let mut extras = Vec::new();
    for (name, path) in WELL_KNOWN {
        let given = variables.iter().find(|(own, value)| own == name && !value.is_empty());
        if let Some((_, value)) = given {
            extras.push(well_known(name, path, value));
        }
    }
    for (name, value) in variables {
        if let Some(path) = name.strip_prefix(ANY_KEY) {
            extras.push(Extra {
                name: format!("environment variable {name}"),
                path: path.split("__").map(str::to_ascii_lowercase).collect(),
                value: value.clone(),
            });
        }
    }
    extras
}

fn well_known(name: &str, path: &[&str], value: &str) -> Extra {
    let is_bare_address = name == "REDIS_ADDR" && !value.contains("://");
    Extra {
        name: format!("environment variable {name}"),
        path: path.iter().map(|&part| part.to_owned()).collect(),
        value: if is_bare_address { format!("redis://{value}") } else { value.to_owned() },
    }
}

/// Reads the file's text, expands its variables, and lays the values beside it over it.
pub(super) fn read<'a>(
    document: &'a Document,
    variables: &[(String, String)],
) -> Result<Spanned<DeTable<'a>>, ConfigError> {
    let mut root = DeTable::parse(&document.text).map_err(|error| document.refuse_toml(&error))?;
    let lookup = |name: &str| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let mut refusals = Vec::new();
    expand_table(root.get_mut(), &lookup, &mut |at, title| {
        refusals.push(document.render(&Refusal::new(at, title)));
    });
    if !refusals.is_empty() {
        return Err(ConfigError::all(refusals));
    }
    for (number, extra) in document.extras.iter().enumerate() {
        lay_over(root.get_mut(), &extra.path, &extra.value, &document.position(number));
    }
    Ok(root)
}

fn lay_over<'a>(table: &mut DeTable<'a>, path: &'a [String], value: &'a str, at: &Range<usize>) {
    let Some((first, rest)) = path.split_first() else { return };
    let key = || Spanned::new(at.clone(), Cow::Borrowed(first.as_str()));
    if rest.is_empty() {
        table.remove(first.as_str());
        table.insert(key(), Spanned::new(at.clone(), DeValue::String(Cow::Borrowed(value))));
        return;
    }
    if !table.contains_key(first.as_str()) {
        table.insert(key(), Spanned::new(at.clone(), DeValue::Table(DeTable::new())));
    }
    // A value that should have been a table stays as it is: its type is refused later, at its place.
    if let Some(DeValue::Table(inner)) = table.get_mut(first.as_str()).map(Spanned::get_mut) {
        lay_over(inner, rest, value, at);
    }
}

type Lookup<'f> = &'f dyn Fn(&str) -> Option<&'f str>;
type Refuse<'f> = &'f mut dyn FnMut(Range<usize>, String);

fn expand_table(table: &mut DeTable<'_>, lookup: Lookup<'_>, refuse: Refuse<'_>) {
    for (_, value) in table.iter_mut() {
        expand_value(value, lookup, refuse);
    }
}

fn expand_value(value: &mut Spanned<DeValue<'_>>, lookup: Lookup<'_>, refuse: Refuse<'_>) {
    let at = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match expand(text, lookup) {
            Ok(expanded) => *text = Cow::Owned(expanded),
            Err(title) => refuse(at, title),
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                expand_value(item, lookup, refuse);
            }
        }
        DeValue::Table(table) => expand_table(table, lookup, refuse),
        _ => {}
    }
}

fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let end = after.find('}').ok_or("`${` has no `}`; write `$${` for a plain `${`")?;
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        let set = lookup(name).filter(|value| !value.is_empty() || default.is_none());
        match set.or(default) {
            Some(value) => expanded.push_str(value),
            None => {
                return Err(format!("`{name}` is not set; set it, or give a default: `${{{name}:-...}}`"));
            }
        }
        rest = &after[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "HOST" => Some("cache"),
            "EMPTY" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn variables_in_text_are_expanded() {
        for (text, result) in [
            ("redis://${HOST}:1/${DB:-0}", "redis://cache:1/0"),
            ("${EMPTY:-default}", "default"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${HOST} $HOST $$", "${HOST} $HOST $$"),
            ("${HOST}${HOST}", "cachecache"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(result), "{text}");
        }
        assert!(expanded("${NONE}").expect_err("not set").contains("`NONE` is not set"));
        assert!(expanded("${HOST").expect_err("open").contains("no `}`"));
    }

    #[test]
    fn an_address_without_a_scheme_is_a_plain_redis() {
        let variables = [("REDIS_ADDR".to_owned(), "cache:6379".to_owned())];
        assert_eq!(from_environment(&variables)[0].value, "redis://cache:6379");
        let variables = [("REDIS_ADDR".to_owned(), "rediss://cache:6379".to_owned())];
        assert_eq!(from_environment(&variables)[0].value, "rediss://cache:6379");
    }

    #[test]
    fn empty_well_known_variables_are_not_set() {
        let variables = [("REDIS_URL".to_owned(), String::new())];
        assert!(from_environment(&variables).is_empty());
    }
}
