//! Are bytes one whole value of `MessagePack`?

use rmp::Marker;

/// How deep lists and maps may be within each other: as deep as in JSON.
pub(super) const DEPTH_MAX: usize = 127;

/// Whether bytes are one value, nothing more and nothing less, with strings in UTF-8, and nested at most [`DEPTH_MAX`] deep.
///
/// # Cost
/// One pass, without recursion. What claims to be longer than the bytes are is known to be when they end.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    is_value(&mut rest).is_some() && rest.is_empty()
}

/// What follows a marker.
enum Part {
    /// So many bytes.
    Bytes(u64),
    /// A text of so many bytes.
    Text(u64),
    /// So many values.
    Values(u64),
}

/// Takes one value off the bytes; `None` if there is none.
fn is_value(rest: &mut &[u8]) -> Option<()> {
    // How many values are left of each list and map that has begun.
    let mut open: Vec<u64> = Vec::new();
    loop {
        match part(rest)? {
            Part::Bytes(count) => drop(take(rest, count)?),
            Part::Text(count) => drop(std::str::from_utf8(take(rest, count)?).ok()?),
            Part::Values(count) => {
                if open.len() == DEPTH_MAX {
                    return None;
                }
                // One more, which the end of it takes off.
                open.push(count + 1);
            }
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return Some(());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(count).ok()?)?;
    *rest = left;
    Some(taken)
}

/// A length of so many bytes.
fn length(rest: &mut &[u8], bytes: u64) -> Option<u64> {
    Some(take(rest, bytes)?.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)))
}

/// Takes a marker off the bytes, with the length after it.
fn part(rest: &mut &[u8]) -> Option<Part> {
    let marker = Marker::from_u8(*take(rest, 1)?.first()?);
    Some(match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => Part::Bytes(0),
        Marker::U8 | Marker::I8 => Part::Bytes(1),
        // Of an extension there is a byte that says of which type it is.
        Marker::U16 | Marker::I16 | Marker::FixExt1 => Part::Bytes(2),
        Marker::U32 | Marker::I32 | Marker::F32 => Part::Bytes(4),
        Marker::U64 | Marker::I64 | Marker::F64 => Part::Bytes(8),
        Marker::FixStr(count) => Part::Text(count.into()),
        Marker::Str8 => Part::Text(length(rest, 1)?),
        Marker::Str16 => Part::Text(length(rest, 2)?),
        Marker::Str32 => Part::Text(length(rest, 4)?),
        Marker::Bin8 => Part::Bytes(length(rest, 1)?),
        Marker::Bin16 => Part::Bytes(length(rest, 2)?),
        Marker::Bin32 => Part::Bytes(length(rest, 4)?),
        Marker::FixExt2 => Part::Bytes(3),
        Marker::FixExt4 => Part::Bytes(5),
        Marker::FixExt8 => Part::Bytes(9),
        Marker::FixExt16 => Part::Bytes(17),
        Marker::Ext8 => Part::Bytes(length(rest, 1)? + 1),
        Marker::Ext16 => Part::Bytes(length(rest, 2)? + 1),
        Marker::Ext32 => Part::Bytes(length(rest, 4)? + 1),
        Marker::FixArray(count) => Part::Values(count.into()),
        Marker::Array16 => Part::Values(length(rest, 2)?),
        Marker::Array32 => Part::Values(length(rest, 4)?),
        Marker::FixMap(count) => Part::Values(u64::from(count) * 2),
        Marker::Map16 => Part::Values(length(rest, 2)? * 2),
        Marker::Map32 => Part::Values(length(rest, 4)? * 2),
        Marker::Reserved => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_whole_and_nothing_else_is() {
        let whole: [&[u8]; 17] = [
            b"\x07",
            b"\xe0",
            b"\xc0",
            b"\xcc\x80",
            b"\xd3\0\0\0\0\0\0\0\x01",
            b"\xcb\0\0\0\0\0\0\0\0",
            b"\xa1a",
            b"\xd9\x01a",
            b"\xda\0\x01a",
            b"\xc4\x01\xff",
            b"\xd6\xff\0\0\0\0",
            b"\xc7\x01\x05x",
            b"\x90",
            b"\x80",
            b"\x92\x90\x81\xa1a\x92\x01\x02",
            b"\xdc\0\x02\x01\x02",
            b"\xdf\0\0\0\x01\x01\x02",
        ];
        for bytes in whole {
            assert!(is_whole(bytes), "{bytes:x?}");
            assert!(!is_whole(&bytes[..bytes.len() - 1]), "{bytes:x?} cut off");
            assert!(!is_whole(&[bytes, b"\0"].concat()), "{bytes:x?} and more");
        }
        let not_whole: [&[u8]; 7] = [
            b"",
            b"\xc1",
            b"\xa1\xff",
            b"\xdb\xff\xff\xff\xffa",
            b"\xdd\xff\xff\xff\xff\x01",
            b"\xdf\xff\xff\xff\xff\x01",
            b"\xc9\xff\xff\xff\xff\x01",
        ];
        for bytes in not_whole {
            assert!(!is_whole(bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_not_looked_into() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0x01]].concat();
        assert!(is_whole(&nested(DEPTH_MAX)));
        assert!(!is_whole(&nested(DEPTH_MAX + 1)));
        assert!(!is_whole(&nested(1 << 20)));
        assert!(is_whole(&[vec![0x91; DEPTH_MAX - 1], vec![0x90]].concat()), "an empty one at the bottom");
    }
}
