//! Medians, spreads and ratios as a Markdown table.

use crate::rounds::Row;

/// Prints one table. The first row is what the others are compared with.
pub fn print(title: &str, unit: &str, digits: usize, rows: &[Row]) {
    println!("### {title}\n");
    println!("| | {unit}, median | lowest – highest | ratio to the first row, median | lowest – highest |");
    println!("|---|---:|---:|---:|---:|");
    let Some(first) = rows.first() else { return };
    for row in rows {
        let values = Spread::of(row.values.iter().copied());
        let ratios = Spread::of_ratios(row, first);
        println!(
            "| {} | {:.digits$} | {:.digits$} – {:.digits$} | {:.2} | {:.2} – {:.2} |",
            row.name,
            values.median,
            values.lowest,
            values.highest,
            ratios.median,
            ratios.lowest,
            ratios.highest
        );
    }
    println!();
}

/// A row of a Markdown table.
pub fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |", cells.join(" | "))
}

/// The row below the heads of so many columns, of which all but the first hold numbers.
pub fn rule(columns: usize) -> String {
    format!("|---|{}", "---:|".repeat(columns.saturating_sub(1)))
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The lowest.
    pub lowest: f64,
    /// The one in the middle.
    pub median: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self { lowest: at(0), median: f64::midpoint(at(last / 2), at(sorted.len() / 2)), highest: at(last) }
    }

    /// Of the ratios of one contender's values to another's, round by round.
    pub fn of_ratios(row: &Row, base: &Row) -> Self {
        Self::of(row.values.iter().zip(&base.values).map(|(own, base)| own / base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(spread, Spread { lowest: 1.0, median: 2.5, highest: 4.0 });
        let spread = Spread::of([9.0, 1.0, 3.0].into_iter());
        assert_eq!(spread, Spread { lowest: 1.0, median: 3.0, highest: 9.0 });
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = |values: [f64; 3]| Row { name: "", values: values.to_vec() };
        let spread = Spread::of_ratios(&row([1.0, 20.0, 3.0]), &row([2.0, 10.0, 3.0]));
        assert_eq!(spread, Spread { lowest: 0.5, median: 1.0, highest: 2.0 });
    }

    #[test]
    fn rows_are_markdown() {
        assert_eq!(line(["a".to_owned(), "1".to_owned()]), "| a | 1 |");
        assert_eq!(rule(3), "|---|---:|---:|");
    }
}
