//! Two keyspaces never see each other, whatever their names and keys look like.

use crate::fixture::runtime;
use proptest::prelude::*;
use std::collections::BTreeMap;
use terrace::{Cache, Clock, EntryOptions, Keyspace};
use terrace_testkit::fake::FakeRemote;

/// Names of which one is a prefix of the other, or nearly the other.
const NAMES: [&str; 7] = ["users", "users-abc", "users_", "user", "u", "users0", "usersusers"];

#[derive(Clone, Debug)]
enum Step {
    Put { space: usize, key: String, value: u64, tag: bool },
    Load { space: usize, key: String, value: u64 },
    Remove { space: usize, key: String },
    Pattern { space: usize, pattern: String },
    Tag { space: usize },
    Clear { space: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || "[*?\\[\\]\\\\{}:a-c1.^-]{1,4}";
    let pattern = "(\\*|\\?|a|b|:|\\[a-c\\]|\\[\\^a\\]|\\\\\\*){1,3}";
    prop_oneof![
        4 => (0..2_usize, key(), any::<u64>(), any::<bool>())
            .prop_map(|(space, key, value, tag)| Step::Put { space, key, value, tag }),
        2 => (0..2_usize, key(), any::<u64>()).prop_map(|(space, key, value)| Step::Load { space, key, value }),
        1 => (0..2_usize, key()).prop_map(|(space, key)| Step::Remove { space, key }),
        1 => (0..2_usize, pattern).prop_map(|(space, pattern)| Step::Pattern { space, pattern }),
        1 => (0..2_usize).prop_map(|space| Step::Tag { space }),
        1 => (0..2_usize).prop_map(|space| Step::Clear { space }),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Tiers {
    L1,
    L2,
    Both,
}

fn cache(tiers: Tiers) -> Cache {
    let clock = Clock::manual();
    let builder = Cache::builder().clock(clock.clone());
    let builder = match tiers {
        Tiers::L1 => builder,
        Tiers::L2 => builder.no_l1().l2(FakeRemote::new(clock)),
        Tiers::Both => builder.l2(FakeRemote::new(clock)),
    };
    builder.build().expect("valid settings")
}

/// What each keyspace should hold: a value, and whether it is tagged.
type Model = [BTreeMap<String, (u64, bool)>; 2];

async fn take(step: &Step, spaces: &[Keyspace<String, u64>; 2], model: &mut Model) {
    match step {
        Step::Put { space, key, value, tag } => {
            let options = EntryOptions::default();
            let options = if *tag { options.tag("t").expect("valid") } else { options };
            spaces[*space].put_with(key, *value, options).await.expect("stored");
            model[*space].insert(key.clone(), (*value, *tag));
        }
        Step::Load { space, key, value } => {
            let value = *value;
            let load = async move || Ok::<_, std::convert::Infallible>(value);
            let found = spaces[*space].get_or_load(key, load).await.expect("loaded");
            let expected = *model[*space].entry(key.clone()).or_insert((value, false));
            assert_eq!(*found, expected.0);
        }
        Step::Remove { space, key } => {
            let existed = spaces[*space].remove(key).await.expect("removed").existed;
            assert!(
                existed || model[*space].remove(key).is_none(),
                "a value whose tag was bumped may still count"
            );
            model[*space].remove(key);
        }
        Step::Pattern { space, pattern } => {
            let named = spaces[*space].invalidate().pattern(pattern).expect("a pattern");
            named.send().await.expect("invalidated");
            let glob = terrace::Glob::new(pattern).expect("a pattern");
            model[*space].retain(|key, _| !glob.matches(key));
        }
        Step::Tag { space } => {
            spaces[*space].invalidate().tag("t").expect("a tag").send().await.expect("invalidated");
            model[*space].retain(|_, (_, tag)| !*tag);
        }
        Step::Clear { space } => {
            spaces[*space].clear().await.expect("cleared");
            model[*space].clear();
        }
    }
}

async fn compare(spaces: &[Keyspace<String, u64>; 2], model: &Model) {
    let keys: Vec<String> = model.iter().flat_map(|keys| keys.keys().cloned()).collect();
    for (space, expected) in spaces.iter().zip(model) {
        for key in &keys {
            let found = space.get(key).await.expect("a valid key").map(|value| *value);
            assert_eq!(found, expected.get(key).map(|(value, _)| *value), "{}: {key:?}", space.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn two_keyspaces_never_see_each_other(
        names in prop::sample::subsequence(NAMES.to_vec(), 2).prop_shuffle(),
        tiers in prop_oneof![Just(Tiers::L1), Just(Tiers::L2), Just(Tiers::Both)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        runtime().block_on(async {
            let cache = cache(tiers);
            let open = |name: &str| cache.keyspace(name).build().expect("a new keyspace");
            let spaces = [open(names[0]), open(names[1])];
            let mut model = Model::default();
            for step in &steps {
                take(step, &spaces, &mut model).await;
                compare(&spaces, &model).await;
            }
        });
    }
}
