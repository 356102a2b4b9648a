//! Interleaved measuring: every contender once per round, starting with another one each time.

use anyhow::Result;
use std::fmt;
use std::io::Write;

/// How often everything is measured, unless said otherwise.
pub const DEFAULT: usize = 15;

/// One way to do the thing that is measured.
pub struct Contender<'a> {
    name: &'static str,
    /// Does it for a while and gives a number in the unit of the table.
    measure: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contender<'a> {
    /// Gives a way its name.
    pub fn new(name: &'static str, measure: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name, measure: Box::new(measure) }
    }
}

impl fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a contender reached, round by round.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Who.
    pub name: &'static str,
    /// One number per round.
    pub values: Vec<f64>,
}

/// Measures all contenders, after one round that does not count. Progress goes to standard error.
///
/// # Errors
/// The first error of a contender.
pub fn measure(title: &str, rounds: usize, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> =
        contenders.iter().map(|contender| Row { name: contender.name, values: Vec::new() }).collect();
    for contender in &mut contenders {
        (contender.measure)()?;
    }
    for round in 0..rounds {
        progress(title, round, rounds)?;
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            rows[index].values.push((contenders[index].measure)()?);
        }
    }
    eprintln!();
    Ok(rows)
}

/// Says on standard error which round begins.
///
/// # Errors
/// If standard error cannot be written.
pub fn progress(title: &str, round: usize, rounds: usize) -> Result<()> {
    eprint!("\r{title}: round {} of {rounds} ", round + 1);
    Ok(std::io::stderr().flush()?)
}
