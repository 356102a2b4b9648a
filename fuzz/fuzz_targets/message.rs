//! A message that is read is written, and read again, as the same message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use terrace_core::bus::Message;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = Message::parse(input) else { return };
    let text = message.to_string();
    assert_eq!(Message::parse(text.as_bytes()), Ok(message), "{text:?}");
});
