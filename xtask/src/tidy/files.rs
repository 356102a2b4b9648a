//! Which files the rules look at: those that are, or would be, in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Folders that are never looked at when git cannot tell.
const BUILT: [&str; 4] = ["target", "corpus", "artifacts", "node_modules"];

/// The files below `root`, from `root`: as git knows them, or all that are not hidden or built.
pub(super) fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = match by_git(root) {
        Some(files) => files,
        None => walk(root)?,
    };
    files.sort();
    Ok(files)
}

fn by_git(root: &Path) -> Option<Vec<PathBuf>> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let names = String::from_utf8(listing.stdout).ok()?;
    Some(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), Vec::from([PathBuf::new()]));
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if kind.is_file() {
                files.push(folder.join(name));
            } else if kind.is_dir() && !is_left_out(&name.to_string_lossy()) {
                folders.push(folder.join(name));
            }
        }
    }
    Ok(files)
}

fn is_left_out(folder: &str) -> bool {
    folder == ".git" || BUILT.contains(&folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_sees_hidden_folders_but_nothing_built() {
        let root = tempfile::tempdir().unwrap();
        for file in ["src/a.rs", ".ci/run", "target/debug/b.rs", ".git/config"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut files = walk(root.path()).unwrap();
        files.sort();
        assert_eq!(files, [PathBuf::from(".ci/run"), PathBuf::from("src/a.rs")]);
    }
}
