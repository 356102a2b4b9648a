//! `MessagePack` with field names, measured before it is read.
//!
//! 1. Bytes are walked once, without recursion, before anything is built from them: every length is there, nothing
//!    is left over, and arrays and maps nest at most 64 deep. The reader behind it recurses, and trusts that.

use super::{Codec, CodecError, CodecId, Counted};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NAME: &str = "messagepack";
/// How deep arrays and maps may nest: little stack, and more than values have.
const DEPTH_MAX: usize = 64;

/// `MessagePack` with field names: smaller than JSON, and readable from other languages.
///
/// # Examples
/// ```
/// use terrace_core::codec::{Codec, MessagePack};
/// let bytes = MessagePack.encode(&("Ada".to_owned(), 36_u8))?;
/// assert_eq!(&bytes[..], b"\x92\xa3Ada\x24");
/// assert_eq!(Codec::<(String, u8)>::decode(&MessagePack, &bytes)?, ("Ada".to_owned(), 36));
/// # Ok::<(), terrace_core::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn id(&self) -> CodecId {
        CodecId::MESSAGE_PACK
    }

    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        let bytes = rmp_serde::to_vec_named(value).map_err(|error| CodecError::encode(NAME, error))?;
        measure(&bytes).map_err(|reason| CodecError::encode(NAME, reason))?;
        Ok(bytes.into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        measure(bytes).map_err(|reason| CodecError::decode(NAME, reason))?;
        rmp_serde::from_slice(bytes).map_err(|error| CodecError::decode(NAME, error))
    }

    fn weight(&self, value: &V) -> u64 {
        let mut counted = Counted::default();
        rmp_serde::encode::write_named(&mut counted, value).map_or(size_of::<V>() as u64, |()| counted.0)
    }
}

/// What the first bytes of an item say.
enum Item {
    /// This many bytes follow, and then it is over.
    Plain(u64),
    /// This many items follow.
    Container(u64),
}

/// Checks that the bytes are one whole value, not nested too deep.
fn measure(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    let mut open = [0_u64; DEPTH_MAX];
    let mut depth = 0;
    loop {
        match next(&mut rest)? {
            Item::Plain(length) => {
                let length = usize::try_from(length).map_err(|_| ENDS)?;
                rest = rest.get(length..).ok_or(ENDS)?;
            }
            Item::Container(0) => {}
            Item::Container(items) => {
                *open.get_mut(depth).ok_or("it nests deeper than 64 arrays and maps")? = items;
                depth += 1;
                continue;
            }
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() { Ok(()) } else { Err("bytes follow the value") };
        }
    }
}

const ENDS: &str = "the bytes end too early";

fn next(rest: &mut &[u8]) -> Result<Item, &'static str> {
    let (&marker, after) = rest.split_first().ok_or(ENDS)?;
    *rest = after;
    Ok(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Item::Plain(0),
        0x80..=0x8f => Item::Container(u64::from(marker & 0x0f) * 2),
        0x90..=0x9f => Item::Container(u64::from(marker & 0x0f)),
        0xa0..=0xbf => Item::Plain(u64::from(marker & 0x1f)),
        0xc1 => return Err("the byte c1 is never used"),
        0xc4 | 0xd9 => Item::Plain(number::<1>(rest)?),
        0xc5 | 0xda => Item::Plain(number::<2>(rest)?),
        0xc6 | 0xdb => Item::Plain(number::<4>(rest)?),
        0xc7 => Item::Plain(1 + number::<1>(rest)?),
        0xc8 => Item::Plain(1 + number::<2>(rest)?),
        0xc9 => Item::Plain(1 + number::<4>(rest)?),
        0xcc | 0xd0 => Item::Plain(1),
        0xcd | 0xd1 => Item::Plain(2),
        0xca | 0xce | 0xd2 => Item::Plain(4),
        0xcb | 0xcf | 0xd3 => Item::Plain(8),
        0xd4..=0xd8 => Item::Plain(1 + (1 << (marker - 0xd4))),
        0xdc => Item::Container(number::<2>(rest)?),
        0xdd => Item::Container(number::<4>(rest)?),
        0xde => Item::Container(2 * number::<2>(rest)?),
        0xdf => Item::Container(2 * number::<4>(rest)?),
    })
}

/// A big-endian length of `N` bytes.
fn number<const N: usize>(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let (digits, after) = rest.split_first_chunk::<N>().ok_or(ENDS)?;
    *rest = after;
    Ok(digits.iter().fold(0, |number, &digit| number << 8 | u64::from(digit)))
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn an_item_is_whole_or_refused() {
        for whole in [
            &b"\x7f"[..],
            b"\xe0",
            b"\xc0",
            b"\xc3",
            b"\xa1a",
            b"\x91\x07",
            b"\x81\xa1k\x07",
            b"\xc4\x01a",
            b"\xc5\x00\x01a",
            b"\xc6\x00\x00\x00\x01a",
            b"\xc7\x01\x05a",
            b"\xc8\x00\x01\x05a",
            b"\xc9\x00\x00\x00\x01\x05a",
            b"\xca\x3f\xc0\x00\x00",
            b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00",
            b"\xcc\x80",
            b"\xcd\x01\x00",
            b"\xce\x00\x01\x00\x00",
            b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
            b"\xd0\x80",
            b"\xd1\xff\x00",
            b"\xd2\xff\xff\x00\x00",
            b"\xd3\xff\xff\xff\xff\x00\x00\x00\x00",
            b"\xd4\x05a",
            b"\xd5\x05ab",
            b"\xd6\x05abcd",
            b"\xd7\x05abcdefgh",
            b"\xd8\x05abcdefghijklmnop",
            b"\xd9\x01a",
            b"\xda\x00\x01a",
            b"\xdb\x00\x00\x00\x01a",
            b"\xdc\x00\x02\x07\x90",
            b"\xdd\x00\x00\x00\x01\x80",
            b"\xde\x00\x01\xa1k\x91\x07",
            b"\xdf\x00\x00\x00\x01\xa1k\x07",
        ] {
            assert_eq!(measure(whole), Ok(()), "{whole:02x?}");
            assert!(measure(&[whole, b"\x00"].concat()).is_err(), "{whole:02x?} and more");
            for length in 0..whole.len() {
                assert!(measure(&whole[..length]).is_err(), "{length} bytes of {whole:02x?}");
            }
        }
    }
}
