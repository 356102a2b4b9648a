//! The document has every route, and its references lead somewhere. What is answered is held against it in `tests/it/openapi.rs`.

use super::document;
use crate::api::access::Side;
use crate::api::routes;
use serde_json::Value;
use std::collections::BTreeSet;

/// Paths that are the same as another one.
const THE_SAME: [&str; 2] = ["/api/cache/", "/v1/keys/"];

/// Whether a path is of the dashboard, which is for people.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/assets/")
}

/// A path of the router as the document writes it.
fn written(path: &str) -> String {
    path.replace("{*", "{")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let described: BTreeSet<String> =
        document["paths"].as_object().expect("an object").keys().cloned().collect();
    let routes: BTreeSet<String> = routes(Side::Whole, true)
        .paths()
        .filter(|path| !THE_SAME.contains(path) && !is_page(path))
        .map(written)
        .collect();
    let missing: Vec<&String> = routes.difference(&described).collect();
    assert!(missing.is_empty(), "describe these in api/openapi/operations.rs: {missing:?}");
    let gone: Vec<&String> = described.difference(&routes).collect();
    assert!(gone.is_empty(), "these are described, and there are no such routes: {gone:?}");
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_forms_are_used() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document["paths"], &mut found);
    let forms = document["components"]["schemas"].as_object().expect("an object");
    let forms: BTreeSet<String> = forms.keys().map(|name| format!("#/components/schemas/{name}")).collect();
    assert_eq!(found.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), forms);
}

#[test]
fn ids_are_unique() {
    let document = document();
    let paths = document["paths"].as_object().expect("an object").values();
    let ids: Vec<&str> = paths
        .flat_map(|path| path.as_object().expect("an object").values())
        .map(|operation| operation["operationId"].as_str().expect("text"))
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}
