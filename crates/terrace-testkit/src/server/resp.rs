//! Where one reply of the server ends and the next begins, and which of them nobody asked for.
//!
//! 1. Only lengths are looked at. What is no RESP is told as such, and nothing more is said of its stream.
//! 2. A reply of any depth is measured without recursion: the parts that are still to come are counted.

/// What the beginning of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// A whole reply of so many bytes.
    Whole(usize),
    /// The beginning of one.
    Unfinished,
    /// Something else.
    Foreign,
}

/// Measures the first reply in `bytes`.
pub(super) fn measure(bytes: &[u8]) -> Frame {
    let mut at = 0;
    let mut parts: u64 = 1;
    while parts > 0 {
        let Some(line) = line(&bytes[at..]) else { return Frame::Unfinished };
        let kind = bytes[at];
        at += line.len() + 2;
        parts -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'!' | b'=' => match number(line) {
                Some(-1) => {}
                Some(length @ 0..) => at += usize::try_from(length).unwrap_or(usize::MAX / 2) + 2,
                _ => return Frame::Foreign,
            },
            b'*' | b'~' | b'>' => match number(line) {
                Some(-1) => {}
                Some(count @ 0..) => parts += count.unsigned_abs(),
                _ => return Frame::Foreign,
            },
            b'%' => match number(line) {
                Some(count @ 0..) => parts += 2 * count.unsigned_abs(),
                _ => return Frame::Foreign,
            },
            // Attributes come before the reply that they belong to.
            b'|' => match number(line) {
                Some(count @ 0..) => parts += 2 * count.unsigned_abs() + 1,
                _ => return Frame::Foreign,
            },
            _ => return Frame::Foreign,
        }
        if at > bytes.len() || (parts > 0 && at == bytes.len()) {
            return Frame::Unfinished;
        }
    }
    Frame::Whole(at)
}

/// The channel of a whole reply, if it is a message of a subscription.
pub(super) fn channel(frame: &[u8]) -> Option<&[u8]> {
    let mut parts =
        frame.strip_prefix(b">")?.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r"));
    let kind = parts.nth(2)??;
    let is_message = kind == b"message" || kind == b"smessage";
    parts.nth(1)?.filter(|_| is_message)
}

/// Whether a whole reply names values that were touched.
pub(super) fn is_names(frame: &[u8]) -> bool {
    frame.starts_with(b">2\r\n$10\r\ninvalidate\r\n")
}

/// The line that `bytes` begin with, without its end.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|two| two == b"\r\n").map(|end| &bytes[..end])
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line.get(1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [&[u8]; 9] = [
        b"+OK\r\n",
        b":12\r\n",
        b"_\r\n",
        b"$-1\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        b"%1\r\n+a\r\n*0\r\n",
        b"|1\r\n+a\r\n+b\r\n:1\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
    ];

    #[test]
    fn a_reply_ends_where_it_ends() {
        for reply in REPLIES {
            for cut in 0..reply.len() {
                assert_eq!(measure(&reply[..cut]), Frame::Unfinished, "{cut} bytes of {reply:?}");
            }
            let more = [reply, b"+next\r\n"].concat();
            assert_eq!(measure(&more), Frame::Whole(reply.len()), "{reply:?}");
        }
    }

    #[test]
    fn what_is_no_reply_is_told() {
        for bytes in [&b"GET /\r\n"[..], b"$x\r\n", b"*-7\r\n", b"%-1\r\n", b"\x16\x03\x01\r\n"] {
            assert_eq!(measure(bytes), Frame::Foreign, "{bytes:?}");
        }
    }

    #[test]
    fn messages_are_told_from_confirmations_and_replies() {
        let message = b">3\r\n$7\r\nmessage\r\n$3\r\na:c\r\n$2\r\nhi\r\n";
        let sharded = b">3\r\n$8\r\nsmessage\r\n$3\r\na:c\r\n$2\r\nhi\r\n";
        assert_eq!(channel(message), Some(&b"a:c"[..]));
        assert_eq!(channel(sharded), Some(&b"a:c"[..]));
        assert_eq!(channel(b">3\r\n$9\r\nsubscribe\r\n$3\r\na:c\r\n:1\r\n"), None);
        assert_eq!(channel(b"*3\r\n$7\r\nmessage\r\n$3\r\na:c\r\n$2\r\nhi\r\n"), None);
    }
}
