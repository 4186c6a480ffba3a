//! Names that a mistyped one may have meant.

/// The names of `known` closest to `name`, best first, then by name: at most [`MOST`], none when all are far off.
///
/// Names are `namespace/name`; one that has the same last part counts as close, and so does one that continues it,
/// as the pods of a workload do.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    if name.len() > LONGEST {
        return known.take(0).collect();
    }
    let wanted: Vec<char> = name.chars().collect();
    let mut best: Vec<(usize, String)> = Vec::new();
    for candidate in known {
        let Some(distance) = score(name, &wanted, &candidate) else { continue };
        let entry = (distance, candidate);
        if let Err(place) = best.binary_search(&entry)
            && place < MOST
        {
            best.insert(place, entry);
            best.truncate(MOST);
        }
    }
    best.into_iter().map(|(_, name)| name).collect()
}

fn score(name: &str, wanted: &[char], candidate: &str) -> Option<usize> {
    let last = |text: &str| text.rsplit_once('/').map(|(_, last)| last.to_owned());
    if candidate.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) || last(name) == last(candidate)
    {
        return Some(1);
    }
    let limit = (wanted.len() / 4).clamp(1, 4);
    if candidate.len().abs_diff(name.len()) > limit.saturating_mul(4) {
        return None;
    }
    let distance = edits(wanted, candidate);
    (distance <= limit).then_some(distance)
}

/// How many characters have to be added, removed or replaced to turn one text into the other.
fn edits(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, c) in to.chars().enumerate() {
        let mut left = line.saturating_add(1);
        let mut diagonal = line;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, want) in row.iter_mut().skip(1).zip(from) {
            let replaced = diagonal.saturating_add(usize::from(*want != c));
            diagonal = *cell;
            left = replaced.min(left.saturating_add(1)).min(cell.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// How many names are offered.
const MOST: usize = 3;

/// Names longer than this, in bytes, are not compared: no object has one.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            let a: Vec<char> = a.chars().collect();
            assert_eq!(edits(&a, b), want, "{a:?} {b}");
        }
    }

    #[test]
    fn the_closest_come_first() {
        let known = ["bank/customer", "bank/summary", "other/custmer", "bank/database", "bank/custmer-x7k2p"];
        let near = |name| nearest(name, known.iter().map(|name| String::from(*name)));
        assert_eq!(near("bank/custmer"), ["bank/custmer-x7k2p", "bank/customer", "other/custmer"]);
        assert_eq!(near("bank/nothing-like-it"), Vec::<String>::new());
        assert_eq!(near(&"x".repeat(1000)), Vec::<String>::new());
    }
}
