//! How much memory this process has, and whether it has grown: the most of the last half of the samples is no more than the most of
//! the first half, [`GROWTH_MAX_PERCENT`] of that and [`SLACK_KIB`].

use std::fs;

const GROWTH_MAX_PERCENT: u64 = 10;
/// What an allocator may take at once, for all that it gives back later.
const SLACK_KIB: u64 = 4 << 10;

/// Resident memory of this process; 0 where the system does not tell.
pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Whether what was resident is more at the end than the beginning explains.
///
/// # Errors
/// A sentence that says so.
pub(crate) fn judge_memory(resident_kib: &[u64]) -> Result<(), String> {
    let (first, last) = resident_kib.split_at(resident_kib.len() / 2);
    let (first, last) = (first.iter().max().unwrap_or(&0), last.iter().max().unwrap_or(&0));
    if *last > first + first * GROWTH_MAX_PERCENT / 100 + SLACK_KIB {
        return Err(format!("{last} KiB are resident in the last half, and {first} were in the first"));
    }
    Ok(())
}
