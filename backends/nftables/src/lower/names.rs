//! Names of generated objects. A number is used once, so no name ever changes its meaning.

use core::cell::Cell;

use portcullis_core::label::Name;

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    last: Cell<u64>,
}

impl Names {
    /// Numbers beyond `used`, and every number that `existing` names end in.
    pub(crate) fn beyond<'a>(used: u64, existing: impl IntoIterator<Item = &'a str>) -> Self {
        let last = existing.into_iter().flat_map(numbers).max().unwrap_or(0).max(used);
        Self { last: Cell::new(last) }
    }

    /// The number used last.
    #[cfg(feature = "apply")]
    pub(crate) const fn last(&self) -> u64 {
        self.last.get()
    }

    /// A name that was not there before.
    pub(crate) fn fresh(&self, kind: &str) -> Name {
        let number = self.last.get().saturating_add(1);
        self.last.set(number);
        format!("{kind}{number}").as_str().into()
    }
}

/// All numbers in `name`.
fn numbers(name: &str) -> impl Iterator<Item = u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
}

/// `text` as a comment or log prefix: at most 127 bytes, without what would end the quotes around it. The middle gives
/// way, because a policy is known by its beginning and a rule by its end.
pub(crate) fn label(text: &str) -> String {
    let clean: Vec<char> = text
        .chars()
        .map(|c| if c == '"' || c == '\\' || !c.is_ascii() || c.is_ascii_control() { '?' } else { c })
        .collect();
    if clean.len() <= MAX_LABEL {
        return clean.into_iter().collect();
    }
    let head = clean.iter().take(HEAD);
    let tail = clean.iter().skip(clean.len().saturating_sub(MAX_LABEL - HEAD - CUT.len()));
    head.copied().chain(CUT.chars()).chain(tail.copied()).collect()
}

/// What nft and the kernel's log prefix take, less the final zero.
const MAX_LABEL: usize = 127;
const HEAD: usize = 70;
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_where_others_stopped() {
        let names = Names::beyond(3, ["p7", "to_v4_12", "forward", "d11"]);
        assert_eq!(names.fresh("p").as_str(), "p13");
        assert_eq!(names.fresh("t").as_str(), "t14");
        assert_eq!(Names::beyond(20, ["p7"]).fresh("p").as_str(), "p21");
    }

    #[test]
    fn labels_fit_and_keep_both_ends() {
        let long = format!("NetworkPolicy {}/{} ingress rule 12", "n".repeat(63), "p".repeat(200));
        let label = label(&long);
        assert_eq!(label.len(), 127);
        assert!(label.starts_with("NetworkPolicy nnn") && label.ends_with("pp ingress rule 12"), "{label}");
        assert_eq!(super::label("a \"quoted\" \\ text\n\u{e9}"), "a ?quoted? ? text??");
    }
}
