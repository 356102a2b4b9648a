//! The rules of the project hold in this checkout, so that every run of the tests says so.

#[test]
fn the_checkout_is_tidy() {
    let findings = xtask::tidy::check(&xtask::root()).unwrap();
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
