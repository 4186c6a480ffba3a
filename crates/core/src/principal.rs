//! Authenticated identities: SPIFFE ids that name a service account.

/// The namespace and service account that a principal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
}

impl<'a> Principal<'a> {
    /// Reads `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; the trust domain is not judged.
    ///
    /// `None` for anything else. Source: Calico `app-policy/checker` (identity parsing).
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("spiffe://")?.split('/');
        let domain = parts.next()?;
        if parts.next() != Some("ns") {
            return None;
        }
        let namespace = parts.next()?;
        if parts.next() != Some("sa") {
            return None;
        }
        let service_account = parts.next()?;
        let complete = parts.next().is_none();
        (complete && !domain.is_empty() && !namespace.is_empty() && !service_account.is_empty())
            .then_some(Self { namespace, service_account })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_an_identity() {
        let principal = Principal::parse("spiffe://cluster.local/ns/yaobank/sa/summary").unwrap();
        assert_eq!((principal.namespace, principal.service_account), ("yaobank", "summary"));
        for text in [
            "",
            "summary",
            "spiffe://cluster.local/ns/yaobank/sa/",
            "spiffe://cluster.local/ns//sa/summary",
            "spiffe:///ns/yaobank/sa/summary",
            "spiffe://cluster.local/ns/yaobank/sa/summary/x",
            "spiffe://cluster.local/sa/summary/ns/yaobank",
            "SPIFFE://cluster.local/ns/yaobank/sa/summary",
            "spiffe://cluster.local/x/ns/yaobank/sa/summary",
        ] {
            assert_eq!(Principal::parse(text), None, "{text}");
        }
    }
}
