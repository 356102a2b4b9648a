//! Bytes as they are.

use super::{Codec, CodecError, CodecId};
use bytes::Bytes;

/// Bytes as they are, for values that are bytes already.
///
/// # Cost
/// `Bytes` are shared both ways, nothing is copied: a decoded value keeps the buffer alive that it was read from.
/// `Vec<u8>` is copied both ways.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use terrace_core::codec::{Codec, Raw};
/// let bytes = Bytes::from_static(b"\x00\xff");
/// let decoded: Bytes = Raw.decode(&bytes)?;
/// assert_eq!(decoded, bytes);
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn id(&self) -> CodecId {
        CodecId::RAW
    }

    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, CodecError> {
        Ok(bytes.clone())
    }

    fn weight(&self, value: &Bytes) -> u64 {
        value.len() as u64
    }
}

impl Codec<Vec<u8>> for Raw {
    fn id(&self) -> CodecId {
        CodecId::RAW
    }

    fn encode(&self, value: &Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value))
    }

    fn decode(&self, bytes: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }

    fn weight(&self, value: &Vec<u8>) -> u64 {
        value.len() as u64
    }
}
