//! The file's JSON Schema, held against the files that people begin with.

use serde_json::Value;
use terrace_server::config::{Config, Sources};

/// Whether a document has a schema's form: as much of JSON Schema as the file's needs, and a panic at anything else.
fn judge(schema: &Value, document: &Value, place: &str) -> Result<(), String> {
    let fields = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema: {schema}"));
    for (word, rule) in fields {
        match word.as_str() {
            "type" => has_type(rule, document).then_some(()).ok_or(format!("{place}: is no {rule}"))?,
            "enum" => rule
                .as_array()
                .is_some_and(|words| words.contains(document))
                .then_some(())
                .ok_or(format!("{place}: is none of {rule}"))?,
            "anyOf" => {
                let mut ways = rule.as_array().expect("a list").iter();
                let fits = ways.any(|way| judge(way, document, place).is_ok());
                fits.then_some(()).ok_or(format!("{place}: is none of {rule}"))?;
            }
            "minimum" if document.is_number() => {
                let fits = document.as_f64() >= rule.as_f64();
                fits.then_some(()).ok_or(format!("{place}: is below {rule}"))?;
            }
            "pattern" => {
                assert_eq!(rule, "\\$\\{");
                let fits = document.as_str().is_some_and(|text| text.contains("${"));
                fits.then_some(()).ok_or(format!("{place}: names no variable"))?;
            }
            "items" => {
                for item in document.as_array().into_iter().flatten() {
                    judge(rule, item, place)?;
                }
            }
            "properties"
            | "additionalProperties"
            | "$schema"
            | "title"
            | "description"
            | "default"
            | "minimum" => {}
            other => panic!("{place}: the schema says `{other}`, which this test does not know"),
        }
    }
    for (name, value) in document.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (None, Value::Bool(false)) => return Err(format!("{place}: unknown")),
            (Some(schema), _) | (None, schema @ Value::Object(_)) => judge(schema, value, &place)?,
            (None, _) => {}
        }
    }
    Ok(())
}

fn has_type(rule: &Value, document: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "integer" => document.is_u64() || document.is_i64(),
        "number" => document.is_number(),
        other => panic!("an unknown type {other}"),
    };
    let names = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
    names.iter().filter_map(Value::as_str).any(one)
}

fn judged(toml: &str) -> Result<(), String> {
    let document: toml::Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    judge(&Config::schema(), &serde_json::to_value(document).expect("JSON"), "")
}

/// The TOML blocks of a page.
fn blocks(page: &str) -> Vec<&str> {
    let parts = page.split("```toml\n").skip(1);
    parts.map(|part| part.split("\n```").next().expect("a block ends")).collect()
}

#[test]
fn the_files_in_the_documentation_have_its_form() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/service.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let whole = blocks(&page).into_iter().find(|block| block.contains("[server]")).expect("the whole file");
    judged(whole).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_is_printed_has_its_form() {
    judged(&Config::load(&Sources::none()).expect("the defaults").effective_toml())
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Configurations that people begin with, by their names.
fn examples() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = [
        "deploy/systemd/terrace.toml",
        "deploy/compose/terrace/terrace.toml",
        "examples/clients/terrace.toml",
        "docs/guide/base.toml",
    ];
    let read = |file: &str| {
        std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let variables = |text: String| {
        let text = text.replace("${REDIS_URL:-", "").replace("${DATABASE_URL:-", "");
        text.replace("/0}\"", "/0\"").replace("/app}\"", "/app\"")
    };
    files.map(|file| (file.to_owned(), variables(read(file)))).into()
}

#[test]
fn what_is_shown_of_the_files_of_the_repository_loads_as_the_same() {
    let mut all = examples();
    all.push(("the defaults".to_owned(), String::new()));
    all.push((
        "times".to_owned(),
        "[l1]\nttl = 'never'\n[defaults]\nttl = 'never'\n[keyspace.a]\npattern = 'a:{id}'\nttl = 'never'\n"
            .to_owned(),
    ));
    for (name, text) in all {
        let load = |text: &str| {
            Config::load(&Sources::text(text)).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
        };
        let shown = load(&text).effective_toml();
        assert_eq!(load(&shown).effective_toml(), shown, "{name}");
        let settings =
            Config::settings(&Sources::text(text)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines: Vec<String> = settings
            .iter()
            .map(|setting| format!("{} = {}  # {}", setting.key, setting.value, setting.from))
            .collect();
        assert_eq!(load(&lines.join("\n")).effective_toml(), shown, "{name}, line by line");
    }
}

#[test]
fn what_is_refused_when_it_is_read_has_not_its_form() {
    for toml in [
        "[l1]\nmax_entires = 5",
        "[cluster]\na = 1",
        "l1 = 5",
        "[l1]\nmax_entries = -1",
        "[l1]\nmax_entries = 1.5",
        "[l1]\npolicy = 'fifo'",
        "[keyspace.a]\npatern = 'a'",
        "[keyspace.a]\nstrategy = 'read-trough'",
        "[keyspace.a.source]\nload = 5",
        "[origin.a]\ntype = 'oracle'",
    ] {
        assert!(judged(toml).is_err(), "{toml}");
    }
    for toml in ["[l1]\nmax_entries = '${ENTRIES:-5}'", "[l1]\npolicy = '${POLICY}'", "metrics.enabled = 1"] {
        judged(toml).unwrap_or_else(|error| panic!("{error}"));
    }
}
