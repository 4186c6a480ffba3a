//! What a packet of a new flow costs: written to a TUN device, forwarded to the pod, and dropped behind the policy, so
//! that all variants end alike. A counter tells how many the policy let through.

use core::time::Duration;
use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{Dataplane as _, DataplaneOptions, DesiredState, Interface};
use portcullis::model::Update;
use portcullis::nftables::{Enforcer, Limits, Options};
use portcullis::packet::{Packet, Protocol};
use portcullis::wire::craft;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::Failure;
use super::rivals::{self, Peers};
use super::world::{INTERFACE, POD, PORT, bindings, compiler, endpoint, feed, peer, policy};
use crate::measure::Times;

/// Peers that packets come from.
const SOURCES: usize = 1_000;
/// Packets that are prepared; each round sends them again and again.
const PACKETS: usize = 8_192;
const ROUNDS: usize = 9;
/// How long one round of one variant takes.
const ROUND: Duration = Duration::from_millis(120);

/// Packets one after the other, until the time is up. The answer is the nanoseconds of one.
struct Variant {
    name: String,
    go: Sender<bool>,
    took: Receiver<Result<f64, String>>,
    times: Times,
}

/// A table, made in the namespace it is for.
type Setup = Box<dyn FnOnce() -> Result<Option<Enforcer>, Failure> + Send>;

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    established(out)?;
    writeln!(out, "nftables: ns per packet of a new flow, {SOURCES} sources, {ROUNDS} interleaved rounds")?;
    for policies in [10, 100, 1_000, 10_000] {
        let groups = on_the_pod(policies);
        let (for_linear, for_ipset) = (groups.clone(), groups.clone());
        let on_pod = on_pod(policies)?;
        let elsewhere = elsewhere(policies)?;
        let mut variants = vec![
            variant("accept all", true, Box::new(|| rivals::accept_all(false).map(|()| None)))?,
            variant(
                "accept all, connections tracked",
                true,
                Box::new(|| rivals::accept_all(true).map(|()| None)),
            )?,
            variant("portcullis, policies elsewhere", true, Box::new(move || enforce(elsewhere, 200)))?,
            variant("portcullis, policies on the pod", true, Box::new(move || enforce(on_pod, 0)))?,
            variant(
                "nft, chain and set per policy",
                true,
                Box::new(move || rivals::linear(&for_linear).map(|()| None)),
            )?,
        ];
        if policies <= 1_000 {
            variants.push(variant(
                "iptables and ipset",
                true,
                Box::new(move || rivals::ipset(&for_ipset).map(|()| None)),
            )?);
        }
        for _ in 0..ROUNDS {
            for variant in &mut variants {
                variant.go.send(true)?;
                let took = variant.took.recv()?.map_err(|error| format!("{}: {error}", variant.name))?;
                variant.times.push(took);
            }
        }
        for variant in variants {
            let (best, median) = (variant.times.at(0), variant.times.at(50_000));
            writeln!(
                out,
                "{policies:>6} policies  {:<34} best {best:>9.1} median {median:>9.1}",
                variant.name
            )?;
        }
        out.flush()?;
    }
    Ok(())
}

/// A flow that was allowed before: the same packet, with an answer in between.
fn established(out: &mut dyn Write) -> Result<(), Failure> {
    let on_pod = on_pod(1_000)?;
    let mut variants = vec![
        variant("accept all", false, Box::new(|| rivals::accept_all(false).map(|()| None)))?,
        variant(
            "accept all, connections tracked",
            false,
            Box::new(|| rivals::accept_all(true).map(|()| None)),
        )?,
        variant("portcullis, 1,000 policies on the pod", false, Box::new(move || enforce(on_pod, 0)))?,
    ];
    for _ in 0..ROUNDS {
        for variant in &mut variants {
            variant.go.send(true)?;
            variant.times.push(variant.took.recv()??);
        }
    }
    writeln!(out, "nftables: ns per packet of an established flow")?;
    for variant in variants {
        let (best, median) = (variant.times.at(0), variant.times.at(50_000));
        writeln!(out, "{:<42} best {best:>9.1} median {median:>9.1}", variant.name)?;
    }
    Ok(())
}

/// The interfaces of workloads have names of their own, as CNIs give them.
fn options() -> Result<Options, Failure> {
    let limits = Limits { chains: 40_000, sets: 40_000, ..Limits::default() };
    let shared = DataplaneOptions::new().with_workload_interfaces(Interface::new("pod")?);
    Ok(Options::from(shared).with_limits(limits))
}

fn enforce(updates: Vec<Update>, others: usize) -> Result<Option<Enforcer>, Failure> {
    let engine = compiler(updates)?;
    let mut enforcer = Enforcer::open(options()?)?;
    drop(enforcer.load(DesiredState::new(engine.snapshot(), &bindings(others)?))?);
    Ok(Some(enforcer))
}

/// The peers of each policy on the pod; every peer belongs to one.
fn on_the_pod(policies: usize) -> Vec<Peers> {
    let peers = SOURCES.max(policies);
    let mut groups = vec![Peers::new(); policies];
    for number in 0..peers {
        if let Some(group) = groups.get_mut(number % policies) {
            group.push(peer(number));
        }
    }
    groups
}

fn peers(count: usize, groups: usize) -> impl Iterator<Item = Update> {
    (0..count)
        .map(move |n| endpoint(&format!("peer-{n}"), ("group", &format!("g{}", n % groups)), peer(n), "far"))
}

/// Policies on the pod, each for a group of peers of its own.
fn on_pod(policies: usize) -> Result<Vec<Update>, Failure> {
    let mut updates: Vec<Update> = peers(SOURCES.max(policies), policies).collect();
    updates.push(endpoint("pod", ("app", "pod"), POD, "here"));
    for number in 0..policies {
        let peers = format!("group == 'g{number}'");
        updates.push(policy(&format!("p{number}"), "app == 'pod'", &peers, PORT)?);
    }
    Ok(updates)
}

/// One policy on the pod, and the others on 200 more pods of the node.
fn elsewhere(policies: usize) -> Result<Vec<Update>, Failure> {
    let mut updates: Vec<Update> = peers(SOURCES, 1).collect();
    updates.push(endpoint("pod", ("app", "pod"), POD, "here"));
    updates.push(policy("own", "app == 'pod'", "group == 'g0'", PORT)?);
    for number in 0..200_u32 {
        let address = core::net::Ipv4Addr::from_bits(POD.to_bits().saturating_add(number).saturating_add(1));
        updates.push(endpoint(&format!("local-{number}"), ("app", &format!("a{number}")), address, "here"));
    }
    for number in 0..policies {
        let subject = format!("app == 'a{}'", number % 200);
        let port = u16::try_from(1_000_usize.saturating_add(number / 200))?;
        updates.push(policy(&format!("p{number}"), &subject, "group == 'g0'", port)?);
    }
    Ok(updates)
}

/// Starts a thread in a namespace of its own that sends packets when it is told to.
fn variant(name: &str, new_flows: bool, setup: Setup) -> Result<Variant, Failure> {
    let ((go, told), (tell, took)) = (channel::<bool>(), channel());
    let work = move || {
        let failed = |error: Failure| error.to_string();
        let begun = begin().and_then(|device| Ok((device, setup()?)));
        let (device, _kept) = match begun {
            Ok(begun) => begun,
            Err(error) => return drop(tell.send(Err(failed(error)))),
        };
        let packets = packets(new_flows);
        let _ = tell.send(Ok(0.0));
        for _ in told {
            let round = if new_flows { round(&device, &packets) } else { flow(&device, &packets) };
            if tell.send(round.map_err(failed)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    took.recv()?.map_err(|error| format!("{name}: {error}"))?;
    Ok(Variant { name: name.to_owned(), go, took, times: Times::default() })
}

/// What stands behind the policy, and counts what it let through.
const TAIL: &str = "table inet tail {
    counter through { }
    chain new { type filter hook forward priority 300; policy accept;
        udp dport 80 udp sport != 7 counter name through drop
    }
}
";

/// The two devices: packets come in through the one and would leave through the pod's.
fn begin() -> Result<[SyncDevice; 2], Failure> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("no network namespace ({error}); root is needed"))?;
    for (name, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)?;
    }
    // What IPv6 sends on its own account would be taken for the flow's packets.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    let device = |name: &str| DeviceBuilder::new().name(name).build_sync();
    let devices = [device("far0")?, device(INTERFACE)?];
    let routes = format!(
        "link set far0 up\nlink set {INTERFACE} up\nroute add {POD}/32 dev {INTERFACE}\nroute add 10.64.0.0/10 dev far0\n"
    );
    feed("ip", &["-batch", "-"], &routes)?;
    feed("nft", &["-f", "-"], TAIL)?;
    Ok(devices)
}

fn packets(new_flows: bool) -> Vec<Vec<u8>> {
    let packet = |number: usize| {
        let source = if new_flows { peer(number.wrapping_mul(7_919) % SOURCES) } else { peer(1) };
        let port = if new_flows { u16::try_from(20_000 + number).unwrap_or(1) } else { 7 };
        craft(&Packet::new(source.into(), POD.into(), Protocol::UDP).from_port(port).to_port(PORT))
    };
    (0..PACKETS).filter_map(packet).collect()
}

/// One round of new flows: none is ever confirmed, because all are dropped behind the policy.
fn round([device, _]: &[SyncDevice; 2], packets: &[Vec<u8>]) -> Result<f64, Failure> {
    let before = through()?;
    let (mut sent, start) = (0_u32, Instant::now());
    for packet in packets.iter().cycle() {
        device.send(packet)?;
        sent = sent.saturating_add(1);
        if sent.is_multiple_of(64) && start.elapsed() > ROUND {
            break;
        }
    }
    let took = start.elapsed().as_secs_f64() * 1e9 / f64::from(sent);
    let passed = through()?.saturating_sub(before);
    if passed != u64::from(sent) {
        return Err(format!("{passed} of {sent} packets were let through").into());
    }
    Ok(took)
}

/// One round of a flow that was answered once.
fn flow([far, pod]: &[SyncDevice; 2], packets: &[Vec<u8>]) -> Result<f64, Failure> {
    let first = packets.first().ok_or("no packet")?;
    let answer = Packet::new(POD.into(), peer(1).into(), Protocol::UDP).from_port(PORT).to_port(7);
    let answer = craft(&answer).ok_or("no answer")?;
    pod.set_nonblocking(true)?;
    far.send(first)?;
    pod.send(&answer)?;
    far.send(first)?;
    let mut buffer = [0; 128];
    let mut seen = 0;
    while pod.recv(&mut buffer).is_ok() {
        seen += 1;
    }
    if seen != 2 {
        return Err(format!("{seen} of 2 packets of the flow came through").into());
    }
    let (mut sent, start) = (0_u32, Instant::now());
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            far.send(first)?;
            // The device would be full otherwise; all variants pay for it.
            if pod.recv(&mut buffer).is_err() {
                return Err("an established flow was stopped".into());
            }
        }
        sent = sent.saturating_add(64);
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(sent))
}

/// How many packets the policy let through so far.
fn through() -> Result<u64, Failure> {
    let listed = Command::new("nft").args(["list", "counter", "inet", "tail", "through"]).output()?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    let count =
        words.nth(1).ok_or_else(|| format!("no counter: {}", String::from_utf8_lossy(&listed.stderr)))?;
    Ok(count.parse()?)
}
