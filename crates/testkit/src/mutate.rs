//! One mistake in a policy, of the sort that people make: it never lets pass what the policy as it was would stop.
//!
//! [`check`] takes the objects of a cluster as text, chooses one policy and one place in it, and spoils that place by the
//! rules of [`Mistake`]. What comes of it must be refused, be left out with a word about it, or allow no more than before.
//! Edits that an API server takes, such as another label or a field less, are not mistakes in this sense.

mod places;

use core::fmt;
use core::net::IpAddr;
use core::ops::ControlFlow;

use portcullis::manifest::{Limits, Reader};
use portcullis::model::EndpointKind;
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::verdict::{Hook, Verdict};
use serde_json::{Value, json};

use crate::json::to_json;

/// What is wrong after a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A field is misspelt.
    Misspelt,
    /// There is a field that nobody knows.
    Unknown,
    /// A value has another type than the API gives it.
    WrongType,
    /// A list holds a null.
    NullItem,
    /// A value is none of those that the API knows: an action, a protocol, an address, ...
    NoSuchValue,
}

/// What came of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no policy, or no place in it where such a mistake can be made.
    Nothing,
    /// The input was refused, perhaps for what was wrong with it before.
    Refused(Mistake),
    /// The input was read, the policy was left out, and a warning says so.
    LeftOut(Mistake),
    /// The input was read and allows no more than before.
    NoWider(Mistake),
    /// The input was read and allows more than before: how it was spoilt, and for what.
    Wider(Mistake, String),
}

/// Spoils one place of one policy among the objects in `text`, both chosen by `seed`, and says what comes of it.
#[must_use]
pub fn check(text: &str, seed: u64) -> Outcome {
    let mut seed = Seed(seed);
    let mut objects = objects(text);
    let policies: Vec<usize> =
        objects.iter().enumerate().filter(|(_, object)| is_policy(object)).map(|(index, _)| index).collect();
    let unspoilt = objects.clone();
    let chosen = policies.get(seed.below(policies.len())).and_then(|index| objects.get_mut(*index));
    let Some((mistake, place)) = chosen.and_then(|policy| places::spoil(policy, &mut seed)) else {
        return Outcome::Nothing;
    };
    let Ok(after) = load(&objects) else { return Outcome::Refused(mistake) };
    let Ok(before) = load(&unspoilt) else { return Outcome::Nothing };
    if after.foreign_policies().len() > before.foreign_policies().len() {
        return Outcome::LeftOut(mistake);
    }
    match widening(&before, &after) {
        Some(what) => Outcome::Wider(mistake, format!("{place}: {what}")),
        None => Outcome::NoWider(mistake),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to spoil"),
            Self::Refused(mistake) => write!(f, "{mistake:?}: refused"),
            Self::LeftOut(mistake) => write!(f, "{mistake:?}: left out with a warning"),
            Self::NoWider(mistake) => write!(f, "{mistake:?}: no wider"),
            Self::Wider(mistake, what) => write!(f, "{mistake:?}: wider: {what}"),
        }
    }
}

/// The objects of a text, as far as it can be read.
fn objects(text: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    let _ = Reader::new(Limits::default()).read_stream("objects.yaml", text.as_bytes(), &mut |next| {
        if let Ok(document) = next {
            objects.push(to_json(document.root()));
        }
        ControlFlow::Continue(())
    });
    objects
}

fn is_policy(object: &Value) -> bool {
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let groups =
        ["networking.k8s.io/", "policy.networking.k8s.io/", "projectcalico.org/", "crd.projectcalico.org/"];
    text("kind").ends_with("NetworkPolicy")
        && groups.iter().any(|group| text("apiVersion").starts_with(group))
}

fn load(objects: &[Value]) -> Result<Scenario, portcullis::manifest::LoadError> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    Scenario::parse("objects.json", &list.to_string(), LoadOptions::new())
}

/// A packet that `before` denies and `after` does not, at some hook of an endpoint.
fn widening(before: &Scenario, after: &Scenario) -> Option<String> {
    let old = Reference::new(before.cluster(), before.settings());
    let new = Reference::new(after.cluster(), after.settings());
    let before = before.cluster();
    let known: Vec<IpAddr> =
        before.endpoints().values().flat_map(|endpoint| endpoint.addresses.iter().copied()).take(8).collect();
    for (id, endpoint) in before.endpoints().iter().take(8) {
        for hook in Hook::ALL {
            let workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            if workload != (id.kind == EndpointKind::Workload) {
                continue;
            }
            for packet in endpoint.addresses.iter().take(2).flat_map(|own| packets(*own, &known)) {
                let (was, is) = (old.decide(id, hook, &packet), new.decide(id, hook, &packet));
                if was.verdict == Verdict::Deny && is.verdict != Verdict::Deny {
                    return Some(format!("{id} {hook} {packet:?}: {was:?}, then {is:?}"));
                }
            }
        }
    }
    None
}

/// Packets between `own` and addresses outside and inside, both ways, of several protocols and ports.
fn packets(own: IpAddr, known: &[IpAddr]) -> Vec<Packet> {
    let outside: [IpAddr; 3] =
        [[192, 0, 2, 1].into(), [10, 254, 0, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    let far = outside.iter().chain(known).filter(|far| **far != own && far.is_ipv4() == own.is_ipv4());
    let ways = far.flat_map(|far| [(*far, own), (own, *far)]);
    ways.flat_map(|(source, destination)| {
        let packet = |protocol| Packet::new(source, destination, protocol);
        let tcp = [22, 53, 80, 81, 443, 5432, 8080]
            .map(|port| packet(Protocol::TCP).to_port(port).from_port(40_000));
        let others = [
            packet(Protocol::UDP).to_port(53),
            packet(Protocol::UDP).to_port(80),
            packet(Protocol::SCTP).to_port(7777),
            packet(if own.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 }).with_icmp(8, 0),
            packet(Protocol(47)),
        ];
        tcp.into_iter().chain(others)
    })
    .collect()
}

/// A stream of choices.
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    /// A number below `most`, which is at least 1.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let most = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        usize::try_from((mixed ^ (mixed >> 31)) % most).unwrap_or_default()
    }
}
