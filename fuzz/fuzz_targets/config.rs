//! Every text is taken as a configuration and can be shown, or it is refused with words.

#![no_main]

use libfuzzer_sys::fuzz_target;
use terrace_server::config::{Config, Sources};

fuzz_target!(|input: &str| {
    match Config::load(&Sources::text(input)) {
        Ok(config) => assert!(!config.effective_toml().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
