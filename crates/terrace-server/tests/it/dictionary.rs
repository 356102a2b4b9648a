//! Dictionaries of keyspaces: which files are refused, what a reload changes, and services that have different ones.

use crate::support::{Running, refused, start};
use std::path::{Path, PathBuf};
use terrace::Dictionary;
use terrace_testkit::server::{redis_url, unique_prefix};

fn value(id: u64, kind: &str) -> String {
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        r#"{{"id":{id},"{kind}":"{mixed:016x}","plan":"team","active":true,"roles":["reader","writer"]}}"#
    )
}

/// Writes a dictionary of such values to a file.
fn file(folder: &Path, name: &str, kind: &str) -> PathBuf {
    let samples: Vec<String> = (0..1_000).map(|id| value(id, kind)).collect();
    let dictionary = Dictionary::train(&samples, 4 << 10).expect("they have much in common");
    let path = folder.join(name);
    std::fs::write(&path, dictionary.as_bytes()).expect("written");
    path
}

fn toml(dictionary: Option<&Path>) -> String {
    let dictionary =
        dictionary.map(|path| format!("compression = {{ dictionary = '{}' }}\n", path.display()));
    format!("[keyspace.users]\npattern = 'user:{{id}}'\n{}", dictionary.unwrap_or_default())
}

#[test]
fn what_cannot_be_a_dictionary_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = file(folder.path(), "good.dict", "name");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let bytes = std::fs::read(&good).expect("it is there");
    for (path, reason) in [
        (folder.path().join("none.dict"), "this dictionary cannot be read: "),
        (folder.path().to_owned(), "this dictionary cannot be read: "),
        (write("text", b"no dictionary"), "it is no dictionary of zstd with a number"),
        (write("empty", b""), "it is no dictionary of zstd with a number"),
        (write("cut", &bytes[..40]), "it is a dictionary of zstd that is damaged"),
        (write("long", &[bytes.clone(), vec![b'x'; 128 << 10]].concat()), "which has at most 131072 bytes"),
    ] {
        let refusal = refused(&toml(Some(&path)));
        assert!(refusal.contains(reason), "{reason}: {refusal}");
        assert!(refusal.contains("--> configuration:3:30\n") && refusal.contains("^^^^"), "{refusal}");
        assert!(refusal.contains("terrace dict train KEYSPACE -o FILE"), "{refusal}");
    }
    for algorithm in ["lz4", "none"] {
        let refusal = refused(&format!("defaults.compression.algo = '{algorithm}'\n{}", toml(Some(&good))));
        assert!(refusal.contains("goes with zstd alone") && refusal.contains("^^^^"), "{refusal}");
    }
}

#[tokio::test]
async fn a_reload_takes_another_dictionary_also_from_the_same_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (file(folder.path(), "1.dict", "name"), file(folder.path(), "2.dict", "title"));
    let service = start(&toml(None)).await;
    let setting = ["keyspace.users.compression.dictionary"];
    assert_eq!(service.reload(&toml(Some(&one))).await.expect("taken"), setting);
    assert!(service.reload(&toml(Some(&one))).await.expect("nothing to change").is_empty());
    assert_eq!(service.reload(&toml(Some(&two))).await.expect("taken"), setting);
    std::fs::copy(&one, &two).expect("copied");
    assert_eq!(service.reload(&toml(Some(&two))).await.expect("the file has another"), setting);
    std::fs::write(&two, "no dictionary").expect("written");
    let refused = service.reload(&toml(Some(&two))).await.expect_err("it is none").to_string();
    assert!(refused.contains("no dictionary of zstd"), "{refused}");
    assert_eq!(service.reload(&toml(None)).await.expect("taken"), setting);
}

async fn status_and_value(service: &Running, id: u64) -> (u16, serde_json::Value) {
    let answer = service.get(&format!("/api/cache/user:{id}")).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    (answer.status, body["value"].clone())
}

#[tokio::test]
async fn services_of_different_dictionaries_answer_with_no_wrong_value() {
    let Some(url) = redis_url().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (file(folder.path(), "1.dict", "name"), file(folder.path(), "2.dict", "title"));
    let l2 = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'\n", unique_prefix());
    let with = |dictionary: Option<&Path>| format!("{}{l2}", toml(dictionary));
    let (writer, again) = (start(&with(Some(&one))).await, start(&with(Some(&one))).await);
    let (none, other) = (start(&with(None)).await, start(&with(Some(&two))).await);
    for id in 0..20 {
        let body = format!(r#"{{"value":{}}}"#, value(id, "name"));
        assert_eq!(writer.put(&format!("/api/cache/user:{id}"), &body).await.status, 200);
        let expected: serde_json::Value = serde_json::from_str(&value(id, "name")).expect("JSON");
        assert_eq!(status_and_value(&again, id).await, (200, expected));
        for stranger in [&none, &other] {
            assert_eq!(status_and_value(stranger, id).await.0, 404);
        }
    }
    for stranger in [&none, &other] {
        let metrics = stranger.get("/metrics").await.body;
        let mut lines = metrics.lines().filter(|line| line.starts_with("terrace_l2_errors_total{"));
        let counted = lines.find(|line| line.contains("\"users\"") && line.contains("\"envelope\""));
        assert!(counted.is_some_and(|line| line.ends_with(" 20")), "{counted:?}");
    }
    // With the dictionary after all, it reads what it could not read before.
    none.reload(&with(Some(&one))).await.expect("taken");
    assert_eq!(status_and_value(&none, 7).await.0, 200);
}
