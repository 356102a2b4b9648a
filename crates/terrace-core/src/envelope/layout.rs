//! Where the fields of an envelope stand, and reading them without trust.
//!
//! 1. [`Fields`] hands out a part only if that many bytes are left; nothing is allocated from a declared length.
//! 2. The head is written and read here alone, so the table in the parent module has one implementation.

use super::compress::Form;
use super::{Envelope, EnvelopeError, TagStamp};
use crate::entry::Ttl;
use crate::key::{Key, Namespace, Tag};
use crate::version::Version;
use std::ops::Range;
use std::time::Duration;

/// The only format there is so far; byte 0.
pub(super) const FORMAT: u8 = 1;
/// Where the version stands.
pub(super) const VERSION_AT: Range<usize> = 1..9;
/// Where the checksum stands.
pub(super) const CHECKSUM_AT: Range<usize> = 9..13;
/// Where the compression's number stands.
const COMPRESSION_AT: usize = 14;
/// Length of the part before the namespace, without what [`REFRESH`] adds.
pub(super) const FIXED_BYTES: usize = 40;
/// Length of what [`REFRESH`] adds.
const REFRESH_BYTES: usize = 12;
/// Longest head: every name and tag as long as allowed.
pub(super) const HEAD_BYTES_MAX: usize = FIXED_BYTES
    + REFRESH_BYTES
    + Namespace::LENGTH_MAX
    + Key::LENGTH_MAX
    + Tag::PER_ENTRY_MAX * (1 + Tag::LENGTH_MAX + GENERATION_BYTES);

const GENERATION_BYTES: usize = 8;
/// The TTL of an entry that does not age.
const TTL_NEVER: u64 = u64::MAX;
/// The flag of an entry that says that the origin has none.
const ABSENT: u8 = 1 << 0;
/// The flag of an envelope that has a grace or the time of its load.
const REFRESH: u8 = 1 << 2;
/// Flags that a reader which does not know them may ignore; it must refuse all others.
const FLAGS_IGNORED: u8 = 0xf0;

/// CRC32C of everything but the version and the checksum itself. `bytes` has at least [`FIXED_BYTES`].
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..VERSION_AT.start]), &bytes[CHECKSUM_AT.end..])
}

/// Length of the head that [`write_head`] will write.
pub(super) fn head_bytes(envelope: &Envelope, namespace: &Namespace, key: &Key) -> usize {
    let tags: usize = envelope.tags.iter().map(|stamp| 1 + stamp.tag.as_str().len() + GENERATION_BYTES).sum();
    let refresh = if has_refresh(envelope) { REFRESH_BYTES } else { 0 };
    FIXED_BYTES + refresh + namespace.as_str().len() + key.as_str().len() + tags
}

/// Whether there is anything to be said of the time after the TTL.
fn has_refresh(envelope: &Envelope) -> bool {
    !envelope.grace.is_zero() || !envelope.load_time.is_zero()
}

/// Writes everything before the payload, with version, checksum and compression still zero.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    envelope: &Envelope,
    namespace: &Namespace,
    key: &Key,
) -> Result<(), EnvelopeError> {
    let (tags, payload) = (&envelope.tags, envelope.payload.len());
    if tags.len() > Tag::PER_ENTRY_MAX {
        return Err(EnvelopeError::TagsTooMany { count: tags.len(), count_max: Tag::PER_ENTRY_MAX });
    }
    let payload_length = u32::try_from(payload).map_err(|_| EnvelopeError::PayloadTooLong {
        length: payload as u64,
        length_max: u64::from(u32::MAX),
    })?;
    out.push(FORMAT);
    out.extend_from_slice(&[0; CHECKSUM_AT.end - VERSION_AT.start]);
    out.push(envelope.codec.0);
    out.extend_from_slice(&[0, flags(envelope)]);
    out.extend_from_slice(&ttl_millis(envelope.ttl).to_be_bytes());
    out.extend_from_slice(&envelope.created_ms.to_be_bytes());
    out.extend_from_slice(&payload_length.to_be_bytes());
    out.push(short(tags.len()));
    out.push(short(namespace.as_str().len()));
    let key_length = u16::try_from(key.as_str().len()).expect("a key is at most 1,024 bytes long");
    out.extend_from_slice(&key_length.to_be_bytes());
    if has_refresh(envelope) {
        let grace = u64::try_from(envelope.grace.as_millis()).unwrap_or(u64::MAX);
        let load = u32::try_from(envelope.load_time.as_micros()).unwrap_or(u32::MAX);
        out.extend_from_slice(&grace.to_be_bytes());
        out.extend_from_slice(&load.to_be_bytes());
    }
    out.extend_from_slice(namespace.as_str().as_bytes());
    out.extend_from_slice(key.as_str().as_bytes());
    for TagStamp { tag, generation } in tags {
        out.push(short(tag.as_str().len()));
        out.extend_from_slice(tag.as_str().as_bytes());
        out.extend_from_slice(&generation.get().to_be_bytes());
    }
    Ok(())
}

fn flags(envelope: &Envelope) -> u8 {
    let absent = if envelope.is_absent { ABSENT } else { 0 };
    absent | if has_refresh(envelope) { REFRESH } else { 0 }
}

fn short(length: usize) -> u8 {
    u8::try_from(length).expect("namespaces, tags and their number are limited to 128")
}

/// Fills in what is known only when the payload is there: compression, then the checksum over all of it.
pub(super) fn finish(bytes: &mut [u8], form: Form) {
    bytes[COMPRESSION_AT] = form.number();
    let checksum = checksum(bytes);
    bytes[CHECKSUM_AT].copy_from_slice(&checksum.to_be_bytes());
}

/// Whole milliseconds, rounded down: a TTL is an upper bound.
fn ttl_millis(ttl: Ttl) -> u64 {
    match ttl.duration().map(Ttl::from) {
        Some(Ttl::After(duration)) => u64::try_from(duration.as_millis()).unwrap_or(TTL_NEVER),
        Some(Ttl::Never) | None => TTL_NEVER,
    }
}

/// The part of the head that stands at fixed places.
pub(super) struct Fixed {
    pub(super) version: Version,
    pub(super) codec: u8,
    pub(super) form: Form,
    pub(super) is_absent: bool,
    pub(super) ttl: Ttl,
    pub(super) grace: Duration,
    pub(super) load_time: Duration,
    pub(super) created_ms: u64,
    pub(super) payload_length: u32,
    pub(super) tags: usize,
    pub(super) namespace_length: usize,
    pub(super) key_length: usize,
}

impl Fixed {
    /// Reads the fixed part of an envelope whose format and checksum are right.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, EnvelopeError> {
        let _format = fields.u8("format")?;
        let version = Version::from(fields.u64("version")?);
        let _checksum = fields.u32("checksum")?;
        let codec = fields.u8("codec")?;
        let form = Form::from_number(fields.u8("compression")?)?;
        let flags = fields.u8("flags")?;
        if flags & !(FLAGS_IGNORED | ABSENT | REFRESH) != 0 {
            return Err(EnvelopeError::Flags { found: flags });
        }
        let mut fixed = Self {
            version,
            codec,
            form,
            is_absent: flags & ABSENT != 0,
            grace: Duration::ZERO,
            load_time: Duration::ZERO,
            ttl: Ttl::from(Duration::from_millis(fields.u64("ttl")?)),
            created_ms: fields.u64("created")?,
            payload_length: fields.u32("payload length")?,
            tags: usize::from(fields.u8("number of tags")?),
            namespace_length: usize::from(fields.u8("namespace length")?),
            key_length: usize::from(fields.u16("key length")?),
        };
        if flags & REFRESH != 0 {
            fixed.grace = Duration::from_millis(fields.u64("grace")?);
            fixed.load_time = Duration::from_micros(u64::from(fields.u32("load time")?));
        }
        Ok(fixed)
    }
}

/// The fields of an envelope, taken from the front one by one.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, part: &'static str, length: usize) -> Result<&'a [u8], EnvelopeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(EnvelopeError::Truncated { part })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], EnvelopeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(EnvelopeError::Truncated { part })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, part: &'static str) -> Result<u8, EnvelopeError> {
        self.array(part).map(|[byte]| byte)
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, EnvelopeError> {
        self.array(part).map(u16::from_be_bytes)
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, EnvelopeError> {
        self.array(part).map(u32::from_be_bytes)
    }

    fn u64(&mut self, part: &'static str) -> Result<u64, EnvelopeError> {
        self.array(part).map(u64::from_be_bytes)
    }

    /// Reads `count` tags. Allocates for tags that are there, never for tags that are only announced.
    pub(super) fn tags(&mut self, count: usize) -> Result<Vec<TagStamp>, EnvelopeError> {
        if count > Tag::PER_ENTRY_MAX {
            return Err(EnvelopeError::TagsTooMany { count, count_max: Tag::PER_ENTRY_MAX });
        }
        let mut tags = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(self.u8("tag length")?);
            let text = self.take("tag", length)?;
            let text = std::str::from_utf8(text).map_err(|_| EnvelopeError::Tag)?;
            let tag = Tag::new(text).map_err(|_| EnvelopeError::Tag)?;
            tags.push(TagStamp { tag, generation: Version::from(self.u64("tag generation")?) });
        }
        Ok(tags)
    }
}
