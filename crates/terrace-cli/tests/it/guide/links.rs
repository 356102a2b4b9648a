//! Links of the guide, of the other docs and of the README: each file and each heading that they name is there.

use super::{PAGES, root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The headings of a page, as a link names them.
pub(super) fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    letters
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => Some(letter),
            _ => None,
        })
        .collect()
}

/// The lines that are not in fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What a page links to, and where from.
fn links(text: &str) -> Vec<String> {
    let text: Vec<&str> = prose(text).collect();
    let text = text.join("\n");
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
    let images = ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(|attribute| {
        text.split(attribute).skip(1).filter_map(|rest| rest.split_once('"').map(|(link, _)| link))
    });
    inline.chain(images).map(str::to_owned).collect()
}

/// What is wrong with the links of a file.
fn wrong(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("it is there");
    let mut found = Vec::new();
    for link in links(&text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, heading) =
            link.split_once('#').map_or((link.as_str(), None), |(path, heading)| (path, Some(heading)));
        let target =
            if path.is_empty() { file.to_owned() } else { file.parent().expect("a folder").join(path) };
        if !target.exists() {
            found.push(format!("{}: there is no {link}", file.display()));
        } else if let Some(heading) = heading
            && target.extension().is_some_and(|kind| kind == "md")
        {
            let there = anchors(&std::fs::read_to_string(&target).expect("text"));
            if !there.contains(heading) {
                found.push(format!("{}: {link} has no such heading", file.display()));
            }
        }
    }
    found
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = markdown(&root().join("docs"));
    files.extend(
        ["README.md", "CONTRIBUTING.md", "TESTING.md", "deploy/README.md"].map(|file| root().join(file)),
    );
    let found: Vec<String> = files.iter().flat_map(|file| wrong(file)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_summary_names_every_page_once() {
    let summary = root().join("docs/SUMMARY.md");
    let text = std::fs::read_to_string(&summary).expect("it is there");
    let named = links(&text);
    let mut once = BTreeSet::new();
    for link in &named {
        assert!(once.insert(link), "{link} is named twice");
        assert!(root().join("docs").join(link).exists(), "there is no {link}");
    }
    for page in PAGES {
        assert!(once.contains(&format!("guide/{page}")), "{page} is not in docs/SUMMARY.md");
    }
}

#[test]
fn headings_are_named_as_links_name_them() {
    assert_eq!(anchor("`GET` and the rest, in 5 minutes"), "get-and-the-rest-in-5-minutes");
    let text = "# A b\n```console\n# not this\n```\n[x](y.md#z) and\n<img src=\"i.png\">\n";
    assert_eq!(anchors(text), BTreeSet::from(["a-b".to_owned()]));
    assert_eq!(links(text), ["y.md#z", "i.png"]);
}
