//! What does somebody mean who writes a name that other caches have, or that has another spelling here?
//!
//! 1. It is refused like any unknown name. What is said then is what to write instead, or why there is no such setting, where the spelling alone would
//!    lead to nothing, or to something else.
//! 2. Whatever a sentence names in backticks is there: the names of settings are those of the file's form ([`super::schema`]).

/// A key that is not there.
struct Key {
    name: &'static str,
    /// A key of the table in which it is looked for.
    beside: &'static str,
    says: &'static str,
}

/// A word that a setting does not take.
struct Word {
    text: &'static str,
    /// A word that it takes.
    beside: &'static str,
    says: &'static str,
}

const CODEC: &str = "there is no codec to choose: each value keeps the media type that it was stored with, see docs/service.md#the-raw-view";

const KEYS: [Key; 9] = [
    Key {
        name: "resp_listen",
        beside: "admin_listen",
        says: "the protocol of Redis is not spoken: programs in any language use HTTP, at `server.listen`",
    },
    Key {
        name: "journal",
        beside: "write_behind",
        says: "the journal is in the section `write_behind`: `write_behind.path` is its file, `write_behind.commit_window` how long a commit waits for more writes",
    },
    Key { name: "max_batch", beside: "batch_max", says: "it is called `batch_max`" },
    Key {
        name: "max_pending",
        beside: "batch_max",
        says: "how many writes may wait is said once for all keyspaces: `write_behind.pending_max`",
    },
    Key { name: "attempts", beside: "attempts_max", says: "it is called `attempts_max`" },
    Key {
        name: "latency_sample",
        beside: "prefix",
        says: "it is fixed: one hit in L1 of 61 is timed, and all lookups of L2 and calls of origins are",
    },
    Key { name: "codec", beside: "max_key", says: CODEC },
    Key { name: "codec", beside: "pattern", says: CODEC },
    Key { name: "group_commit", beside: "commit_window", says: "it is called `commit_window`" },
];

const WORDS: [Word; 4] = [
    Word {
        text: "auto",
        beside: "coherent",
        says: "write `coherent`, which is the default, or `plain` for a server without scripts or streams: no mode chooses by itself, because all instances need the same",
    },
    Word {
        text: "pubsub",
        beside: "coherent",
        says: "write `plain`: changes are told by publishing alone, and less is promised",
    },
    Word {
        text: "off",
        beside: "coherent",
        says: "write `coherent` or `plain`: instances that share a Redis always tell each other; without `l2.url` there is nobody to tell",
    },
    Word { text: "block", beside: "refuse", says: "write `wait`" },
];

/// What to say of a key that is not among the known ones of its table.
pub(super) fn key<'a>(name: &str, known: &(impl Iterator<Item = &'a str> + Clone)) -> Option<&'static str> {
    let row = KEYS.iter().find(|row| row.name == name && known.clone().any(|key| key == row.beside));
    row.map(|row| row.says)
}

/// What to say of a word that is not among those that its setting takes.
pub(super) fn word<'a>(given: &str, known: &(impl Iterator<Item = &'a str> + Clone)) -> Option<&'static str> {
    let row = WORDS.iter().find(|row| row.text == given && known.clone().any(|word| word == row.beside));
    row.map(|row| row.says)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use serde_json::Value;

    fn refused(toml: &str) -> String {
        Config::load(&Sources::text(toml)).expect_err(toml).to_string()
    }

    /// Every table of the file that has such a key, as it is written, with its form.
    fn tables(form: &Value, place: &str, key: &str) -> Vec<(String, Value)> {
        let inner = |name: &str, form: &Value| {
            let place = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
            tables(form, &place, key)
        };
        let properties = form["properties"].as_object();
        let mut found: Vec<_> =
            properties.into_iter().flatten().flat_map(|(name, form)| inner(name, form)).collect();
        if form["additionalProperties"].is_object() {
            found.extend(inner("a", &form["additionalProperties"]));
        }
        if properties.is_some_and(|properties| properties.contains_key(key)) {
            found.push((place.to_owned(), form.clone()));
        }
        found
    }

    /// Whether a setting or a section is there, by its whole name or by that in a table.
    fn is_there(name: &str, table: &Value, root: &Value) -> bool {
        let of = |form: &Value| {
            name.split('.')
                .try_fold(form.clone(), |form, part| form["properties"].get(part).cloned())
                .is_some()
        };
        of(table) || of(root)
    }

    fn named(says: &str) -> impl Iterator<Item = &str> {
        says.split('`').skip(1).step_by(2)
    }

    #[test]
    fn every_key_is_answered_where_it_is_looked_for_and_the_answer_names_what_is_there() {
        let root = Config::schema();
        for Key { name, beside, says } in KEYS {
            let tables = tables(&root, "", beside);
            assert!(!tables.is_empty(), "no table has `{beside}`");
            for (place, form) in tables {
                assert!(form["properties"].get(name).is_none(), "`{name}` is a setting of [{place}]");
                for other in named(says) {
                    assert!(is_there(other, &form, &root), "`{name}` of [{place}] leads to `{other}`");
                }
                let section = if place.is_empty() { String::new() } else { format!("[{place}]\n") };
                let refusal = refused(&format!("{section}{name} = 1\n"));
                assert!(refusal.contains(&format!("unknown field `{name}`")), "{refusal}");
                assert!(refusal.ends_with(&format!("= help: {says}")), "{refusal}");
                assert!(refusal.contains('^'), "{refusal}");
            }
        }
    }

    #[test]
    fn every_word_is_answered_and_the_answer_names_what_there_is() {
        let root = Config::schema();
        for Word { text, beside, says } in WORDS {
            let (setting, others) = match beside {
                "coherent" => ("bus.mode", ["coherent", "plain"]),
                "refuse" => ("write_behind.on_full", ["wait", "refuse"]),
                other => panic!("no setting of this test takes `{other}`"),
            };
            let (table, name) = setting.split_once('.').expect("a dotted name");
            let form = &root["properties"][table]["properties"][name]["anyOf"][0]["enum"];
            assert_eq!(form, &serde_json::json!(others));
            for other in named(says) {
                assert!(
                    others.contains(&other) || is_there(other, &root, &root),
                    "`{text}` leads to `{other}`"
                );
            }
            let refusal = refused(&format!("[{table}]\n{name} = '{text}'\n"));
            assert!(refusal.ends_with(&format!("= help: {says}")) && refusal.contains('^'), "{refusal}");
        }
        assert!(
            refused("auth.mode = 'auto'").contains("there is"),
            "other modes know nothing of these words"
        );
    }

    #[test]
    fn a_name_elsewhere_is_judged_by_its_spelling_alone() {
        let refusal = refused("[l1]\njournal = 1\n");
        assert!(refusal.contains("= help: there is `enabled`"), "{refusal}");
        let variables = [("TERRACE__METRICS__LATENCY_SAMPLE".to_owned(), "64".to_owned())];
        let refusal = Config::load(&Sources::none().variables(variables)).expect_err("unknown").to_string();
        assert!(refusal.contains("LATENCY_SAMPLE") && refusal.contains("it is fixed"), "{refusal}");
    }
}
