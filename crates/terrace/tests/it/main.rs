//! The library from outside, by topology: which tiers there are, and which of them is in trouble.

mod adaptive;
mod again;
mod alloc;
mod batch;
mod batch_loads;
#[cfg(feature = "journal")]
mod behind;
#[cfg(feature = "journal")]
mod behind_history;
#[cfg(feature = "journal")]
mod behind_kill;
mod bulkhead;
mod clocks;
mod closed;
mod compare;
mod dead;
mod delivered;
mod dictionary;
mod down;
mod events;
mod failover;
mod fence;
mod fixture;
mod flight;
mod flight_end;
mod grouped;
mod hearing;
mod history;
mod hot;
mod isolation;
mod jitter;
mod l1;
mod l1_l2;
mod l1_limits;
mod l1_sizes;
mod l2;
mod later;
mod listing;
mod loads;
mod matrix;
#[cfg(feature = "journal")]
mod narrow;
mod objects;
#[cfg(feature = "journal")]
mod once;
mod origin_times;
mod overview;
mod race;
mod reading;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(feature = "redis")]
mod redis_failover;
#[cfg(feature = "redis")]
mod redis_fleet;
mod redis_forged;
#[cfg(feature = "redis")]
mod redis_plain;
#[cfg(feature = "redis")]
mod redis_split;
#[cfg(feature = "redis")]
mod redis_tracking;
#[cfg(feature = "redis")]
mod redis_trouble;
#[cfg(feature = "redis")]
mod redis_values;
mod refresh;
#[cfg(feature = "journal")]
mod replace;
#[path = "../../examples/loads/resident.rs"]
mod resident;
mod shutdown;
mod stale;
mod staleness;
mod stats;
mod strategies;
mod stress;
mod sweeps;
mod table;
mod tags;
mod through_history;
mod together;
mod tracking;
mod trouble;
mod unanswered;
mod untrue;
mod validation;
mod warm;
mod watched;
mod why;
mod wrapped;
