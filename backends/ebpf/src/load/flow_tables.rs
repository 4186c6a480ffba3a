//! The tables of flows, which outlive program and process: how they are laid out, and how their entries get from one table
//! into the next. All that depends on the layout of keys and values is here; `bpf/maps.h` and `bpf/flows.h` say the same.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use aya::maps::{HashMap, Map, MapData, MapError, MapType};
use aya::{Ebpf, Pod};
use portcullis_core::packet::{Packet, Protocol};

use crate::error::LoadError;
use crate::load::pins::Pins;
use crate::load::take_map::take;
use crate::lower::endpoint::words_of;

/// Changes whenever keys or values do. It is part of the name that a table is pinned under. The layout before has then to get
/// a line in [`earlier_flows`] and [`earlier_cuts`], or its flows are lost in an upgrade.
pub(crate) const LAYOUT: u32 = 2;

/// `struct flow_v4`, `struct flow_v6`, `struct flow_state` and `struct cut`, as words.
pub(super) type KeyV4 = [u32; 5];
pub(super) type KeyV6 = [u32; 11];
pub(super) type State = [u32; 6];
pub(super) type Cut = [u32; 4];
/// `struct flow_state` in layout 1: time, flags and peer. Flows that had been ended had a flag.
type FirstState = [u32; 4];
const FIRST_TERMINATED: u32 = 16;

/// Entries of one table, in this layout.
type Entries<K, V> = Vec<(K, V)>;

fn earlier_flows<K: Key>(layout: u32, data: MapData) -> Result<Entries<K, State>, LoadError> {
    match layout {
        LAYOUT => entries(data, |key: K, state: State| Some((key, state))),
        1 => entries(data, |key: K, [a, b, flags, peer]: FirstState| {
            let state = [a, b, flags, peer, key.interface(), 0];
            (flags & FIRST_TERMINATED == 0).then_some((key, state))
        }),
        // Of a version that is not known here.
        _ => Ok(Vec::new()),
    }
}

/// The flows that had been ended. `of_flows` says that the table is one of flows, which the first layout kept them in.
fn earlier_cuts<K: Key>(layout: u32, of_flows: bool, data: MapData) -> Result<Entries<K, Cut>, LoadError> {
    match (layout, of_flows) {
        (LAYOUT, false) => entries(data, |key: K, cut: Cut| Some((key, cut))),
        (1, true) => entries(data, |key: K, [a, b, flags, _]: FirstState| {
            (flags & FIRST_TERMINATED != 0).then_some((key, [a, b, flags & BEGAN, 0]))
        }),
        _ => Ok(Vec::new()),
    }
}

/// When a flow was last seen, in nanoseconds of the kernel's coarse monotonic clock.
fn seen(state: State) -> u64 {
    seen_of(state)
}

fn seen_of<const N: usize>(state: [u32; N]) -> u64 {
    let [a, b] = state.first_chunk().copied().unwrap_or_default();
    let ([a, b, c, d], [e, f, g, h]) = (a.to_ne_bytes(), b.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

const fn flags(state: State) -> u32 {
    let [_, _, flags, ..] = state;
    flags
}

/// The same time with other flags.
const fn with_flags(state: State, flags: u32) -> State {
    let [a, b, _, peer, payer, unused] = state;
    [a, b, flags, peer, payer, unused]
}

/// The interface whose account holds the flow.
pub(super) const fn payer(state: State) -> u32 {
    let [.., payer, _] = state;
    payer
}

/// Flags of `bpf/flows.h`.
pub(super) const SENT: u32 = 1 | 2;
pub(super) const CLOSING: u32 = 4;
pub(super) const BEGAN_LOCAL: u32 = 8;
pub(super) const DEFERRED: u32 = 64;
const MIDWAY: u32 = 128;
/// What a cut keeps of a flow.
const BEGAN: u32 = BEGAN_LOCAL | MIDWAY;

/// What two tables know of one flow. The newer may be about a later flow with the same ports.
fn merged(here: State, other: State) -> State {
    if seen(other) < seen(here) {
        return with_flags(here, flags(here) | flags(other) & SENT);
    }
    with_flags(other, flags(here) | flags(other))
}

/// The layout-dependent half of [`Flow`].
pub(super) trait Key: Pod + Ord {
    /// The interface that the flow is tracked at.
    fn interface(&self) -> u32;

    /// The flow as it began. Where that was not seen, either end may have begun it.
    fn flow(&self, state: State) -> Flow;

    /// The ways in which the flow can have begun.
    fn ways(&self, state: State) -> impl Iterator<Item = Flow> {
        let other = (flags(state) & MIDWAY != 0).then(|| with_flags(state, flags(state) ^ BEGAN_LOCAL));
        [Some(state), other].into_iter().flatten().map(|state| self.flow(state))
    }

    /// Whether it is at the interface itself that its first packet came in by, and was allowed there.
    fn is_here(&self, state: State) -> bool {
        self.interface() == payer(state) && flags(state) & DEFERRED == 0
    }
}

impl Key for KeyV4 {
    fn interface(&self) -> u32 {
        let [_, _, _, interface, _] = *self;
        interface
    }

    fn flow(&self, state: State) -> Flow {
        let [local, remote, ports, interface, protocol] = *self;
        let [local, remote] = [local, remote].map(|word| Ipv4Addr::from(word.to_ne_bytes()).into());
        Flow::new(local, remote, [ports, interface, protocol], state)
    }
}

impl Key for KeyV6 {
    fn interface(&self) -> u32 {
        let [.., interface, _] = *self;
        interface
    }

    fn flow(&self, state: State) -> Flow {
        let [a, b, c, d, e, f, g, h, ports, interface, protocol] = *self;
        let [local, remote] = [[a, b, c, d], [e, f, g, h]].map(address_of);
        Flow::new(local, remote, [ports, interface, protocol], state)
    }
}

/// The address in four words in the order of the wire.
fn address_of(words: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (octet, byte) in octets.iter_mut().zip(words.into_iter().flat_map(u32::to_ne_bytes)) {
        *octet = byte;
    }
    Ipv6Addr::from(octets).into()
}

/// A flow as one interface sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) interface: u32,
    /// Whether the first packet came from behind the workload's interface, or from the node's side of a host's.
    pub(crate) began_local: bool,
    /// The first packet, as far as the table knows. ICMP codes it does not.
    pub(crate) packet: Packet,
    /// Whether that is enough to ask policy again.
    pub(crate) is_known: bool,
}

impl Flow {
    fn new(local: IpAddr, remote: IpAddr, rest: [u32; 3], state: State) -> Self {
        let [ports, interface, protocol] = rest;
        let began_local = flags(state) & BEGAN_LOCAL != 0;
        let (source, destination) = if began_local { (local, remote) } else { (remote, local) };
        let protocol = Protocol(u8::try_from(protocol).unwrap_or(u8::MAX));
        let mut packet = Packet::new(source, destination, protocol);
        let mut is_known = flags(state) & DEFERRED == 0;
        let [upper, _, kind, end] = ports.to_be_bytes();
        let [_, second, third, _] = ports.to_be_bytes();
        match protocol {
            Protocol::ICMP | Protocol::ICMPV6 => {
                // Upper half: identifier; then the type of the question, and which end asked.
                let is_question = (end == 1) == began_local;
                is_known &= ports != 0;
                packet = packet.with_icmp(if is_question { kind } else { answer_to(protocol, kind) }, 0);
            }
            _ => {
                let local_port = u16::from_be_bytes([upper, second]);
                let remote_port = u16::from_be_bytes([third, end]);
                let (from, to) =
                    if began_local { (local_port, remote_port) } else { (remote_port, local_port) };
                packet = packet.from_port(from).to_port(to);
            }
        }
        Self { interface, began_local, packet, is_known }
    }
}

const fn answer_to(protocol: Protocol, question: u8) -> u8 {
    match (protocol, question) {
        (Protocol::ICMP, 8) => 0,
        _ => question.saturating_add(1),
    }
}

/// A flow that the programs have not seen, as one interface would have noted it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) interface: u32,
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    /// As in the key.
    pub(super) ports: u32,
    pub(super) protocol: Protocol,
    pub(super) flags: u32,
    pub(super) peer: u32,
    pub(super) payer: u32,
}

impl Seen {
    /// The state of a flow whose last packet came at that time.
    fn state(&self, seen: u64) -> State {
        let [a, b, c, d, e, f, g, h] = seen.to_ne_bytes();
        let [first, second] = [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes);
        [first, second, self.flags, self.peer, self.payer, 0]
    }

    fn rest(&self) -> [u32; 3] {
        [self.ports, self.interface, self.protocol.0.into()]
    }
}

/// Seconds of silence after which the programs forget a flow that both ends have sent in: `timeout_of` in `bpf/flows.h`.
pub(super) const fn idle_seconds(protocol: Protocol, is_closing: bool, tcp_idle_seconds: u32) -> u32 {
    match protocol {
        Protocol::TCP if is_closing => 120,
        Protocol::TCP => tcp_idle_seconds,
        Protocol::UDP => 180,
        Protocol::SCTP => SCTP_IDLE_SECONDS,
        Protocol::ICMP | Protocol::ICMPV6 => 30,
        _ => 600,
    }
}

pub(super) const SCTP_IDLE_SECONDS: u32 = 21_600;

/// The tables that the program looks into.
pub(crate) struct FlowTables {
    pub(super) v4: HashMap<MapData, KeyV4, State>,
    pub(super) v6: HashMap<MapData, KeyV6, State>,
    cuts_v4: HashMap<MapData, KeyV4, Cut>,
    cuts_v6: HashMap<MapData, KeyV6, Cut>,
}

/// A pinned table that the program does not look into: of another size or layout.
#[derive(Clone, Debug)]
pub(crate) struct Earlier {
    path: PathBuf,
    is_v6: bool,
    /// Whether it is one of flows, not of cuts.
    of_flows: bool,
    layout: u32,
}

impl Earlier {
    /// The table that is pinned at `path`, if `name`, its last part, is that of a table.
    pub(crate) fn at(name: &str, path: PathBuf) -> Option<Self> {
        let (map, rest) = name.split_once('-')?;
        let layout = rest.split_once('-')?.0.parse().ok()?;
        let (of_flows, is_v6) = match map {
            "flows_v4" => (true, false),
            "flows_v6" => (true, true),
            "cuts_v4" => (false, false),
            "cuts_v6" => (false, true),
            _ => return None,
        };
        Some(Self { path, is_v6, of_flows, layout })
    }
}

/// The name that a table of so many entries is pinned under. It carries layout and size, because a table with others cannot
/// be used.
pub(crate) fn pin_of(map: &str, entries: u32) -> String {
    format!("{map}-{LAYOUT}-{entries}")
}

/// Takes away what is pinned under the name of a table and is none of this layout: the kernel would refuse every program that looks
/// into it. One line for each.
pub(crate) fn set_aside_others(pins: &mut Pins) -> Result<Vec<String>, LoadError> {
    let mut warnings = Vec::new();
    let tables: Vec<String> = pins.names().map(str::to_owned).collect();
    for name in tables {
        let path = pins.path(&name);
        let Some(table) = Earlier::at(&name, path.clone()) else { continue };
        let value = match (table.layout, table.of_flows) {
            (LAYOUT, true) => size_of::<State>(),
            (LAYOUT, false) => size_of::<Cut>(),
            (1, true) => size_of::<FirstState>(),
            // Nobody reads it.
            _ => continue,
        };
        let key = if table.is_v6 { size_of::<KeyV6>() } else { size_of::<KeyV4>() };
        let limit = name.rsplit('-').next().and_then(|entries| entries.parse().ok());
        let fits = MapData::from_pin(&path).and_then(|map| map.info()).is_ok_and(|info| {
            let [key_size, value_size] = [info.key_size(), info.value_size()].map(usize::try_from);
            matches!(
                (info.map_type(), table.of_flows),
                (Ok(MapType::LruHash), true) | (Ok(MapType::Hash), false)
            ) && key_size == Ok(key)
                && value_size == Ok(value)
                && limit == Some(info.max_entries())
        });
        if !fits {
            pins.set_aside(&name)?;
            warnings.push(format!(
                "`{}` is no flow table of this version and was set aside; flows that only it knows are decided anew",
                path.display()
            ));
        }
    }
    Ok(warnings)
}

/// The tables of a program that was loaded are pinned.
pub(crate) fn note(pins: &mut Pins, tables: &[String]) {
    tables.iter().for_each(|table| pins.note(table.clone()));
}

/// Tables that are pinned beside these.
pub(crate) fn pinned_beside(pins: &Pins, current: &[String]) -> Vec<Earlier> {
    let others = pins.names().filter(|name| !current.iter().any(|current| current == name));
    others.filter_map(|name| Earlier::at(name, pins.path(name))).collect()
}

/// Removes pinned tables but these.
pub(crate) fn keep(pins: &mut Pins, kept: &[String]) -> Result<(), LoadError> {
    let tables = |prefix| pins.ends_of(prefix).map(move |end| format!("{prefix}{end}"));
    let others: Vec<String> =
        tables("flows_").chain(tables("cuts_")).filter(|name| !kept.contains(name)).collect();
    others.iter().try_for_each(|name| pins.unpin(name))
}

/// What earlier tables said when they were read.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    v4: BTreeMap<KeyV4, State>,
    v6: BTreeMap<KeyV6, State>,
}

impl FlowTables {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let (v4, v6) = (take(ebpf, "flows_v4")?, take(ebpf, "flows_v6")?);
        Ok(Self { v4, v6, cuts_v4: take(ebpf, "cuts_v4")?, cuts_v6: take(ebpf, "cuts_v6")? })
    }

    /// Adds what earlier tables know that is not in `copied` yet. Where they know more than fits, the flows that were seen last
    /// are kept.
    pub(crate) fn carry_over(&mut self, earlier: &[Earlier], copied: &mut Copied) -> Result<(), LoadError> {
        let mut found = Copied::default();
        for table in earlier {
            let open = || MapData::from_pin(&table.path).map_err(failed);
            let (layout, of_flows) = (table.layout, table.of_flows);
            // Before the flows, so that none comes back meanwhile.
            if table.is_v6 {
                cut(&mut self.cuts_v6, earlier_cuts(layout, of_flows, open()?)?)?;
            } else {
                cut(&mut self.cuts_v4, earlier_cuts(layout, of_flows, open()?)?)?;
            }
            match (of_flows, table.is_v6) {
                (true, false) => gather(&mut found.v4, earlier_flows(layout, open()?)?),
                (true, true) => gather(&mut found.v6, earlier_flows(layout, open()?)?),
                (false, _) => {}
            }
        }
        put(&mut self.v4, news(&found.v4, &copied.v4))?;
        put(&mut self.v6, news(&found.v6, &copied.v6))?;
        *copied = found;
        Ok(())
    }

    /// Adds flows, each with the time of its last packet. Those that were ended stay so.
    pub(super) fn add(&mut self, flows: Vec<(Seen, u64)>) -> Result<(), LoadError> {
        let (mut v4, mut v6): (Entries<KeyV4, State>, Entries<KeyV6, State>) = (Vec::new(), Vec::new());
        for (flow, seen) in flows {
            let ([ports, interface, protocol], state) = (flow.rest(), flow.state(seen));
            match (flow.local, flow.remote) {
                (IpAddr::V4(local), IpAddr::V4(remote)) => {
                    let [local, remote] = [local, remote].map(|address| u32::from_ne_bytes(address.octets()));
                    v4.push(([local, remote, ports, interface, protocol], state));
                }
                (IpAddr::V6(local), IpAddr::V6(remote)) => {
                    let ([a, b, c, d], [e, f, g, h]) = (words_of(local), words_of(remote));
                    v6.push(([a, b, c, d, e, f, g, h, ports, interface, protocol], state));
                }
                // NAT keeps the family.
                _ => {}
            }
        }
        v4.retain(|(key, _)| self.cuts_v4.get(key, 0).is_err());
        v6.retain(|(key, _)| self.cuts_v6.get(key, 0).is_err());
        put(&mut self.v4, v4)?;
        put(&mut self.v6, v6)
    }

    /// How many entries each table has, IPv4 first.
    pub(crate) fn lengths(&self) -> Result<[usize; 2], LoadError> {
        Ok([count(&self.v4)?, count(&self.v6)?])
    }

    /// Takes back that the flows were allowed that `which` names: their next packets are decided by policy. A TCP or SCTP flow
    /// is cut: nothing passes in it until it is opened anew, or policy allows what the end sends that began it. How many
    /// entries that were.
    pub(crate) fn end(&mut self, which: impl Fn(&Flow) -> bool) -> Result<usize, LoadError> {
        let v4 = end(&mut self.v4, &mut self.cuts_v4, &which)?;
        Ok(v4.saturating_add(end(&mut self.v6, &mut self.cuts_v6, &which)?))
    }

    /// Forgets cuts that nobody has sent anything in for `silence` nanoseconds before `now`.
    pub(crate) fn forget_cuts(&mut self, now: u64, silence: u64) -> Result<(), LoadError> {
        let since = now.saturating_sub(silence);
        forget(&mut self.cuts_v4, since)?;
        forget(&mut self.cuts_v6, since)
    }

    /// For each account, how many flows it has: IPv4 at the interface itself and elsewhere, then IPv6.
    pub(crate) fn held(&self) -> Result<BTreeMap<u32, [u32; 4]>, LoadError> {
        let mut held: BTreeMap<u32, [u32; 4]> = BTreeMap::new();
        let mut add = |payer: u32, is_v6: bool, is_here: bool| {
            let [here4, elsewhere4, here6, elsewhere6] = held.entry(payer).or_default();
            let count = match (is_v6, is_here) {
                (false, true) => here4,
                (false, false) => elsewhere4,
                (true, true) => here6,
                (true, false) => elsewhere6,
            };
            *count = count.saturating_add(1);
        };
        for (key, state) in read(&self.v4)? {
            add(payer(state), false, key.is_here(state));
        }
        for (key, state) in read(&self.v6)? {
            add(payer(state), true, key.is_here(state));
        }
        Ok(held)
    }
}

/// Reads a table, also one that changes meanwhile.
fn entries<K: Pod + Ord, V: Pod, W>(
    data: MapData,
    convert: impl Fn(K, V) -> Option<(K, W)>,
) -> Result<Entries<K, W>, LoadError> {
    let map = Map::from_map_data(data).map_err(failed)?;
    let table: HashMap<_, K, V> = HashMap::try_from(map).map_err(failed)?;
    Ok(read(&table)?.into_iter().filter_map(|(key, value)| convert(key, value)).collect())
}

fn read<K: Pod + Ord, V: Pod>(table: &HashMap<MapData, K, V>) -> Result<BTreeMap<K, V>, LoadError> {
    let most = max_entries(table)?.saturating_mul(4);
    let mut found = BTreeMap::new();
    // The kernel begins again when the key that it goes on from is gone, so there has to be an end.
    for key in table.keys().take(most) {
        let key = key.map_err(failed)?;
        if found.contains_key(&key) {
            continue;
        }
        match table.get(&key, 0) {
            Ok(value) => drop(found.insert(key, value)),
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(found)
}

/// As many keys as a look through the table finds; another number than there are when it changes meanwhile.
fn count<K: Pod + Ord>(table: &HashMap<MapData, K, State>) -> Result<usize, LoadError> {
    let most = max_entries(table)?;
    let mut count: usize = 0;
    for key in table.keys().take(most) {
        key.map_err(failed)?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

fn gather<K: Ord>(found: &mut BTreeMap<K, State>, entries: Entries<K, State>) {
    for (key, state) in entries {
        found.entry(key).and_modify(|here| *here = merged(*here, state)).or_insert(state);
    }
}

fn news<K: Copy + Ord>(found: &BTreeMap<K, State>, copied: &BTreeMap<K, State>) -> Entries<K, State> {
    let is_new = |(key, state): &(&K, &State)| copied.get(*key) != Some(*state);
    found.iter().filter(is_new).map(|(key, state)| (*key, *state)).collect()
}

fn put<K: Pod + Ord>(
    table: &mut HashMap<MapData, K, State>,
    mut entries: Entries<K, State>,
) -> Result<(), LoadError> {
    make_room(table, &mut entries)?;
    // The table forgets those first that came first.
    entries.sort_by_key(|(_, state)| seen(*state));
    for (key, state) in entries {
        match table.insert(key, state, NEW_ONLY) {
            Ok(()) => continue,
            Err(error) if is(&error, std::io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(failed(error)),
        }
        let Ok(here) = table.get(&key, 0) else { continue };
        let both = merged(here, state);
        if both != here {
            overwrite(table, &key, both)?;
        }
    }
    Ok(())
}

/// Takes the oldest flows out of the table and out of what is to be added, if not all fit with an eighth to spare. A table that
/// has to make room itself goes by when entries were written, which is not when their flows were seen.
fn make_room<K: Pod + Ord>(
    table: &mut HashMap<MapData, K, State>,
    entries: &mut Entries<K, State>,
) -> Result<(), LoadError> {
    let limit = max_entries(table)?;
    // As many as come in a moment of ordinary work.
    if entries.len() <= limit / 16 {
        return Ok(());
    }
    let mut ages: BTreeMap<K, u64> =
        read(table)?.into_iter().map(|(key, state)| (key, seen(state))).collect();
    for (key, state) in entries.iter() {
        let age = ages.entry(*key).or_default();
        *age = seen(*state).max(*age);
    }
    let surplus = ages.len().saturating_sub(limit.saturating_sub(limit / 8));
    let mut oldest: Vec<(u64, K)> = ages.into_iter().map(|(key, seen)| (seen, key)).collect();
    oldest.sort_unstable();
    let dropped: BTreeSet<K> = oldest.into_iter().take(surplus).map(|(_, key)| key).collect();
    for key in &dropped {
        match table.remove(key) {
            Err(error) if !is(&error, std::io::ErrorKind::NotFound) => return Err(failed(error)),
            _ => {}
        }
    }
    entries.retain(|(key, _)| !dropped.contains(key));
    Ok(())
}

fn end<K: Key>(
    table: &mut HashMap<MapData, K, State>,
    cuts: &mut HashMap<MapData, K, Cut>,
    which: impl Fn(&Flow) -> bool,
) -> Result<usize, LoadError> {
    let ended: Vec<(K, State)> =
        read(table)?.into_iter().filter(|(key, state)| key.ways(*state).any(|flow| which(&flow))).collect();
    let new = ended
        .iter()
        .filter(|(key, state)| matches!(key.flow(*state).packet.protocol, Protocol::TCP | Protocol::SCTP));
    let new = new.map(|(key, state)| {
        let [a, b, flags, ..] = *state;
        (*key, [a, b, flags & BEGAN, 0])
    });
    // Before they are forgotten, so that none comes back meanwhile.
    let result = cut(cuts, new.collect());
    for (key, _) in &ended {
        match table.remove(key) {
            Err(error) if !is(&error, std::io::ErrorKind::NotFound) => return Err(failed(error)),
            _ => {}
        }
    }
    result.map(|()| ended.len())
}

/// Adds cuts. Where there is no room for all of them, those that were seen last are kept and the rest is an error.
fn cut<K: Pod + Ord>(
    table: &mut HashMap<MapData, K, Cut>,
    mut entries: Entries<K, Cut>,
) -> Result<(), LoadError> {
    entries.sort_by_key(|(_, cut)| core::cmp::Reverse(seen_of(*cut)));
    for (key, cut) in entries {
        match table.insert(key, cut, ANY) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(TOO_BIG) => {
                let limit = max_entries(table)?;
                let reason = format!("`cuts` holds {limit} flows that were ended, and more are needed");
                return Err(LoadError::plain(reason));
            }
            result => result.map_err(failed)?,
        }
    }
    Ok(())
}

fn forget<K: Pod + Ord>(table: &mut HashMap<MapData, K, Cut>, since: u64) -> Result<(), LoadError> {
    for (key, _) in read(table)?.into_iter().filter(|(_, cut)| seen_of(*cut) < since) {
        match table.remove(&key) {
            Err(error) if !is(&error, std::io::ErrorKind::NotFound) => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes what is still there.
fn overwrite<K: Pod>(table: &mut HashMap<MapData, K, State>, key: &K, state: State) -> Result<(), LoadError> {
    match table.insert(key, state, EXISTING_ONLY) {
        Err(error) if !is(&error, std::io::ErrorKind::NotFound) => Err(failed(error)),
        _ => Ok(()),
    }
}

fn max_entries<K: Pod, V: Pod>(table: &HashMap<MapData, K, V>) -> Result<usize, LoadError> {
    use aya::maps::IterableMap as _;
    let info = table.map().info().map_err(failed)?;
    Ok(usize::try_from(info.max_entries()).unwrap_or(usize::MAX))
}

fn is(error: &MapError, kind: std::io::ErrorKind) -> bool {
    match error {
        MapError::SyscallError(error) => error.io_error.kind() == kind,
        MapError::KeyNotFound => kind == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn failed(error: MapError) -> LoadError {
    LoadError::new("flows", error)
}

/// `BPF_ANY`, `BPF_NOEXIST` and `BPF_EXIST`.
const ANY: u64 = 0;
const NEW_ONLY: u64 = 1;
const EXISTING_ONLY: u64 = 2;
/// `E2BIG`: a table is full.
const TOO_BIG: i32 = 7;

#[cfg(test)]
mod tests;
