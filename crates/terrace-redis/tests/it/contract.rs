//! The adapter keeps the contract, and does what the fake does.

use crate::support::{RedisRig, Shared, namespace};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::atomic::{AtomicU32, Ordering};
use terrace_core::Clock;
use terrace_testkit::conformance::{differential, remote};
use terrace_testkit::fake::FakeRemote;

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let Some(shared) = Shared::find().await else { return };
    remote::check(&shared.redis(), "contract").await;
}

#[tokio::test]
async fn the_adapter_keeps_the_contract_with_one_partition_and_one_connection() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).connections(1).build().expect("valid settings");
    remote::check(&redis, "narrow").await;
}

#[test]
fn the_fake_does_what_the_server_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some((mut rigs, fakes)) = runtime.block_on(both()) else { return };
    let count = AtomicU32::new(0);
    let config = ProptestConfig { cases: 200, ..ProptestConfig::default() };
    let outcome =
        TestRunner::new(config).run(&(0..2_usize, differential::operations()), |(which, operations)| {
            let namespace = namespace(&format!("d{}", count.fetch_add(1, Ordering::Relaxed)));
            let (real, fake) = (&rigs[which], &fakes[which]);
            runtime.block_on(differential::compare(real, fake, &namespace, real.partitions, &operations))
        });
    rigs.clear();
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn both() -> Option<(Vec<RedisRig>, Vec<differential::FakeRig>)> {
    let mut rigs = Vec::new();
    let mut fakes = Vec::new();
    for partitions in [1, 3] {
        let shared = Shared::find().await?;
        rigs.push(RedisRig {
            redis: shared.builder().partitions(partitions).build().expect("valid settings"),
            raw: shared.raw().await,
            prefix: shared.prefix,
            partitions,
        });
        fakes.push(differential::FakeRig(FakeRemote::with_partitions(Clock::system(), partitions)));
    }
    Some((rigs, fakes))
}
