//! Names that a mistyped one may have meant.

/// The names of `known` closest to `name`, best first, then by name: at most [`MOST`], none when all are far off.
///
/// Names are `namespace/name`; one that has the same last part counts as close, and so does one that continues it,
/// as the pods of a workload do.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    if name.len() > LONGEST {
        return known.take(0).collect();
    }
    let mut best: Vec<(usize, String)> = Vec::new();
    for candidate in known {
        let Some(distance) = score(name, &candidate) else { continue };
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

fn score(name: &str, candidate: &str) -> Option<usize> {
    let last = |text: &str| text.rsplit_once('/').map(|(_, last)| last.to_owned());
    if candidate.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')) || last(name) == last(candidate)
    {
        return Some(1);
    }
    let limit = (name.chars().count() / 4).clamp(1, 4);
    if candidate.len().abs_diff(name.len()) > limit.saturating_mul(4) {
        return None;
    }
    let distance = strsim::levenshtein(name, candidate);
    (distance <= limit).then_some(distance)
}

/// How many names are offered.
const MOST: usize = 3;

/// Names longer than this, in bytes, are not compared: no object has one.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_come_first() {
        let known = ["bank/customer", "bank/summary", "other/custmer", "bank/database", "bank/custmer-x7k2p"];
        let near = |name| nearest(name, known.iter().map(|name| String::from(*name)));
        assert_eq!(near("bank/custmer"), ["bank/custmer-x7k2p", "bank/customer", "other/custmer"]);
        assert_eq!(near("bank/nothing-like-it"), Vec::<String>::new());
        assert_eq!(near(&"x".repeat(1000)), Vec::<String>::new());
    }
}
