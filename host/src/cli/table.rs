//! Rows of text in aligned columns, for people: numbers to the right, everything else to the left.

use super::plain::one_line;

/// The first row is the header: a column is numeric when every row below it is.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn with_header(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// The rows, each behind the indent and ended by a newline.
    pub fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> =
            (0..columns).map(|column| cells(column).map(|cell| width(cell)).max().unwrap_or_default()).collect();
        let numeric: Vec<bool> = (0..columns).map(|column| cells(column).skip(1).all(|cell| is_number(cell))).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for ((cell, width_of_column), numeric) in row.iter().zip(&widths).zip(&numeric) {
                let padding = " ".repeat(width_of_column - width(cell));
                let (before, after) = if *numeric { (padding.as_str(), "") } else { ("", padding.as_str()) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Characters: wide and combining ones would misalign their line, and names hardly have any.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

fn is_number(cell: &str) -> bool {
    let number = cell.trim_end_matches([' ', '%']).replace(',', "");
    matches!(cell, "" | "-") || number.parse::<f64>().is_ok()
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_names_left() {
        let mut table = Table::with_header(&["NAME", "RECORDS", "ACCURACY"]);
        table.row(["a".into(), "1,000".into(), "97.0 %".into()]);
        table.row(["longer".into(), "1".into(), "-".into()]);
        assert_eq!(
            table.render("  "),
            "  NAME    RECORDS  ACCURACY\n  a         1,000    97.0 %\n  longer        1         -\n"
        );
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
