//! Clusters around one pod, and namespaces to put them in.

use core::net::{IpAddr, Ipv4Addr};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{Binding, Bindings, Interface};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, L4Match, Policy,
    PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis::packet::Protocol;
use portcullis::selector::Selector;
use portcullis::settings::Settings;

use crate::nftables::Failure;

/// The pod that everything is about.
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The host's end of its interface.
pub(crate) const INTERFACE: &str = "pod0";
/// The port that policy opens.
pub(crate) const PORT: u16 = 80;

/// The address of a peer.
pub(crate) fn peer(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() | u32::try_from(number).unwrap_or(0))
}

pub(crate) fn endpoint(name: &str, label: (&str, &str), address: Ipv4Addr, node: &str) -> Update {
    let mut endpoint = Endpoint::new(EndpointId::workload("bench", name));
    endpoint.labels.insert(label.0, label.1);
    endpoint.addresses = vec![IpAddr::V4(address)];
    endpoint.node = Some(node.into());
    Update::Endpoint(endpoint)
}

/// A policy on `subject` that lets `peers` reach one port over UDP.
pub(crate) fn policy(name: &str, subject: &str, peers: &str, port: u16) -> Result<Update, Failure> {
    let select = |text: &str| -> Result<EntitySelector, Failure> {
        let expr = Selector::parse(text).map_err(|error| error.to_string())?.into_expr();
        Ok(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
    };
    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(select(peers)?)];
    rule.l4 = vec![L4Match {
        protocol: Some(Protocol::UDP),
        destination_ports: vec![PortMatch::Range(PortRange::single(port))],
        ..L4Match::default()
    }];
    let id = PolicyId::new("NetworkPolicy", Some("bench".into()), name);
    let mut policy = Policy::new(id, "default", select(subject)?, Directions::INGRESS);
    policy.ingress = vec![rule];
    Ok(Update::Policy(policy))
}

/// Compiles for the node `here`.
pub(crate) fn compiler(updates: impl IntoIterator<Item = Update>) -> Result<Compiler, Failure> {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::Node("here".into()));
    for update in updates {
        compiler.apply(update).map_err(|error| error.to_string())?;
    }
    let _ = compiler.commit();
    Ok(compiler)
}

/// The pod and `others` more pods of this node.
pub(crate) fn bindings(others: usize) -> Result<Bindings, Failure> {
    let mut bindings = Bindings::new();
    let interface = |name: &str| Interface::new(name).map_err(|error| error.to_string());
    bindings.bind(
        EndpointId::workload("bench", "pod"),
        Binding::workload(interface(INTERFACE)?, [IpAddr::V4(POD)]),
    );
    for number in 0..others {
        let address =
            Ipv4Addr::from_bits(POD.to_bits().saturating_add(u32::try_from(number)?).saturating_add(1));
        bindings.bind(
            EndpointId::workload("bench", format!("local-{number}")),
            Binding::workload(interface(&format!("pod-{number}"))?, [IpAddr::V4(address)]),
        );
    }
    Ok(bindings)
}

/// Runs `work` in a network namespace that ends with it.
pub(crate) fn isolated<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("no network namespace ({error}); root is needed"))?;
        work()
    };
    thread::scope(|scope| scope.spawn(run).join()).map_err(|_| "a measurement panicked")?
}

/// Runs a program with `input`.
pub(crate) fn feed(program: &str, arguments: &[&str], input: &str) -> Result<(), Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run `{program}`: {error}"))?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("`{program}`: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    written.transpose()?;
    Ok(())
}
