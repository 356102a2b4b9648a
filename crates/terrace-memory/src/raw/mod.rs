//! The fenced part: all unsafe code of the project is in this folder.
//!
//! | file | is | unsafe |
//! |---|---|---|
//! | [`domain`] | when every reader has left | none |
//! | [`table`] | from hash to pointer | none: it never follows one |
//! | [`slab`] | memory, and contents written, taken and dropped | yes |
//! | [`retired`] | what waits for its readers | none |
//! | [`shelf`] | the three together, with an interface that is safe | yes |
//!
//! Outside see [`Shelf`], whose readers hold a [`Guard`] and get [`Entry`]s, and whose [`Writer`] has the lock. They can be
//! used wrongly (then a cache forgets, or counts wrongly, or panics), but not unsoundly.

mod domain;
mod retired;
mod shelf;
mod slab;
mod table;

pub(crate) use domain::{Guard, enter};
pub(crate) use shelf::{Aftermath, Entry, Shelf, Slots, Writer};
pub(crate) use slab::{Contents, Id, NONE, Record};

/// Asks the processor to fetch a cache line. Any address will do.
#[inline]
fn prefetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(any(terrace_portable, terrace_loom, terrace_shuttle, miri))))]
    // SAFETY: a prefetch is a hint. It reads nothing, faults on no address, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(terrace_portable, terrace_loom, terrace_shuttle, miri)))))]
    let _ = line;
}
