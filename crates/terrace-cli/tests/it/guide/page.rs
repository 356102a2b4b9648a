//! A page in parts: its fenced blocks, and in blocks of commands each command with what it prints.

use super::folder;

/// What is done with a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Commands, run in the page's shell. `wait` runs each until it prints what is expected.
    Console { wait: bool },
    /// A configuration, given to `terrace check`. A fragment is put beneath a base; what is named may be out of reach.
    Config { fragment: bool, unreachable: bool },
    /// Commands that cannot be run here.
    NotRun,
    /// A program, which is a documentation test.
    Rust,
    /// Nothing is done with it: shapes, answers, other people's code.
    Shown,
}

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// The line of its first line of content, from 1.
    pub(super) line: usize,
    pub(super) text: String,
    /// What a comment above it says of why it is not run.
    pub(super) reason: Option<String>,
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
}

/// A command, and what is expected of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: String,
    pub(super) expected: Vec<String>,
    /// The line of the command's first line, and of the first that is expected, from 1.
    pub(super) line: usize,
    pub(super) expected_line: usize,
}

const SHOWN: [&str; 8] = ["text", "json", "sql", "go", "java", "csharp", "yaml", "html"];

fn kind(info: &str, place: &str) -> Kind {
    let mut words = info.split(',').map(str::trim);
    let language = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    let only = |known: &[&str]| {
        let strange = words.iter().find(|word| !known.contains(word));
        assert!(strange.is_none(), "{place}: {strange:?} means nothing for {language}");
    };
    match language {
        "console" => {
            only(&["wait"]);
            Kind::Console { wait: words.contains(&"wait") }
        }
        "toml" => {
            only(&["fragment", "unreachable"]);
            Kind::Config {
                fragment: words.contains(&"fragment"),
                unreachable: words.contains(&"unreachable"),
            }
        }
        "sh" => {
            only(&["ignore"]);
            assert!(
                words.contains(&"ignore"),
                "{place}: commands are `console`, or `sh,ignore` with a reason"
            );
            Kind::NotRun
        }
        "rust" => Kind::Rust,
        shown if SHOWN.contains(&shown) => Kind::Shown,
        other => panic!("{place}: nobody knows what to do with a block of {other:?}"),
    }
}

impl Page {
    pub(super) fn read(file: &str) -> Self {
        let path = folder().join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(file, text)
    }

    pub(super) fn parse(file: &str, text: String) -> Self {
        let mut blocks = Vec::new();
        let mut reason = None;
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let kind = kind(info, &format!("{file}:{number}"));
                let content: Vec<&str> =
                    lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```").collect();
                let text = content.iter().flat_map(|line| [line, "\n"]).collect();
                blocks.push(Block { kind, line: number + 1, text, reason: reason.take() });
            } else {
                let why = line.strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->"));
                reason = why.map(str::to_owned);
            }
        }
        Self { text, blocks }
    }
}

impl Block {
    /// Its commands. A line that begins with `> ` goes on with the command before it.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (line, number) in self.text.lines().zip(self.line..) {
            if let Some(command) = line.strip_prefix("$ ") {
                let command = command.to_owned();
                steps.push(Step { command, expected: Vec::new(), line: number, expected_line: number + 1 });
                continue;
            }
            let step = steps.last_mut().unwrap_or_else(|| panic!("line {number}: there is no command yet"));
            match line.strip_prefix("> ") {
                Some(more) if step.expected.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more);
                    step.expected_line = number + 1;
                }
                _ => step.expected.push(line.to_owned()),
            }
        }
        steps
    }
}

#[test]
fn commands_are_told_from_what_they_print() {
    let text = "a\n```console,wait\n$ cat <<E\n> x\n> E\nx\n\n$ true\n```\n<!-- not run: no Docker here -->\n```sh,ignore\ndocker\n```\n";
    let page = Page::parse("p", text.to_owned());
    assert_eq!(page.blocks[0].kind, Kind::Console { wait: true });
    let steps = page.blocks[0].steps();
    assert_eq!((steps[0].command.as_str(), steps[0].line, steps[0].expected_line), ("cat <<E\nx\nE", 3, 6));
    assert_eq!((&steps[0].expected, steps[1].expected.len()), (&vec!["x".to_owned(), String::new()], 0));
    assert_eq!(page.blocks[1].reason.as_deref(), Some("no Docker here"));
}
