//! What the base sets hold: which packets belong to which endpoint.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface, LowerError};
use portcullis_core::ir::{EndpointEntry, HookPrograms, ProgramId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::verdict::Hook;

use crate::command::{Field, Part, SetKind, Target, Value};
use crate::lower::base_chains::{self, NodeFacts};
use crate::lower::base_names::{BaseNames, BaseSet};
use crate::lower::decision_chains::{self, HookKind};
use crate::lower::interned::Interned;
use crate::lower::names::Names;
use crate::lower::program_chains::{ProgramChains, ProgramKey};
use crate::lower::ranges::Range;
use crate::options::Options;

/// A set with all its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) key: Vec<Field>,
    pub(crate) kind: SetKind,
    pub(crate) elements: BTreeMap<Vec<Value>, Option<Target>>,
}

/// The base sets, by name.
pub(crate) type BaseSets = BTreeMap<Name, Filled>;

const FAMILIES: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

pub(crate) const fn hook_kind(hook: Hook) -> HookKind {
    match hook {
        Hook::PreDnat => HookKind::PreDnat,
        Hook::UntrackedIngress => HookKind::UntrackedIngress,
        Hook::UntrackedEgress => HookKind::UntrackedEgress,
        Hook::HostEgress => HookKind::FromHost,
        Hook::HostIngress
        | Hook::ForwardIngress
        | Hook::ForwardEgress
        | Hook::WorkloadIngress
        | Hook::WorkloadEgress => HookKind::Tracked,
    }
}

/// Whether an endpoint that is bound so has a say at `hook`: untracked policy of a host endpoint for all interfaces is
/// ignored (decision D25). Source: Calico `felix/dataplane/linux/endpoint_mgr.go`, `resolveHostEndpoints`.
fn has_say(binding: &Binding, hook: Hook) -> bool {
    !(base_chains::is_untracked(hook) && matches!(binding, Binding::AllInterfaces { .. }))
}

/// The hooks of one bound endpoint that have something to do, with their programs.
pub(crate) struct BoundEndpoint<'a> {
    pub(crate) binding: &'a Binding,
    pub(crate) entry: &'a EndpointEntry,
    pub(crate) hooks: Vec<(Hook, ProgramId)>,
}

/// Where a host endpoint that is bound and not in the snapshot denies: hooks that packets of tracked flows, which go on, do not
/// come to. They see all that comes in or goes out, so the others need not deny, too.
const DENIED: [Hook; 4] = [Hook::HostIngress, Hook::HostEgress, Hook::ForwardIngress, Hook::ForwardEgress];

/// The bindings of host endpoints that the snapshot does not know.
fn unknown_hosts<'a>(snapshot: &'a Snapshot, bindings: &'a Bindings) -> impl Iterator<Item = &'a Binding> {
    let unknown = |(id, binding): &(&EndpointId, &Binding)| {
        !binding.is_workload() && !snapshot.endpoints.contains_key(*id)
    };
    bindings.endpoints().filter(unknown).map(|(_, binding)| binding)
}

/// The bound endpoints that the snapshot has programs for. One without is unknown, and its traffic is dropped.
pub(crate) fn bound_endpoints<'a>(
    snapshot: &'a Snapshot,
    bindings: &'a Bindings,
    options: &Options,
) -> BTreeMap<&'a EndpointId, BoundEndpoint<'a>> {
    let mut no_op = BTreeMap::new();
    let mut acting: BTreeSet<Hook> = [Hook::WorkloadIngress, Hook::WorkloadEgress].into();
    let bound =
        || bindings.endpoints().filter_map(|(id, binding)| Some((id, binding, snapshot.endpoints.get(id)?)));
    let asked = bound()
        .flat_map(|(_, binding, entry)| entry.enforced.0.iter().filter(|(hook, _)| has_say(binding, **hook)));
    let of_hosts = |hook: &Hook| !matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
    for (hook, program) in asked.filter(|(hook, _)| of_hosts(hook)) {
        let key = (*program, hook_kind(*hook));
        let is_no_op = no_op.entry(key).or_insert_with(|| is_no_op(snapshot, *program, key.1, options));
        if !*is_no_op {
            acting.insert(*hook);
        }
    }
    if unknown_hosts(snapshot, bindings).next().is_some() {
        acting.extend(DENIED);
    }
    // A hook that does nothing for one endpoint still keeps its packets from the endpoint for all interfaces.
    let hooks = |binding: &Binding, entry: &EndpointEntry| {
        entry
            .enforced
            .0
            .iter()
            .filter(|(hook, _)| acting.contains(hook) && has_say(binding, **hook))
            .map(|(hook, p)| (*hook, *p))
            .collect()
    };
    bound()
        .map(|(id, binding, entry)| (id, BoundEndpoint { binding, entry, hooks: hooks(binding, entry) }))
        .collect()
}

/// Whether a program never does anything to a packet.
fn is_no_op(snapshot: &Snapshot, program: ProgramId, hook_kind: HookKind, options: &Options) -> bool {
    let Some(program) = snapshot.programs.lookup(program) else { return false };
    let tables: BTreeSet<_> = [&program.v4, &program.v6].into_iter().flat_map(|body| &body.cells).collect();
    tables.into_iter().all(|table| {
        snapshot.tables.lookup(*table).is_some_and(|table| {
            let used: BTreeSet<_> = table.decisions().collect();
            let no_op = |decision| decision_chains::is_no_op(decision, hook_kind, options.shared.inspected);
            used.into_iter().all(|id| snapshot.decisions.lookup(id).is_some_and(no_op))
        })
    })
}

/// The staged program of a hook, when it differs from the enforced one.
fn staged(entry: &EndpointEntry, hook: Hook) -> Option<ProgramId> {
    let of = |programs: &HookPrograms| programs.0.get(&hook).copied();
    let program = of(entry.staged.as_ref()?)?;
    (of(&entry.enforced) != Some(program)).then_some(program)
}

impl BoundEndpoint<'_> {
    /// The programs that the endpoint needs.
    pub(crate) fn programs(&self) -> impl Iterator<Item = ProgramKey> {
        self.hooks.iter().flat_map(|(hook, program)| {
            let staged = staged(self.entry, *hook).map(|program| (program, HookKind::Staged));
            staged.into_iter().chain([(*program, hook_kind(*hook))]).flat_map(|(program, hook_kind)| {
                FAMILIES.map(|version| ProgramKey { program, version, hook_kind })
            })
        })
    }

    /// Where packets of one family go at `hook`.
    fn target(
        &self,
        hook: Hook,
        version: IpVersion,
        program: ProgramId,
        place: &mut DispatchContext<'_>,
    ) -> Option<Target> {
        let chain =
            place.programs.chain(&ProgramKey { program, version, hook_kind: hook_kind(hook) })?.clone();
        let Some(staged) = staged(self.entry, hook) else { return Some(Target::Goto(chain)) };
        let counted = place
            .programs
            .chain(&ProgramKey { program: staged, version, hook_kind: HookKind::Staged })?
            .clone();
        let rules = vec![vec![Part::Go(Target::Jump(counted))], vec![Part::Go(Target::Goto(chain))]];
        Some(Target::Goto(place.interned.chain("s", rules, place.names)))
    }
}

/// What endpoints are placed with.
pub(crate) struct DispatchContext<'a> {
    pub(crate) options: &'a Options,
    pub(crate) base_names: &'a BaseNames,
    pub(crate) programs: &'a ProgramChains,
    pub(crate) interned: &'a mut Interned,
    pub(crate) names: &'a Names,
}

/// Checks what this backend cannot express.
pub(crate) fn check(bindings: &Bindings) -> Result<(), LowerError> {
    bindings.check()?;
    let mut any: BTreeMap<&str, &EndpointId> = BTreeMap::new();
    for (id, binding) in bindings.endpoints() {
        match binding {
            Binding::WorkloadAnyAddress { interface } => {
                if let Some(other) = any.insert(interface.name(), id) {
                    let reason = format!("{other} has any address at interface {interface}, too");
                    return Err(LowerError::unsupported(Some(id), reason));
                }
            }
            Binding::Workload { .. } | Binding::Host { .. } | Binding::AllInterfaces { .. } => {}
            _ => {
                return Err(LowerError::unsupported(Some(id), "nftables does not know this kind of binding"));
            }
        }
    }
    Ok(())
}

/// The facts that the base chains depend on. `closes` says whether interfaces were closed since the load that no name tells: the rules for them
/// stay then, because each pod that starts would bring and take them otherwise.
pub(crate) fn facts(
    options: &Options,
    DesiredState { snapshot, bindings }: DesiredState<'_>,
    bound_endpoints: &BTreeMap<&EndpointId, BoundEndpoint<'_>>,
    closes: bool,
) -> NodeFacts {
    let denies = unknown_hosts(snapshot, bindings).next().is_some();
    let is_host = |local: &BoundEndpoint<'_>| !local.binding.is_workload();
    let named = |binding: &Binding| {
        !binding.is_workload() || binding.interfaces().iter().all(|interface| options.is_workloads(interface))
    };
    NodeFacts {
        closes,
        named: !options.shared.workload_interfaces.is_empty()
            && bindings.endpoints().all(|(_, binding)| named(binding)),
        any_address: bindings
            .endpoints()
            .any(|(_, binding)| matches!(binding, Binding::WorkloadAnyAddress { .. })),
        workloads: bindings.endpoints().any(|(_, binding)| binding.is_workload()),
        local: options.shared.local_nets.iter().map(Cidr::version).collect(),
        all_interfaces: bindings.all_interfaces().is_some(),
        host: bound_endpoints
            .values()
            .filter(|local| is_host(local))
            .flat_map(|local| &local.hooks)
            .map(|(hook, _)| *hook)
            .chain(DENIED.into_iter().filter(|_| denies))
            .collect(),
    }
}

/// The base sets with their elements.
pub(crate) fn sets(
    bound_endpoints: &BTreeMap<&EndpointId, BoundEndpoint<'_>>,
    DesiredState { snapshot, bindings }: DesiredState<'_>,
    facts: &NodeFacts,
    place: &mut DispatchContext<'_>,
) -> BaseSets {
    let mut sets = BaseSets::new();
    let mut empty = |(name, key): BaseSet, kind| {
        sets.insert(name, Filled { key, kind, elements: BTreeMap::new() });
    };
    for version in FAMILIES {
        empty(place.base_names.from(version), SetKind::Verdicts);
        empty(place.base_names.to(version), SetKind::Verdicts);
        empty(place.base_names.own(version), SetKind::Values);
        empty(place.base_names.sources(version), SetKind::Values);
        empty(place.base_names.workload_addresses(version), SetKind::Values);
    }
    empty(place.base_names.workloads(), SetKind::Values);
    if place.options.shared.check_neighbour_claims {
        empty(place.base_names.neighbour_targets(), SetKind::Values);
        empty(place.base_names.arp_sources(), SetKind::Values);
        empty(place.base_names.arp_any_address(), SetKind::Values);
        empty(place.base_names.arp_workloads(), SetKind::Values);
        empty(place.base_names.arp_closed(), SetKind::Values);
    }
    if facts.closes {
        empty(place.base_names.closed(), SetKind::Values);
    }
    if facts.any_address {
        empty(place.base_names.senders(), SetKind::Verdicts);
        empty(place.base_names.receivers(), SetKind::Verdicts);
        empty(place.base_names.any_address(), SetKind::Values);
    }
    for hook in &facts.host {
        empty(place.base_names.host(*hook), SetKind::Verdicts);
        empty(place.base_names.host_all(*hook), SetKind::Verdicts);
    }
    for version in &facts.local {
        empty((place.base_names.local(*version), vec![Field::Source(*version)]), SetKind::Ranges);
    }
    for version in place.options.tunnel_families() {
        empty((place.base_names.tunnel_peers(version), vec![Field::Source(version)]), SetKind::Ranges);
    }
    let mut put = |(name, _): BaseSet, key: Vec<Value>, target| {
        if let Some(set) = sets.get_mut(&name) {
            // Two endpoints with one interface and address: the first by id has it, as in the model.
            set.elements.entry(key).or_insert(target);
        }
    };
    // A family without a set has none of these networks.
    for version in IpVersion::ALL {
        let (local, peers) = (place.base_names.local(version), place.base_names.tunnel_peers(version));
        for (set, nets) in
            [(local, &place.options.shared.local_nets), (peers, &place.options.shared.tunnel_peers)]
        {
            for (first, last) in joined(nets.iter().filter(|net| net.version() == version)) {
                put((set.clone(), Vec::new()), vec![Value::Addresses(first, last)], None);
            }
        }
    }
    for interface in bindings.closed() {
        put(place.base_names.closed(), vec![name(interface)], None);
        put(place.base_names.arp_closed(), vec![name(interface)], None);
    }
    for (_, binding) in bindings.endpoints() {
        let (interface, addresses) = match binding {
            Binding::Workload { interface, addresses } => (interface, &addresses[..]),
            Binding::WorkloadAnyAddress { interface } => {
                put(place.base_names.any_address(), vec![name(interface)], None);
                put(place.base_names.arp_any_address(), vec![name(interface)], None);
                (interface, &[][..])
            }
            _ => continue,
        };
        put(place.base_names.workloads(), vec![name(interface)], None);
        put(place.base_names.arp_workloads(), vec![name(interface)], None);
        for address in addresses {
            let (version, value) = (IpVersion::of(address), Value::Address(*address));
            let claim = match version {
                IpVersion::V4 => place.base_names.arp_sources(),
                IpVersion::V6 => place.base_names.neighbour_targets(),
            };
            put(claim, vec![name(interface), value.clone()], None);
            put(place.base_names.sources(version), vec![name(interface), value.clone()], None);
            let twice = vec![name(interface), value.clone(), value.clone()];
            put(place.base_names.own(version), twice, None);
            put(place.base_names.workload_addresses(version), vec![value], None);
        }
    }
    for binding in unknown_hosts(snapshot, bindings) {
        // The endpoint for all interfaces must not allow, before destination NAT, what is to be denied here.
        let before_dnat = matches!(binding, Binding::Host { .. }).then_some(Hook::PreDnat);
        for hook in DENIED.into_iter().chain(before_dnat) {
            let chain = match hook {
                Hook::ForwardIngress | Hook::ForwardEgress => base_chains::UNKNOWN,
                _ => base_chains::UNKNOWN_TO_HOST,
            };
            let target = Some(Target::Goto(place.base_names.name(chain)));
            for version in FAMILIES {
                if matches!(binding, Binding::AllInterfaces { .. }) {
                    put(place.base_names.host_all(hook), vec![Value::Family(version)], target.clone());
                    continue;
                }
                for interface in binding.interfaces() {
                    let key = vec![Value::Family(version), name(interface)];
                    put(place.base_names.host(hook), key, target.clone());
                }
            }
        }
    }
    for local in bound_endpoints.values() {
        for (hook, program) in &local.hooks {
            let workload =
                |egress: fn(&BaseNames, IpVersion) -> BaseSet,
                 ingress: fn(&BaseNames, IpVersion) -> BaseSet| match hook {
                    Hook::WorkloadEgress => Some(egress),
                    Hook::WorkloadIngress => Some(ingress),
                    _ => None,
                };
            for version in FAMILIES {
                let Some(target) = local.target(*hook, version, *program, place) else { continue };
                match local.binding {
                    Binding::Workload { interface, addresses } => {
                        let Some(set) = workload(BaseNames::from, BaseNames::to) else { continue };
                        for address in addresses.iter().filter(|address| IpVersion::of(address) == version) {
                            let key = vec![name(interface), Value::Address(*address)];
                            put(set(place.base_names, version), key, Some(target.clone()));
                        }
                    }
                    Binding::WorkloadAnyAddress { interface } => {
                        let Some(set) = workload(
                            |base_names, _| base_names.senders(),
                            |base_names, _| base_names.receivers(),
                        ) else {
                            continue;
                        };
                        let key = vec![Value::Family(version), name(interface)];
                        put(set(place.base_names, version), key, Some(target));
                    }
                    Binding::Host { interfaces } => {
                        for interface in interfaces {
                            let key = vec![Value::Family(version), name(interface)];
                            put(place.base_names.host(*hook), key, Some(target.clone()));
                        }
                    }
                    Binding::AllInterfaces { .. } => {
                        put(place.base_names.host_all(*hook), vec![Value::Family(version)], Some(target));
                    }
                    // Refused by `check`.
                    _ => {}
                }
            }
        }
    }
    sets
}

fn name(interface: &Interface) -> Value {
    Value::Interface(interface.name().into())
}

/// Networks as ranges that do not overlap.
fn joined<'a>(nets: impl Iterator<Item = &'a Cidr>) -> Vec<Range> {
    let mut ranges: Vec<Range> = nets.map(|net| (net.address(), net.last_address())).collect();
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}
