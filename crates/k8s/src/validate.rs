//! The spelling rules of the Kubernetes API for names, labels and ports.
//!
//! Every check returns the reason for a refusal. Source: kubernetes `staging/src/k8s.io/apimachinery/pkg/util/validation`.

/// The outcome of a spelling check.
pub(crate) type Check = Result<(), &'static str>;

/// The longest DNS subdomain.
pub(crate) const SUBDOMAIN_MAX: usize = 253;
/// The longest DNS label, label name and label value.
pub(crate) const LABEL_MAX: usize = 63;

/// A DNS label: lower case letters, digits and `-`, at most 63, with a letter or digit at both ends.
pub(crate) fn dns_label(text: &str) -> Check {
    if text.len() > LABEL_MAX {
        return Err("must have no more than 63 characters");
    }
    if is_dns_label(text.as_bytes()) {
        Ok(())
    } else {
        Err("must be a DNS label: lower case letters, digits and `-`, with a letter or digit at both ends")
    }
}

/// A DNS subdomain: DNS labels joined by dots, at most 253 characters in all. The single labels have no limit.
pub(crate) fn dns_subdomain(text: &str) -> Check {
    if text.len() > SUBDOMAIN_MAX {
        return Err("must have no more than 253 characters");
    }
    if text.split('.').all(|part| is_dns_label(part.as_bytes())) {
        Ok(())
    } else {
        Err(
            "must be a DNS subdomain: lower case letters, digits, `-` and `.`, with a letter or digit at both ends of every part",
        )
    }
}

/// A label key: `name` or `prefix/name`.
pub(crate) fn label_key(text: &str) -> Check {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Err("the part before the `/` must not be empty");
            }
            if name.contains('/') {
                return Err("must hold at most one `/`");
            }
            dns_subdomain(prefix)
                .map_err(|_| "the part before the `/` must be a DNS subdomain of at most 253 characters")?;
            name
        }
    };
    if name.is_empty() {
        return Err("the name must not be empty");
    }
    if name.len() > LABEL_MAX {
        return Err("the name must have no more than 63 characters");
    }
    if is_label_text(name.as_bytes()) {
        Ok(())
    } else {
        Err("the name must consist of letters, digits, `-`, `_` and `.`, with a letter or digit at both ends")
    }
}

/// A label value; may be empty.
pub(crate) fn label_value(text: &str) -> Check {
    if text.len() > LABEL_MAX {
        return Err("must have no more than 63 characters");
    }
    if text.is_empty() || is_label_text(text.as_bytes()) {
        Ok(())
    } else {
        Err(
            "must be empty or consist of letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        )
    }
}

/// The name of a port in a container or a policy.
pub(crate) fn port_name(text: &str) -> Check {
    let bytes = text.as_bytes();
    if text.len() > 15 {
        Err("a port name must have no more than 15 characters")
    } else if bytes.is_empty() || !bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-') {
        Err("a port name must consist of lower case letters, digits and `-`")
    } else if !bytes.iter().any(u8::is_ascii_lowercase) {
        Err("a port name must have at least one letter")
    } else if text.contains("--") {
        Err("a port name must not contain `--`")
    } else if text.starts_with('-') || text.ends_with('-') {
        Err("a port name must not begin or end with `-`")
    } else {
        Ok(())
    }
}

fn is_lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|b| is_lower_alnum(*b))
        && bytes.last().is_some_and(|b| is_lower_alnum(*b))
        && bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-')
}

fn is_label_text(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn names_and_labels() {
        for good in ["a", "a-b", "0", "a.b", "1.2.3"] {
            assert!(dns_subdomain(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "a.", "a_b", "ä", "a b", "a.-b"] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain(&"a".repeat(253)).is_ok());
        assert!(dns_subdomain(&"a".repeat(254)).is_err());
        assert!(dns_label(&"a".repeat(63)).is_ok());
        assert!(dns_label(&"a".repeat(64)).is_err());
        assert!(dns_label("a.b").is_err());
    }

    #[test]
    fn label_keys_and_values() {
        for good in ["a", "A", "a/b", "a.b/C_d.e-f", "0", "kubernetes.io/metadata.name"] {
            assert!(label_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "A/b", "-a", "a-", "a b", "ä", "a/_b", ".a"] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        assert!(label_key(&"k".repeat(63)).is_ok());
        assert!(label_key(&"k".repeat(64)).is_err());
        assert!(label_key(&format!("{}/k", "p".repeat(253))).is_ok());
        assert!(label_key(&format!("{}/k", "p".repeat(254))).is_err());
        for good in ["", "a", "A_b.c-d", "1"] {
            assert!(label_value(good).is_ok(), "{good}");
        }
        for bad in ["-", "a-", "a/b", "a b", "ä", "_"] {
            assert!(label_value(bad).is_err(), "{bad}");
        }
        assert!(label_value(&"v".repeat(63)).is_ok());
        assert!(label_value(&"v".repeat(64)).is_err());
    }

    #[test]
    fn port_names() {
        for good in ["http", "a", "1a", "a-1", "abcdefghijklmno"] {
            assert!(port_name(good).is_ok(), "{good}");
        }
        for bad in ["", "80", "HTTP", "-a", "a-", "a--b", "abcdefghijklmnop", "a_b", "ä"] {
            assert!(port_name(bad).is_err(), "{bad}");
        }
    }
}
