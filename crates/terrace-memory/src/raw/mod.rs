//! The fenced part: all unsafe code of the project is in this folder.
//!
//! | file | is | unsafe |
//! |---|---|---|
//! | [`domain`] | when every reader has left | none |
//! | [`table`] | from hash to pointer | none: it never follows one |
//! | [`slab`] | memory, and contents written, taken and dropped | yes |
//! | [`retired`] | what waits for its readers | none |
//! | [`shelf`] | the four together, with an interface that is safe | yes |
//! | [`downcast`] | a shared value's type back, for those who keep values without it | yes |
//! | `prefetch`, below | hints to the processor | yes |
//!
//! Outside see [`Shelf`], whose readers hold a [`Guard`] and get [`Entry`]s, and whose [`Writer`] has the lock. They can be
//! used wrongly (then a cache forgets, or counts wrongly, or panics), but not unsoundly.

mod domain;
mod downcast;
#[cfg(test)]
#[cfg(terrace_loom)]
mod loom_tests;
mod retired;
mod shelf;
mod slab;
mod table;

pub(crate) use domain::{Guard, enter};
pub use downcast::downcast_clone;
pub(crate) use shelf::{Aftermath, Entry, Replacement, Shelf, Slots, Writer};
pub(crate) use slab::{Contents, HITS_MAX, Id, NONE, Node, Record};

/// Fetching cache lines before they are needed. Hints only: any address will do.
#[cfg(all(target_arch = "x86_64", not(any(terrace_portable, terrace_loom, terrace_shuttle, miri))))]
mod prefetch {
    use std::arch::asm;
    use std::mem::{MaybeUninit, needs_drop};

    /// Asks the processor to fetch the line at an address.
    #[inline]
    pub(super) fn line<T>(address: *const T) {
        // SAFETY: a prefetch is a hint. It changes nothing, faults on no address, and every x86-64 processor has it.
        unsafe { asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly)) };
    }

    /// Asks the processor to fetch what the first word of a value points to, if it is a pointer: dropping the value will go
    /// there.
    ///
    /// # Safety
    /// The value can be read.
    #[inline]
    pub(super) unsafe fn pointee<V>(value: *const V) {
        if needs_drop::<V>() && size_of::<V>() >= size_of::<usize>() && align_of::<V>() >= align_of::<usize>()
        {
            // SAFETY: the value has a first word, aligned; whether it is initialised does not matter to `MaybeUninit`.
            let word = unsafe { value.cast::<MaybeUninit<usize>>().read() };
            // SAFETY: as in `line`.
            unsafe { asm!("prefetcht0 [{}]", in(reg) word, options(nostack, preserves_flags, readonly)) };
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(any(terrace_portable, terrace_loom, terrace_shuttle, miri)))))]
mod prefetch {
    pub(super) const fn line<T>(_address: *const T) {}

    /// # Safety
    /// None needed here.
    pub(super) const unsafe fn pointee<V>(_value: *const V) {}
}
