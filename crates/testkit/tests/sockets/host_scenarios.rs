//! Host endpoints of one node and their policies, for every enforcer: `*` alone, named alone, both.
//!
//! What has to come through is not written here: the reference says it, see [`crate::host_judge`].

use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Node, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::packet::Protocol;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::{Settings, WorkloadToHost};
use portcullis_testkit::generate::Generator;

use crate::node::Pod;
use crate::place;
use crate::wide::{NODE, Site};

/// Which host endpoints stand on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guards {
    /// The one for all interfaces.
    All,
    /// The one at the uplink.
    Named,
    /// Both.
    Both,
}

impl Guards {
    /// The host endpoint at the uplink, if there is one.
    pub(crate) fn named(self) -> Option<EndpointId> {
        (self != Self::All).then(|| EndpointId::host("edge"))
    }

    /// The one for all interfaces, if there is one.
    pub(crate) fn all(self) -> Option<EndpointId> {
        (self != Self::Named).then(|| EndpointId::host("star"))
    }

    /// The one that packets at the uplink meet.
    pub(crate) fn uplink(self) -> EndpointId {
        self.named().unwrap_or_else(|| EndpointId::host("star"))
    }
}

/// One policy of a host endpoint.
struct On {
    /// The host endpoint, which has a label of its name.
    endpoint: &'static str,
    /// How it applies: fields of the policy.
    how: &'static str,
    /// Its rules; a direction without any text has no type.
    ingress: &'static str,
    egress: &'static str,
}

/// A node with host endpoints, and their policies.
pub(crate) struct HostScenario {
    /// What it is about.
    pub(crate) name: &'static str,
    /// The host endpoints.
    pub(crate) guards: Guards,
    /// What happens to a workload's traffic to its own node.
    pub(crate) to_host: WorkloadToHost,
    policies: &'static [On],
}

/// Two pods of this node. Nothing is said about `web`; ingress and egress of `work` are restricted.
pub(crate) const LOCAL: [&str; 2] = ["web", "work"];

/// Ports that are tried; 22, 179, 53 and 68 are failsafe ports. Everybody has to serve all of them.
pub(crate) const PROBES: [(u16, Protocol); 8] = [
    (80, Protocol::TCP),
    (80, Protocol::UDP),
    (8080, Protocol::TCP),
    (8080, Protocol::UDP),
    (22, Protocol::TCP),
    (179, Protocol::TCP),
    (53, Protocol::UDP),
    (68, Protocol::UDP),
];

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: work, namespace: shop, labels: {app: work}}
---
apiVersion: v1
kind: Pod
metadata: {name: remote, namespace: west, labels: {app: remote}}
spec: {nodeName: second}
status: {podIP: 10.0.8.10, podIPs: [{ip: 10.0.8.10}, {ip: 'fd00:8::10'}]}
---
apiVersion: v1
kind: Node
metadata: {name: node}
status: {addresses: [{type: InternalIP, address: 172.16.9.1}, {type: InternalIP, address: 'fd00:16::1'}]}
---
apiVersion: v1
kind: Node
metadata: {name: second}
status: {addresses: [{type: InternalIP, address: 172.16.9.2}, {type: InternalIP, address: 'fd00:16::2'}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: work, namespace: shop}
spec:
  podSelector: {matchLabels: {app: work}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{namespaceSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}, {port: 8080}]}]
  egress: [{ports: [{port: 8080}, {port: 80, protocol: UDP}, {port: 80}]}]
";

const NAMED: &str = "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge, labels: {edge: here}}
spec: {node: node, interfaceName: up0, expectedIPs: [172.16.9.1, 'fd00:16::1']}
";

const ALL: &str = "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: star, labels: {star: here}}
spec: {node: node, interfaceName: '*', expectedIPs: [172.16.9.1, 'fd00:16::1']}
";

const FORWARD: &str = "applyOnForward: true";
const BEFORE_DNAT: &str = "applyOnForward: true, preDNAT: true";
const UNTRACKED: &str = "applyOnForward: true, doNotTrack: true";
const HOST: &str = "";

const EVERYTHING: &str = "[{action: Allow}]";
const NOTHING: &str = "[{action: Deny}]";

/// All of them.
pub(crate) const SCENARIOS: &[HostScenario] = &[
    // The node reaches its pods, and nothing else but by failsafe ports.
    HostScenario {
        name: "*, no policy",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[],
    },
    HostScenario {
        name: "*, egress of the node and of forwarded traffic denied",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On { endpoint: "star", how: FORWARD, ingress: EVERYTHING, egress: "" },
            On { endpoint: "star", how: FORWARD, ingress: "", egress: NOTHING },
        ],
    },
    HostScenario {
        name: "*, forward ingress",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[On {
            endpoint: "star",
            how: FORWARD,
            ingress: "[{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Allow, protocol: UDP, source: {selector: app == 'remote'}}]",
            egress: "",
        }],
    },
    HostScenario {
        name: "*, forward egress",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[On {
            endpoint: "star",
            how: FORWARD,
            ingress: EVERYTHING,
            egress: "[{action: Deny, protocol: UDP, destination: {selector: app == 'web'}}, {action: Deny, protocol: TCP, source: {selector: app == 'web'}, destination: {ports: [8080]}}, {action: Allow}]",
        }],
    },
    HostScenario {
        name: "*, before destination NAT",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On {
                endpoint: "star",
                how: BEFORE_DNAT,
                ingress: "[{action: Deny, source: {selector: app == 'work'}, protocol: TCP, destination: {ports: [8080]}}, {action: Allow, protocol: TCP}, {action: Deny, source: {selector: app == 'remote'}}, {action: Deny, protocol: UDP, destination: {ports: [53]}}]",
                egress: "",
            },
            On {
                endpoint: "star",
                how: FORWARD,
                ingress: "[{action: Allow, protocol: UDP, destination: {ports: [80]}}]",
                egress: EVERYTHING,
            },
        ],
    },
    HostScenario {
        name: "*, untracked policy is ignored",
        guards: Guards::All,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On {
                endpoint: "star",
                how: UNTRACKED,
                ingress: "[{action: Deny, protocol: UDP}, {action: Allow}]",
                egress: NOTHING,
            },
            On {
                endpoint: "star",
                how: FORWARD,
                ingress: "[{action: Allow, destination: {ports: [80]}, protocol: UDP}, {action: Allow, destination: {ports: [8080]}, protocol: TCP}]",
                egress: EVERYTHING,
            },
        ],
    },
    HostScenario {
        name: "*, a pod to its node as policy says",
        guards: Guards::All,
        to_host: WorkloadToHost::HostPolicy,
        policies: &[
            On {
                endpoint: "star",
                how: BEFORE_DNAT,
                ingress: "[{action: Allow, source: {selector: app == 'web'}, protocol: UDP, destination: {ports: [8080]}}, {action: Deny, source: {selector: app == 'web'}, destination: {ports: [8080]}, protocol: TCP}]",
                egress: "",
            },
            On {
                endpoint: "star",
                how: HOST,
                ingress: "[{action: Allow, protocol: TCP, destination: {ports: [80, 8080]}}]",
                egress: "",
            },
        ],
    },
    HostScenario {
        name: "*, a pod never to its node",
        guards: Guards::All,
        to_host: WorkloadToHost::Drop,
        policies: &[
            On {
                endpoint: "star",
                how: BEFORE_DNAT,
                ingress: "[{action: Allow, protocol: TCP}]",
                egress: "",
            },
            On { endpoint: "star", how: HOST, ingress: EVERYTHING, egress: EVERYTHING },
        ],
    },
    HostScenario {
        name: "named, the node reaches its pods only",
        guards: Guards::Named,
        to_host: WorkloadToHost::Accept,
        policies: &[On { endpoint: "edge", how: FORWARD, ingress: NOTHING, egress: NOTHING }],
    },
    HostScenario {
        name: "named, an untracked Allow does not open a pod",
        guards: Guards::Named,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On {
                endpoint: "edge",
                how: UNTRACKED,
                ingress: "[{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
                egress: "[{action: Allow, protocol: TCP, source: {ports: [80]}}]",
            },
            On { endpoint: "edge", how: FORWARD, ingress: "[{action: Allow, protocol: UDP}]", egress: "" },
        ],
    },
    HostScenario {
        name: "named, pre-DNAT policy is asked after an untracked Allow",
        guards: Guards::Named,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On { endpoint: "edge", how: UNTRACKED, ingress: EVERYTHING, egress: EVERYTHING },
            On {
                endpoint: "edge",
                how: BEFORE_DNAT,
                ingress: "[{action: Deny, protocol: TCP, destination: {ports: [8080]}}, {action: Allow, protocol: TCP, destination: {ports: [80]}}]",
                egress: "",
            },
            On {
                endpoint: "edge",
                how: FORWARD,
                ingress: "[{action: Allow, protocol: UDP, destination: {ports: [8080]}}]",
                egress: EVERYTHING,
            },
        ],
    },
    HostScenario {
        name: "named, what untracked policy allows is open where the rest allows it too",
        guards: Guards::Named,
        to_host: WorkloadToHost::Accept,
        policies: &[On {
            endpoint: "edge",
            how: UNTRACKED,
            ingress: "[{action: Allow, protocol: TCP, destination: {ports: [80, 8080]}}, {action: Allow, protocol: TCP, source: {ports: [80]}}]",
            egress: "[{action: Allow, protocol: TCP, source: {ports: [80]}}, {action: Allow, protocol: TCP, destination: {ports: [80]}}]",
        }],
    },
    HostScenario {
        name: "named, an untracked Deny stays",
        guards: Guards::Named,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On {
                endpoint: "edge",
                how: UNTRACKED,
                ingress: "[{action: Deny, protocol: UDP, destination: {ports: [80]}}, {action: Deny, source: {selector: app == 'remote'}}, {action: Allow}]",
                egress: "[{action: Deny, protocol: UDP, destination: {ports: [8080]}}, {action: Allow}]",
            },
            On { endpoint: "edge", how: FORWARD, ingress: EVERYTHING, egress: EVERYTHING },
        ],
    },
    HostScenario {
        name: "both, forwarded traffic",
        guards: Guards::Both,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On {
                endpoint: "star",
                how: FORWARD,
                ingress: "[{action: Allow, protocol: TCP}, {action: Allow, destination: {ports: [80]}, protocol: UDP}]",
                egress: "[{action: Deny, destination: {selector: app == 'work'}, protocol: TCP, source: {nets: [192.0.2.0/24, 10.0.9.0/24]}}, {action: Allow}]",
            },
            On {
                endpoint: "edge",
                how: FORWARD,
                ingress: "[{action: Allow, protocol: TCP}]",
                egress: "[{action: Allow, protocol: TCP, destination: {ports: [8080]}}, {action: Allow, protocol: UDP}]",
            },
        ],
    },
    HostScenario {
        name: "both, all kinds of policy",
        guards: Guards::Both,
        to_host: WorkloadToHost::Accept,
        policies: &[
            On { endpoint: "star", how: UNTRACKED, ingress: NOTHING, egress: NOTHING },
            On {
                endpoint: "edge",
                how: UNTRACKED,
                ingress: "[{action: Allow, protocol: TCP, destination: {ports: [8080]}}]",
                egress: "[{action: Allow, protocol: TCP, source: {ports: [8080]}}]",
            },
            On {
                endpoint: "star",
                how: BEFORE_DNAT,
                ingress: "[{action: Deny, protocol: TCP, destination: {ports: [80]}}, {action: Allow, protocol: UDP, destination: {ports: [53, 8080]}}]",
                egress: "",
            },
            On {
                endpoint: "edge",
                how: BEFORE_DNAT,
                ingress: "[{action: Deny, protocol: UDP, source: {selector: app == 'remote'}}]",
                egress: "",
            },
            On {
                endpoint: "star",
                how: FORWARD,
                ingress: "[{action: Allow, protocol: TCP}]",
                egress: "[{action: Deny, protocol: UDP, destination: {selector: app == 'web', ports: [8080]}}, {action: Allow}]",
            },
            On { endpoint: "edge", how: FORWARD, ingress: EVERYTHING, egress: EVERYTHING },
            On { endpoint: "edge", how: HOST, ingress: "[{action: Allow, protocol: UDP}]", egress: NOTHING },
        ],
    },
    HostScenario {
        name: "both, a pod to its node as the policy of * says",
        guards: Guards::Both,
        to_host: WorkloadToHost::HostPolicy,
        policies: &[
            On {
                endpoint: "star",
                how: HOST,
                ingress: "[{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
                egress: NOTHING,
            },
            On {
                endpoint: "edge",
                how: HOST,
                ingress: "[{action: Allow, protocol: UDP, destination: {ports: [8080]}}]",
                egress: EVERYTHING,
            },
        ],
    },
];

impl HostScenario {
    /// The cluster, its workloads [`LOCAL`] being `pods`.
    pub(crate) fn cluster(&self, pods: &[Pod]) -> Cluster {
        let scenario = Scenario::parse(self.name, &self.manifests(), LoadOptions::new()).unwrap();
        let mut cluster = scenario.cluster().clone();
        for (name, pod) in LOCAL.into_iter().zip(pods) {
            let endpoint = cluster.endpoints()[&EndpointId::workload("shop", name)].clone();
            cluster.apply(Update::Endpoint(place(endpoint, pod)));
        }
        cluster
    }

    /// The settings of the node.
    pub(crate) fn settings(&self) -> Settings {
        Settings::default().with_workload_to_host(self.to_host)
    }

    fn manifests(&self) -> String {
        let mut text = CLUSTER.to_owned();
        for (guard, manifest) in [(self.guards.named(), NAMED), (self.guards.all(), ALL)] {
            text.push_str(guard.map_or("", |_| manifest));
        }
        for (number, policy) in self.policies.iter().enumerate() {
            text.push_str(&policy.manifest(number));
        }
        text
    }
}

impl On {
    fn manifest(&self, number: usize) -> String {
        let mut text = format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\n\
             spec:\n  order: {number}\n  selector: {} == 'here'\n",
            self.endpoint
        );
        for field in self.how.split(", ").filter(|field| !field.is_empty()) {
            text.push_str(&format!("  {field}\n"));
        }
        let rules = [("Ingress", "ingress", self.ingress), ("Egress", "egress", self.egress)];
        let given = || rules.iter().filter(|(_, _, rules)| !rules.is_empty());
        let types: Vec<&str> = given().map(|(kind, _, _)| *kind).collect();
        text.push_str(&format!("  types: [{}]\n", types.join(", ")));
        for (_, field, rules) in given() {
            text.push_str(&format!("  {field}: {rules}\n"));
        }
        text
    }
}

/// A random cluster and where its endpoints are: two pods of this node, one behind the second node, and two host
/// endpoints of this node, the first at the uplink, the second for all interfaces.
pub(crate) struct Generated {
    pub(crate) cluster: Cluster,
    pub(crate) local: Vec<EndpointId>,
    pub(crate) remote: Vec<EndpointId>,
    pub(crate) named: EndpointId,
    pub(crate) all: EndpointId,
}

/// The random cluster of `seed`.
pub(crate) fn generated(site: &Site, seed: u64) -> Generated {
    let mut generator = Generator::new(seed);
    let mut cluster = Cluster::new();
    let (mut workloads, mut hosts, mut policies) = (Vec::<Endpoint>::new(), Vec::<Endpoint>::new(), 0);
    let wanted = 3 + generator.below(5);
    while workloads.len() < 3 || hosts.len() < 2 || policies < wanted {
        match generator.object() {
            Update::Endpoint(endpoint) => {
                let (list, room) = match endpoint.id.kind {
                    EndpointKind::Workload => (&mut workloads, 3),
                    EndpointKind::Host => (&mut hosts, 2),
                };
                if list.len() < room && list.iter().all(|other| other.id != endpoint.id) {
                    list.push(endpoint);
                }
            }
            Update::Policy(policy) if policies < wanted => {
                policies += 1;
                cluster.apply(Update::Policy(policy));
            }
            Update::Policy(_) => {}
            other => cluster.apply(other),
        }
    }
    // Most generated profiles deny everything, which would leave little for policy to decide.
    let rules = vec![Rule::new(Action::Allow)];
    cluster.apply(Update::Profile(Profile {
        name: "all".into(),
        ingress: rules.clone(),
        egress: rules,
        labels: Labels::new(),
        origin: ProfileOrigin::Declared,
    }));
    let pods = site.pods.iter().map(|pod| (pod, "node")).chain([(&site.far[0], "second")]);
    for (endpoint, (pod, node)) in workloads.iter_mut().zip(pods) {
        *endpoint = place(endpoint.clone(), pod);
        (endpoint.node, endpoint.profiles) = (Some(node.into()), vec!["all".into()]);
    }
    let addresses = NODE.map(|text| text.parse().unwrap()).to_vec();
    // The host endpoint that has an address of the node is the one at its uplink.
    let node = Node { name: "node".into(), labels: Labels::new(), addresses: addresses.clone() };
    cluster.apply(Update::Node(node));
    for (endpoint, interface) in hosts.iter_mut().zip(["up0", "*"]) {
        endpoint.addresses.clone_from(&addresses);
        (endpoint.node, endpoint.interface) = (Some("node".into()), Some(interface.into()));
        endpoint.profiles = vec!["all".into()];
    }
    workloads.iter().chain(&hosts).for_each(|endpoint| cluster.apply(Update::Endpoint(endpoint.clone())));
    let mut ids = workloads.into_iter().map(|endpoint| endpoint.id);
    let local = ids.by_ref().take(2).collect();
    let [named, all] = [0, 1].map(|number| hosts[number].id.clone());
    Generated { cluster, local, remote: ids.collect(), named, all }
}

impl Generated {
    /// The cluster without the host endpoints that `guards` leaves out.
    pub(crate) fn guarded_by(&self, guards: Guards) -> Cluster {
        let mut cluster = self.cluster.clone();
        let out = match guards {
            Guards::All => Some(&self.named),
            Guards::Named => Some(&self.all),
            Guards::Both => None,
        };
        out.into_iter().for_each(|id| cluster.apply(Update::RemoveEndpoint(id.clone())));
        cluster
    }
}
