//! JSON: typed values through serde, or valid text kept as it is.
//!
//! 1. [`JsonText`] holds one JSON value in UTF-8 (RFC 8259), nested at most 127 deep. It is checked once, when it is
//!    made, and never changed: the bytes that came in are the bytes that go out.
//! 2. Depth is bounded for text and for typed values alike, so both can read what either wrote. A typed reader may
//!    still refuse text that its type has no form for, e.g. a number that its field cannot hold.

use super::{Codec, CodecError, CodecId, Counted};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

const NAME: &str = "json";
/// How deep arrays and objects may nest. `serde_json` reads no deeper.
const DEPTH_MAX: usize = 127;

/// JSON, by serde: the default.
///
/// # Examples
/// ```
/// use terrace_core::codec::{Codec, Json};
/// let bytes = Json.encode(&vec![1, 2])?;
/// assert_eq!(bytes, "[1,2]");
/// assert_eq!(Codec::<Vec<u8>>::decode(&Json, &bytes)?, [1, 2]);
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        let bytes = serde_json::to_vec(value).map_err(|error| CodecError::encode(NAME, error))?;
        if is_too_deep(&bytes) {
            return Err(CodecError::encode(NAME, TOO_DEEP));
        }
        Ok(bytes.into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::decode(NAME, error))
    }

    fn weight(&self, value: &V) -> u64 {
        let mut counted = Counted::default();
        serde_json::to_writer(&mut counted, value).map_or(size_of::<V>() as u64, |()| counted.0)
    }
}

/// JSON text kept as it is. Has the number of [`Json`], so a typed and a raw reader can share a keyspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawJson;

impl Codec<JsonText> for RawJson {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn encode(&self, value: &JsonText) -> Result<Bytes, CodecError> {
        Ok(value.0.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<JsonText, CodecError> {
        JsonText::new(bytes.clone())
    }

    fn weight(&self, value: &JsonText) -> u64 {
        value.0.len() as u64
    }
}

/// One JSON value as the text it came in.
///
/// Two texts are equal if their bytes are. serde writes it into other JSON as the value it is, not as a string.
///
/// # Examples
/// ```
/// use terrace_core::codec::JsonText;
/// let text = JsonText::new(r#"{"name": "Ada"}"#.into())?;
/// assert_eq!(text.as_str(), r#"{"name": "Ada"}"#);
/// assert!(JsonText::new("{name}".into()).is_err());
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Bytes);

impl JsonText {
    /// Checks bytes and makes them a JSON text.
    ///
    /// # Errors
    /// [`CodecError::Decode`] if they are not one JSON value in UTF-8, or nest deeper than 127 arrays and objects.
    ///
    /// # Cost
    /// Two passes over the bytes and no copy. Allocates a byte for each level of nesting.
    pub fn new(bytes: Bytes) -> Result<Self, CodecError> {
        let text = std::str::from_utf8(&bytes).map_err(|error| CodecError::decode(NAME, error))?;
        if is_too_deep(text.as_bytes()) {
            return Err(CodecError::decode(NAME, TOO_DEEP));
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| CodecError::decode(NAME, error))?;
        Ok(Self(bytes))
    }

    /// The text of a value.
    ///
    /// # Errors
    /// [`CodecError::Encode`] if JSON has no form for the value.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, CodecError> {
        let bytes = serde_json::to_vec(value).map_err(|error| CodecError::encode(NAME, error))?;
        Self::new(bytes.into())
    }

    /// The text as a value of some type.
    ///
    /// # Errors
    /// [`CodecError::Decode`] if the type has no such value.
    pub fn to_value<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CodecError> {
        serde_json::from_slice(&self.0).map_err(|error| CodecError::decode(NAME, error))
    }

    /// The text.
    ///
    /// # Panics
    /// Never: the bytes were found to be UTF-8 when the text was made.
    ///
    /// # Cost
    /// One pass over the bytes. [`JsonText::as_bytes`] costs nothing.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the bytes were found to be UTF-8 when the text was made")
    }

    /// The text in bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, given back.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({})", self.as_str())
    }
}

impl std::str::FromStr for JsonText {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        Self::new(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = String::from(Box::<str>::from(raw));
        Self::new(text.into()).map_err(serde::de::Error::custom)
    }
}

const TOO_DEEP: &str = "it nests deeper than 127 arrays and objects";

/// Whether arrays and objects nest deeper than [`DEPTH_MAX`]. For text that is not JSON any answer will do.
fn is_too_deep(text: &[u8]) -> bool {
    let opening = text.iter().filter(|&&byte| byte == b'[' || byte == b'{').count();
    opening > DEPTH_MAX && depth(text) > DEPTH_MAX
}

/// The deepest nesting of arrays and objects.
fn depth(text: &[u8]) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}
