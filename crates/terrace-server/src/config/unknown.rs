//! All keys of a configuration that do not exist, told at once.
//!
//! 1. Reading stops at the first thing that is wrong. What is wrong is then taken out, and the rest is read, until nothing is left to tell
//!    or [`TOLD_MAX`] are told.
//! 2. What is wrong otherwise is told only if it comes first: what comes after it may be wrong just because something was taken out.

use super::file::File;
use super::report::{ConfigError, Document, is_unknown};
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// Most keys that are told at once.
const TOLD_MAX: usize = 20;
/// How often the rest is read at most.
const READS_MAX: usize = 100;

/// Reads what was written, or tells all keys that do not exist.
pub(super) fn read<'a>(document: &'a Document, mut root: Spanned<DeTable<'a>>) -> Result<File, ConfigError> {
    let mut told = BTreeMap::new();
    for _ in 0..READS_MAX {
        let error = match File::deserialize(Deserializer::from(root.clone())) {
            Ok(file) if told.is_empty() => return Ok(file),
            Ok(_) => break,
            Err(error) => error,
        };
        let at = error.span();
        if told.is_empty() || is_unknown(&error) {
            let place = at.as_ref().map_or(0, |at| at.start);
            told.entry(place).or_insert_with(|| document.render_toml(&error));
        }
        if told.len() == TOLD_MAX || !at.is_some_and(|at| take_out(root.get_mut(), &at)) {
            break;
        }
    }
    Err(ConfigError::all(told.into_values().collect()))
}

/// Takes out what is written at a place, a key or a value. Whether there was anything.
fn take_out(table: &mut DeTable<'_>, at: &Range<usize>) -> bool {
    let found = table.iter().find(|(key, value)| key.span() == *at || value.span() == *at);
    if let Some(key) = found.map(|(key, _)| key.get_ref().clone()) {
        table.remove(&*key);
        return true;
    }
    table.iter_mut().any(|(_, value)| take_out_of(value.get_mut(), at))
}

fn take_out_of(value: &mut DeValue<'_>, at: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => take_out(table, at),
        DeValue::Array(items) => items.iter_mut().any(|item| take_out_of(item.get_mut(), at)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    fn refused(toml: &str) -> (usize, String) {
        let error = Config::load(&Sources::text(toml)).expect_err("it is wrong");
        (error.count(), error.to_string())
    }

    #[test]
    fn all_keys_that_do_not_exist_are_told_in_their_order_each_with_what_was_meant() {
        let toml = "[l1]\nmax_entris = 1\nmax_bytess = 2\n[keyspace.users]\npatern = 'user:{id}'\n[keyspace.orders]\n\
                    pattern = 'order:{id}'\nttll = '1m'\nsource = { origin = 'o', lod = 'select 1' }\n\
                    [origin.o]\ntype = 'sqlite'\nfil = 'x.db'\n[elephant]\nx = 1\n";
        let (count, told) = refused(toml);
        assert_eq!(count, 7, "{told}");
        let mut rest = &*told;
        for (line, key, meant) in [
            (2, "max_entris", "did you mean `max_entries`?"),
            (3, "max_bytess", "did you mean `max_bytes`?"),
            (5, "patern", "did you mean `pattern`?"),
            (8, "ttll", "did you mean `ttl`?"),
            (9, "lod", "did you mean `load`?"),
            (12, "fil", "did you mean `file`?"),
            (13, "elephant", "there is"),
        ] {
            for part in [
                format!("unknown field `{key}`"),
                format!("configuration:{line}:"),
                "^".repeat(key.len()),
                meant.to_owned(),
            ] {
                let at =
                    rest.find(&part).unwrap_or_else(|| panic!("{part} is missing in\n{rest}\nof\n{told}"));
                rest = &rest[at..];
            }
        }
    }

    #[test]
    fn what_is_wrong_only_because_something_was_taken_out_is_not_told() {
        let (count, told) = refused("[origin.o]\ntipe = 'sqlite'\nfile = 'x'\n[l1]\nmax_entris = 1\n");
        assert_eq!((count, told.matches("unknown field").count()), (2, 2), "{told}");
        let (count, told) = refused("[l1]\nmax_entries = 'x'\nmax_entris = 1\n[l2]\nurl = 7\nurrl = 'x'\n");
        assert_eq!(told.matches("unknown field").count(), 2, "{told}");
        assert_eq!(count, 3, "and what came first: {told}");
    }

    #[test]
    fn so_many_are_told_and_no_more() {
        let many: Vec<_> = (0..40).map(|number| format!("key_{number} = 1")).collect();
        assert_eq!(refused(&many.join("\n")).0, super::TOLD_MAX);
    }
}
