//! Two engines side by side: one answers, the other is watched.
//!
//! Part of core, because all it needs is [`Evaluate`]: engines of any two crates can be compared.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::evaluate::Evaluate;
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::verdict::{Decision, Hook};

/// Asks `A` and `B` about each packet, answers with the decision of `A`, and reports to `S` where `B` differs in
/// verdict, cause or log entries.
///
/// Is an engine itself: it goes wherever an engine goes, also into another shadow.
///
/// ```
/// use portcullis_core::evaluate::Evaluate;
/// use portcullis_core::model::{Cluster, Endpoint, EndpointId, Update};
/// use portcullis_core::packet::{Packet, Protocol};
/// use portcullis_core::reference::Reference;
/// use portcullis_core::settings::Settings;
/// use portcullis_core::shadow::{Differences, Shadow};
/// use portcullis_core::verdict::{Cause, Hook};
///
/// let pod = EndpointId::workload("shop", "cart");
/// let mut now = Cluster::new();
/// now.apply(Update::Endpoint(Endpoint::new(pod.clone())));
/// let mut next = now.clone();
/// next.apply(Update::Endpoint(Endpoint { profiles: vec!["gone".into()], ..Endpoint::new(pod.clone()) }));
///
/// let settings = Settings::default();
/// let seen = Differences::new(100);
/// let shadow = Shadow::new(Reference::new(&now, &settings), Reference::new(&next, &settings), &seen);
/// let packet = Packet::new("10.0.0.1".parse()?, "10.0.0.2".parse()?, Protocol::TCP).to_port(80);
/// let decision = shadow.evaluate(&pod, Hook::WorkloadIngress, &packet);
/// assert_eq!(decision.cause, Cause::NoPolicy);
/// let differences = seen.take();
/// assert_eq!(differences[0].watched.cause, Cause::Profile { profile: "gone".into(), index: None });
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shadow<A, B, S> {
    answering: A,
    watched: B,
    sink: S,
}

impl<A: Evaluate, B: Evaluate, S: Sink> Shadow<A, B, S> {
    /// A shadow that answers as `answering` does and tells `sink` where `watched` differs.
    #[must_use]
    pub const fn new(answering: A, watched: B, sink: S) -> Self {
        Self { answering, watched, sink }
    }
}

impl<A, B, S> Shadow<A, B, S> {
    /// The engine whose answers hold.
    #[must_use]
    pub const fn answering(&self) -> &A {
        &self.answering
    }

    /// The engine that is compared with it.
    #[must_use]
    pub const fn watched(&self) -> &B {
        &self.watched
    }

    /// Where differences go.
    #[must_use]
    pub const fn sink(&self) -> &S {
        &self.sink
    }
}

impl<A: Evaluate, B: Evaluate, S: Sink> Evaluate for Shadow<A, B, S> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        let answered = self.answering.evaluate(endpoint, hook, packet);
        let watched = self.watched.evaluate(endpoint, hook, packet);
        if answered != watched {
            self.sink.report(&Found { endpoint, hook, packet, answered: &answered, watched: &watched });
        }
        answered
    }
}

/// One difference as it is found, borrowed from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The endpoint that was asked.
    pub endpoint: &'a EndpointId,
    /// Its hook.
    pub hook: Hook,
    /// The packet.
    pub packet: &'a Packet,
    /// What was answered.
    pub answered: &'a Decision,
    /// What the watched engine would have answered.
    pub watched: &'a Decision,
}

impl Found<'_> {
    /// Whether the packet would have fared otherwise; if not, the engines disagree about cause or log entries.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        self.answered.verdict != self.watched.verdict
    }

    /// The same, owned.
    #[must_use]
    pub fn to_difference(&self) -> Difference {
        Difference {
            endpoint: self.endpoint.clone(),
            hook: self.hook,
            packet: self.packet.clone(),
            answered: self.answered.clone(),
            watched: self.watched.clone(),
        }
    }
}

/// Takes differences: a closure, or [`Differences`].
pub trait Sink {
    /// Called for each difference, before the answer is given.
    fn report(&self, found: &Found<'_>);
}

impl<F: Fn(&Found<'_>)> Sink for F {
    fn report(&self, found: &Found<'_>) {
        self(found);
    }
}

/// One difference, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The endpoint that was asked.
    pub endpoint: EndpointId,
    /// Its hook.
    pub hook: Hook,
    /// The packet.
    pub packet: Packet,
    /// What was answered.
    pub answered: Decision,
    /// What the watched engine would have answered.
    pub watched: Decision,
}

/// A bounded buffer of differences: keeps the first ones and counts the rest.
///
/// For one thread. Several threads have one each, or use a closure over something that they may share.
#[derive(Debug)]
pub struct Differences {
    capacity: usize,
    kept: RefCell<VecDeque<Difference>>,
    dropped: Cell<u64>,
}

impl Differences {
    /// A buffer for `capacity` differences; with 0 it only counts.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, kept: RefCell::new(VecDeque::new()), dropped: Cell::new(0) }
    }

    /// Takes what was kept, oldest first, which makes room for more.
    #[must_use]
    pub fn take(&self) -> Vec<Difference> {
        self.kept.take().into()
    }

    /// How many differences found no room, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Sink for &Differences {
    fn report(&self, found: &Found<'_>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.capacity {
            kept.push_back(found.to_difference());
        } else {
            self.dropped.set(self.dropped.get().saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::packet::Protocol;
    use crate::verdict::{Cause, Verdict};

    /// Allows the ports up to this one.
    struct Upto(u16, Cause);

    impl Evaluate for Upto {
        fn evaluate(&self, _: &EndpointId, _: Hook, packet: &Packet) -> Decision {
            let allowed = packet.destination_port <= self.0;
            Decision::new(if allowed { Verdict::Allow } else { Verdict::Deny }, self.1.clone())
        }
    }

    fn to_port(port: u16) -> Packet {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Packet::new(address, address, Protocol::TCP).to_port(port)
    }

    #[test]
    fn the_first_engine_answers_and_differences_are_kept_up_to_the_limit() {
        let differences = Differences::new(2);
        let engines = [Upto(3, Cause::NoPolicy), Upto(6, Cause::NoPolicy)];
        let shadow = Shadow::new(&engines[0], &engines[1], &differences);
        let endpoint = EndpointId::workload("n", "e");
        for port in 1..=8 {
            let packet = to_port(port);
            let answer = shadow.evaluate(&endpoint, Hook::WorkloadEgress, &packet);
            assert_eq!(answer, engines[0].evaluate(&endpoint, Hook::WorkloadEgress, &packet));
        }
        let kept = differences.take();
        assert_eq!(kept.iter().map(|d| d.packet.destination_port).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(differences.dropped(), 1);
        assert!(differences.take().is_empty());
        let difference = kept.first().unwrap();
        assert_eq!(
            (difference.answered.verdict, difference.watched.verdict),
            (Verdict::Deny, Verdict::Allow)
        );
        assert_eq!((&difference.endpoint, difference.hook), (&endpoint, Hook::WorkloadEgress));
        let _ = shadow.evaluate(&endpoint, Hook::WorkloadEgress, &to_port(6));
        assert_eq!(differences.take().len(), 1, "taking makes room");
    }

    #[test]
    fn causes_count_and_shadows_nest() {
        let seen = RefCell::new(Vec::new());
        let inner = Shadow::new(Upto(3, Cause::NoPolicy), Upto(3, Cause::Loopback), |found: &Found<'_>| {
            seen.borrow_mut().push(("inner", found.is_verdict()));
        });
        let outer = Shadow::new(inner, Upto(0, Cause::NoPolicy), |found: &Found<'_>| {
            seen.borrow_mut().push(("outer", found.is_verdict()));
        });
        let endpoint = EndpointId::workload("n", "e");
        assert_eq!(
            outer.evaluate(&endpoint, Hook::WorkloadIngress, &to_port(3)),
            Decision::new(Verdict::Allow, Cause::NoPolicy)
        );
        assert_eq!(*seen.borrow(), [("inner", false), ("outer", true)]);
    }
}
