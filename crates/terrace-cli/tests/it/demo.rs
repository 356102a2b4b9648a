//! `demo`: it shows a hit rate, and its curl lines work.

use crate::http::{Reply, curl};
use crate::process::{Running, terrace};
use terrace_testkit::server::RedisServer;

fn start(extra: &[&str]) -> Running {
    let mut command = terrace();
    command.args(["demo", "--listen", "127.0.0.1:0", "--rate", "1000"]).args(extra);
    Running::start(&mut command)
}

fn source(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["source"].as_str().expect("a tier")
}

/// Does what the four lines say; gives the replies.
fn paste(demo: &mut Running) -> Vec<Reply> {
    (0..4).map(|_| curl(&demo.stdout.find("curl -s "))).collect()
}

/// Waits for the end; gives the hits of a tier in the closing table.
fn end(mut demo: Running, tier: &str) -> u64 {
    let rows: Vec<String> =
        demo.stdout.drain().iter().filter(|line| line.starts_with("| ")).cloned().collect();
    assert_eq!(demo.wait(), 0);
    let row = rows.iter().find(|row| row.starts_with(&format!("| {tier} ")));
    let count = row.and_then(|row| row.split('|').nth(2)).unwrap_or_else(|| panic!("no {tier} in {rows:#?}"));
    count.trim().replace(',', "").parse().expect("a number")
}

#[test]
fn it_shows_a_hit_rate_and_its_curl_lines_work() {
    let mut demo = start(&["--duration", "3s"]);
    let line = demo.stdout.find("the dashboard");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    let page = curl(&format!("curl -s {url}"));
    assert!(page.status == 200 && page.body.is_string(), "{page:?}");
    let replies = paste(&mut demo);
    assert_eq!((source(&replies[0]), source(&replies[1])), ("origin", "l1"));
    assert_eq!(replies[0].body["value"], replies[1].body["value"]);
    assert_eq!(replies[0].body["value"]["id"], 100_000);
    assert_eq!((replies[2].status, &replies[2].body["success"]), (200, &true.into()));
    assert_eq!((replies[3].status, &replies[3].body["invalidated"]), (200, &1.into()));

    let line = demo.stdout.find("hit rate");
    let rate = line.split("hit rate").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(rate.and_then(|rate| rate.parse::<f64>().ok()).expect("a number") > 0.0, "{line}");
    assert!(end(demo, "l1") > 0);
}

#[test]
fn the_fourth_line_takes_back_the_third() {
    let mut demo = start(&[]);
    let lines: Vec<String> = (0..4).map(|_| demo.stdout.find("curl -s ")).collect();
    curl(&lines[2]);
    let written = curl(&lines[0]);
    assert_eq!((source(&written), &written.body["value"]["name"]), ("l1", &"You".into()));
    curl(&lines[3]);
    let loaded = curl(&lines[0]);
    assert_eq!(source(&loaded), "origin");
    assert_ne!(loaded.body["value"]["name"], "You");
    demo.signal("INT");
    demo.stdout.find("| answered by");
    assert_eq!(demo.wait(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_it_runs_two_tiers_and_leaves_nothing() {
    let Some(redis) = RedisServer::start().await else { return };
    let mut demo = start(&["--duration", "3s", "--redis", &redis.url()]);
    assert!(demo.stdout.find("tiers").contains("Redis"));
    let replies = paste(&mut demo);
    assert_eq!(source(&replies[0]), "origin");
    assert!(
        ["l1", "l2"].contains(&source(&replies[1])),
        "what the demo invalidates meanwhile is not kept in memory"
    );
    assert!(end(demo, "l1") > 0);
    let values = redis.cli(&["--scan", "--pattern", "terrace-demo:*:d:*"]).await;
    assert_eq!(values, "", "values are left in Redis");
}
