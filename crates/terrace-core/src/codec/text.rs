//! Strings, numbers and truth values as people write them.

use super::{Codec, CodecError, CodecId, Counted};
use bytes::Bytes;
use std::io::Write as _;

const NAME: &str = "text";

/// Readable text, for values that are one string, number, character or truth value.
///
/// Numbers are decimal, as `Display` writes and `FromStr` reads them; truth is `true` or `false`.
///
/// # Examples
/// ```
/// use terrace_core::codec::{Codec, Text};
/// assert_eq!(Text.encode(&-1.5_f64)?, "-1.5");
/// assert_eq!(Codec::<u8>::decode(&Text, &"42".into())?, 42);
/// assert!(Codec::<u8>::decode(&Text, &"420".into()).is_err());
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

fn as_text(bytes: &Bytes) -> Result<&str, CodecError> {
    std::str::from_utf8(bytes).map_err(|error| CodecError::decode(NAME, error))
}

impl Codec<String> for Text {
    fn id(&self) -> CodecId {
        CodecId::TEXT
    }

    fn encode(&self, value: &String) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, CodecError> {
        as_text(bytes).map(str::to_owned)
    }

    fn weight(&self, value: &String) -> u64 {
        value.len() as u64
    }
}

macro_rules! displayed {
    ($($value:ty)*) => {$(
        impl Codec<$value> for Text {
            fn id(&self) -> CodecId {
                CodecId::TEXT
            }

            fn encode(&self, value: &$value) -> Result<Bytes, CodecError> {
                Ok(value.to_string().into())
            }

            fn decode(&self, bytes: &Bytes) -> Result<$value, CodecError> {
                as_text(bytes)?.parse().map_err(|error| CodecError::decode(NAME, error))
            }

            fn weight(&self, value: &$value) -> u64 {
                let mut counted = Counted::default();
                write!(counted, "{value}").map_or(size_of::<$value>() as u64, |()| counted.0)
            }
        }
    )*};
}

displayed!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 bool char);
