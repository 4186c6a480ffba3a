//! Objects of every kind, with few names, so that they meet.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};

/// A stream of choices: SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn some(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
}

pub(crate) const KINDS: [(&str, &str); 24] = [
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("v1", "Node"),
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("v1", "Service"),
    ("v1", "Endpoints"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
    ("projectcalico.org/v3", "FelixConfiguration"),
    ("projectcalico.org/v3", "Tier"),
    ("projectcalico.org/v3", "NetworkPolicy"),
    ("projectcalico.org/v3", "GlobalNetworkPolicy"),
    ("projectcalico.org/v3", "StagedNetworkPolicy"),
    ("projectcalico.org/v3", "NetworkSet"),
    ("projectcalico.org/v3", "GlobalNetworkSet"),
    ("projectcalico.org/v3", "HostEndpoint"),
    ("projectcalico.org/v3", "WorkloadEndpoint"),
    ("projectcalico.org/v3", "Profile"),
];

/// A valid object of a kind.
pub(crate) fn object(random: &mut Random, (version, kind): (&str, &str)) -> Value {
    let (mut name, spec, mut extra) = body(random, version, kind);
    let namespaced = !matches!(
        kind,
        "Namespace"
            | "Node"
            | "ClusterNetworkPolicy"
            | "AdminNetworkPolicy"
            | "BaselineAdminNetworkPolicy"
            | "FelixConfiguration"
            | "Tier"
            | "GlobalNetworkPolicy"
            | "GlobalNetworkSet"
            | "HostEndpoint"
            | "Profile"
    );
    if name.is_empty() {
        name = random.pick(&["x", "y", "z"]).to_string();
    }
    let uid = random.pick(&["1", "2"]);
    let mut metadata = json!({"name": name, "uid": format!("{kind}-{name}-{uid}"), "labels": labels(random)});
    if namespaced {
        metadata["namespace"] = json!(random.pick(&["a", "b"]));
    }
    if let Some(given) = extra.as_object_mut().and_then(|extra| extra.remove("metadata")) {
        for (field, value) in given.as_object().unwrap() {
            metadata[field] = value.clone();
        }
    }
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
    if !spec.is_null() {
        object["spec"] = spec;
    }
    for (field, value) in extra.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

fn labels(random: &mut Random) -> Value {
    let mut labels = json!({});
    for key in ["app", "env"] {
        if random.chance(50) {
            labels[key] = json!(random.pick(&["x", "y"]));
        }
    }
    labels
}

fn address(random: &mut Random) -> String {
    random.pick(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "192.0.2.1", "fd00::1"]).to_string()
}

fn v4(random: &mut Random) -> String {
    random.pick(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "192.0.2.1"]).to_string()
}

fn selector(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({}),
        1 => {
            json!({"matchExpressions": [{"key": "env", "operator": random.pick(&["Exists", "DoesNotExist"])}]})
        }
        2 => json!({"matchExpressions": [
            {"key": "app", "operator": random.pick(&["In", "NotIn"]), "values": ["x"]}]}),
        _ => json!({"matchLabels": {"app": random.pick(&["x", "y"])}}),
    }
}

fn expression(random: &mut Random) -> &'static str {
    random.pick(&["all()", "app == 'x'", "app != 'y'", "has(env)", "!has(env)", "app in {'x', 'y'}"])
}

/// Its name when it must have a special one, its spec, and its other fields.
fn body(random: &mut Random, version: &str, kind: &str) -> (String, Value, Value) {
    let none = String::new;
    match kind {
        "Namespace" => (random.pick(&["a", "b"]).into(), Value::Null, json!({})),
        "ServiceAccount" => (random.pick(&["default", "s"]).into(), Value::Null, json!({})),
        "Node" => {
            let addresses =
                random.some(2, |random| json!({"type": "InternalIP", "address": address(random)}));
            (random.pick(&["n1", "n2"]).into(), Value::Null, json!({"status": {"addresses": addresses}}))
        }
        "Pod" => {
            let owners = random.some(1, |random| {
                json!({"apiVersion": "apps/v1", "kind": random.pick(&["ReplicaSet", "Deployment"]),
                       "name": random.pick(&["x", "y"]), "uid": "u"})
            });
            let mut spec = json!({"containers": [{"name": "c", "ports": [
                {"name": random.pick(&["http", "dns"]), "containerPort": random.pick(&[80, 53])}]}]});
            if random.chance(80) {
                spec["nodeName"] = json!(random.pick(&["n1", "n2"]));
            }
            if random.chance(20) {
                spec["hostNetwork"] = json!(true);
            }
            if random.chance(40) {
                spec["serviceAccountName"] = json!("s");
            }
            let mut status = json!({"phase": random.pick(&["Pending", "Running", "Running", "Succeeded"])});
            if random.chance(80) {
                status["podIPs"] = json!(random.some(2, |random| json!({"ip": address(random)})));
            }
            if random.chance(60) {
                status["hostIPs"] = json!(random.some(2, |random| json!({"ip": address(random)})));
            }
            (none(), spec, json!({"status": status, "metadata": {"ownerReferences": owners}}))
        }
        "Deployment" | "ReplicaSet" => {
            let owner = random.some(1, |_| json!({"kind": "Deployment", "name": "x", "uid": "u"}));
            let spec =
                json!({"replicas": random.below(3), "template": {"metadata": {"labels": labels(random)}}});
            (random.pick(&["x", "y"]).into(), spec, json!({"metadata": {"ownerReferences": owner}}))
        }
        "HorizontalPodAutoscaler" => {
            let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": random.pick(&["x", "y"])},
                              "maxReplicas": random.below(4)});
            (none(), spec, json!({}))
        }
        "Service" => {
            let mut spec =
                json!({"ports": [{"name": "p", "port": 80, "targetPort": random.pick(&[80, 8080])}]});
            if random.chance(50) {
                spec["selector"] = json!({"app": "x"});
            }
            spec["clusterIP"] = json!(random.pick(&["None", "", "10.96.0.1", "10.96.0.2"]));
            if random.chance(30) {
                spec["externalIPs"] = json!(["203.0.113.1"]);
            }
            (random.pick(&["x", "y"]).into(), spec, json!({}))
        }
        "Endpoints" => {
            let subsets = random.some(
                2,
                |random| json!({"addresses": [{"ip": v4(random)}], "ports": [{"name": "p", "port": 80}]}),
            );
            (random.pick(&["x", "y"]).into(), Value::Null, json!({"subsets": subsets}))
        }
        "EndpointSlice" => {
            let endpoints = random.some(
                2,
                |random| json!({"addresses": [v4(random)], "conditions": {"ready": random.chance(50)}}),
            );
            let mut extra = json!({"addressType": "IPv4", "endpoints": endpoints,
                                   "ports": [{"name": "p", "port": random.pick(&[80, 81])}]});
            if random.chance(90) {
                let service = random.pick(&["x", "y"]);
                extra["metadata"] = json!({"labels": {"kubernetes.io/service-name": service}});
            }
            (none(), Value::Null, extra)
        }
        "NetworkPolicy" if version.starts_with("networking") => {
            let peers = |random: &mut Random| {
                random.some(2, |random| match random.below(3) {
                    0 => json!({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.0.2/32"]}}),
                    1 => json!({"podSelector": selector(random)}),
                    _ => json!({"namespaceSelector": selector(random), "podSelector": selector(random)}),
                })
            };
            let mut spec = json!({"podSelector": selector(random)});
            if random.chance(70) {
                spec["ingress"] = json!(random.some(2, |random| {
                    let ports = random.some(1, |random| json!({"port": random.pick(&[80, 81])}));
                    json!({"from": peers(random), "ports": ports})
                }));
            }
            if random.chance(40) {
                spec["egress"] = json!(random.some(2, |random| json!({"to": peers(random)})));
            }
            if random.chance(50) {
                let types: &[&[&str]] = &[&["Ingress"], &["Egress"], &["Ingress", "Egress"]];
                spec["policyTypes"] = json!(random.pick(types));
            }
            (none(), spec, json!({}))
        }
        "ClusterNetworkPolicy" | "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" => {
            admin_policy(random, kind)
        }
        "FelixConfiguration" => {
            let mut spec = json!({});
            if random.chance(50) {
                spec["defaultEndpointToHostAction"] = json!(random.pick(&["Accept", "Drop"]));
            }
            if random.chance(50) {
                spec["failsafeInboundHostPorts"] = json!(
                    random.some(2, |random| { json!({"protocol": "TCP", "port": random.pick(&[22, 23])}) })
                );
            }
            (random.pick(&["default", "node.n1", "other"]).into(), spec, json!({}))
        }
        "Tier" => {
            let action = random.pick(&["Deny", "Pass"]);
            let spec = json!({"order": random.below(3), "defaultAction": action});
            (random.pick(&["first", "second"]).into(), spec, json!({}))
        }
        "NetworkPolicy" | "StagedNetworkPolicy" | "GlobalNetworkPolicy" => calico_policy(random, kind),
        "NetworkSet" | "GlobalNetworkSet" => (none(), json!({"nets": nets(random)}), json!({})),
        "HostEndpoint" => {
            let name = random.pick(&["x", "y"]);
            let interface = random.pick(&["eth0", "*"]);
            let spec = json!({"node": random.pick(&["n1", "n2"]), "interfaceName": interface,
                              "expectedIPs": if random.chance(50) { vec![address(random)] } else { vec![] },
                              "profiles": if random.chance(40) { vec!["open"] } else { vec![] }});
            (name.into(), spec, json!({}))
        }
        "WorkloadEndpoint" => {
            let pod = random.pick(&["x", "y", "w"]);
            let spec = json!({"pod": pod, "node": "n1", "ipNetworks": [format!("{}/32", v4(random))],
                              "profiles": [random.pick(&["kns.a", "kns.b", "open", "ksa.a.s"])]});
            (format!("wep-{pod}"), spec, json!({}))
        }
        "Profile" => {
            let name = random.pick(&["kns.a", "kns.b", "ksa.a.s", "open"]);
            let mut spec = json!({"ingress": [{"action": random.pick(&["Allow", "Deny"])}]});
            if random.chance(60) {
                spec["labelsToApply"] = match name {
                    "open" => json!({"env": "x"}),
                    "ksa.a.s" => json!({"pcsa.role": "x"}),
                    _ => json!({"pcns.env": random.pick(&["x", "y"])}),
                };
            }
            (name.into(), spec, json!({}))
        }
        other => panic!("{other}"),
    }
}

fn nets(random: &mut Random) -> Value {
    let nets = ["10.0.0.0/16", "10.0.0.2/32", "192.0.2.0/24"];
    let first = usize::try_from(random.below(3)).unwrap();
    json!(nets[first..])
}

fn admin_policy(random: &mut Random, kind: &str) -> (String, Value, Value) {
    let (allow, ports) =
        if kind == "ClusterNetworkPolicy" { ("Accept", "protocols") } else { ("Allow", "ports") };
    let rules = |random: &mut Random, field: &str| {
        random.some(2, |random| {
            let actions: &[&str] =
                if kind.starts_with("Baseline") { &[allow, "Deny"] } else { &[allow, "Deny", "Pass"] };
            let peer = if random.chance(50) {
                json!({"namespaces": selector(random)})
            } else {
                json!({"pods": {"namespaceSelector": selector(random), "podSelector": selector(random)}})
            };
            let mut rule = json!({"action": random.pick(actions), field: [peer]});
            if random.chance(40) {
                rule[ports] = if kind == "ClusterNetworkPolicy" {
                    json!([{"tcp": {"destinationPort": {"number": 80}}}])
                } else {
                    json!([{"portNumber": {"protocol": "TCP", "port": 80}}])
                };
            }
            rule
        })
    };
    let mut spec = json!({"subject": {"namespaces": selector(random)}});
    if random.chance(70) {
        spec["ingress"] = json!(rules(random, "from"));
    }
    if random.chance(50) {
        spec["egress"] = json!(rules(random, "to"));
    }
    if !kind.starts_with("Baseline") {
        spec["priority"] = json!(random.below(3));
    }
    if kind == "ClusterNetworkPolicy" {
        spec["tier"] = json!(random.pick(&["Admin", "Baseline"]));
    }
    let name = if kind.starts_with("Baseline") { "default" } else { "" };
    (name.into(), spec, json!({}))
}

fn calico_policy(random: &mut Random, kind: &str) -> (String, Value, Value) {
    let is_global = kind.starts_with("Global");
    let rules = |random: &mut Random, is_ingress: bool| {
        random.some(2, |random| {
            let mut end = json!({});
            match random.below(4) {
                0 => end["nets"] = nets(random),
                1 => end["selector"] = json!(expression(random)),
                2 if is_ingress || !is_global => {
                    end["namespaceSelector"] = json!(expression(random));
                }
                _ => {}
            }
            let mut rule = json!({"action": random.pick(&["Allow", "Deny", "Pass", "Log"])});
            rule[if is_ingress { "source" } else { "destination" }] = end;
            if random.chance(40) {
                rule["protocol"] = json!("TCP");
                rule["destination"]["ports"] = json!([random.pick(&[80, 81])]);
            }
            rule
        })
    };
    let mut spec = json!({"selector": expression(random)});
    if random.chance(60) {
        spec["tier"] = json!(random.pick(&["default", "first", "second", "missing"]));
    }
    if random.chance(70) {
        spec["order"] = json!(random.below(3));
    }
    if random.chance(70) {
        spec["ingress"] = json!(rules(random, true));
    }
    let is_pre_dnat = is_global && random.chance(15);
    if random.chance(50) && !is_pre_dnat {
        spec["egress"] = json!(rules(random, false));
    }
    if random.chance(40) {
        let types: &[&[&str]] = &[&["Ingress"], &["Egress"], &["Ingress", "Egress"]];
        spec["types"] = if is_pre_dnat { json!(["Ingress"]) } else { json!(random.pick(types)) };
    }
    if is_global {
        if random.chance(30) {
            spec["namespaceSelector"] = json!(expression(random));
        }
        if is_pre_dnat {
            spec["preDNAT"] = json!(true);
            spec["applyOnForward"] = json!(true);
        } else if random.chance(15) {
            spec["doNotTrack"] = json!(true);
            spec["applyOnForward"] = json!(true);
        } else if random.chance(20) {
            spec["applyOnForward"] = json!(true);
        }
    }
    (String::new(), spec, json!({}))
}
