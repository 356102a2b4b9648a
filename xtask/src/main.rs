//! The binary behind `cargo xtask`; everything is in the library, so that tests can use it.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main()
}
