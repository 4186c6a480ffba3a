//! The policy engines.

use std::fmt::Write as _;
use std::net::IpAddr;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Snapshot;
use portcullis::label::Labels;
use portcullis::matcher::{Matcher, PacketKey};
use portcullis::model::{
    Action, Cluster, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, L4Match,
    Policy, PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::selector::Selector;
use portcullis::verdict::{Hook, Verdict};

use crate::flows::{Flow, PEERS, flows, port};
use crate::{Lane, interleave};

/// Most policies that a linear engine is asked about: beyond, one turn takes seconds.
const LINEAR_LIMIT: usize = 10_000;

/// Compares all engines on so many policies.
pub fn run(policies: usize) {
    let cluster = cluster(policies);
    let snapshot = compile(&cluster);
    let matcher = Matcher::lower(&snapshot).unwrap();
    let settings = Settings::default();
    let reference = Reference::new(&cluster, &settings);
    let handle = matcher.handle(&target()).unwrap();
    let many = flows(policies, 4_096);
    // Linear engines answer fewer flows in a turn, and all the same ones.
    let few = flows(policies, (200_000 / policies).clamp(8, 512));

    let keys: Vec<(PacketKey, Verdict)> =
        many.iter().map(|flow| (PacketKey::new(&packet(flow)).unwrap(), verdict(flow))).collect();
    let packets: Vec<(Packet, Verdict)> = few.iter().map(|flow| (packet(flow), verdict(flow))).collect();
    let linear = Linear::new(policies);
    let mut lanes: Vec<(Lane, Box<dyn FnMut() + '_>, usize)> = vec![
        (
            Lane::new("portcullis matcher"),
            Box::new(|| {
                for (key, expected) in &keys {
                    assert_eq!(matcher.verdict(handle, Hook::WorkloadIngress, key), *expected);
                }
            }),
            keys.len(),
        ),
        (
            Lane::new("linear over rules"),
            Box::new(|| few.iter().for_each(|flow| assert_eq!(linear.allows(flow), flow.allowed))),
            few.len(),
        ),
    ];
    if policies <= LINEAR_LIMIT {
        lanes.push((
            Lane::new("portcullis reference"),
            Box::new(|| {
                for (packet, expected) in &packets {
                    let decision = reference.decide(&target(), Hook::WorkloadIngress, packet);
                    assert_eq!(decision.verdict, *expected);
                }
            }),
            packets.len(),
        ));
        let cedar = Cedar::new(policies, &few);
        lanes.push((Lane::new("cedar-policy"), Box::new(move || cedar.check()), few.len()));
        let mut rego = Rego::new(policies, &few);
        lanes.push((Lane::new("regorus"), Box::new(move || rego.check()), few.len()));
    }
    interleave(&mut lanes);
    for (lane, ..) in lanes {
        lane.report(&format!("{policies}"));
    }
}

fn verdict(flow: &Flow) -> Verdict {
    if flow.allowed { Verdict::Allow } else { Verdict::Deny }
}

fn address(peer: usize) -> IpAddr {
    IpAddr::from([10, 1, (peer >> 8) as u8, peer as u8])
}

fn target() -> EndpointId {
    EndpointId::workload("bench", "target")
}

fn packet(flow: &Flow) -> Packet {
    Packet::new(address(flow.peer), IpAddr::from([10, 0, 0, 1]), Protocol::TCP).to_port(flow.port)
}

fn cluster(policies: usize) -> Cluster {
    let select = |text: &str| EntitySelector {
        kinds: EntityKinds::WORKLOAD,
        expr: Selector::parse(text).unwrap().into_expr(),
    };
    let endpoint = |id: EndpointId, app: &str, address| {
        let mut endpoint = Endpoint::new(id);
        endpoint.labels = Labels::from_iter([("app", app)]);
        endpoint.addresses = vec![address];
        Update::Endpoint(endpoint)
    };
    let peers = (0..PEERS).map(|peer| {
        let id = EndpointId::workload("bench", format!("peer{peer}"));
        endpoint(id, &format!("a{peer}"), address(peer))
    });
    let target = endpoint(target(), "target", IpAddr::from([10, 0, 0, 1]));
    let policies = (0..policies).map(|number| {
        let mut rule = Rule::new(Action::Allow);
        rule.peers = vec![EntityMatch::select(select(&format!("app == 'a{}'", number % PEERS)))];
        rule.l4 = vec![L4Match {
            protocol: Some(Protocol::TCP),
            destination_ports: vec![PortMatch::Range(PortRange::single(port(number)))],
            ..L4Match::default()
        }];
        let id = PolicyId::new("Policy", None, format!("p{number}"));
        let mut policy = Policy::new(id, "default", select("app == 'target'"), Directions::INGRESS);
        policy.ingress = vec![rule];
        Update::Policy(policy)
    });
    peers.chain([target]).chain(policies).collect()
}

fn compile(cluster: &Cluster) -> Snapshot {
    let compiler = Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All).unwrap();
    compiler.snapshot().clone()
}

/// What one writes first: a list of rules with interned labels, from top to bottom.
struct Linear(Vec<(u32, u8, u16)>);

impl Linear {
    fn new(policies: usize) -> Self {
        Self((0..policies).map(|number| ((number % PEERS) as u32, 6, port(number))).collect())
    }

    fn allows(&self, flow: &Flow) -> bool {
        self.0
            .iter()
            .any(|(label, protocol, port)| *label == flow.peer as u32 && *protocol == 6 && *port == flow.port)
    }
}

struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    requests: Vec<(Request, Decision)>,
}

impl Cedar {
    fn new(policies: usize, flows: &[Flow]) -> Self {
        let mut text = String::new();
        for number in 0..policies {
            writeln!(
                text,
                "permit(principal, action, resource) when {{ principal.app == \"a{}\" && context.port == {} }};",
                number % PEERS,
                port(number)
            )
            .unwrap();
        }
        let uid = |kind: &str, name: &str| -> EntityUid { format!("{kind}::\"{name}\"").parse().unwrap() };
        let peers = (0..PEERS).map(|peer| {
            let app = RestrictedExpression::new_string(format!("a{peer}"));
            let attributes = [("app".to_owned(), app)].into_iter().collect();
            Entity::new(uid("Pod", &format!("peer{peer}")), attributes, [].into_iter().collect()).unwrap()
        });
        let request = |flow: &Flow| {
            let port = RestrictedExpression::new_long(i64::from(flow.port));
            let context = Context::from_pairs([("port".to_owned(), port)]).unwrap();
            let peer = uid("Pod", &format!("peer{}", flow.peer));
            let request =
                Request::new(peer, uid("Action", "connect"), uid("Pod", "target"), context, None).unwrap();
            (request, if flow.allowed { Decision::Allow } else { Decision::Deny })
        };
        Self {
            authorizer: Authorizer::new(),
            policies: text.parse().unwrap(),
            entities: Entities::from_entities(peers, None).unwrap(),
            requests: flows.iter().map(request).collect(),
        }
    }

    fn check(&self) {
        for (request, expected) in &self.requests {
            let answer = self.authorizer.is_authorized(request, &self.policies, &self.entities);
            assert_eq!(answer.decision(), *expected);
        }
    }
}

struct Rego {
    engine: regorus::Engine,
    inputs: Vec<(regorus::Value, bool)>,
}

impl Rego {
    fn new(policies: usize, flows: &[Flow]) -> Self {
        let mut text = String::from("package p\nimport rego.v1\ndefault allow := false\n");
        for number in 0..policies {
            writeln!(
                text,
                "allow if {{ input.app == \"a{}\"; input.port == {} }}",
                number % PEERS,
                port(number)
            )
            .unwrap();
        }
        let mut engine = regorus::Engine::new();
        engine.add_policy("p.rego".into(), text).unwrap();
        let input = |flow: &Flow| {
            let json = format!("{{\"app\": \"a{}\", \"port\": {}}}", flow.peer, flow.port);
            (regorus::Value::from_json_str(&json).unwrap(), flow.allowed)
        };
        Self { engine, inputs: flows.iter().map(input).collect() }
    }

    fn check(&mut self) {
        for (input, expected) in &self.inputs {
            self.engine.set_input(input.clone());
            let answer = self.engine.eval_rule("data.p.allow".into()).unwrap();
            assert_eq!(answer, regorus::Value::from(*expected));
        }
    }
}
