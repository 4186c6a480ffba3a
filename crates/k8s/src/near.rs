//! Kinds that are almost spelt like one that is read.
//!
//! By hand, because it runs for every object that is passed over: it looks at each letter once and allocates nothing. `strsim`
//! also needs `std`.

/// Whether one text becomes the other by one edit at most: a letter more, less or other, two neighbours swapped, or other
/// capitals.
pub(crate) fn is_near(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let (short, long) = (short.as_bytes(), long.as_bytes());
    let start = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let end = |short: &[u8], long: &[u8]| {
        short.iter().rev().zip(long.iter().rev()).take_while(|(a, b)| a == b).count()
    };
    let (short, long) = (short.get(start..).unwrap_or_default(), long.get(start..).unwrap_or_default());
    let end = end(short, long);
    let rest = |text: &'_ [u8]| text.len().saturating_sub(end);
    match (rest(short), rest(long)) {
        (0 | 1, 1) => true,
        (2, 2) => short.first() == long.get(1) && short.get(1) == long.first(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn one_edit_is_near() {
        for near in [
            "NetworkPolicyy",
            "NetworkPolicy",
            "networkpolicy",
            "NetwrokPolicy",
            "NetworkPolcy",
            "NetworkPolici",
            "XNetworkPolicy",
        ] {
            assert!(is_near(near, "NetworkPolicy") && is_near("NetworkPolicy", near), "{near}");
        }
        for far in ["", "NetworkPol", "NetworkPolicies", "GlobalNetworkPolicy", "Ingress", "NetwrokPolcy"] {
            assert!(!is_near(far, "NetworkPolicy") && !is_near("NetworkPolicy", far), "{far}");
        }
    }
}
