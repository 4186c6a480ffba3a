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

use portcullis::backend::{
    Binding, Bindings, Dataplane, DataplaneOptions, DesiredState, Interface, LoggedEvents, NewlyDenied,
    NodeInterfaces,
};
use portcullis::backends;
use portcullis::compile::{CompileScope, Compiler};
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
        ["agent", backend, pods @ ..] => agent(backend, pods),
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

/// What the CNI keeps: policy, where the pods are, and what enforces it.
struct Cni {
    compiler: Compiler,
    bindings: Bindings,
    options: DataplaneOptions,
    dataplane: Box<dyn Dataplane>,
}

impl Cni {
    /// Takes over what an earlier process left.
    fn start(backend: &str, pods: &[(&str, &str)]) -> Result<Self, Error> {
        let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
        let dataplane = backends::named(backend).ok_or("no such backend")?.open(options.clone())?;
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut cni = Self { compiler, bindings: Bindings::new(), options, dataplane };
        cni.compiler.apply(Update::Profile(Profile::allow_all("open")))?;
        cni.compiler.apply(only("app == 'web'")?)?;
        for (name, address) in pods {
            cni.add(name, address)?;
        }
        let _ = cni.compiler.commit();
        let desired = DesiredState::new(cni.compiler.snapshot(), &cni.bindings);
        assert!(cni.dataplane.load(desired)?.is_complete());
        Ok(cni)
    }

    fn add(&mut self, name: &str, address: &str) -> Result<(), Error> {
        let mut endpoint = Endpoint::new(EndpointId::workload("shop", name));
        endpoint.labels.insert("app", name);
        (endpoint.addresses, endpoint.profiles) = (vec![address.parse()?], vec!["open".into()]);
        self.bindings
            .bind(endpoint.id.clone(), Binding::workload(interface(name)?, endpoint.addresses.clone()));
        Ok(self.compiler.apply(Update::Endpoint(endpoint))?)
    }

    /// Brings everything since the last call in force. How many flows it ended, which policy denies now.
    fn commit(&mut self) -> Result<usize, Error> {
        let delta = self.compiler.commit();
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        assert!(self.dataplane.update(desired, &delta)?.is_complete());
        let node = NodeInterfaces::new();
        let denied = NewlyDenied::new(self.compiler.previous(), desired, &self.options, &node);
        Ok(self.dataplane.terminate(&|flow| denied.contains(flow))?)
    }
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
fn agent(backend: &str, pods: &[&str]) -> Result<(), Error> {
    let pods: Vec<_> = pods.chunks(2).filter_map(|pod| Some((*pod.first()?, *pod.get(1)?))).collect();
    let _cni = Cni::start(backend, &pods)?;
    println!("in force");
    loop {
        std::thread::park();
    }
}

fn node(backend: &str) -> Result<(), Error> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let [web, db, other] =
        [Pod::new("web", "10.0.0.1")?, Pod::new("db", "10.0.0.2")?, Pod::new("other", "10.0.0.3")?];
    let mut flow = web.connect("10.0.0.2")?;
    println!("no policy: web {}, other {}", flow.goes_on()?, other.reaches("10.0.0.2")?);

    let pods = [("web", "10.0.0.1"), ("db", "10.0.0.2"), ("other", "10.0.0.3")];
    let words = pods.iter().flat_map(|(name, address)| [*name, *address]);
    let exe = std::env::current_exe()?;
    let mut agent = Command::new(exe).args(["agent", backend]).args(words).stdout(Stdio::piped()).spawn()?;
    BufReader::new(agent.stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
    println!("policy: web {}, other {}", web.reaches("10.0.0.2")?, other.reaches("10.0.0.2")?);
    agent.kill()?;
    agent.wait()?;
    println!("killed: flow {}, other {}", flow.goes_on()?, other.reaches("10.0.0.2")?);
    let mut cni = Cni::start(backend, &pods)?;
    println!("restarted: flow {}, other {}", flow.goes_on()?, other.reaches("10.0.0.2")?);

    let late = Pod::new("late", "10.0.0.4")?;
    cni.bindings.close(interface("late")?);
    cni.commit()?;
    println!("a pod nobody knows yet: web {}", late.reaches("10.0.0.1")?);
    cni.add("late", "10.0.0.4")?;
    cni.commit()?;
    println!("it is known: web {}, db {}", late.reaches("10.0.0.1")?, late.reaches("10.0.0.2")?);
    cni.compiler.apply(only("app == 'late'")?)?;
    let ended = cni.commit()?;
    println!("policy changes: {ended} flow ended: {}, late {}", flow.goes_on()?, late.reaches("10.0.0.2")?);
    let denied =
        std::iter::from_fn(|| cni.dataplane.next_event().transpose()).collect::<Result<Vec<_>, _>>()?;
    let first = denied.first().ok_or("no event")?;
    println!("event: {} to {}: {}", first.packet.source, first.packet.destination, first.decision.cause);
    let counters = cni.dataplane.counters()?;
    let denied = counters
        .iter()
        .filter(|(decision, _)| decision.cause.policy().is_some() && decision.verdict == Verdict::Deny);
    println!(
        "packets that the policy denied: {}",
        denied.map(|(_, counter)| counter.packets).sum::<u64>() > 0
    );

    let gone = EndpointId::workload("shop", "late");
    (drop(late), cni.bindings.unbind(&gone));
    cni.compiler.apply(Update::RemoveEndpoint(gone))?;
    cni.commit()?;
    cni.dataplane.remove()?;
    println!("removed: web {}, other {}", web.reaches("10.0.0.2")?, other.reaches("10.0.0.2")?);
    drop(db);
    Ok(())
}
