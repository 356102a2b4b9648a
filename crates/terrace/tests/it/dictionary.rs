//! Nodes with different dictionaries on a real server: none returns a wrong value, and what one cannot read it loads.

use crate::fixture::HOUR;
use std::convert::Infallible;
use terrace::codec::Text;
use terrace::{Cache, Compression, Dictionary, Keyspace, Redis, Tier};
use terrace_testkit::server::{redis_url, unique_prefix};

fn value(id: u64, kind: &str) -> String {
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        r#"{{"id":{id},"{kind}":"{mixed:016x}","plan":"team","active":true,"roles":["reader","writer"],"org":{}}}"#,
        mixed % 50
    )
}

fn trained(kind: &str) -> Dictionary {
    let samples: Vec<String> = (0..1_000).map(|id| value(id, kind)).collect();
    Dictionary::train(&samples, 4 << 10).expect("it works")
}

/// Another dictionary, with the number of this one.
fn of_the_same_number(other: &Dictionary, this: &Dictionary) -> Dictionary {
    let mut bytes = other.as_bytes().to_vec();
    bytes[4..8].copy_from_slice(&this.as_bytes()[4..8]);
    let alike = Dictionary::new(&bytes).expect("it works");
    assert_eq!(alike.id(), this.id());
    alike
}

/// A node without L1, so that all it returns is from L2 or from its loader.
fn node(url: &str, prefix: &str, dictionary: Option<&Dictionary>) -> (Cache, Keyspace<u64, String>) {
    let redis = Redis::url(url).expect("it works").key_prefix(prefix).build().expect("it works");
    let cache = Cache::builder().no_l1().default_ttl(HOUR).l2(redis).build().expect("it works");
    let builder = cache.keyspace("users").codec(Text);
    let builder = match dictionary {
        Some(dictionary) => builder.dictionary(dictionary.clone()),
        None => builder,
    };
    let users = builder.build().expect("it works");
    (cache, users)
}

async fn tier_and_value(users: &Keyspace<u64, String>, id: u64) -> Option<(Tier, String)> {
    let entry = users.get_entry(&id).await.expect("it works")?;
    Some((entry.tier, (*entry.value).clone()))
}

#[tokio::test]
async fn nodes_get_a_new_dictionary_one_after_the_other() {
    let (Some(url), prefix) = (redis_url().await, unique_prefix()) else { return };
    let (old, new) = (trained("name"), trained("title"));
    let (with, with_users) = node(&url, &prefix, Some(&old));
    let (without, without_users) = node(&url, &prefix, None);
    let (_next, next_users) = node(&url, &prefix, Some(&new));
    let (alike, alike_users) = node(&url, &prefix, Some(&of_the_same_number(&new, &old)));
    for id in 0..20 {
        with_users.put(&id, value(id, "name")).await.expect("it works");
        let held = Some((Tier::L2, value(id, "name")));
        assert_eq!(tier_and_value(&with_users, id).await, held);
        for stranger in [&without_users, &next_users, &alike_users] {
            assert_eq!(tier_and_value(stranger, id).await, None, "it cannot be read there, and is no error");
        }
        // Who cannot read it loads it, and stores it as it does itself.
        let loaded = without_users.get_or_load(&id, async move || Ok::<_, Infallible>(value(id, "name")));
        assert_eq!(*loaded.await.expect("it works"), value(id, "name"));
        for reader in [&with_users, &without_users, &next_users] {
            assert_eq!(tier_and_value(reader, id).await, held, "without a dictionary all can read it");
        }
        next_users.put(&id, value(id, "title")).await.expect("it works");
        assert_eq!(tier_and_value(&next_users, id).await, Some((Tier::L2, value(id, "title"))));
        assert_eq!(tier_and_value(&with_users, id).await, None, "not the value that it knew");
    }
    let failures = |cache: &Cache| cache.stats().total.decode_failures;
    for cache in [&without, &alike, &with] {
        assert!(failures(cache) >= 20, "each is counted");
        assert_eq!(cache.stats().total.hits_l1, 0);
    }
}

#[test]
fn a_dictionary_goes_with_zstd_alone() {
    let cache = Cache::memory().expect("it works");
    for compression in [Compression::LZ4, Compression::NONE] {
        let builder = cache.keyspace::<u64, String>("users").compression(compression);
        let refused = builder.dictionary(trained("name")).build().unwrap_err().to_string();
        assert!(refused.contains("dictionary") && refused.contains("Compression::ZSTD"), "{refused}");
    }
}

#[tokio::test]
async fn short_values_take_less_than_half_of_the_room() {
    let (Some(url), prefix) = (redis_url().await, unique_prefix()) else { return };
    let dictionary = trained("name");
    let mut written = Vec::new();
    for dictionary in [None, Some(&dictionary)] {
        let (cache, users) = node(&url, &prefix, dictionary);
        for id in 1_000..1_100 {
            users.put(&id, value(id, "name")).await.expect("it works");
        }
        written.push(cache.stats().total.l2_bytes_written / 100);
    }
    println!("{} bytes for each envelope without a dictionary, {} with", written[0], written[1]);
    assert!(written[1] * 3 < written[0] * 2, "{written:?}");
}
