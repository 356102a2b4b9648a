//! Interleaved measuring: every contender once per round, starting with another one each time.

use anyhow::Result;
use std::io::Write;

/// How often everything is measured.
pub(crate) const DEFAULT: usize = 15;

/// One way to do the thing that is measured.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    /// Does it for a while and gives a number in the unit of the table.
    pub(crate) measure: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, measure: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name, measure: Box::new(measure) }
    }
}

/// What a contender reached, round by round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
}

/// Measures all contenders, after one round that does not count.
pub(crate) fn measure(title: &str, rounds: usize, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> =
        contenders.iter().map(|contender| Row { name: contender.name, values: Vec::new() }).collect();
    for contender in &mut contenders {
        (contender.measure)()?;
    }
    for round in 0..rounds {
        eprint!("\r{title}: round {} of {rounds} ", round + 1);
        std::io::stderr().flush()?;
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            rows[index].values.push((contenders[index].measure)()?);
        }
    }
    eprintln!();
    Ok(rows)
}
