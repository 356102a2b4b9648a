//! Messages of Protocol Buffers, as prost generates them.

use super::{Codec, CodecError, CodecId};
use bytes::Bytes;
use prost::Message;

const NAME: &str = "protobuf";

/// Protocol Buffers, for message types made by prost. Fields of type `Bytes` share the bytes they are read from.
///
/// # Examples
/// ```
/// use terrace_core::codec::{Codec, Protobuf};
/// let bytes = Protobuf.encode(&"Ada".to_owned())?;
/// assert_eq!(&bytes[..], b"\x0a\x03Ada");
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Protobuf;

impl<V: Message + Default + 'static> Codec<V> for Protobuf {
    fn id(&self) -> CodecId {
        CodecId::PROTOBUF
    }

    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        Ok(value.encode_to_vec().into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        V::decode(bytes.clone()).map_err(|error| CodecError::decode(NAME, error))
    }

    fn weight(&self, value: &V) -> u64 {
        value.encoded_len() as u64
    }
}
