//! What bytes go to L2?
//!
//! An envelope is one value with all that a reader needs to judge it. The layout of format 1; numbers are
//! big-endian and unsigned:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 1 | format: 1 |
//! | 1 | 8 | version; L2 puts it in when it stores the value |
//! | 9 | 4 | CRC32C of byte 0 and of everything from byte 13 on |
//! | 13 | 1 | codec ([`crate::codec`] has the numbers) |
//! | 14 | 1 | compression: 0 none, 1 zstd, 2 lz4, 3 zstd with a dictionary |
//! | 15 | 1 | flags. A reader refuses bits 0 to 3 and ignores bits 4 to 7 that it does not know |
//! | 16 | 8 | TTL in milliseconds, rounded down; 2⁶⁴−1 = never |
//! | 24 | 8 | created, milliseconds since the Unix epoch |
//! | 32 | 4 | length of the payload before compression |
//! | 36 | 1 | number of tags, t |
//! | 37 | 1 | length of the namespace, n |
//! | 38 | 2 | length of the key, k |
//! | 40 | 8 | grace in milliseconds; only with flag bit 2 |
//! | | 4 | how long the load took, in microseconds; only with flag bit 2 |
//! | | n | namespace |
//! | | k | key |
//! | | t × | each tag: 1 byte length, its text, 8 bytes generation |
//! | | rest | payload |
//!
//! Flag bit 0 says that the origin has no such entry, bit 2 that the envelope has a grace; bit 1 is reserved for "stale". A reader
//! that does not know them would take such an envelope for an ordinary value, so it has to refuse it.
//!
//! 1. Bytes from L2 are a stranger's. [`Envelope::open`] never panics, checks every length against what is left,
//!    and allocates only for tags that are there and, within [`Limits`], for a compressed payload.
//! 2. An envelope names its entry. One that was written for another key or namespace never opens.
//! 3. A format this release does not know is a miss and not a failure, so releases can run side by side.
//! 4. The payload comes last and, unless compressed, as the codec wrote it: a string or number is readable in
//!    `redis-cli`.
//! 5. The version is outside the checksum, because L2 puts it in. L2 is trusted for it.
//!
//! Deliberately absent: encryption and signatures. The checksum finds damage, not forgery; who can write to L2 can
//! write an envelope.

mod compress;
mod dictionary;
mod layout;
mod level;
mod sealed;

pub use dictionary::{Dictionary, DictionaryError};
pub use level::{CompressionLevel, CompressionLevelError};
pub use sealed::Sealed;

use crate::codec::{Codec, CodecError, CodecId};
use crate::entry::Ttl;
use crate::key::{Key, Namespace, Tag};
use crate::version::Version;
use bytes::Bytes;
use compress::Form;
use std::time::Duration;

/// A tag and the generation it had when the entry was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagStamp {
    /// The tag.
    pub tag: Tag,
    /// Its generation then.
    pub generation: Version,
}

/// Bounds on what is accepted from L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest payload after decompression, in bytes.
    pub payload_bytes_max: usize,
}

impl Limits {
    /// The longest payload that is accepted by default: 8 MiB. Larger values are better kept in parts.
    pub const PAYLOAD_BYTES_MAX_DEFAULT: usize = 8 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes_max: Self::PAYLOAD_BYTES_MAX_DEFAULT }
    }
}

/// When and how payloads are compressed. The default is zstd over 1 KiB.
///
/// Whatever is asked for, compressed bytes are kept only if they save at least a tenth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// The algorithm; `None` never compresses.
    pub algorithm: Option<Algorithm>,
    /// Shortest payload that is compressed, in bytes.
    pub threshold_bytes: usize,
    /// How hard zstd tries; other algorithms have no levels.
    pub level: CompressionLevel,
}

impl Compression {
    /// Shorter payloads hardly shrink: 1 KiB.
    pub const THRESHOLD_BYTES_DEFAULT: usize = 1024;
    /// Payloads stay as the codec wrote them.
    pub const NONE: Self = Self::of(None);
    /// Zstandard over 1 KiB, at level 1.
    pub const ZSTD: Self = Self::of(Some(Algorithm::Zstd));
    /// LZ4 over 1 KiB.
    pub const LZ4: Self = Self::of(Some(Algorithm::Lz4));

    /// Zstandard over 1 KiB, at this level.
    ///
    /// # Cost
    /// JSON of 100 KB takes about 0.3 ms at level 1, 4 ms at 9 and 100 ms at 19, of 1 MB 4, 46 and 630 ms: on the thread that stores it. Each such
    /// thread keeps the memory until it has compressed some hundred values that need less: 0.6, 11 and 18 MB for values of 1 MB, 85 MB
    /// at 19 for those of 8 MiB. Keyspaces of different levels cost 30 ns for each value whose level is not that of the one before.
    pub const fn zstd_at(level: CompressionLevel) -> Self {
        Self { level, ..Self::ZSTD }
    }

    const fn of(algorithm: Option<Algorithm>) -> Self {
        let threshold_bytes = Self::THRESHOLD_BYTES_DEFAULT;
        Self { algorithm, threshold_bytes, level: CompressionLevel::FASTEST }
    }
}

impl Default for Compression {
    /// [`Compression::ZSTD`]; in a build without it [`Compression::LZ4`], without either [`Compression::NONE`].
    fn default() -> Self {
        if cfg!(feature = "zstd") {
            Self::ZSTD
        } else if cfg!(feature = "lz4") {
            Self::LZ4
        } else {
            Self::NONE
        }
    }
}

/// A compression algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Algorithm {
    /// Zstandard, at [`Compression::level`].
    Zstd,
    /// LZ4 block format.
    Lz4,
}

impl Algorithm {
    /// The algorithm's name, as settings and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Whether this build can use it.
    pub const fn is_present(self) -> bool {
        match self {
            Self::Zstd => cfg!(feature = "zstd"),
            Self::Lz4 => cfg!(feature = "lz4"),
        }
    }

    fn check_present(self) -> Result<(), EnvelopeError> {
        if self.is_present() {
            Ok(())
        } else {
            Err(EnvelopeError::AlgorithmAbsent { algorithm: self.name() })
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Zstd => 1,
            Self::Lz4 => 2,
        }
    }

    const fn from_number(number: u8) -> Result<Self, EnvelopeError> {
        match number {
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Lz4),
            _ => Err(EnvelopeError::AlgorithmUnknown { found: number }),
        }
    }
}

/// Why bytes are no envelope of an entry, or a value cannot be put into one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes end too early.
    #[error("the envelope ends before the end of its {part}")]
    Truncated {
        /// The field that is not all there.
        part: &'static str,
    },
    /// Another release, or no release at all, wrote this.
    #[error("the envelope has format {found}, which this release does not know")]
    Format {
        /// What byte 0 says.
        found: u8,
    },
    /// The bytes were damaged after they were written.
    #[error("the envelope's checksum is {found:08x}, and its content makes {computed:08x}")]
    Checksum {
        /// The checksum in the envelope.
        found: u32,
        /// The checksum of what is there.
        computed: u32,
    },
    /// A flag is set that must not be ignored, and that this release does not know.
    #[error("the envelope has flags {found:08b}, of which this release does not know one that matters")]
    Flags {
        /// All flags.
        found: u8,
    },
    /// No release that is known has such a compression.
    #[error("the envelope has compression {found}, which this release does not know")]
    AlgorithmUnknown {
        /// Its number.
        found: u8,
    },
    /// The compression is known, and was left out when this program was built.
    #[error("this program was built without {algorithm}; build it with terrace's feature `{algorithm}`")]
    AlgorithmAbsent {
        /// Its name.
        algorithm: &'static str,
    },
    /// The payload was compressed with a dictionary that this reader has not got.
    #[error("the payload was compressed with dictionary {found}, which this node has not got")]
    DictionaryAbsent {
        /// Its number.
        found: u32,
    },
    /// The envelope was written for another key or another namespace.
    #[error("the envelope is of another entry")]
    OtherEntry,
    /// A tag is not one.
    #[error("the envelope has a tag that is no valid tag")]
    Tag,
    /// There are more tags than an entry can have.
    #[error("the entry has {count} tags, and at most {count_max} are allowed")]
    TagsTooMany {
        /// How many.
        count: usize,
        /// The most that is allowed.
        count_max: usize,
    },
    /// The payload is longer than allowed, or says so.
    #[error("the payload has {length} bytes, and at most {length_max} are allowed")]
    PayloadTooLong {
        /// Its length in bytes.
        length: u64,
        /// The longest length allowed, in bytes.
        length_max: u64,
    },
    /// The payload has another length than the envelope says.
    #[error("the payload has {actual} bytes, and the envelope says {declared}")]
    PayloadLength {
        /// What the envelope says.
        declared: u64,
        /// What is there.
        actual: u64,
    },
    /// The payload cannot be decompressed, or not into the length that the envelope says.
    #[error("the payload cannot be decompressed as {algorithm}: {reason}")]
    Decompress {
        /// The algorithm's name.
        algorithm: &'static str,
        /// What it said.
        reason: String,
    },
}

impl EnvelopeError {
    /// One word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Format { .. } => "format",
            Self::Checksum { .. } => "checksum",
            Self::Flags { .. } => "flags",
            Self::AlgorithmUnknown { .. } => "algorithm_unknown",
            Self::AlgorithmAbsent { .. } => "algorithm_absent",
            Self::DictionaryAbsent { .. } => "dictionary_absent",
            Self::OtherEntry => "other_entry",
            Self::Tag => "tag",
            Self::TagsTooMany { .. } => "tags_too_many",
            Self::PayloadTooLong { .. } => "payload_too_long",
            Self::PayloadLength { .. } => "payload_length",
            Self::Decompress { .. } => "decompress",
        }
    }
}

/// One entry as it travels to and from L2.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_core::codec::{Codec, Text};
/// use terrace_core::envelope::{Compression, Envelope, EnvelopeError, Limits};
/// use terrace_core::{Key, Namespace, Ttl, Version};
///
/// let (users, key) = (Namespace::new("users")?, Key::new("42")?);
/// let envelope = Envelope {
///     version: Version::ZERO,
///     created_ms: 1_700_000_000_000,
///     ttl: Ttl::from(Duration::from_secs(60)),
///     grace: Duration::ZERO,
///     load_time: Duration::ZERO,
///     is_absent: false,
///     codec: Codec::<String>::id(&Text),
///     tags: vec![],
///     payload: Text.encode(&"Ada".to_owned())?,
/// };
/// let stored = envelope.seal(&users, &key, Compression::default())?.stamp(Version::from(7));
///
/// let opened = Envelope::open(&stored, &users, &key, Limits::default())?;
/// assert_eq!(opened.version, Version::from(7));
/// assert_eq!(opened.decode::<String>(&Text)?, "Ada");
///
/// let other = Envelope::open(&stored, &users, &Key::new("43")?, Limits::default());
/// assert_eq!(other, Err(EnvelopeError::OtherEntry));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The entry's version; zero before L2 has given one.
    pub version: Version,
    /// When the value was written, in milliseconds since the Unix epoch on the writer's clock. For people only.
    pub created_ms: u64,
    /// How long the entry is fresh, from its writing. Kept in whole milliseconds, rounded down.
    pub ttl: Ttl,
    /// For how long after that it may be returned as stale. Kept in whole milliseconds, rounded down.
    pub grace: Duration,
    /// How long the load took that brought it; zero if none did. Kept in whole microseconds, up to 71 minutes.
    pub load_time: Duration,
    /// Whether it says that the origin has no such entry; then the payload is empty.
    pub is_absent: bool,
    /// Which codec wrote the payload.
    pub codec: CodecId,
    /// The tags, with their generations.
    pub tags: Vec<TagStamp>,
    /// The value's bytes, uncompressed.
    pub payload: Bytes,
}

impl Envelope {
    /// Writes the envelope of the entry `key` of `namespace`. Its version is left zero: L2 gives it.
    ///
    /// # Errors
    /// [`EnvelopeError::TagsTooMany`], [`EnvelopeError::PayloadTooLong`] from 4 GiB on, and
    /// [`EnvelopeError::AlgorithmAbsent`] for a compression that this build lacks.
    ///
    /// # Cost
    /// One allocation, one copy of the payload or one pass of compression.
    pub fn seal(
        &self,
        namespace: &Namespace,
        key: &Key,
        compression: Compression,
    ) -> Result<Sealed, EnvelopeError> {
        self.seal_with(namespace, key, compression, None)
    }

    /// [`Envelope::seal`] with a dictionary, which takes the place of the compression for payloads of at least [`Dictionary::PAYLOAD_BYTES_MIN`].
    ///
    /// # Errors
    /// As [`Envelope::seal`].
    ///
    /// # Cost
    /// As [`Envelope::seal`].
    pub fn seal_with(
        &self,
        namespace: &Namespace,
        key: &Key,
        compression: Compression,
        dictionary: Option<&Dictionary>,
    ) -> Result<Sealed, EnvelopeError> {
        let mut bytes = Vec::with_capacity(layout::head_bytes(self, namespace, key) + self.payload.len());
        layout::write_head(&mut bytes, self, namespace, key)?;
        let head_bytes = bytes.len();
        let form = compress::append(&mut bytes, &self.payload, compression, dictionary)?;
        layout::finish(&mut bytes, form);
        Ok(Sealed { payload_bytes: bytes.len() - head_bytes, bytes: bytes.into() })
    }

    /// Reads an envelope that should be of the entry `key` of `namespace`.
    ///
    /// # Errors
    /// [`EnvelopeError`] if the bytes are not such an envelope. The caller counts it and treats it as a miss.
    ///
    /// # Cost
    /// One pass over the bytes for the checksum. Allocates for tags, and for the payload if it was compressed; else
    /// the payload shares `bytes`.
    pub fn open(
        bytes: &Bytes,
        namespace: &Namespace,
        key: &Key,
        limits: Limits,
    ) -> Result<Self, EnvelopeError> {
        Self::open_with(bytes, namespace, key, limits, None)
    }

    /// [`Envelope::open`] for a reader that has a dictionary.
    ///
    /// # Errors
    /// As [`Envelope::open`]; [`EnvelopeError::DictionaryAbsent`] if the payload needs another one.
    ///
    /// # Cost
    /// As [`Envelope::open`].
    pub fn open_with(
        bytes: &Bytes,
        namespace: &Namespace,
        key: &Key,
        limits: Limits,
        dictionary: Option<&Dictionary>,
    ) -> Result<Self, EnvelopeError> {
        check_whole(bytes, limits)?;
        let mut fields = layout::Fields::new(bytes);
        let fixed = layout::Fixed::read(&mut fields)?;
        let found_namespace = fields.take("namespace", fixed.namespace_length)?;
        let found_key = fields.take("key", fixed.key_length)?;
        if found_namespace != namespace.as_str().as_bytes() || found_key != key.as_str().as_bytes() {
            return Err(EnvelopeError::OtherEntry);
        }
        let tags = fields.tags(fixed.tags)?;
        let stored = bytes.slice(bytes.len() - fields.left()..);
        Ok(Self {
            version: fixed.version,
            created_ms: fixed.created_ms,
            ttl: fixed.ttl,
            grace: fixed.grace,
            load_time: fixed.load_time,
            is_absent: fixed.is_absent,
            codec: CodecId(fixed.codec),
            tags,
            payload: open_payload(stored, fixed.form, fixed.payload_length, limits, dictionary)?,
        })
    }

    /// The value, if `codec` is the one that wrote it.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`] if another codec wrote the payload, else what [`Codec::decode`] says.
    pub fn decode<V>(&self, codec: &(impl Codec<V> + ?Sized)) -> Result<V, CodecError> {
        codec.decode_by(self.codec, &self.payload)
    }
}

/// Checks what can be said of the bytes as a whole: size, format, checksum.
fn check_whole(bytes: &Bytes, limits: Limits) -> Result<(), EnvelopeError> {
    match bytes.first() {
        None => return Err(EnvelopeError::Truncated { part: "format" }),
        Some(&layout::FORMAT) => {}
        Some(&found) => return Err(EnvelopeError::Format { found }),
    }
    if bytes.len() < layout::FIXED_BYTES {
        return Err(EnvelopeError::Truncated { part: "head" });
    }
    let payload_bytes_min = bytes.len().saturating_sub(layout::HEAD_BYTES_MAX);
    check_length(payload_bytes_min, limits)?;
    let mut found = [0; 4];
    found.copy_from_slice(&bytes[layout::CHECKSUM_AT]);
    let (found, computed) = (u32::from_be_bytes(found), layout::checksum(bytes));
    if found == computed { Ok(()) } else { Err(EnvelopeError::Checksum { found, computed }) }
}

fn check_length(length: usize, limits: Limits) -> Result<(), EnvelopeError> {
    if length > limits.payload_bytes_max {
        let length_max = limits.payload_bytes_max as u64;
        return Err(EnvelopeError::PayloadTooLong { length: length as u64, length_max });
    }
    Ok(())
}

fn open_payload(
    stored: Bytes,
    form: Form,
    declared: u32,
    limits: Limits,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, EnvelopeError> {
    let length = usize::try_from(declared).unwrap_or(usize::MAX);
    check_length(length, limits)?;
    compress::open(form, stored, length, dictionary)
}
