//! Work on several threads at once, and what one operation of it costs.
//!
//! 1. The figure is elapsed time, from the first thread's beginning to the last one's end, divided by the operations of
//!    all threads: throughput, written as nanoseconds. Two threads that do not hinder each other halve it. For one thread
//!    it is what an operation takes. That thread is a fresh one too, so that both figures are measured alike.
//! 2. Each thread is bound to a processor of its own. Two that took turns on one would not meet, and a cache whose locks
//!    they should fight for would look better than it is.
//! 3. How much of its processor a thread had tells whether something else ran meanwhile. Such a measurement is repeated.

use crate::timing::{Span, processor_time};
use anyhow::Result;
use std::sync::Barrier;

/// A measurement in which every thread had its processor for this part of the time counts as undisturbed.
const UNDISTURBED: f64 = 0.95;
/// A disturbed measurement is repeated, so often at most in all: threads that wait for each other look the same.
const ATTEMPTS_MAX: usize = 4;

/// What a measurement gave.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timing {
    /// Nanoseconds per operation.
    pub nanos: f64,
    /// The part of the elapsed time in which a thread had its processor, for the one that had least. Low if other
    /// programs ran, or if threads waited for each other.
    pub share: f64,
}

/// Runs `work` on every thread, given its number, and times it, when each does `count` operations. Before that each runs
/// `warm_up`, which is not timed.
///
/// # Panics
/// If the work does.
pub fn time(
    threads: usize,
    count: usize,
    warm_up: impl Fn(usize) + Sync,
    work: impl Fn(usize) + Sync,
) -> Timing {
    let barrier = Barrier::new(threads);
    let (barrier, warm_up, work) = (&barrier, &warm_up, &work);
    let run = move |thread| {
        bind(thread);
        warm_up(thread);
        barrier.wait();
        let before = processor_time();
        let span = Span::of(|| work(thread));
        let share = processor_time().saturating_sub(before).as_secs_f64() / span.duration().as_secs_f64();
        (span, share)
    };
    let (whole, share) = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let ended = started.into_iter().map(|thread| thread.join().expect("the work does not panic"));
        let both =
            |(span, share): (Span, f64), (other, least): (Span, f64)| (span.union(other), share.min(least));
        ended.reduce(both).expect("at least one thread")
    });
    Timing { nanos: whole.duration().as_nanos() as f64 / (threads * count) as f64, share }
}

/// Nanoseconds per operation by the first attempt that nothing disturbed, else by the least disturbed of a few.
///
/// # Errors
/// That of an attempt.
pub fn undisturbed(mut attempt: impl FnMut() -> Result<Timing>) -> Result<f64> {
    let mut best = attempt()?;
    for _ in 1..ATTEMPTS_MAX {
        if best.share >= UNDISTURBED {
            break;
        }
        let next = attempt()?;
        best = if next.share > best.share { next } else { best };
    }
    Ok(best.nanos)
}

/// Binds the calling thread to one of the processors that it may use. Where that is refused, it runs where it may.
#[cfg(target_os = "linux")]
fn bind(thread: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if let Some(cpu) = processors.get(thread % processors.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(*cpu);
        let _ = sched_setaffinity(None, &one);
    }
}

#[cfg(not(target_os = "linux"))]
fn bind(_: usize) {}
