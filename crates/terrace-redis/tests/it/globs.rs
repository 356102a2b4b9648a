//! Patterns mean here what they mean on the server.

use crate::support::raw;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::aio::MultiplexedConnection;
use terrace_core::Glob;
use terrace_testkit::server::RedisServer;

/// Asks the server whether a pattern matches a text, by looking for a key of that name.
async fn server_matches(raw: &mut MultiplexedConnection, pattern: &str, name: &str) -> bool {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(name).arg(1).ignore();
    pipeline.cmd("SCAN").arg(0).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000_000);
    pipeline.cmd("UNLINK").arg(name).ignore();
    let found: Vec<(u64, Vec<Vec<u8>>)> = pipeline.query_async(raw).await.expect("the server answers");
    found[0].1.contains(&name.as_bytes().to_vec())
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab\\[\\]*?^\\\\:-]{1,8}", 1 => "[abé\u{1f980}z]{1,5}"]
}

fn patterns() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ab:]".prop_map(String::from),
        3 => Just("*".to_owned()),
        2 => Just("?".to_owned()),
        3 => "\\[\\^?[ab\\\\é]{0,3}(-[abz])?\\]?",
        1 => "\\\\[ab*?\\[\\]\\\\]?",
        1 => "[\\]^é-]",
    ];
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_pattern_matches_here_what_it_matches_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(server) = runtime.block_on(RedisServer::start()) else { return };
    let raw = runtime.block_on(raw(&server.url()));
    let config = ProptestConfig { cases: 1500, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(patterns(), texts()), |(pattern, text)| {
        let ours = Glob::new(&pattern).expect("short and not empty").matches(&text);
        let theirs = runtime.block_on(server_matches(&mut raw.clone(), &pattern, &text));
        prop_assert_eq!(ours, theirs, "pattern {:?}, text {:?}", pattern, text);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
