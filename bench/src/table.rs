//! Medians, spreads and ratios as a Markdown table.

use crate::rounds::Row;

/// Prints one table. The first row is what the others are compared with.
pub(crate) fn print(title: &str, unit: &str, digits: usize, rows: &[Row]) {
    println!("### {title}\n");
    println!("| | {unit}, median | lowest – highest | ratio to the first row, median | lowest – highest |");
    println!("|---|---:|---:|---:|---:|");
    let Some(first) = rows.first() else { return };
    for row in rows {
        let values = Spread::of(row.values.iter().copied());
        let ratios = Spread::of(row.values.iter().zip(&first.values).map(|(own, first)| own / first));
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

#[derive(Clone, Copy, PartialEq, Debug)]
struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self { lowest: at(0), median: f64::midpoint(at(last / 2), at(sorted.len() / 2)), highest: at(last) }
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
}
