//! The contract of [`Remote`], sentence by sentence.
//!
//! Each case gets a namespace of its own, so all of them can run on one server, also one that others use.
//!
//! Deliberately absent: failures, which a real server makes in its own way. Its adapter's tests have them.

mod batches;
mod comparing;
mod later;
mod leases;
mod lists;
mod settings;
mod sweeps;
mod tags;
mod values;

use super::samples;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use terrace_core::remote::{Lease, LeaseOutcome, LeaseToken, Remote, Stored, Validity};
use terrace_core::{Key, Namespace, Ttl, Version};

const LONG: Ttl = Ttl::After(Duration::from_hours(1));
const LEASE: Duration = Duration::from_mins(1);

/// The future of a case. It need not be [`Send`]: a test runs it where it is.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A case: its name, and what it does. It panics where the contract is broken.
pub type Case = (&'static str, for<'a> fn(Bench<'a>) -> CaseFuture<'a>);

/// Names cases after their functions.
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), |bench| Box::pin($module::$name(bench)))),*]
    };
}

/// All cases.
pub const CASES: &[Case] = cases![
    values::what_is_set_is_what_is_read,
    values::an_absent_key_is_none,
    values::versions_of_a_key_only_rise,
    values::a_ttl_of_nothing_removes,
    values::an_entry_ends_with_its_ttl,
    values::odd_keys_are_keys,
    values::large_values_come_back_whole,
    values::opening_again_is_harmless,
    values::health_says_who_answers,
    values::namespaces_do_not_see_each_other,
    values::a_version_is_the_same_until_it_is_replaced_or_dead,
    values::versions_are_asked_for_in_order_and_end_with_their_values,
    comparing::a_value_is_created_once,
    comparing::a_value_is_replaced_and_removed_only_at_the_version_that_is_there,
    comparing::what_is_dead_counts_as_absent,
    comparing::a_change_on_a_condition_voids_the_lease_and_one_that_is_not_made_does_not,
    comparing::of_many_who_compare_with_one_version_one_has_its_way,
    settings::the_first_node_decides_and_others_have_to_agree,
    settings::who_is_refused_has_written_nothing,
    leases::one_load_at_a_time,
    leases::a_lease_given_back_lets_the_next_one_load,
    leases::a_lease_is_renewed_by_its_holder_alone,
    leases::a_fill_has_the_version_of_its_lease,
    leases::a_fill_happens_once,
    leases::an_invalidation_voids_the_lease,
    leases::a_set_voids_the_lease,
    leases::a_lease_that_ran_out_fills_nothing,
    leases::a_dead_value_is_loaded_again,
    leases::settling_ends_every_lease_and_tells_what_is_there,
    leases::every_fill_has_its_own_version,
    leases::a_value_of_no_time_is_accepted_and_not_kept,
    batches::many_are_read_in_order,
    batches::many_are_set_in_order,
    batches::invalidations_say_what_existed,
    batches::batches_of_nothing_are_nothing,
    batches::large_batches_are_whole,
    sweeps::a_sweep_voids_every_lease,
    sweeps::a_sweep_of_all_spares_other_namespaces,
    sweeps::a_pattern_names_keys_and_nothing_else,
    sweeps::what_was_swept_is_dead_before_it_is_removed,
    sweeps::a_sweep_is_ended_by_its_own_name_alone,
    sweeps::a_sweep_tells_of_one_number_that_rises_or_of_none,
    sweeps::only_so_many_sweeps_are_active,
    lists::keys_that_stay_are_listed_whoever_comes_and_goes,
    lists::a_listing_has_what_the_rule_names_and_is_alive,
    lists::a_place_of_nobody_is_lost,
    later::what_is_delayed_is_due_once_and_again_for_others,
    tags::a_generation_changes_when_its_tag_is_bumped_and_only_then,
    tags::a_bump_tells_of_the_generation_that_it_gives_its_tag,
    tags::a_bump_is_seen_to_be_before_or_after_a_lease,
    tags::tags_with_odd_names_are_tags,
];

/// Runs all cases, each in a namespace that begins with `prefix`.
///
/// # Panics
/// Where the contract is broken; the lines before say in which case.
///
/// # Cancel safety
/// Dropping the future leaves the remaining cases out.
pub async fn check(remote: &dyn Remote, prefix: &str) {
    for (index, (name, case)) in CASES.iter().enumerate() {
        println!("case {name}");
        let namespace = Namespace::new(&format!("{prefix}{index}")).expect("the prefix is short and plain");
        remote.open(&namespace).await.expect("a namespace opens");
        case(Bench { remote, namespace }).await;
    }
}

/// What a case works on.
#[derive(Debug)]
pub struct Bench<'a> {
    remote: &'a dyn Remote,
    namespace: Namespace,
}

impl Bench<'_> {
    fn key(text: &str) -> Key {
        Key::new(text).expect("a valid key")
    }

    async fn get(&self, key: &Key) -> Option<Stored> {
        self.remote.get(&self.namespace, key).await.expect("a read succeeds")
    }

    /// The version and text of a value.
    async fn read(&self, key: &Key) -> Option<(Version, String)> {
        self.get(key).await.map(|stored| samples::opened(&self.namespace, key, &stored.bytes))
    }

    /// Whether the value is still that of this version.
    async fn validate(&self, key: &Key, known: Version) -> Validity {
        let asked = [(key.clone(), known)];
        let told = self.remote.validate(&self.namespace, &asked).await.expect("asking succeeds");
        assert_eq!(told.len(), 1);
        told[0]
    }

    async fn set(&self, key: &Key, text: &str, ttl: Ttl) -> Version {
        let value = samples::sealed(&self.namespace, key, text, ttl);
        self.remote.set(&self.namespace, key, value, ttl).await.expect("a set succeeds")
    }

    async fn ask(&self, key: &Key, token: u128, duration: Duration, dead: Option<Version>) -> LeaseOutcome {
        let asked = self.remote.lease(&self.namespace, key, LeaseToken(token), duration, dead);
        asked.await.expect("asking for a lease succeeds")
    }

    async fn lease(&self, key: &Key, token: u128) -> Lease {
        match self.ask(key, token, LEASE, None).await {
            LeaseOutcome::Granted(lease) => lease,
            other => panic!("expected a lease for {key:?}, got {other:?}"),
        }
    }

    /// Fills, and says whether it was stored.
    async fn fill(&self, key: &Key, lease: &Lease, text: &str, ttl: Ttl) -> bool {
        let value = samples::sealed(&self.namespace, key, text, ttl);
        let filled =
            self.remote.fill(&self.namespace, key, lease, value, ttl).await.expect("a fill succeeds");
        filled == terrace_core::remote::FillOutcome::Stored
    }

    async fn invalidate(&self, key: &Key) -> (Version, bool) {
        let keys = std::slice::from_ref(key);
        let done = self.remote.invalidate(&self.namespace, keys).await.expect("an invalidation succeeds");
        (done[0].version, done[0].existed)
    }
}
