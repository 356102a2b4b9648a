//! `replay` with a second tier, with PostgreSQL, and with a Redis that dies on the way.

use crate::process::{Running, Service, run, terrace};
use crate::replay::{KEYS, REQUESTS, count, report, trace};
use serde_json::Value;
use terrace_testkit::server::{RedisServer, postgres_url};

#[tokio::test(flavor = "multi_thread")]
async fn two_tiers_in_process() {
    let Some(redis) = RedisServer::start().await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", REQUESTS);
    let run = run(["replay", &path.to_string_lossy(), "--redis", &redis.url(), "--json"]).expect(0);
    let report = report(&run);
    assert_eq!(
        (count(&report, "/failed"), count(&report, "/wrong"), count(&report, "/l2_errors")),
        (0, 0, 0)
    );
    let answers = |tier: &str| count(&report, &format!("/{tier}/answers"));
    assert_eq!(answers("l1") + answers("l2") + answers("origin"), REQUESTS);
    assert!(answers("l2") > REQUESTS / 2 && answers("l1") > 0, "{report}");
    assert_eq!(count(&report, "/loads"), KEYS);
    assert_eq!(redis.cli(&["--scan", "--pattern", "terrace:*:d:*"]).await, "", "values are left in Redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_redis_is_killed_and_restarted() {
    let Some(redis) = RedisServer::start().await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", 3 * REQUESTS);
    let mut command = terrace();
    command.args(["-v", "replay", &path.to_string_lossy(), "--redis", &redis.url(), "--json"]);
    let mut running = Running::start(&mut command);
    running.stderr.find("20 % of");
    redis.kill();
    running.stderr.find("40 % of");
    redis.restart().await;
    let line = running.stdout.find("\"trace\"");
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(running.wait(), 0, "{report}");
    assert_eq!(count(&report, "/requests"), 3 * REQUESTS);
    assert_eq!((count(&report, "/failed"), count(&report, "/wrong")), (0, 0));
    assert!(count(&report, "/l2_errors") > 0 && count(&report, "/l2/answers") > 0, "{report}");
    assert!(count(&report, "/loads") > KEYS, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_at_the_start_is_exit_code_5() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", KEYS);
    let run = run(["replay", &path.to_string_lossy(), "--redis", "redis://127.0.0.1:1"]).expect(5);
    assert!(run.stderr.contains("--redis"), "{}", run.stderr);
}

#[test]
fn postgres_behind_a_service_and_in_process() {
    let Some(url) = postgres_url() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", REQUESTS).to_string_lossy().into_owned();
    run(["replay", &path, "--origin", &url, "--prepare"]).expect(0);
    let in_process = report(&run(["replay", &path, "--origin", &url, "--json"]).expect(0));
    assert_eq!((count(&in_process, "/requests"), count(&in_process, "/wrong")), (REQUESTS, 0));
    let config = run(["replay", &path, "--origin", &url, "--print-config"]).expect(0).stdout;
    let service = Service::start(&config);
    let over_http =
        report(&run(["replay", &path, "--origin", &url, "--url", &service.url, "--json"]).expect(0));
    assert_eq!((count(&over_http, "/requests"), count(&over_http, "/wrong")), (REQUESTS, 0));
    assert!(count(&over_http, "/loads") >= KEYS);
}
