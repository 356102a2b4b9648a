//! How far along is it?
//!
//! A bar on stderr if a person sees it; a line per tenth if `-v` asks for it elsewhere; else nothing.

use crate::output::{Talk, is_talk_watched};
use indicatif::{ProgressBar, ProgressStyle};

const BAR: &str = "{msg:12} [{bar:40}] {human_pos} of {human_len} · {per_sec:.0} · {eta} left";

/// What is shown of one replay.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A bar that redraws itself.
    Bar(ProgressBar),
    /// Lines.
    Lines {
        /// The name of what is replayed.
        name: String,
        /// All requests.
        all: u64,
        /// Tenths already told.
        told: u64,
        /// Whether anybody wants to know.
        talk: Talk,
    },
}

impl Progress {
    /// Nothing of `all` requests done yet.
    pub(crate) fn new(name: &str, all: u64, talk: Talk) -> Self {
        if !is_talk_watched() || talk == Talk::Quiet {
            return Self::Lines { name: name.to_owned(), all, told: 0, talk };
        }
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::new(all).with_style(style).with_message(name.to_owned()))
    }

    /// So many requests are done.
    pub(crate) fn at(&mut self, done: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(done),
            Self::Lines { name, all, told, talk } => {
                let tenths = done.min(*all) * 10 / (*all).max(1);
                if tenths > *told {
                    *told = tenths;
                    talk.detail(format!("{name}: {}0 % of {all} requests", *told));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
