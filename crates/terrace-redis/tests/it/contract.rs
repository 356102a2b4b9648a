//! The adapter keeps the contract, and does what the fake does.

use crate::support::{RedisRig, Shared, adapter, namespace, patient};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::atomic::{AtomicU32, Ordering};
use terrace_core::Clock;
use terrace_testkit::conformance::differential::{self, FakeRig};
use terrace_testkit::conformance::remote;
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::server::RedisServer;

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
    let Some(server) = runtime.block_on(RedisServer::start()) else { return };
    let pairs = runtime.block_on(pairs(&server));
    let count = AtomicU32::new(0);
    let config = ProptestConfig { cases: 200, ..ProptestConfig::default() };
    let outcome =
        TestRunner::new(config).run(&(0..2_usize, differential::operations()), |(which, operations)| {
            let namespace = namespace(&format!("d{}", count.fetch_add(1, Ordering::Relaxed)));
            let (real, fake) = &pairs[which];
            runtime.block_on(differential::compare(real, fake, &namespace, real.partitions, &operations))
        });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Real and fake, with one partition and with three.
async fn pairs(server: &RedisServer) -> Vec<(RedisRig, FakeRig)> {
    let mut pairs = Vec::new();
    for partitions in [1, 3] {
        let prefix = format!("p{partitions}:");
        let real = RedisRig::new(&server.url(), &prefix, patient(adapter(server)), partitions).await;
        pairs.push((real, FakeRig::new(FakeRemote::with_partitions(Clock::system(), partitions))));
    }
    pairs
}
