//! Locks and atomics of what decides about coherence: the machine's own, or, with `--cfg terrace_shuttle`, such as the
//! checker of that name can steer. Tickets, trust and flights take theirs from here.

#[cfg(not(terrace_shuttle))]
mod machine {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic;
}

#[cfg(terrace_shuttle)]
mod checker {
    use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic;
    use std::sync::PoisonError;

    /// The checker's lock with the face of the machine's: it is never poisoned.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(terrace_shuttle)]
pub(crate) use checker::*;
#[cfg(not(terrace_shuttle))]
pub(crate) use machine::*;
