//! How hard values are compressed: which levels are refused, and that a reload changes the level of keyspaces that are open.

use crate::support::{Running, refused, start};
use terrace::CompressionLevel;
use terrace_server::config::{CompressionAlgorithm, Config, Sources};
use terrace_testkit::server::{redis_url, unique_prefix};

#[test]
fn a_level_is_from_1_to_19_and_of_zstd_alone() {
    for (compression, title, help) in [
        ("level = 0", "this cannot be: the level is from 1 to 19", "not every reader"),
        ("level = 20", "this cannot be: the level is from 1 to 19", "not every reader"),
        ("level = 300", "this cannot be: the level is from 1 to 19", "not every reader"),
        ("algo = 'lz4', level = 1", "lz4 has no levels", "leave `level` out"),
        ("algo = 'none', level = 1", "what is not compressed has no level", "leave `level` out"),
    ] {
        let refusal = refused(&format!("[defaults]\ncompression = {{ {compression} }}\n"));
        assert!(refusal.starts_with(&format!("error: {title}\n")), "{refusal}");
        assert!(refusal.contains("--> configuration:2:") && refusal.contains('^'), "{refusal}");
        assert!(refusal.contains(help), "{refusal}");
    }
    for (compression, level) in
        [("level = 19", Some(19)), ("min = 5", Some(1)), ("algo = 'lz4'", None), ("algo = 'none'", None)]
    {
        let config = Config::load(&Sources::text(format!("defaults.compression = {{ {compression} }}")));
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.defaults.compression.level.map(CompressionLevel::get), level, "{compression}");
        let again = Config::load(&Sources::text(config.effective_toml()));
        assert_eq!(again.unwrap_or_else(|error| panic!("{error}")), config, "{compression}");
    }
    assert_eq!(
        Config::load(&Sources::none()).expect("the defaults").defaults.compression.algo,
        CompressionAlgorithm::Zstd
    );
}

/// Bytes of values of the keyspace `users` that L2 got.
async fn bytes_after(service: &Running) -> u64 {
    let metrics = service.get("/metrics").await.body;
    let mut lines = metrics.lines().filter(|line| line.starts_with("terrace_compression_bytes_total{"));
    let line = lines.find(|line| line.contains("\"users\"") && line.contains("\"after\""));
    let count = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    count.unwrap_or_else(|| panic!("no bytes in {metrics}"))
}

#[tokio::test]
async fn a_reload_changes_the_level_of_keyspaces_that_are_open() {
    let Some(url) = redis_url().await else { return };
    let prefix = unique_prefix();
    let toml = |level: u8| {
        format!(
            "[l2]\nurl = '{url}'\nkey_prefix = '{prefix}'\n[defaults.compression]\nlevel = {level}\n\
             [keyspace.users]\npattern = 'user:{{id}}'\n"
        )
    };
    let service = start(&toml(1)).await;
    let rows: Vec<String> = (0_u32..80)
        .map(|n| format!(r#"{{"id":{},"name":"user","plan":"team"}}"#, n.wrapping_mul(2_654_435_761)))
        .collect();
    let body = format!(r#"{{"value":[{}]}}"#, rows.join(","));
    let written = async |key: &str| {
        let before = bytes_after(&service).await;
        assert_eq!(service.put(&format!("/api/cache/{key}"), &body).await.status, 200);
        bytes_after(&service).await - before
    };
    let fast = written("user:1").await;
    assert_eq!(service.reload(&toml(19)).await.expect("taken"), ["defaults.compression.level"]);
    let hard = written("user:2").await;
    assert!(hard * 20 < fast * 19, "{fast} bytes at level 1, {hard} at 19");
    // An instance of another level reads both.
    let other = start(&toml(9)).await;
    for key in ["user:1", "user:2"] {
        let answer = other.get(&format!("/api/cache/{key}")).await;
        assert!(answer.status == 200 && answer.body.contains(&rows[79]), "{answer:?}");
    }
    service.reload(&toml(1)).await.expect("taken");
    assert_eq!(written("user:3").await, fast);
}
