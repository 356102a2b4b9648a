//! What was written behind while its origin was away, and is left alone: it is there soon after the origin is back.

use crate::http_api::{Api, Mood};
use crate::support::{Running, start};
use terrace_testkit::wait::until_some;

/// The number of a series.
async fn series(service: &Running, name: &str) -> u64 {
    let (text, name) = (service.get("/metrics").await.body, format!("{name} "));
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let number = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    number.trim_end_matches(".0").parse().expect("a whole number")
}

/// Two keyspaces of one API: one that is written through, and one that is written behind, in which a failing key waits for longer than any
/// test.
fn toml(api: &Api, journal: &std::path::Path) -> String {
    format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{}'\nbreaker = {{ min_calls = 4, open = '200ms' }}\n\
         [write_behind]\npath = '{}'\ninterval = '10ms'\nbackoff_min = '10m'\nbackoff_max = '10m'\n\
         [keyspace.now]\npattern = 'now:{{id}}'\nstrategy = 'write-through'\n\
         source = {{ origin = 'api', load = 'GET /now/{{id}}', store = 'PUT /now/{{id}}' }}\n\
         [keyspace.later]\npattern = 'later:{{id}}'\nstrategy = 'write-behind'\n\
         source = {{ origin = 'api', load = 'GET /later/{{id}}', store = 'PUT /later/{{id}}' }}\n",
        api.url(),
        journal.join("journal").display()
    )
}

#[tokio::test]
async fn writes_that_were_parked_while_an_origin_was_left_alone_go_soon_after_it_is_back() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, folder.path())).await;
    api.mood(Mood::Status(503));
    let state = "terrace_origin_breaker_state{origin=\"api\",calls=\"writes\",state=\"closed\"}";
    until_some("a breaker that is not closed", async || {
        service.put("/api/cache/now:1", "{\"value\":1}").await;
        (series(&service, state).await == 0).then_some(())
    })
    .await;
    for id in 1..=3 {
        let put = service.put(&format!("/api/cache/later:{id}"), "{\"value\":7}").await;
        assert_eq!(put.status, 202, "{put:?}");
    }
    let parked = "terrace_write_behind_parked_keys{keyspace=\"later\"}";
    until_some("writes that are parked", async || (series(&service, parked).await == 3).then_some(())).await;
    let failed = "terrace_origin_calls_total{origin=\"api\",calls=\"writes\",result=\"failed\"}";
    let before = series(&service, failed).await;
    until_some("probes by what waits, nobody else asks", async || {
        (series(&service, failed).await >= before + 3).then_some(())
    })
    .await;
    api.mood(Mood::Well);
    until_some("all that was written", async || {
        (1..=3).all(|id| api.document(&format!("/v2/later/{id}")).as_deref() == Some("7")).then_some(())
    })
    .await;
    let dead = series(&service, "terrace_write_behind_dead_total{keyspace=\"later\"}").await;
    assert_eq!((dead, series(&service, state).await), (0, 1));
}
