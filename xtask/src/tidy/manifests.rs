//! What every `Cargo.toml` has in common.
//!
//! 1. Versions stand in the workspace's table alone, so that one line changes one dependency everywhere.
//! 2. Lints come from the workspace, which denies unsafe code. (Each crate but one forbids it, see `fence.rs`.)

use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::Finding;

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks the manifest of the workspace or of one of its members. A workspace of its own (fuzz targets) is not ours.
pub(super) fn check(file: &Path, text: &str) -> Result<Vec<Finding>> {
    let manifest: Table = text.parse().with_context(|| file.display().to_string())?;
    if manifest.contains_key("workspace") {
        let is_root = file.parent().is_some_and(|folder| folder.as_os_str().is_empty());
        return Ok(if is_root { workspace(file, &manifest) } else { Vec::new() });
    }
    let mut findings = versions(file, text, &manifest);
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
    if inherits != Some(true) {
        let remedy = "add `[lints]` with `workspace = true`";
        findings.push(Finding::new(file, 1, "the lints of the workspace do not apply", remedy));
    }
    Ok(findings)
}

fn workspace(file: &Path, manifest: &Table) -> Vec<Finding> {
    let lints = manifest.get("workspace").and_then(|workspace| workspace.get("lints")?.get("rust"));
    let level = lints.and_then(|lints| lints.get("unsafe_code")?.as_str());
    let denied = matches!(level, Some("deny" | "forbid"));
    let remedy = "set `unsafe_code = \"deny\"` in `[workspace.lints.rust]`";
    (!denied).then(|| Finding::new(file, 1, "unsafe code is not denied", remedy)).into_iter().collect()
}

fn versions(file: &Path, text: &str, manifest: &Table) -> Vec<Finding> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let per_target = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(per_target);
    let dependencies = tables.flat_map(|table| {
        TABLES.iter().filter_map(|name| table.get(*name)?.as_table()).flat_map(Table::iter)
    });
    dependencies
        .filter(|(_, value)| value.get("workspace").and_then(Value::as_bool) != Some(true))
        .map(|(name, _)| {
            let what = format!("`{name}` does not come from the workspace");
            let remedy = format!("add it to `[workspace.dependencies]` and write `{name}.workspace = true`");
            Finding::new(file, line_of(text, name), what, remedy)
        })
        .collect()
}

/// The line that begins with `name`.
pub(super) fn line_of(text: &str, name: &str) -> usize {
    let is_it = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=', '"']))
    };
    text.lines().position(is_it).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n\
                        [dependencies]\nb.workspace = true\nc = { workspace = true, optional = true }\n";

    fn found(file: &str, text: &str) -> Vec<String> {
        check(Path::new(file), text).unwrap().iter().map(|f| format!("{}: {}", f.line, f.what)).collect()
    }

    #[test]
    fn versions_outside_the_workspace_are_found() {
        assert!(found("a/Cargo.toml", GOOD).is_empty());
        let number = GOOD.to_owned() + "d = \"1\"\n";
        assert_eq!(found("a/Cargo.toml", &number), ["8: `d` does not come from the workspace"]);
        let target = GOOD.to_owned() + "[target.'cfg(unix)'.dev-dependencies]\ne = { path = \"../e\" }\n";
        assert_eq!(found("a/Cargo.toml", &target), ["9: `e` does not come from the workspace"]);
    }

    #[test]
    fn own_lints_are_found() {
        let own = GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nunsafe_code = \"allow\"");
        assert_eq!(found("a/Cargo.toml", &own), ["1: the lints of the workspace do not apply"]);
    }

    #[test]
    fn a_workspace_that_lets_unsafe_code_pass_is_found() {
        let level = |level: &str| format!("[workspace]\n[workspace.lints.rust]\nunsafe_code = \"{level}\"\n");
        assert!(found("Cargo.toml", &level("forbid")).is_empty());
        assert!(found("Cargo.toml", &level("deny")).is_empty());
        assert_eq!(found("Cargo.toml", &level("warn")), ["1: unsafe code is not denied"]);
        assert_eq!(found("Cargo.toml", "[workspace]\n"), ["1: unsafe code is not denied"]);
        assert!(found("fuzz/Cargo.toml", "[workspace]\n").is_empty());
    }
}
