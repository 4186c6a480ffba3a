//! Single changes among 100,000 pods: lowering and writing.

use core::net::IpAddr;
use std::io::Write;
use std::time::Instant;

use portcullis::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
use portcullis::compile::Compiler;
use portcullis::ebpf::oracle::Sandbox;
use portcullis::ebpf::{Lowering, Options};
use portcullis::label::{Labels, Scope};
use portcullis::model::{Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, Namespace, Update};
use portcullis::selector::Selector;

use crate::measure::Times;
use crate::nftables::Failure;
use crate::nftables::world::{POD, compiler, endpoint, peer, policy};

const NAMESPACES: usize = 100;
const PODS: usize = 1_000;

/// A pod of this node, and 100,000 elsewhere in namespaces of 1,000; half of the namespaces are of team `a`.
pub(super) fn many_pods() -> Result<Compiler, Failure> {
    let mut updates = vec![endpoint("pod", ("app", "pod"), POD, "here")];
    for space in 0..NAMESPACES {
        updates.push(namespace(space, if space.is_multiple_of(2) { "a" } else { "b" }));
        updates.extend((0..PODS).map(|pod| remote(space, pod, "peer")));
    }
    updates.push(policy("open", "app == 'pod'", "role == 'peer'", 80)?);
    updates.push(policy("some", "app == 'pod'", "slot == 's99'", 8_080)?);
    let Update::Policy(mut team) = policy("team", "app == 'pod'", "all()", 443)? else {
        return Err("no policy".into());
    };
    let of_team = Selector::parse("team == 'a'").map_err(|error| error.to_string())?;
    let expr = of_team.in_scope(Scope::Namespace).into_expr();
    for rule in &mut team.ingress {
        rule.peers =
            vec![EntityMatch::select(EntitySelector { kinds: EntityKinds::WORKLOAD, expr: expr.clone() })];
    }
    updates.push(Update::Policy(team));
    compiler(updates)
}

/// That pod's interface is 1.
pub(super) fn pod_bindings() -> Result<Bindings, Failure> {
    let interface = Interface::new("pod")?.with_index(1);
    Ok([(EndpointId::workload("bench", "pod"), Binding::workload(interface, [POD.into()]))].into())
}

fn namespace(number: usize, team: &str) -> Update {
    let labels: Labels = [("team", team)].into_iter().collect();
    Update::Namespace(Namespace { name: format!("ns-{number}").into(), labels })
}

fn id(space: usize, pod: usize) -> EndpointId {
    EndpointId::workload(format!("ns-{space}"), format!("pod-{pod}"))
}

fn remote(space: usize, pod: usize, role: &str) -> Update {
    let mut endpoint = Endpoint::new(id(space, pod));
    endpoint.labels.insert("role", role);
    endpoint.labels.insert("slot", format!("s{space}"));
    let number = space.saturating_mul(2 * PODS).saturating_add(pod);
    endpoint.addresses = vec![IpAddr::V4(peer(number))];
    endpoint.node = Some("there".into());
    Update::Endpoint(endpoint)
}

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    let mut compiler = many_pods()?;
    let bindings = pod_bindings()?;
    let (mut lowering, update) =
        Lowering::load(Options::new(), DesiredState::new(compiler.snapshot(), &bindings), &())?;
    let mut sandbox = Sandbox::of(&lowering, &update)?;
    writeln!(
        out,
        "ebpf changes: single changes among {} pods; lowering and writing, the commit aside, and what is left for later",
        NAMESPACES.saturating_mul(PODS)
    )?;
    let mut measure = |what: &str,
                       rounds: usize,
                       change: &dyn Fn(usize) -> Result<Update, Failure>|
     -> Result<(), Failure> {
        let (mut times, mut later, mut writes) = (Times::default(), Times::default(), [0_usize; 2]);
        for number in 0..rounds {
            compiler.apply(change(number)?).map_err(|error| error.to_string())?;
            let delta = compiler.commit();
            let start = Instant::now();
            let update = lowering.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?;
            sandbox.carry_out(&update)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if update.is_empty() {
                return Err(format!("{what}: nothing was written").into());
            }
            let start = Instant::now();
            let rest = lowering.quiesce();
            sandbox.carry_out(&rest)?;
            later.push(start.elapsed().as_secs_f64() * 1e6);
            let [now, then] = writes;
            writes = [now.max(update.writes().len()), then.max(rest.writes().len())];
        }
        let [now, then] = writes;
        writeln!(
            out,
            "  {what}: {}, at most {now} writes; later median {:.1} us, at most {then} writes",
            times.summary("us"),
            later.at(50_000)
        )?;
        Ok(())
    };
    measure("pod added, known class", 200, &|n| Ok(remote(0, PODS.saturating_add(n), "peer")))?;
    measure("pod removed", 200, &|n| Ok(Update::RemoveEndpoint(id(0, PODS.saturating_add(n)))))?;
    measure("pod's labels change, its class too", 200, &|n| {
        Ok(remote(2, n / 2, if n.is_multiple_of(2) { "other" } else { "peer" }))
    })?;
    measure("policy gets another port", 200, &|n| {
        policy("open", "app == 'pod'", "role == 'peer'", u16::try_from(n)?.saturating_add(1_000))
    })?;
    measure("policy selects 1,000 other pods", 50, &|n| {
        policy("some", "app == 'pod'", &format!("slot == 's{}'", n % NAMESPACES), 8_080)
    })?;
    measure("policy added", 100, &|n| {
        policy(&format!("new-{n}"), "app == 'pod'", "role == 'peer'", u16::try_from(n)?.saturating_add(5_000))
    })?;
    measure("namespace of 1,000 pods changes its team", 20, &|n| {
        Ok(namespace(4, if n.is_multiple_of(2) { "b" } else { "a" }))
    })?;
    measure("policy names all pods in other words", 5, &|n| {
        policy("open", "app == 'pod'", &format!("role == 'peer' || role == 'r{n}'"), 80)
    })
}
