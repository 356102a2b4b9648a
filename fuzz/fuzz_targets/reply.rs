//! No reply of a server makes a panic, whatever its shape: it says something, or it is an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| terrace_redis::read_any_reply(input));
