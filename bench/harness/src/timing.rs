//! The owner of time in the benchmarks.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// How long `work` takes.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
pub fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// How long this thread has had a processor.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// From when to when something ran.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: Instant,
    end: Instant,
}

impl Span {
    /// Runs `work`, and keeps when it began and ended.
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub fn of(work: impl FnOnce()) -> Self {
        let start = Instant::now();
        work();
        Self { start, end: Instant::now() }
    }

    /// From the beginning of the first to the end of the last.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// How long it lasted.
    pub fn duration(self) -> Duration {
        self.end - self.start
    }
}

/// Measures what is not one call.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it began.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A point in time to stop at.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// A while from now.
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// Whether it is time to stop.
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}
