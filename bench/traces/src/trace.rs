//! Recorded requests in memory.
//!
//! A trace is a file `NAME.k64.zst`: compressed by zstd, one little-endian `u64` per request, its key. Sizes of objects
//! are in `NAME.s32.zst` beside it: one little-endian `u32` per request, in the same order.

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use terrace_bench_harness::keys::mix;

/// One request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// The key's number, counted in the order of first appearance: an index into tables.
    pub(crate) number: u32,
    /// The key as engines see it: the number spread over 64 bits.
    pub(crate) key: u64,
    /// What the object weighs: 1, or its size.
    pub(crate) weight: u32,
}

/// All requests of one recording.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) requests: Vec<Request>,
    /// How many distinct keys.
    pub(crate) keys: usize,
    /// Sum of the weights of the distinct keys, as they were last.
    pub(crate) weight: u64,
    /// Whether weights are sizes in bytes.
    pub(crate) by_bytes: bool,
}

impl Trace {
    pub(crate) fn read(file: &Path, by_bytes: bool) -> Result<Self> {
        let name =
            file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".k64.zst"));
        let name = name.with_context(|| format!("{} is not named NAME.k64.zst", file.display()))?;
        let keys: Vec<u64> =
            unpacked(file)?.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let sizes: Vec<u32> = if by_bytes {
            let sizes = unpacked(&file.with_file_name(format!("{name}.s32.zst")))?;
            sizes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
        } else {
            vec![1; keys.len()]
        };
        ensure!(sizes.len() == keys.len(), "{name}: {} keys, {} sizes", keys.len(), sizes.len());
        Self::new(name, keys.into_iter().zip(sizes), by_bytes)
    }

    /// A trace of these keys and sizes. Where sizes do not count, all weigh 1.
    pub(crate) fn new(
        name: &str,
        recorded: impl Iterator<Item = (u64, u32)>,
        by_bytes: bool,
    ) -> Result<Self> {
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut weights: Vec<u32> = Vec::new();
        let mut requests = Vec::new();
        for (key, weight) in recorded {
            let weight = if by_bytes { weight.max(1) } else { 1 };
            let next = u32::try_from(numbers.len()).context("more than 2^32 keys")?;
            let number = *numbers.entry(key).or_insert(next);
            if number == next {
                weights.push(weight);
            } else {
                weights[number as usize] = weight;
            }
            requests.push(Request { number, key: mix(u64::from(number) + 1), weight });
        }
        let weight = weights.iter().map(|weight| u64::from(*weight)).sum();
        Ok(Self { name: name.to_owned(), requests, keys: weights.len(), weight, by_bytes })
    }
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    File::open(file).and_then(zstd::decode_all).with_context(|| file.display().to_string())
}
