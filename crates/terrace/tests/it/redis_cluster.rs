//! A fleet on a Cluster whose primaries are replaced and hand over their slots: nothing is returned as fresh that is older
//! than the lease, as in [`crate::redis_fleet`].

use crate::redis_fleet::{KEYS, LEASE, Watch, node, reader, writer};
use std::sync::atomic::Ordering;
use terrace::{Namespace, Redis};
use terrace_core::Partition;
use terrace_testkit::server::RedisCluster;
use terrace_testkit::wait::{pause, until};

/// Does to a Cluster what operators do: primaries are replaced, and the slots move in which the fleet's keys are.
async fn operate(cluster: &RedisCluster) {
    let namespace = Namespace::new("numbers").expect("valid");
    for round in 0..2 {
        for primary in cluster.primaries().await {
            cluster.failover(cluster.replica_of(primary).await).await;
            cluster.settled().await;
            pause(LEASE).await;
        }
        for key in 0..KEYS {
            let partition = Partition::of(&namespace, &key.to_string(), Partition::COUNT_DEFAULT);
            let name = format!("{{{namespace}.{}}}", partition.0);
            let (slot, from) = (cluster.slot_of(&name).await, cluster.owner_of(&name).await);
            let others = cluster.primaries().await.into_iter().filter(|primary| *primary != from);
            let to = others.cycle().nth(round).expect("there are three");
            cluster.move_slots(from, to, slot..slot + 1).await;
            pause(LEASE * 2).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_a_lease_is_fresh_whatever_is_done_to_the_cluster() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let nodes = [(); 2].map(|()| node(Redis::cluster(cluster.addresses())));
    let watch = Watch::new();
    let mut tasks = vec![writer(&watch, &nodes[0].1)];
    for ((_, numbers), first) in nodes.iter().zip(0..) {
        tasks.push(reader(&watch, numbers, first));
    }
    until("the fleet to be at work", || watch.fresh.load(Ordering::Relaxed) > 1000).await;
    operate(&cluster).await;
    let calm = watch.fresh.load(Ordering::Relaxed);
    until("fresh reads after it", || watch.fresh.load(Ordering::Relaxed) > calm + 1000).await;
    watch.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let (fresh, stale) = (watch.fresh.load(Ordering::Relaxed), watch.stale.load(Ordering::Relaxed));
    println!("{fresh} fresh reads, {stale} stale ones");
}
