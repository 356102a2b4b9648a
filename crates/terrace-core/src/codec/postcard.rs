//! Postcard: the smallest form, readable only by who knows the type.

use super::{Codec, CodecError, CodecId};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NAME: &str = "postcard";

/// Postcard: the smallest form that serde offers here. It stores no names, so a reader must have the very type of
/// the writer; where releases of a program with different types share an L2, take [`super::Json`] or
/// `MessagePack`.
///
/// Postcard sets no bound to nesting. Do not use it for types that contain themselves (lists of boxes, trees) where
/// somebody you do not trust can write to L2: deep input would exhaust the stack.
///
/// # Examples
/// ```
/// use terrace_core::codec::{Codec, Postcard};
/// let bytes = Postcard.encode(&("Ada".to_owned(), 36_u8))?;
/// assert_eq!(&bytes[..], b"\x03Ada\x24");
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> CodecId {
        CodecId::POSTCARD
    }

    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        let bytes = postcard::to_stdvec(value).map_err(|error| CodecError::encode(NAME, error))?;
        Ok(bytes.into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let (value, rest) =
            postcard::take_from_bytes(bytes).map_err(|error| CodecError::decode(NAME, error))?;
        if !rest.is_empty() {
            return Err(CodecError::decode(NAME, "bytes follow the value"));
        }
        Ok(value)
    }

    fn weight(&self, value: &V) -> u64 {
        let length = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(value, length).unwrap_or(size_of::<V>()) as u64
    }
}
