//! A small CNI on Linux: pods in network namespaces, and policy between them, through any kernel backend of the registry.
//!
//! `enforce nftables` or `enforce ebpf`, as root, with the programs `ip`, `unshare`, `nsenter` and `mount`. The node and its
//! pods are namespaces of their own, which end with the processes in them.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

#[path = "enforce/pods.rs"]
mod pods;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use portcullis::backend::{Binding, DataplaneOptions, Interface, LoggedEvents};
use portcullis::backends;
use portcullis::compile::{CompileScope, Compiler};
use portcullis::local_node::{Change, LocalNode};
use portcullis::model::{
    Endpoint, EndpointId, EntitySelector, L4Match, Policy, PolicyId, Profile, Rule, Update,
};
use portcullis::settings::Settings;
use portcullis::verdict::Verdict;

use pods::Pod;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["node", backend] => node(backend),
        ["agent", backend] => agent(backend),
        ["pod"] => pods::serve(),
        ["talk", to] => pods::talk(to.parse()?),
        [backend] => {
            // The node: a network namespace and a BPF file system of its own.
            let script = format!("mount -t bpf bpf /sys/fs/bpf && exec \"$0\" node {backend}");
            let node = ["--net", "--mount", "sh", "-c", &script];
            let status = Command::new("unshare").args(node).arg(std::env::current_exe()?).status()?;
            if status.success() { Ok(()) } else { Err("the node failed".into()) }
        }
        _ => Err("usage: enforce BACKEND".into()),
    }
}

const PODS: [(&str, &str); 3] = [("web", "10.0.0.1"), ("db", "10.0.0.2"), ("other", "10.0.0.3")];

/// The node that this agent enforces on: endpoints of other nodes are peers only.
const NODE: &str = "node-1";

/// What the CNI does when it starts: it takes over what an earlier process left.
fn start(backend: &str) -> Result<LocalNode, Error> {
    let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
    let dataplane = backends::named(backend).ok_or("no such backend")?.open(options)?;
    let compiler = Compiler::new(Settings::default(), CompileScope::Node(NODE.into()));
    let mut node = LocalNode::new(compiler, dataplane)?.ending_newly_denied(backends::node_interfaces);
    let (policy, profile) = (only("app == 'web'")?, Profile::allow_all("open"));
    let pods: Vec<_> =
        PODS.into_iter().map(|(name, address)| pod(name, address)).collect::<Result<_, _>>()?;
    let changed = node.change(|change| {
        [Update::Profile(profile), policy].into_iter().for_each(|update| change.apply(update));
        pods.into_iter().for_each(|pod| add(change, pod));
    })?;
    if changed.applied.is_complete() { Ok(node) } else { Err("an interface is gone".into()) }
}

/// A pod and where it is.
fn pod(name: &str, address: &str) -> Result<(Endpoint, Binding), Error> {
    let mut endpoint = Endpoint::new(EndpointId::workload("shop", name));
    endpoint.node = Some(NODE.into());
    endpoint.labels.insert("app", name);
    (endpoint.addresses, endpoint.profiles) = ([address.parse()?].into_iter().collect(), vec!["open".into()]);
    let binding = Binding::workload(interface(name)?, endpoint.addresses.clone());
    Ok((endpoint, binding))
}

fn add(change: &mut Change, (endpoint, binding): (Endpoint, Binding)) {
    change.bind(endpoint.id.clone(), binding);
    change.apply(Update::Endpoint(endpoint));
}

/// Only pods with these labels may reach the database.
fn only(from: &str) -> Result<Update, Error> {
    let rule = Rule::allow().from(EntitySelector::workloads(from)?).to_port(L4Match::tcp(5432));
    let id = PolicyId::new("Policy", None, "database");
    Ok(Update::Policy(Policy::ingress(id, EntitySelector::workloads("app == 'db'")?, [rule])))
}

fn interface(pod: &str) -> Result<Interface, Error> {
    let name = format!("cali-{pod}");
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    Ok(Interface::new(&name)?.with_index(index.map_or(0, |index| index.trim().parse().unwrap_or(0))))
}

/// The process that is killed.
fn agent(backend: &str) -> Result<(), Error> {
    let _node = start(backend)?;
    println!("in force");
    loop {
        std::thread::park();
    }
}

fn node(backend: &str) -> Result<(), Error> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let [web, _db, other] = PODS.map(|(name, address)| Pod::new(name, address));
    let (web, _db, other) = (web?, _db?, other?);
    let db = "10.0.0.2";
    let mut flow = web.connect(db)?;
    println!("no policy: web {}, other {}", flow.goes_on()?, other.reaches(db)?);

    let exe = std::env::current_exe()?;
    let mut agent = Command::new(exe).args(["agent", backend]).stdout(Stdio::piped()).spawn()?;
    BufReader::new(agent.stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
    println!("policy: web {}, other {}", web.reaches(db)?, other.reaches(db)?);
    agent.kill()?;
    agent.wait()?;
    println!("killed: flow {}, other {}", flow.goes_on()?, other.reaches(db)?);
    let mut node = start(backend)?;
    println!("restarted: flow {}, other {}", flow.goes_on()?, other.reaches(db)?);

    let late = Pod::new("late", "10.0.0.4")?;
    let unknown = interface("late")?;
    let _ = node.change(|change| change.close(unknown))?;
    println!("a pod that nobody knows yet: web {}", late.reaches("10.0.0.1")?);
    let known = pod("late", "10.0.0.4")?;
    let _ = node.change(|change| add(change, known))?;
    println!("it is known: web {}, db {}", late.reaches("10.0.0.1")?, late.reaches(db)?);
    let policy = only("app == 'late'")?;
    let ended = node.change(|change| change.apply(policy))?.ended_flows;
    println!("policy changes: ended {}, flow {}, late {}", ended > 0, flow.goes_on()?, late.reaches(db)?);
    let first = node.dataplane().next_event()?.ok_or("no event")?;
    println!("event: {} to {}: {}", first.packet.source, first.packet.destination, first.decision.cause);
    let counters = node.dataplane().counters()?;
    let denied = counters.iter().filter(|(decision, _)| decision.verdict == Verdict::Deny);
    println!("packets were denied: {}", denied.map(|(_, counter)| counter.packets).sum::<u64>() > 0);

    drop(late);
    let gone = EndpointId::workload("shop", "late");
    let _ = node.change(|change| {
        change.unbind(gone.clone());
        change.apply(Update::RemoveEndpoint(gone));
    })?;
    node.remove()?;
    println!("removed: web {}, other {}", web.reaches(db)?, other.reaches(db)?);
    Ok(())
}
