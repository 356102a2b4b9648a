//! Payloads made shorter, and back to their length.
//!
//! 1. Compressed bytes are kept only if they save at least a tenth of the payload, and compression never fails a
//!    write: a payload that does not shrink is stored as it is.
//! 2. The room for the output of decompression is fixed before it begins, from a length that the caller has checked
//!    against its limit. Output that does not fit is an error, so no input can make more than that.
//! 3. Contexts are kept per thread: making one for zstd costs more than compressing 10 KB with it. There is one for all levels, which is
//!    told another level where the last payload had another one.

use super::{Algorithm, Compression, CompressionLevel, Dictionary, EnvelopeError};
use bytes::Bytes;

/// How a payload is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Plain,
    By(Algorithm),
    ByDictionary,
}

impl Form {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::By(algorithm) => algorithm.number(),
            Self::ByDictionary => 3,
        }
    }

    pub(super) fn from_number(number: u8) -> Result<Self, EnvelopeError> {
        match number {
            0 => Ok(Self::Plain),
            3 => Ok(Self::ByDictionary),
            number => Algorithm::from_number(number).map(Self::By),
        }
    }
}

/// Most bytes that a compressed payload may have: a tenth less than the payload.
fn room(payload: &[u8]) -> usize {
    payload.len() - payload.len().div_ceil(10)
}

/// Appends the payload to `out`, compressed if that is asked for and pays. Says how.
pub(super) fn append(
    out: &mut Vec<u8>,
    payload: &[u8],
    compression: Compression,
    dictionary: Option<&Dictionary>,
) -> Result<Form, EnvelopeError> {
    let start = out.len();
    if let Some(dictionary) = dictionary {
        if payload.len() >= Dictionary::PAYLOAD_BYTES_MIN {
            if let Some(length) = dictionary.compress(payload, out, room(payload)) {
                out.truncate(start + length);
                return Ok(Form::ByDictionary);
            }
            out.truncate(start);
        }
    } else if let Some(algorithm) = compression.algorithm {
        algorithm.check_present()?;
        if payload.len() >= compression.threshold_bytes {
            let (room, level) = (room(payload), compression.level);
            let compressed = match algorithm {
                Algorithm::Zstd => zstd::compress(payload, out, room, level),
                Algorithm::Lz4 => lz4::compress(payload, out, room, level),
            };
            if let Some(length) = compressed {
                out.truncate(start + length);
                return Ok(Form::By(algorithm));
            }
            out.truncate(start);
        }
    }
    out.extend_from_slice(payload);
    Ok(Form::Plain)
}

/// The payload of exactly `length` bytes, which the caller has found to be within its limit. One that was not compressed shares the bytes.
pub(super) fn open(
    form: Form,
    stored: Bytes,
    length: usize,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, EnvelopeError> {
    match form {
        Form::By(algorithm) => restore(algorithm, &stored, length).map(Bytes::from),
        Form::ByDictionary => Dictionary::restore(dictionary, &stored, length).map(Bytes::from),
        Form::Plain => check_filled(stored.len(), length).map(|()| stored),
    }
}

fn restore(algorithm: Algorithm, stored: &[u8], length: usize) -> Result<Vec<u8>, EnvelopeError> {
    algorithm.check_present()?;
    let mut payload = vec![0; length];
    let restored = match algorithm {
        Algorithm::Zstd => zstd::restore(stored, &mut payload),
        Algorithm::Lz4 => lz4::restore(stored, &mut payload),
    }
    .map_err(|reason| EnvelopeError::Decompress { algorithm: algorithm.name(), reason })?;
    check_filled(restored, length)?;
    Ok(payload)
}

/// Whether what was restored is as long as the envelope says.
pub(super) fn check_filled(restored: usize, length: usize) -> Result<(), EnvelopeError> {
    if restored == length {
        Ok(())
    } else {
        Err(EnvelopeError::PayloadLength { declared: length as u64, actual: restored as u64 })
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use super::CompressionLevel;
    use std::cell::RefCell;
    use std::io;
    use zstd::bulk::{Compressor, Decompressor};
    use zstd::zstd_safe::CParameter;

    /// Largest window that is accepted, as a power of two: 8 MiB.
    const WINDOW_LOG_MAX: u32 = 23;

    /// What compresses, and at which level.
    type Context = (Compressor<'static>, CompressionLevel);

    thread_local! {
        static COMPRESSOR: RefCell<Option<Context>> = const { RefCell::new(None) };
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }

    /// Appends at most `room` bytes to `out`. `None`: it did not fit, or there is no memory for a context.
    pub(super) fn compress(
        payload: &[u8],
        out: &mut Vec<u8>,
        room: usize,
        level: CompressionLevel,
    ) -> Option<usize> {
        let start = out.len();
        out.resize(start + room, 0);
        COMPRESSOR.with_borrow_mut(|slot| {
            let number = i32::from(level.get());
            if slot.is_none() {
                *slot = Some((Compressor::new(number).ok()?, level));
            }
            let (context, set) = slot.as_mut()?;
            if *set != level {
                // The parameter alone: a context that was left in the middle of a frame, because that did not fit, takes nothing else.
                if context.set_parameter(CParameter::CompressionLevel(number)).is_err() {
                    *slot = None;
                    return None;
                }
                *set = level;
            }
            context.compress_to_buffer(payload, &mut out[start..]).ok()
        })
    }

    pub(super) fn restore(stored: &[u8], payload: &mut [u8]) -> Result<usize, String> {
        DECOMPRESSOR
            .with_borrow_mut(|slot| {
                if slot.is_none() {
                    *slot = Some(decompressor()?);
                }
                slot.as_mut().map_or(Ok(0), |context| context.decompress_to_buffer(stored, payload))
            })
            .map_err(|error| error.to_string())
    }

    fn decompressor() -> io::Result<Decompressor<'static>> {
        let mut decompressor = Decompressor::new()?;
        decompressor.window_log_max(WINDOW_LOG_MAX)?;
        Ok(decompressor)
    }
}

#[cfg(not(feature = "zstd"))]
use absent as zstd;

#[cfg(feature = "lz4")]
mod lz4 {
    use super::CompressionLevel;
    use lz4_flex::block::{
        CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
    };
    use std::cell::RefCell;

    thread_local! {
        static TABLE: RefCell<Option<CompressTable>> = const { RefCell::new(None) };
    }

    /// Appends the compressed payload to `out`. `None`: it has more than `room` bytes. There are no levels.
    pub(super) fn compress(
        payload: &[u8],
        out: &mut Vec<u8>,
        room: usize,
        _: CompressionLevel,
    ) -> Option<usize> {
        let start = out.len();
        out.resize(start + get_maximum_output_size(payload.len()), 0);
        TABLE
            .with_borrow_mut(|slot| {
                let table = slot.get_or_insert_with(CompressTable::default);
                compress_into_with_table(payload, &mut out[start..], table).ok()
            })
            .filter(|&length| length <= room)
    }

    pub(super) fn restore(stored: &[u8], payload: &mut [u8]) -> Result<usize, String> {
        decompress_into(stored, payload).map_err(|error| error.to_string())
    }
}

#[cfg(not(feature = "lz4"))]
use absent as lz4;

/// Stands in for an algorithm that was not built in; [`Algorithm::check_present`] has refused it before.
#[cfg(not(all(feature = "zstd", feature = "lz4")))]
mod absent {
    use super::CompressionLevel;

    pub(super) fn compress(
        _payload: &[u8],
        _out: &mut Vec<u8>,
        _room: usize,
        _: CompressionLevel,
    ) -> Option<usize> {
        None
    }

    pub(super) fn restore(_stored: &[u8], _payload: &mut [u8]) -> Result<usize, String> {
        Err("it was not built in".to_owned())
    }
}
