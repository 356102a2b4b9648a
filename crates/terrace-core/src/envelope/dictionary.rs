//! Dictionaries: what values of a kind have in common, so that short ones become much shorter.
//!
//! 1. What was compressed with a dictionary can be read with that one alone. In front of its frame stands the dictionary's mark, made from all of its
//!    bytes; the frame names its number besides. A reader that has not got it says so, and its caller counts the entry as missing: it never guesses.
//! 2. Numbers are chosen by who trains, and can be the same. So it is the mark that decides.
//! 3. Dictionaries are at most [`Dictionary::BYTES_MAX`] long, are looked at as a whole when they are made, and never change.
//! 4. A dictionary is prepared once, for all threads. Contexts are kept per thread, as without one.

use super::EnvelopeError;
use super::compress::check_filled;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Length of a dictionary's mark.
const MARK_BYTES: usize = 8;

/// What values of a kind have in common, for zstd. Cloning is cheap.
///
/// # Examples
/// ```
/// use terrace_core::envelope::Dictionary;
/// let samples: Vec<String> =
///     (0..500).map(|id| format!(r#"{{"id":{id},"name":"user {}","plan":"team","active":true}}"#, id * 7)).collect();
/// let trained = Dictionary::train(&samples, 4 << 10)?;
/// assert!(trained.as_bytes().len() <= 4 << 10);
/// let read = Dictionary::new(trained.as_bytes())?;
/// assert_eq!(read, trained);
/// # Ok::<(), terrace_core::envelope::DictionaryError>(())
/// ```
#[derive(Clone)]
pub struct Dictionary(Arc<Inner>);

struct Inner {
    bytes: Box<[u8]>,
    id: NonZeroU32,
    mark: [u8; MARK_BYTES],
    prepared: zstd::Prepared,
}

/// Why something is no dictionary.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// It is longer than a dictionary may be.
    #[error("it has {length} bytes, and a dictionary has at most {length_max}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest length allowed, in bytes.
        length_max: usize,
    },
    /// It does not begin as dictionaries do, or has no number.
    #[error("it is no dictionary of zstd with a number; `terrace dict train` makes one")]
    NotOne,
    /// It begins as dictionaries do, and does not go on so.
    #[error("it is a dictionary of zstd that is damaged")]
    Damaged,
    /// Nothing could be learned from the samples.
    #[error(
        "nothing can be learned from {count} samples of {bytes} bytes together: {reason}; take more of them, or a smaller dictionary"
    )]
    Samples {
        /// How many there were.
        count: usize,
        /// Their lengths together.
        bytes: usize,
        /// What the trainer said.
        reason: String,
    },
    /// zstd was left out when this program was built.
    #[error("this program was built without zstd; build it with terrace's feature `zstd`")]
    Absent,
}

impl Dictionary {
    /// Longest dictionary, in bytes: 128 KiB.
    pub const BYTES_MAX: usize = 128 << 10;
    /// Shortest payload that is compressed with a dictionary, in bytes: shorter ones hardly save a tenth.
    pub const PAYLOAD_BYTES_MIN: usize = 64;

    /// A dictionary from its bytes, as `zstd --train` and [`Dictionary::train`] make them.
    ///
    /// # Errors
    /// [`DictionaryError`], if that is none, or a damaged one.
    ///
    /// # Cost
    /// Copies the bytes, and prepares them for both directions: about a millisecond, and some hundred kilobytes that are kept.
    pub fn new(bytes: &[u8]) -> Result<Self, DictionaryError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(DictionaryError::TooLong { length: bytes.len(), length_max: Self::BYTES_MAX });
        }
        let (id, prepared) = zstd::prepare(bytes)?;
        let mark = rapidhash::v3::rapidhash_v3(bytes).to_be_bytes();
        Ok(Self(Arc::new(Inner { bytes: bytes.into(), id, mark, prepared })))
    }

    /// Learns what samples have in common, in at most so many bytes.
    ///
    /// # Errors
    /// [`DictionaryError::Samples`] where there are too few of them, or they have too little in common: a hundred times the length of the dictionary
    /// is a good measure. [`DictionaryError::Absent`] in a build without zstd.
    ///
    /// # Cost
    /// Seconds for megabytes of samples.
    pub fn train<S: AsRef<[u8]>>(samples: &[S], bytes_max: usize) -> Result<Self, DictionaryError> {
        let bytes = zstd::train(samples, bytes_max.min(Self::BYTES_MAX)).map_err(|reason| {
            let bytes = samples.iter().map(|sample| sample.as_ref().len()).sum();
            reason.map_or(DictionaryError::Absent, |reason| DictionaryError::Samples {
                count: samples.len(),
                bytes,
                reason,
            })
        })?;
        Self::new(&bytes)
    }

    /// Its number, which what was compressed with it has.
    pub fn id(&self) -> u32 {
        self.0.id.get()
    }

    /// Its bytes, as they are in a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How many bytes a value takes in L2 with this dictionary, besides what is before it.
    ///
    /// # Cost
    /// Compresses it.
    pub fn length_with(&self, value: &[u8]) -> usize {
        length(value, Some(self))
    }

    /// How many bytes a value takes in L2 without a dictionary, by the default compression.
    ///
    /// # Cost
    /// Compresses it, if it is long enough for that.
    pub fn length_without(value: &[u8]) -> usize {
        length(value, None)
    }

    /// Appends the mark and a frame to `out`, at most `room` bytes. `None`: it did not fit, or there is no memory for a context.
    pub(super) fn compress(&self, payload: &[u8], out: &mut Vec<u8>, room: usize) -> Option<usize> {
        let room = room.checked_sub(MARK_BYTES)?;
        out.extend_from_slice(&self.0.mark);
        let length = zstd::compress(&self.0.prepared, payload, out, room)?;
        Some(MARK_BYTES + length)
    }

    /// Restores a payload of exactly `length` bytes, which the caller has found to be within its limit, if this is the dictionary that it was
    /// compressed with.
    pub(super) fn restore(
        this: Option<&Self>,
        stored: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, EnvelopeError> {
        let Some((mark, frame)) = stored.split_first_chunk::<MARK_BYTES>() else {
            return Err(EnvelopeError::Truncated { part: "dictionary's mark" });
        };
        let dictionary = this.filter(|dictionary| dictionary.0.mark == *mark);
        let dictionary =
            dictionary.ok_or_else(|| EnvelopeError::DictionaryAbsent { found: zstd::number_of(frame) })?;
        let mut payload = vec![0; length];
        let restored = zstd::restore(&dictionary.0.prepared, frame, &mut payload)
            .map_err(|reason| EnvelopeError::Decompress { algorithm: "zstd with a dictionary", reason })?;
        check_filled(restored, length)?;
        Ok(payload)
    }
}

fn length(value: &[u8], dictionary: Option<&Dictionary>) -> usize {
    let mut out = Vec::new();
    let kept = super::compress::append(&mut out, value, super::Compression::default(), dictionary);
    if kept.is_ok() { out.len() } else { value.len() }
}

impl PartialEq for Dictionary {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.bytes == other.0.bytes
    }
}

impl Eq for Dictionary {}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({}, {} bytes)", self.0.id, self.0.bytes.len())
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use super::DictionaryError;
    use std::cell::RefCell;
    use std::num::NonZeroU32;
    use zstd::dict::{DecoderDictionary, EncoderDictionary};
    use zstd::zstd_safe::{self, CCtx, DCtx};

    /// With a dictionary, level 3 takes hardly longer than level 1 on short values, and finds more.
    const LEVEL: i32 = 3;

    /// A dictionary made ready for both directions.
    pub(super) struct Prepared {
        encoder: EncoderDictionary<'static>,
        decoder: DecoderDictionary<'static>,
    }

    thread_local! {
        static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
        static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }

    pub(super) fn prepare(bytes: &[u8]) -> Result<(NonZeroU32, Prepared), DictionaryError> {
        let id = zstd_safe::get_dict_id_from_dict(bytes).ok_or(DictionaryError::NotOne)?;
        let encoder = EncoderDictionary::try_copy(bytes, LEVEL).map_err(|_| DictionaryError::Damaged)?;
        let decoder = DecoderDictionary::try_copy(bytes).map_err(|_| DictionaryError::Damaged)?;
        Ok((id, Prepared { encoder, decoder }))
    }

    pub(super) fn train<S: AsRef<[u8]>>(samples: &[S], bytes_max: usize) -> Result<Vec<u8>, Option<String>> {
        zstd::dict::from_samples(samples, bytes_max).map_err(|error| Some(error.to_string()))
    }

    pub(super) fn number_of(frame: &[u8]) -> u32 {
        zstd_safe::get_dict_id_from_frame(frame).map_or(0, NonZeroU32::get)
    }

    /// Appends at most `room` bytes to `out`. `None`: it did not fit, or there is no memory for a context.
    pub(super) fn compress(
        prepared: &Prepared,
        payload: &[u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> Option<usize> {
        let start = out.len();
        out.resize(start + room, 0);
        COMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = CCtx::try_create();
            }
            slot.as_mut()?.compress_using_cdict(&mut out[start..], payload, prepared.encoder.as_cdict()).ok()
        })
    }

    pub(super) fn restore(prepared: &Prepared, frame: &[u8], payload: &mut [u8]) -> Result<usize, String> {
        DECOMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = DCtx::try_create();
            }
            let context = slot.as_mut().ok_or("there is no memory for it")?;
            let restored = context.decompress_using_ddict(payload, frame, prepared.decoder.as_ddict());
            restored.map_err(|code| zstd_safe::get_error_name(code).to_owned())
        })
    }
}

/// Stands in for zstd where it was not built in: there are no dictionaries then.
#[cfg(not(feature = "zstd"))]
mod zstd {
    use super::DictionaryError;
    use std::num::NonZeroU32;

    pub(super) enum Prepared {}

    pub(super) fn prepare(_bytes: &[u8]) -> Result<(NonZeroU32, Prepared), DictionaryError> {
        Err(DictionaryError::Absent)
    }

    pub(super) fn train<S: AsRef<[u8]>>(
        _samples: &[S],
        _bytes_max: usize,
    ) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }

    pub(super) fn number_of(_frame: &[u8]) -> u32 {
        0
    }

    pub(super) fn compress(prepared: &Prepared, _: &[u8], _: &mut Vec<u8>, _: usize) -> Option<usize> {
        match *prepared {}
    }

    pub(super) fn restore(prepared: &Prepared, _: &[u8], _: &mut [u8]) -> Result<usize, String> {
        match *prepared {}
    }
}
