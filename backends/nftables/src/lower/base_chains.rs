//! The chains that bring packets to the programs. They change when the kinds of endpoints on the node do, not when
//! endpoints or policies come and go.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Ended, Interface, LoggedEvents};
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_core::settings::{Tunnel, WorkloadToHost};
use portcullis_core::verdict::Hook;

use crate::command::Content;
use crate::command::{BaseHook, ConnectionState, Family, Field, HookPoint, Part, Target, Value};
use crate::lower::base_names::{BaseNames, BaseSet, Ports, interface};
use crate::lower::names::label;
use crate::lower::{claims, discovery};
use crate::options::Options;

/// What the node has, as far as these chains depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// Workloads that may use any address.
    pub(crate) any_address: bool,
    /// Whether workloads are bound.
    pub(crate) workloads: bool,
    /// Whether the interface of every workload begins as [`DataplaneOptions::with_workload_interfaces`] says, so that one look at
    /// its name tells a workload.
    pub(crate) named: bool,
    /// Families of the local networks.
    pub(crate) local: BTreeSet<IpVersion>,
    /// Whether there is a host endpoint for all interfaces, which guards those of workloads, too.
    pub(crate) all_interfaces: bool,
    /// Host hooks where programs can do something, or unknown endpoints are denied.
    pub(crate) host: BTreeSet<Hook>,
    /// Whether interfaces can be closed that no name tells.
    pub(crate) closes: bool,
}

/// A chain: where it is hooked in, and its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) hook: Option<BaseHook>,
    pub(crate) rules: Content,
}

/// Counts packets that belong to no endpoint the table has a program for.
pub(crate) const UNKNOWN: &str = "unknown";
/// Counts packets that claim an address which is not their sender's.
pub(crate) const FORGED: &str = "forged";
/// The chain for packets of [`UNKNOWN`] between an interface and this host.
pub(crate) const UNKNOWN_TO_HOST: &str = "unknown_to_host";
/// The chain that compares what workloads send with their addresses.
const SOURCES: &str = "sources";
/// The chain for what workloads send from link-local addresses and from `::`.
const SIGNALS: &str = "signals";
/// The chain for packets that are about a flow of others, and the one that asks whether a workload is an end of that flow.
const RELATED: &str = "related";
const OWN_FLOW: &str = "own_flow";
/// The chains for the first packet of a flow: whether it is one of a flow that was ended.
const BEGINS: &str = "begins";
const BEGINS_PORTS: &str = "begins_ports";
const BEGINS_NO_PORTS: &str = "begins_no_ports";
/// TCP, UDP, DCCP, SCTP, UDP-Lite.
pub(crate) const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// The chain that asks workloads about what they send to this host.
const EGRESS_TO_HOST: &str = "egress_to_host";
/// Counts packets from workloads to the host that [`WorkloadToHost::Drop`] drops.
pub(crate) const TO_HOST: &str = "workload_to_host";

/// Counts packets in tunnels that are not from nodes.
pub(crate) const TUNNELS: &str = "tunnels";
const TUNNEL_PORTS: &str = "tunnel_ports";
/// Counts packets of flows that were ended.
pub(crate) const ENDED: &str = "ended";
/// Counts packets that sent an event or would have, with a larger budget.
pub(crate) const EVENTS: &str = "events";

/// The rule that sends what these prefixes say of a packet, as far as the budget of the interface in `field` goes. The interfaces that
/// packets have which the node itself sends count together where they are told by the one that they came in by.
pub(crate) fn events(
    options: &Options,
    field: Field,
    prefixes: impl IntoIterator<Item = String>,
) -> Option<(Vec<Part>, Option<String>)> {
    let mut messages =
        prefixes.into_iter().map(|prefix| Part::Log(options.log_group, prefix)).collect::<Vec<_>>();
    if messages.is_empty() {
        return None;
    }
    let mut parts = vec![Part::Count(EVENTS.into())];
    match options.shared.events_per_second {
        u32::MAX => {}
        0 => messages.clear(),
        rate => parts.push(Part::Budget(field, BaseNames::event_budgets().0, rate)),
    }
    parts.append(&mut messages);
    Some((parts, None))
}

/// The counters that the tables of these families always have.
pub(crate) fn counters(families: &BTreeSet<Family>) -> impl Iterator<Item = Name> {
    let arp = families.contains(&Family::Arp).then_some(claims::ARP_COUNTERS);
    [UNKNOWN, FORGED, ENDED, TUNNELS, TO_HOST, EVENTS]
        .into_iter()
        .chain(arp.into_iter().flatten())
        .map(Name::from)
}

/// The hooked chains that tables can have.
pub(crate) const HOOKED: [&str; 8] = [
    "forward",
    "input",
    "output",
    "before_dnat",
    "raw_prerouting",
    "raw_output",
    claims::ARP_INPUT,
    claims::ARP_OUTPUT,
];

pub(crate) fn chains(
    options: &Options,
    base_names: &BaseNames,
    facts: &NodeFacts,
) -> BTreeMap<Name, BaseChain> {
    let mut builder = Builder { options, base_names, facts, chains: BTreeMap::new() };
    builder.workloads();
    builder.sources();
    builder.ended();
    builder.hosts();
    builder.base();
    builder.chains.extend(claims::arp(options, base_names));
    builder.chains
}

/// netfilter's `NF_IP_PRI_RAW`: before connection tracking.
const RAW: i32 = -300;
/// `NF_IP_PRI_MANGLE`: after connection tracking, before destination NAT.
const MANGLE: i32 = -150;
/// `NF_IP_PRI_FILTER`.
pub(crate) const FILTER: i32 = 0;

const LOOPBACK: &str = "lo";
const FAMILIES: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

struct Builder<'a> {
    options: &'a Options,
    base_names: &'a BaseNames,
    facts: &'a NodeFacts,
    chains: BTreeMap<Name, BaseChain>,
}

impl Builder<'_> {
    fn base(&mut self) {
        let base_names = self.base_names;
        let jump = |name: Name| go(Target::Jump(name));
        let (egress, ingress) = (base_names.name("egress"), base_names.name("ingress"));
        let from_workload = base_names.name("from_workload");
        let discovery = || discovery::any_source(base_names.name(discovery::IN));

        // The order of Calico's `felix/rules/static.go`, `StaticFilterForwardChains`.
        let forwarded = |hook| self.asks(hook).then(|| jump(base_names.host_chain(hook)));
        let (comes_in, goes_out) = (forwarded(Hook::ForwardIngress), forwarded(Hook::ForwardEgress));
        let mut forward = self.closed(Field::OutputInterface, UNKNOWN);
        if !self.options.shared.check_neighbour_claims {
            // Discovery that is for somebody else. Nothing else comes in by a closed interface.
            forward.extend(self.closed(Field::InputInterface, UNKNOWN));
        }
        forward.extend(self.nobody_s(UNKNOWN));
        forward.push(self.track_and_begin());
        forward.extend(comes_in);
        if self.facts.named {
            forward.extend(self.workload_interfaces(Field::InputInterface, &Target::Jump(egress)));
        } else {
            forward.push(jump(egress));
        }
        forward.extend(self.entering(&ingress));
        forward.extend(goes_out);
        self.hooked("forward", HookPoint::Forward, FILTER, forward);

        let mut input = vec![loopback(Field::InputInterface, Target::Accept)];
        input.extend(self.tunnels());
        input.push(self.track_and_begin());
        input.extend(self.workload_interfaces(Field::InputInterface, &Target::Goto(from_workload)));
        if self.asks(Hook::HostIngress) {
            input.extend([discovery(), jump(base_names.host_chain(Hook::HostIngress))]);
        }
        self.hooked("input", HookPoint::Input, FILTER, input);

        let mut output = vec![loopback(Field::OutputInterface, Target::Accept)];
        output.extend(self.closed(Field::OutputInterface, self.cut_off()));
        output.extend(self.nobody_s(self.cut_off()));
        if self.asks(Hook::HostEgress) {
            let discovery = discovery::any_source(base_names.name(discovery::OUT));
            output.extend([discovery, self.track_and_begin(), jump(base_names.host_chain(Hook::HostEgress))]);
        } else {
            output.push((vec![Part::Switch(Field::ConnectionState, vec![self.begins()])], None));
        }
        self.hooked("output", HookPoint::Output, FILTER, output);
        if self.asks(Hook::PreDnat) {
            let rules = vec![discovery(), self.track(), jump(base_names.host_chain(Hook::PreDnat))];
            self.hooked("before_dnat", HookPoint::Prerouting, MANGLE, rules);
        }
        let mut raw = self.honest_sources();
        let untracked = |hook| self.asks(hook).then(|| jump(base_names.host_chain(hook)));
        let (comes_in, goes_out) = (untracked(Hook::UntrackedIngress), untracked(Hook::UntrackedEgress));
        raw.extend(comes_in.into_iter().flat_map(|asks| [discovery(), asks]));
        if !raw.is_empty() {
            self.hooked("raw_prerouting", HookPoint::Prerouting, RAW, raw);
        }
        if let Some(goes_out) = goes_out {
            let exempt = discovery::any_source(base_names.name(discovery::OUT));
            self.hooked("raw_output", HookPoint::Output, RAW, vec![exempt, goes_out]);
        }
        let sends = self.asks(Hook::HostEgress) || self.asks(Hook::UntrackedEgress);
        for (name, rules) in discovery::chains(base_names) {
            if sends || name != base_names.name(discovery::OUT) {
                self.plain(name, rules);
            }
        }
        for (name, rules) in claims::advertisements(self.options, base_names, self.facts.any_address) {
            self.plain(name, rules);
        }
    }

    /// Rules that drop packets with an address that is not their sender's (decision D29). They stand before connection
    /// tracking: a forged packet must not be taken for one of a flow between others, which passes without a look at policy.
    /// Source: Calico `felix/rules/static.go`, `StaticRawPreroutingChain`, which asks for the reverse path.
    fn honest_sources(&self) -> Content {
        let facts = self.facts;
        let mut rules = self.closed(Field::InputInterface, self.cut_off());
        let sources = Target::Goto(self.base_names.name(SOURCES));
        if facts.workloads || !self.options.shared.workload_interfaces.is_empty() {
            rules.extend(self.workload_interfaces(Field::InputInterface, &sources));
        }
        // From anywhere else.
        let forged = Target::Goto(self.base_names.name(FORGED));
        let mut elsewhere = Content::new();
        if facts.workloads {
            elsewhere.extend(FAMILIES.map(|version| {
                let (set, _) = self.base_names.workload_addresses(version);
                (vec![Part::In(vec![Field::Source(version)], set), Part::Go(forged.clone())], None)
            }));
        }
        elsewhere.extend(self.local_addresses(Field::Source, &forged));
        if !elsewhere.is_empty() {
            // The node talks to itself from addresses of local networks, too.
            rules.push(loopback(Field::InputInterface, Target::Accept));
            rules.extend(elsewhere);
        }
        rules
    }

    /// Rules for tunnels that end at this node: packets in them speak as anybody, so they come from nodes only (decision
    /// D28). They stand before connection tracking, which picks a tunnel up from any packet.
    fn tunnels(&mut self) -> Content {
        let families = self.options.tunnel_families();
        if families.is_empty() {
            return Content::new();
        }
        let base_names = self.base_names;
        let (mut protocols, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for tunnel in &self.options.shared.tunnels {
            match tunnel {
                Tunnel::Protocol(protocol) => {
                    protocols.insert(u16::from(protocol.0), Target::Jump(base_names.name(TUNNELS)));
                }
                Tunnel::Udp(port) => {
                    ports.insert(*port, Target::Goto(base_names.name(TUNNELS)));
                }
                // There are no others.
                _ => {}
            }
        }
        let cases = |cases: BTreeMap<u16, Target>| {
            cases.into_iter().map(|(number, target)| (Value::Number(number), target)).collect()
        };
        if !ports.is_empty() {
            let chain = base_names.name(TUNNEL_PORTS);
            protocols.entry(u16::from(Protocol::UDP.0)).or_insert_with(|| Target::Jump(chain.clone()));
            self.plain(chain, vec![(vec![Part::Switch(Field::DestinationPort, cases(ports))], None)]);
        }
        if protocols.is_empty() {
            return Content::new();
        }
        let known = |version| {
            let set = base_names.tunnel_peers(version);
            (vec![Part::In(vec![Field::Source(version)], set), Part::Go(Target::Return)], None)
        };
        let mut rules: Content = families.into_iter().map(known).collect();
        rules.extend(self.drops(TUNNELS, "deny: tunnel that is not a node's"));
        self.plain(base_names.name(TUNNELS), rules);
        vec![(vec![Part::Switch(Field::Protocol, cases(protocols))], None)]
    }

    /// The chain that compares the source of what workloads send with their addresses, and the end of those that lie.
    fn sources(&mut self) {
        let base_names = self.base_names;
        let forged = Target::Goto(base_names.name(FORGED));
        let own = |(set, key)| (vec![Part::In(key, set), Part::Go(Target::Return)], None);
        let mut rules: Content = FAMILIES.map(|version| own(base_names.sources(version))).to_vec();
        rules.extend(self.facts.any_address.then(|| own(base_names.any_address())));
        // Nobody lists link-local addresses, and an address that is being made is asked about from `::`.
        let v6 = Field::Source(IpVersion::V6);
        let signals = Part::Go(Target::Goto(base_names.name(SIGNALS)));
        for value in discovery::link_addresses() {
            rules.push((vec![Part::Is(v6, value), signals.clone()], None));
        }
        rules.push(go(forged.clone()));
        self.plain(base_names.name(SOURCES), rules);

        let mut rules = Content::new();
        if self.options.shared.check_neighbour_claims && !self.options.shared.workload_interfaces.is_empty() {
            let (bound, key) = base_names.workloads();
            rules.push((
                vec![Part::NotIn(key, bound), Part::Go(Target::Goto(base_names.name(UNKNOWN)))],
                None,
            ));
        }
        rules.extend(discovery::link_sources(base_names));
        // What any kernel sends for itself, as reports to multicast routers, is no news.
        let to_groups = Part::Is(Field::Destination(IpVersion::V6), discovery::span(0xff00, 0xffff));
        rules.push((vec![to_groups, Part::Count(FORGED.into()), Part::Go(Target::Drop)], None));
        rules.push(go(forged));
        self.plain(base_names.name(SIGNALS), rules);

        // What is about a flow, mostly an ICMP error, comes from a workload only if that is one of its ends. Routers send such
        // errors, too.
        let mut rules =
            self.workload_interfaces(Field::InputInterface, &Target::Goto(base_names.name(OWN_FLOW)));
        rules.push(go(Target::Accept));
        self.plain(base_names.name(RELATED), rules);
        let accept = |key, set| (vec![Part::In(key, set), Part::Go(Target::Accept)], None);
        let mut rules: Content = FAMILIES
            .into_iter()
            .flat_map(|version| [(version, Field::Initiator(version)), (version, Field::Responder(version))])
            .map(|(version, end)| accept(vec![Field::InputInterface, end], base_names.sources(version).0))
            .collect();
        rules.extend(self.facts.any_address.then(|| {
            let (set, key) = base_names.any_address();
            accept(key, set)
        }));
        rules.push(go(Target::Goto(base_names.name(FORGED))));
        self.plain(base_names.name(OWN_FLOW), rules);

        let end = self.drops(FORGED, "deny: address that is not its sender's");
        self.plain(base_names.name(FORGED), end);
    }

    /// Rules that count packets of no decision, tell them where denied packets are told, and drop them.
    fn drops(&self, counter: &str, comment: &str) -> Content {
        let mut rules = Content::new();
        if self.options.shared.events != LoggedEvents::LogRules {
            let prefix = label(&format!("{counter} {comment}"));
            rules.extend(events(self.options, Field::InputInterface, [prefix]));
        }
        let count = vec![Part::Count(counter.into()), Part::Go(Target::Drop)];
        rules.push((count, Some(comment.into())));
        rules
    }

    /// The rule that drops what passes closed interfaces. It stands before connection tracking is asked: flows of a
    /// workload that is gone end, too.
    fn closed(&self, field: Field, to: &str) -> Content {
        let (set, _) = self.base_names.closed();
        let parts = vec![Part::In(vec![field], set), Part::Go(Target::Goto(self.base_names.name(to)))];
        if self.facts.closes { vec![(parts, None)] } else { Content::new() }
    }

    /// Rules that drop what is sent to an interface which is a workload's by its name and is not bound. They stand before
    /// connection tracking is asked, as those for closed interfaces.
    fn nobody_s(&self, to: &str) -> Content {
        let field = Field::OutputInterface;
        let rule = |prefix: &Interface| {
            let named = Part::Is(field, Value::InterfacePrefix(prefix.name().into()));
            let unbound = Part::NotIn(vec![field], self.base_names.workloads().0);
            (vec![named, unbound, Part::Go(Target::Goto(self.base_names.name(to)))], None)
        };
        self.options.shared.workload_interfaces.iter().map(rule).collect()
    }

    /// Where packets between a closed interface and this host go. Nobody has an address there, so any discovery would be a
    /// false claim.
    const fn cut_off(&self) -> &'static str {
        if self.options.shared.check_neighbour_claims { UNKNOWN } else { UNKNOWN_TO_HOST }
    }

    /// Rules that bring what enters workloads to `chain`. Where a name tells a workload, other packets do not even
    /// get there.
    fn entering(&mut self, chain: &Name) -> Content {
        let field = Field::OutputInterface;
        if !self.facts.named {
            return vec![go(Target::Jump(chain.clone()))];
        }
        if self.options.shared.workload_interfaces.len() == 1 && self.facts.local.is_empty() {
            return self.workload_interfaces(field, &Target::Jump(chain.clone()));
        }
        let mut rules = self.workload_interfaces(field, &Target::Goto(chain.clone()));
        rules.extend(self.local_addresses(Field::Destination, &Target::Goto(chain.clone())));
        let name = self.base_names.name("entering");
        self.plain(name.clone(), rules);
        vec![go(Target::Jump(name))]
    }

    /// Rules that lead packets of local networks away.
    fn local_addresses(&self, address: fn(IpVersion) -> Field, to: &Target) -> Content {
        let rule = |version: &IpVersion| {
            let local = Part::In(vec![address(*version)], self.base_names.local(*version));
            (vec![local, Part::Go(to.clone())], None)
        };
        self.facts.local.iter().map(rule).collect()
    }

    /// The chains of the workload hooks, and what becomes of packets of endpoints that have no program.
    fn workloads(&mut self) {
        let base_names = self.base_names;
        let egress: Dispatch = (BaseNames::from, base_names.senders(), Field::InputInterface);
        let ingress: Dispatch = (BaseNames::to, base_names.receivers(), Field::OutputInterface);
        for (name, unknown, (of, any, field)) in [
            ("egress", UNKNOWN, egress.clone()),
            (EGRESS_TO_HOST, UNKNOWN_TO_HOST, egress),
            ("ingress", UNKNOWN, ingress),
        ] {
            let unknown = Target::Goto(base_names.name(unknown));
            let mut rules: Content = FAMILIES.map(|version| dispatch(of(base_names, version))).to_vec();
            rules.extend(self.facts.any_address.then(|| dispatch(any)));
            if self.facts.named {
                rules.push(go(unknown.clone()));
            } else {
                rules.extend(self.workload_interfaces(field, &unknown));
                if field == Field::OutputInterface {
                    rules.extend(self.local_addresses(Field::Destination, &unknown));
                }
            }
            self.plain(base_names.name(name), rules);
        }

        // Of a workload whose link-local address nobody listed, too. It is between the workload and this host only: no
        // router forwards neighbour discovery, so a forwarded packet that looks like it gets no exemption.
        let mut rules = discovery::link_sources(base_names);
        rules.push(go(Target::Goto(base_names.name(UNKNOWN))));
        self.plain(base_names.name(UNKNOWN_TO_HOST), rules);

        let end = self.drops(UNKNOWN, "deny: endpoint without a program");
        self.plain(base_names.name(UNKNOWN), end);

        // The source is the workload's own or of the link by now.
        let mut rules = vec![claims::of_workloads(self.options, base_names)];
        rules.push(go(Target::Jump(base_names.name(EGRESS_TO_HOST))));
        match self.options.shared.workload_to_host {
            // A process must not get our mark: its answer could carry it, and would not be asked about.
            WorkloadToHost::Accept if self.guards_workloads(Hook::PreDnat) => {
                rules.push((vec![Part::ClearMark(self.options.mark)], None));
            }
            WorkloadToHost::Accept => {}
            WorkloadToHost::Drop => {
                let count = vec![Part::Count(TO_HOST.into()), Part::Go(Target::Drop)];
                rules.push((count, Some("deny: traffic from a workload to its own host".into())));
            }
            WorkloadToHost::HostPolicy if self.asks(Hook::HostIngress) => {
                rules.push(go(Target::Jump(base_names.host_chain(Hook::HostIngress))));
            }
            WorkloadToHost::HostPolicy => {}
        }
        self.plain(base_names.name("from_workload"), rules);
    }

    /// The chains that ask host endpoints.
    fn hosts(&mut self) {
        let base_names = self.base_names;
        let marked = Part::HasMark(self.options.mark);
        let asked: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| self.asks(*hook)).collect();
        for hook in asked {
            let mut rules = Content::new();
            match hook {
                Hook::UntrackedIngress | Hook::UntrackedEgress => {}
                Hook::PreDnat => rules.push((vec![marked.clone(), Part::Go(Target::Return)], None)),
                // What an earlier hook of the same direction allowed is not asked again; the mark has done its work.
                Hook::HostIngress | Hook::HostEgress | Hook::ForwardIngress if self.marks() => {
                    let clear = Part::ClearMark(self.options.mark);
                    rules.push((vec![marked.clone(), clear, Part::Go(Target::Return)], None));
                }
                _ => {}
            }
            if self.facts.host.contains(&hook) {
                rules.extend(self.host_rules(hook));
            }
            self.plain(base_names.host_chain(hook), rules);
        }
    }

    /// The rules that find the program of a host endpoint, where there are any.
    ///
    /// A host endpoint with an interface guards that, and never one of a workload. The one for all interfaces guards
    /// also those of workloads (decision D24), but for what processes of the host send to workloads (decision D11).
    /// Source: Calico `felix/rules/dispatch.go`, `hostDispatchChains`.
    fn host_rules(&mut self, hook: Hook) -> Content {
        let (base_names, field) = (self.base_names, interface(hook));
        let mut rules = Content::new();
        match hook {
            Hook::HostIngress => {}
            Hook::HostEgress if !self.facts.all_interfaces => {}
            Hook::HostEgress => rules.extend(self.workload_interfaces(field, &Target::Return)),
            _ => {
                rules.push(loopback(field, Target::Return));
                let mut to = Target::Return;
                if self.guards_workloads(hook) {
                    let chain = base_names.host_all_chain(hook);
                    self.plain(chain.clone(), vec![dispatch(base_names.host_all(hook))]);
                    to = Target::Goto(chain);
                }
                rules.extend(self.workload_interfaces(field, &to));
            }
        }
        rules.push(dispatch(base_names.host(hook)));
        rules.extend(
            (self.facts.all_interfaces && !is_untracked(hook)).then(|| dispatch(base_names.host_all(hook))),
        );
        rules
    }

    /// Whether a host endpoint is asked at `hook` about packets of workload interfaces.
    fn guards_workloads(&self, hook: Hook) -> bool {
        let guarded = matches!(hook, Hook::PreDnat | Hook::ForwardIngress | Hook::ForwardEgress);
        guarded && self.facts.all_interfaces && self.facts.host.contains(&hook)
    }

    /// Whether the chain of a host hook is there: for its programs, or to clear the mark.
    fn asks(&self, hook: Hook) -> bool {
        let clears = matches!(hook, Hook::HostIngress | Hook::HostEgress | Hook::ForwardIngress);
        self.facts.host.contains(&hook) || (clears && self.marks())
    }

    /// Whether packets may carry our mark.
    fn marks(&self) -> bool {
        [Hook::PreDnat, Hook::UntrackedIngress, Hook::UntrackedEgress]
            .iter()
            .any(|hook| self.facts.host.contains(hook))
    }

    /// Rules that lead packets of workload interfaces away.
    fn workload_interfaces(&self, field: Field, to: &Target) -> Content {
        let bound =
            || (vec![Part::In(vec![field], self.base_names.workloads().0), Part::Go(to.clone())], None);
        let mut rules = if self.facts.named { Content::new() } else { vec![bound()] };
        for prefix in &self.options.shared.workload_interfaces {
            let is = Part::Is(field, Value::InterfacePrefix(prefix.name().into()));
            rules.push((vec![is, Part::Go(to.clone())], None));
        }
        rules
    }

    /// Packets of flows that were decided before pass; those that cannot start a flow do not.
    fn track(&self) -> (Vec<Part>, Option<String>) {
        (vec![Part::Switch(Field::ConnectionState, self.tracked().into())], None)
    }

    /// The same, and flows that were ended do not begin again.
    fn track_and_begin(&self) -> (Vec<Part>, Option<String>) {
        let cases = self.tracked().into_iter().chain([self.begins()]).collect();
        (vec![Part::Switch(Field::ConnectionState, cases)], None)
    }

    fn tracked(&self) -> [(Value, Target); 3] {
        let related =
            if self.facts.workloads { Target::Goto(self.base_names.name(RELATED)) } else { Target::Accept };
        [
            (Value::State(ConnectionState::Established), Target::Accept),
            (Value::State(ConnectionState::Related), related),
            (Value::State(ConnectionState::Invalid), Target::Drop),
        ]
    }

    fn begins(&self) -> (Value, Target) {
        (Value::State(ConnectionState::New), Target::Jump(self.base_names.name(BEGINS)))
    }

    /// The chain for the first packet that connection tracking knows of a flow. Connection tracking picks a flow up from any packet of
    /// either end, so what the other end of an ended flow sends would begin it anew, as a flow of its own that policy may
    /// allow. Such a packet is found by its direction of the flow. The first packet of a connection is policy's to decide.
    /// Source: the kernel's documentation of `nf_conntrack_tcp_loose`.
    fn ended(&mut self) {
        let base_names = self.base_names;
        let ended = Target::Goto(base_names.name(ENDED));
        let is_in = |version, ports| {
            let (set, key) = BaseNames::ended(version, ports);
            (vec![Part::In(key, set), Part::Go(ended.clone())], None)
        };
        let others = base_names.name(BEGINS_NO_PORTS);
        let protocol = |number: u8, target: &Target| (Value::Number(number.into()), target.clone());
        // A new flow of ICMP begins with a request, so an answer does not begin one.
        let requests = [Protocol::ICMP, Protocol::ICMPV6].map(|icmp| protocol(icmp.0, &Target::Return));
        let with_ports = Target::Goto(base_names.name(BEGINS_PORTS));
        let with_ports = WITH_PORTS.map(|number| protocol(number, &with_ports));
        let cases = requests.into_iter().chain(with_ports).collect();
        let rules = vec![
            (vec![Part::BeginsTcp, Part::Go(Target::Return)], None),
            (vec![Part::Switch(Field::Protocol, cases)], None),
            go(Target::Goto(others.clone())),
        ];
        self.plain(base_names.name(BEGINS), rules);
        for (name, ports) in [(base_names.name(BEGINS_PORTS), Ports::Some), (others, Ports::None)] {
            let rules = FAMILIES.map(|version| is_in(version, ports)).to_vec();
            self.plain(name, rules);
        }
        let mut rules = vec![(vec![Part::Count(ENDED.into())], None)];
        if self.options.shared.ended == Ended::Reset {
            let tcp = Part::Is(Field::Protocol, Value::Number(Protocol::TCP.0.into()));
            rules.push((vec![tcp, Part::Reset], None));
        }
        rules.push((vec![Part::Go(Target::Drop)], Some("deny: flow that was ended".into())));
        self.plain(base_names.name(ENDED), rules);
    }

    fn hooked(&mut self, name: &str, point: HookPoint, priority: i32, rules: Content) {
        self.chains.insert(name.into(), BaseChain { hook: Some(BaseHook { point, priority }), rules });
    }

    fn plain(&mut self, name: Name, rules: Content) {
        self.chains.insert(name, BaseChain { hook: None, rules });
    }
}

/// How a workload is found: its map by interface and address, its map by interface, and the interface these look at.
type Dispatch = (fn(&BaseNames, IpVersion) -> BaseSet, BaseSet, Field);

/// Whether `hook` comes before connection tracking.
pub(crate) const fn is_untracked(hook: Hook) -> bool {
    matches!(hook, Hook::UntrackedIngress | Hook::UntrackedEgress)
}

fn go(target: Target) -> (Vec<Part>, Option<String>) {
    (vec![Part::Go(target)], None)
}

fn dispatch((map, key): BaseSet) -> (Vec<Part>, Option<String>) {
    (vec![Part::Dispatch(key, map)], None)
}

fn loopback(field: Field, target: Target) -> (Vec<Part>, Option<String>) {
    (vec![Part::Is(field, Value::Interface(LOOPBACK.into())), Part::Go(target)], None)
}
