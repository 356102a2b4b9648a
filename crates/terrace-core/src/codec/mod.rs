//! How a value becomes bytes and back.
//!
//! One byte of the envelope says which codec wrote a payload, so a reader never guesses. The numbers are for ever:
//!
//! | number | codec | values | feature |
//! |---|---|---|---|
//! | 0 | none: no envelope has it | | |
//! | 1 | [`Json`], and [`RawJson`] over a [`JsonText`] | what serde can write as JSON | |
//! | 2 | [`Raw`] | `Bytes`, `Vec<u8>` | |
//! | 3 | [`Text`] | strings, integers, floats, `bool`, `char` | |
//! | 4 | `MessagePack`, with field names | what serde can write | `msgpack` |
//! | 5 | `Postcard` | what serde can write and type alone can read | `postcard` |
//! | 6 | `Protobuf` | messages of prost | `protobuf` |
//! | 7 | none here: bytes of a media type, as the service keeps them | | |
//! | 8 to 127 | later releases of terrace | | |
//! | 128 to 255 | a program's own codecs | | |
//!
//! 1. Bytes to decode are a stranger's. The codecs here answer with an error, never with a panic, and reserve memory
//!    for what is there, not for what is announced. JSON nests at most 127 deep and `MessagePack` 64.
//! 2. What a codec of this module writes, it can read. A value that nests deeper than that is refused when written.
//! 3. Nothing may follow a value: bytes that are left over are an error.
//! 4. Codecs with one number read each other's bytes.

mod json;
mod raw;
mod text;

#[cfg(feature = "msgpack")]
mod messagepack;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(feature = "protobuf")]
mod protobuf;

pub use json::{Json, JsonText, RawJson};
pub use raw::Raw;
pub use text::Text;

#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
#[cfg(feature = "msgpack")]
pub use messagepack::MessagePack;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;

use bytes::Bytes;
use std::fmt;

/// Why bytes are not a value, or a value cannot be bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value could not be written.
    #[error("the value cannot be encoded as {codec}: {reason}")]
    Encode {
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        reason: String,
    },
    /// The bytes are not a value of this type.
    #[error("the bytes cannot be decoded as {codec}: {reason}")]
    Decode {
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        reason: String,
    },
    /// Another codec wrote the bytes.
    #[error("the value was written by codec {found}, and is read by codec {expected}")]
    Mismatch {
        /// The codec that reads.
        expected: CodecId,
        /// The codec that wrote.
        found: CodecId,
    },
}

impl CodecError {
    fn encode(codec: &'static str, reason: impl fmt::Display) -> Self {
        Self::Encode { codec, reason: reason.to_string() }
    }

    fn decode(codec: &'static str, reason: impl fmt::Display) -> Self {
        Self::Decode { codec, reason: reason.to_string() }
    }

    /// One word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Encode { .. } => "encode",
            Self::Decode { .. } => "decode",
            Self::Mismatch { .. } => "codec_mismatch",
        }
    }
}

/// Which codec wrote a payload; one byte of the envelope.
///
/// # Examples
/// ```
/// use terrace_core::codec::CodecId;
/// assert_eq!(CodecId::JSON.to_string(), "json");
/// assert_eq!(CodecId(200).to_string(), "200");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CodecId(pub u8);

impl CodecId {
    /// JSON text.
    pub const JSON: Self = Self(1);
    /// Bytes as they are.
    pub const RAW: Self = Self(2);
    /// Readable text of one string, number or truth value.
    pub const TEXT: Self = Self(3);
    /// `MessagePack` with field names.
    pub const MESSAGE_PACK: Self = Self(4);
    /// Postcard.
    pub const POSTCARD: Self = Self(5);
    /// Protocol Buffers.
    pub const PROTOBUF: Self = Self(6);
    /// The media type of the value, its length in one byte before it, and then the value.
    pub const MEDIA: Self = Self(7);
    /// The first number that is free for a program's own codecs.
    pub const CUSTOM_MIN: Self = Self(128);

    /// The codec's name, if it is one of terrace.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::JSON => Some("json"),
            Self::RAW => Some("raw"),
            Self::TEXT => Some("text"),
            Self::MESSAGE_PACK => Some("messagepack"),
            Self::POSTCARD => Some("postcard"),
            Self::PROTOBUF => Some("protobuf"),
            Self::MEDIA => Some("media"),
            _ => None,
        }
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// How values of type `V` become bytes and back.
///
/// # Examples
/// A codec of a program's own:
/// ```
/// use bytes::Bytes;
/// use terrace_core::codec::{Codec, CodecError, CodecId};
///
/// #[derive(Debug)]
/// struct BigEndian;
///
/// impl Codec<u32> for BigEndian {
///     fn id(&self) -> CodecId {
///         CodecId(200)
///     }
///
///     fn encode(&self, value: &u32) -> Result<Bytes, CodecError> {
///         Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
///     }
///
///     fn decode(&self, bytes: &Bytes) -> Result<u32, CodecError> {
///         let four: [u8; 4] = bytes[..].try_into().map_err(|_| CodecError::Decode {
///             codec: "big-endian",
///             reason: format!("{} bytes instead of 4", bytes.len()),
///         })?;
///         Ok(u32::from_be_bytes(four))
///     }
/// }
///
/// assert_eq!(BigEndian.decode(&BigEndian.encode(&7)?)?, 7);
/// assert_eq!(BigEndian.weight(&7), 4);
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<V>: fmt::Debug + Send + Sync + 'static {
    /// Which codec this is, in the envelope.
    fn id(&self) -> CodecId;

    /// Which codec writes this value. Only for a codec that keeps values of several forms in one keyspace: what it says here is
    /// what [`Codec::decode_by`] is given. Default: [`Codec::id`].
    fn id_of(&self, _value: &V) -> CodecId {
        self.id()
    }

    /// What tells it from another program's codec of the same number. All nodes of a namespace have to have the same.
    /// Default: the name that belongs to the number, or the number.
    fn name(&self) -> String {
        self.id().to_string()
    }

    /// Writes a value.
    ///
    /// # Errors
    /// [`CodecError::Encode`] if the codec has no form for this value.
    fn encode(&self, value: &V) -> Result<Bytes, CodecError>;

    /// Reads a value. The bytes may be shared (`Bytes::slice`), never trusted.
    ///
    /// # Errors
    /// [`CodecError::Decode`] if the bytes are not a value of this type.
    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError>;

    /// Reads a value that the codec `by` wrote, as the envelope says. Default: [`Codec::decode`], of what this codec wrote.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`] if another codec wrote it, else what [`Codec::decode`] says.
    fn decode_by(&self, by: CodecId, bytes: &Bytes) -> Result<V, CodecError> {
        if by != self.id() {
            return Err(CodecError::Mismatch { expected: self.id(), found: by });
        }
        self.decode(bytes)
    }

    /// How many bytes the value counts for in L1: the length of its encoding, or the size of its type if it has
    /// none. An estimate of what it takes in memory, good for comparing values of one type.
    ///
    /// # Cost
    /// That of encoding, unless the codec knows better. The codecs of this module allocate nothing for it.
    fn weight(&self, value: &V) -> u64 {
        self.encode(value).map_or(size_of::<V>(), |bytes| bytes.len()) as u64
    }
}

/// Counts what is written, and keeps nothing.
#[derive(Default)]
struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
