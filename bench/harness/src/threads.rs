//! Work on several threads at once, and what one operation of it costs.
//!
//! The figure is elapsed time, from the first thread's beginning to the last one's end, divided by the operations of all
//! threads: throughput, written as nanoseconds. Two threads that do not hinder each other halve it. For one thread it is
//! what an operation takes. That thread is a fresh one too, so that both figures are measured alike.

use crate::timing::Span;
use std::sync::Barrier;

/// Runs `work` on every thread, given its number, and gives the nanoseconds per operation, when each does `count`.
///
/// # Panics
/// If `work` does.
pub fn nanos_per_operation(threads: usize, count: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let (barrier, work) = (&barrier, &work);
    let whole = std::thread::scope(|scope| {
        let start = |thread| {
            scope.spawn(move || {
                barrier.wait();
                Span::of(|| work(thread))
            })
        };
        let started: Vec<_> = (0..threads).map(start).collect();
        let spans = started.into_iter().map(|thread| thread.join().expect("the work does not panic"));
        spans.reduce(Span::union)
    });
    let nanos = whole.map_or(0, |span| span.duration().as_nanos());
    nanos as f64 / (threads * count) as f64
}
