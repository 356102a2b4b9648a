//! Keyspaces that write to their origin and load nothing: `write-around` without a `load`.

use crate::http_api::Api;
use crate::strategies::Files;
use crate::support::{Running, config, refused, start};
use terrace_server::{Explained, check};

fn toml(api: &Api) -> String {
    let url = api.url();
    format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{url}'\n[keyspace.bulk]\npattern = 'vsync:{{id}}'\nstrategy = 'write-around'\n\
         negative_ttl = '1h'\nsource = {{ origin = 'api', store = 'PUT /vsync/{{id}}' }}\n"
    )
}

const PATH: &str = "/v2/vsync/1";

async fn put(service: &Running) -> u16 {
    service.put("/api/cache/vsync:1", r#"{"value":1}"#).await.status
}

#[tokio::test]
async fn what_an_api_only_takes_is_never_loaded() {
    let api = Api::start().await;
    let service = start(&toml(&api)).await;
    assert_eq!(put(&service).await, 200);
    assert_eq!(api.document(PATH).as_deref(), Some("1"));
    let asked = api.asked();
    assert_eq!(asked.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["PUT"]);
    service.get("/api/cache/vsync:1").await.problem(404, "key_not_found");
    service.get("/v1/keys/vsync:1").await.problem(404, "key_not_found");
    let with = async |line: &str| service.send_with("GET", "/api/cache/vsync:1", &[line], b"").await;
    with("cache-control: no-cache").await.problem(404, "key_not_found");
    with("cache-control: only-if-cached").await.problem(504, "not_cached");
    let batch = service.post("/api/cache/batch", r#"{"get":["vsync:1","vsync:2"]}"#).await;
    assert_eq!(batch.body.matches(r#""status":404"#).count(), 2, "{batch:?}");
    let refused = service.post("/api/cache/refresh", r#"{"keys":["motd","vsync:1"]}"#).await;
    let detail = refused.problem(422, "load_unsupported");
    assert!(
        detail.contains("nothing can be loaded") && refused.body.contains(r#""key":"vsync:1""#),
        "{refused:?}"
    );
    service.delete("/api/cache/vsync:1").await.problem(405, "delete_unsupported");
    assert!(api.asked().is_empty(), "nobody asked for any of it");
    let metrics = service.get("/api/cache/metrics?verbose=true").await.body;
    let metrics: serde_json::Value = serde_json::from_str(&metrics).expect("JSON");
    let keyspaces = service.get("/api/cache/keyspaces").await.body;
    let keyspaces: serde_json::Value = serde_json::from_str(&keyspaces).expect("JSON");
    assert_eq!(keyspaces["keyspaces"][0]["loads"], 0, "{metrics}");
}

#[tokio::test]
async fn what_a_database_only_takes_is_never_loaded_and_can_be_removed() {
    let files = Files::new();
    let all = files.toml("write-around", "");
    let without = |name: &str, toml: &str| {
        let keep = |line: &&str| !line.trim_start().starts_with(name);
        toml.lines().filter(keep).collect::<Vec<_>>().join("\n")
    };
    let toml = without("load =", &without("document =", &all));
    let rows = || {
        let count = files.connection().query_row("select count(*) from docs", [], |row| row.get::<_, i64>(0));
        count.expect("the table is there")
    };
    let service = start(&toml).await;
    assert_eq!(service.put("/api/cache/doc:1", r#"{"value":1}"#).await.status, 200);
    assert_eq!(rows(), 1);
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");
    service.post("/api/cache/refresh", r#"{"keys":["doc:1"]}"#).await.problem(422, "load_unsupported");
    assert_eq!(service.delete("/api/cache/doc:1").await.status, 200);
    assert_eq!(rows(), 0);
    let findings = check(&config(&toml)).await.expect("it can be asked");
    let findings: Vec<_> = findings.iter().filter(|finding| finding.what.contains("source")).collect();
    let asked: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(asked, ["keyspace.docs.source.store", "keyspace.docs.source.delete"], "{findings:?}");
    assert!(findings.iter().all(|finding| finding.result.is_ok()), "{findings:?}");
}

#[tokio::test]
async fn a_keyspace_that_loads_no_more_refreshes_no_more() {
    let files = Files::new();
    let all = files.toml("write-around", "");
    let toml = all.replace("load =", "# load =").replace("document =", "# document =");
    let service = start(&all).await;
    service.put("/api/cache/doc:1", r#"{"value":1}"#).await;
    assert_eq!(service.get("/api/cache/doc:1").await.status, 200);
    service.reload(&toml).await.expect("it can change");
    assert_eq!(service.get("/api/cache/doc:1").await.status, 200, "entries stay");
    service.post("/api/cache/refresh", r#"{"keys":["doc:1"]}"#).await.problem(422, "load_unsupported");
    service.post("/api/cache/invalidate", r#"{"keys":["doc:1"]}"#).await;
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");
    service.reload(&all).await.expect("it can change back");
    assert_eq!(service.get("/api/cache/doc:1").await.status, 200, "it loads again");
}

#[tokio::test]
async fn a_source_without_a_load_is_explained_checked_and_printed_as_it_loads() {
    let api = Api::start().await;
    let config_ = config(&toml(&api));
    assert_eq!(config(&config_.effective_toml()).keyspaces, config_.keyspaces);
    let explained = Explained::of(&config_, "vsync:7").expect("a key");
    let asks: Vec<_> = explained.asks.iter().map(|asked| (asked.what, asked.ask.as_str())).collect();
    assert_eq!(asks, [("store", "PUT /vsync/7")]);
    let findings = check(&config_).await.expect("it can be asked");
    let asked: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(asked, ["keyspace.bulk.source.store"]);
}

#[test]
fn only_what_is_written_around_can_do_without_a_load() {
    let of = |strategy: &str, source: &str| {
        refused(&format!(
            "[write_behind]\npath = 'w.journal'\n[origin.o]\ntype = 'sqlite'\nfile = 'x.db'\n[keyspace.a]\npattern = 'a:{{id}}'\n\
             strategy = '{strategy}'\nsource = {{ origin = 'o'{source} }}\n"
        ))
    };
    let store = ", store = 'insert into t values (:id, :value)'";
    for (strategy, source, words) in [
        (
            "read-through",
            "",
            "`read-through` needs a statement that loads a value: what no tier has is loaded",
        ),
        ("write-through", store, "`write-through` needs a statement that loads a value: what it has stored"),
        ("write-behind", store, "`write-behind` needs a statement that loads a value: what it has stored"),
    ] {
        let refused = of(strategy, source);
        assert!(
            refused.contains(words) && refused.contains("only `write-around` can do without"),
            "{refused}"
        );
    }
    for idle in [", document = 'v'", ", load_many = 'select 1'"] {
        let refused = of("write-around", &format!("{store}{idle}"));
        assert!(refused.contains("this source loads nothing, so this says nothing"), "{refused}");
    }
    assert!(of("write-around", "").contains("`write-around` needs a statement that stores a value"));
}
