//! The known name that a mistyped one was probably meant to be.

/// Longer names are not compared: they are no typing mistakes, and the cost is the product of the lengths.
const MAX_LEN: usize = 64;

/// The name with the smallest edit distance; the first of equals.
pub(crate) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed: Vec<char> = typed.chars().take(MAX_LEN + 1).collect();
    if typed.len() > MAX_LEN {
        return None;
    }
    names.into_iter().min_by_key(|name| distance(&typed, name))
}

/// Insertions, deletions, replacements and swaps of neighbours that make one name the other.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before = vec![usize::MAX; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut best = (above[j] + usize::from(a[i] != b[j])).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let names = ["addr", "user", "group", "jwt-public-key", "https-cert-file"];
        for (typed, meant) in
            [("adr", "addr"), ("address", "addr"), ("gruop", "group"), ("jwt_public_key", "jwt-public-key")]
        {
            assert_eq!(nearest(typed, names), Some(meant));
        }
        assert_eq!(nearest("", names), Some("addr"));
        assert_eq!(nearest("adr", []), None);
        assert_eq!(nearest(&"a".repeat(100_000), names), None);
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1)] {
            assert_eq!(distance(&a.chars().collect::<Vec<_>>(), b), edits, "{a} {b}");
        }
    }
}
