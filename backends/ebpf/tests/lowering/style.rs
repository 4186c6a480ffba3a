//! Kinds of clusters: programs that ask for one address take other ways than those that ask for both.

use portcullis_core::model::{Directions, EntityMatch, PortMatch, Rule, Update as Object};
use portcullis_core::net::Cidr;

/// What policies look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Anything.
    Mixed,
    /// Ingress by source only, so that programs ask for one address.
    Ingress,
    /// Anything, on a node that rewrites destinations.
    Services,
}

impl Style {
    pub(crate) fn of(seed: u64) -> Self {
        [Self::Mixed, Self::Ingress, Self::Services][(seed % 3) as usize]
    }

    pub(crate) fn services(self) -> Vec<Cidr> {
        let nets: &[&str] = match self {
            Self::Services => &["10.0.1.0/29", "10.0.0.2/32", "fd00::1:0/112", "10.0.0.0/23"],
            _ => &[],
        };
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    pub(crate) fn adapt(self, mut object: Object) -> Object {
        if self != Self::Ingress {
            return object;
        }
        let narrow = |rule: &mut Rule| {
            rule.local = EntityMatch::default();
            for l4 in &mut rule.l4 {
                l4.destination_ports.retain(|port| !matches!(port, PortMatch::Named(_)));
                l4.not_destination_ports.retain(|port| !matches!(port, PortMatch::Named(_)));
            }
        };
        match &mut object {
            Object::Policy(policy) => {
                policy.directions = Directions::INGRESS;
                policy.ingress.iter_mut().for_each(narrow);
                policy.egress.clear();
            }
            Object::Profile(profile) => {
                profile.ingress.iter_mut().for_each(narrow);
                profile.egress.clear();
            }
            _ => {}
        }
        object
    }
}
