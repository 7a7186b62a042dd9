//! "Did you mean": the known word nearest to one that is not known.

/// Ends a sentence: `, did you mean "csv"?`, or a full stop when no word is near.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or_else(|| ".".to_owned(), |near| format!(", did you mean {near:?}?"))
}

/// The nearest known word, at most as many edits away as a third of the letters, and at least one is allowed.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let max_edits = (word.chars().count() / 3).max(1);
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    near.filter(|(edits, _)| *edits <= max_edits).min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// Edits from one word to the other: insert, delete, replace, or swap two neighbours (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (i, f) in from.chars().enumerate() {
        let mut row = vec![i + 1];
        let mut left = i + 1;
        for (j, t) in to.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut edits = (left + 1).min(at(&last, j + 1) + 1).min(at(&last, j) + usize::from(f != *t));
            let swapped = j > 0 && previous == Some(*t) && to.get(j - 1) == Some(&f);
            if swapped {
                edits = edits.min(at(&before_last, j - 1) + 1);
            }
            row.push(edits);
            left = edits;
        }
        before_last = std::mem::replace(&mut last, row);
        previous = Some(f);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_slip_finds_the_word_that_was_meant() {
        let known = ["csv", "json", "logistic", "loss"];
        assert_eq!(nearest("cvs", &known), Some("csv"));
        assert_eq!(nearest("logitsic", &known), Some("logistic"));
        assert_eq!(nearest("los", &known), Some("loss"));
        assert_eq!(nearest("jsn", &known), Some("json"));
        assert_eq!(nearest("kye", &["key"]), Some("key"));
        assert_eq!(nearest("i", &["id"]), Some("id"));
    }

    #[test]
    fn a_word_that_is_far_from_all_finds_none() {
        assert_eq!(nearest("xgboost", &["csv", "json", "logistic"]), None);
        assert_eq!(nearest("", &["csv"]), None);
    }

    #[test]
    fn the_distance_counts_each_kind_of_edit_as_one() {
        let edits = [("abc", "abc"), ("abc", "ab"), ("abc", "abcd"), ("abc", "abd"), ("abc", "acb"), ("", "abc")];
        assert_eq!(edits.map(|(a, b)| distance(a, b)), [0, 1, 1, 1, 1, 3]);
    }
}
