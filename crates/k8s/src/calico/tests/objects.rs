use alloc::vec;

use portcullis_core::label::Labels;
use portcullis_core::model::{
    Action, DefaultAction, Endpoint, EndpointId, NamedPort, Namespace, NetworkSet, NetworkSetId, Order,
    Profile, ProfileOrigin, ServiceAccount, Tier,
};
use portcullis_core::packet::Protocol;
use serde_json::json;

use super::*;
use crate::kind::CalicoKind;

/// The only update of an object `n/o`, or `o` for kinds of the cluster, and the warnings.
fn one(kind: &str, metadata: Value, spec: &Value) -> (Update, String) {
    let (mut updates, warnings) = convert(kind, &metadata, spec).unwrap();
    assert_eq!(updates.len(), 1);
    (updates.remove(0), warnings)
}

fn refuse(kind: &str, spec: &Value) -> String {
    match convert(kind, &json!({"name": "o"}), spec) {
        Ok(_) => panic!("accepted: {kind} {spec}"),
        Err(error) => error,
    }
}

#[test]
fn kinds_and_versions() {
    for kind in CalicoKind::ALL {
        let name = kind.api_name();
        for version in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
            let kind = Kind::of(version, name).kind().unwrap();
            let object = Object::deserialize(kind, json!({"metadata": {"name": "o"}})).unwrap();
            assert_eq!(object.kind().split('.').next(), Some(name));
            let document = json!({"metadata": {"name": "o"}, "specs": {}});
            assert!(Object::deserialize(kind, document).is_err());
        }
        assert!(matches!(Kind::of("projectcalico.org/v4", name), Relevance::Unsupported(_)));
    }
    assert_eq!(Kind::of("projectcalico.org/v3", "IPPool"), Relevance::Ignored);
}

#[test]
fn a_spec_is_needed() {
    for kind in ["Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "WorkloadEndpoint", "Profile"] {
        assert!(refuse(kind, &Value::Null).contains("spec: the spec is missing"));
    }
}

#[test]
fn tiers() {
    let tier = |name: &str, spec| one("Tier", json!({"name": name}), &spec).0;
    let want = |name: &str, order: u32, default_action| {
        Update::Tier(Tier { name: name.into(), order: Some(Order::from(order)), default_action })
    };
    assert_eq!(tier("a", json!({})), want("a", 1_000_000, DefaultAction::Deny));
    assert_eq!(tier("a", json!({"order": 5, "defaultAction": "Pass"})), want("a", 5, DefaultAction::Pass));
    assert_eq!(tier("default", json!({"order": 1e6})), want("default", 1_000_000, DefaultAction::Deny));
    assert_eq!(
        tier("kube-admin", json!({"order": 1000, "defaultAction": "Pass"})),
        want("kube-admin", 1_000, DefaultAction::Pass)
    );
    assert_eq!(
        tier("kube-baseline", json!({"order": 10_000_000, "defaultAction": "Pass"})),
        want("kube-baseline", 10_000_000, DefaultAction::Pass)
    );
    for (name, spec, part) in [
        ("a", json!({"defaultAction": "Allow"}), "`Allow` is not a default action"),
        ("a", json!({"defaultAction": "deny"}), "is not a default action"),
        ("a", json!({"defaultAction": ""}), "is not a default action"),
        ("a", json!({"order": "5"}), "invalid type"),
        ("a", json!({"selector": ""}), "unknown field"),
        ("a.b", json!({}), "metadata.name: `a.b`"),
        ("default", json!({}), "order: must be 1000000 in the built-in tier `default`"),
        ("default", json!({"order": 1}), "order: must be 1000000"),
        ("default", json!({"order": 1_000_000, "defaultAction": "Pass"}), "defaultAction: must be Deny"),
        ("kube-admin", json!({"order": 1000}), "defaultAction: must be Pass"),
        ("kube-admin", json!({"order": 999, "defaultAction": "Pass"}), "order: must be 1000 "),
        ("kube-baseline", json!({"order": 10_000_000, "defaultAction": "Deny"}), "must be Pass"),
    ] {
        let error = convert("Tier", &json!({"name": name}), &spec).unwrap_err();
        assert!(error.contains(part), "{name} {spec}: {error}");
    }
}

#[test]
fn network_sets() {
    let metadata = json!({"name": "o", "namespace": "n", "labels": {"a": "b"}});
    let (update, warnings) =
        one("NetworkSet", metadata, &json!({"nets": ["10.1.2.3/8", "1.2.3.4", "2001:db8::/32", "::/0"]}));
    assert_eq!(
        update,
        Update::NetworkSet(NetworkSet {
            id: NetworkSetId { namespace: Some("n".into()), name: "o".into() },
            labels: Labels::from_iter([("a", "b"), ("projectcalico.org/namespace", "n")]),
            nets: ["10.0.0.0/8", "1.2.3.4/32", "2001:db8::/32", "::/0"].map(|n| n.parse().unwrap()).to_vec(),
        })
    );
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
    assert!(warnings.contains("spec.nets[0]: `10.1.2.3/8` has bits set"), "{warnings}");

    let metadata = json!({"name": "o", "labels": {"a": "b"}});
    let (update, warnings) = one("GlobalNetworkSet", metadata, &json!({}));
    assert_eq!(
        update,
        Update::NetworkSet(NetworkSet {
            id: NetworkSetId { namespace: None, name: "o".into() },
            labels: Labels::from_iter([("a", "b")]),
            nets: vec![],
        })
    );
    assert!(warnings.contains("has no networks"), "{warnings}");
    for kind in ["NetworkSet", "GlobalNetworkSet"] {
        for (spec, part) in [
            (json!({"nets": ["x"]}), "spec.nets[0]: `x` is not a network"),
            (json!({"nets": ["10.0.0.0/8", "10.0.0.0/8"]}), "nets[1]: `10.0.0.0/8` is given twice"),
            (json!({"nets": [1]}), "invalid type"),
            (json!({"net": []}), "unknown field"),
        ] {
            let error = refuse(kind, &spec);
            assert!(error.contains(part), "{spec}: {error}");
        }
        let metadata = json!({"name": "o", "labels": {"projectcalico.org/namespace": "x"}});
        let error = convert(kind, &metadata, &json!({"nets": []})).unwrap_err();
        assert!(error.contains("metadata.labels[projectcalico.org/namespace]: is reserved"), "{error}");
    }
}

#[test]
fn host_endpoints() {
    let metadata = json!({"name": "o", "labels": {"role": "node"}});
    let (update, _) = one(
        "HostEndpoint",
        metadata,
        &json!({"node": "n1", "interfaceName": "*", "expectedIPs": ["10.0.0.1", "fd00::1"],
            "profiles": ["a", "b"], "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}]}),
    );
    let mut want = Endpoint::new(EndpointId::host("o"));
    want.labels = Labels::from_iter([("role", "node")]);
    want.addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    want.node = Some("n1".into());
    want.interface = Some("*".into());
    want.profiles = vec!["a".into(), "b".into()];
    want.ports = vec![NamedPort { name: "ssh".into(), protocol: Protocol::TCP, port: 22 }];
    assert_eq!(update, Update::Endpoint(want));

    let with = |field: &str, value: Value| json!({"node": "n", "interfaceName": "eth0", field: value});
    for (spec, part) in [
        (json!({"interfaceName": "eth0"}), "spec.node: the node is missing"),
        (json!({"interfaceName": "eth0", "node": ""}), "spec.node: the node is missing"),
        (json!({"node": "n"}), "an interfaceName or expectedIPs must be given"),
        (json!({"node": "n", "interfaceName": "", "expectedIPs": []}), "must be given"),
        (with("node", json!("N")), "spec.node: `N`"),
        (with("interfaceName", json!("a b")), "is not the name of an interface"),
        (with("interfaceName", json!("eth*")), "is not the name of an interface"),
        (with("interfaceName", json!("a".repeat(16))), "is not the name of an interface"),
        (with("expectedIPs", json!(["10.0.0.0/8"])), "expectedIPs[0]: `10.0.0.0/8` is not an IP address"),
        (with("expectedIPs", json!(["10.0.0.1", "10.0.0.1"])), "is given twice"),
        (with("profiles", json!(["a", "a"])), "profiles[1]: `a` is given twice"),
        (with("profiles", json!(["A"])), "profiles[0]: `A`"),
        (with("ports", json!([{"protocol": "TCP", "port": 1}])), "ports[0].name: the name is missing"),
        (with("ports", json!([{"name": "UPPER", "protocol": "TCP", "port": 1}])), "ports[0].name: `UPPER`"),
        (with("ports", json!([{"name": "a", "protocol": "TCP", "port": 0}])), "ports[0].port: must be"),
        (with("ports", json!([{"name": "a", "protocol": "TCP", "port": 65536}])), "ports[0].port: must be"),
        (with("ports", json!([{"name": "a", "protocol": "TCP"}])), "ports[0].port: must be"),
        (with("ports", json!([{"name": "a", "port": 1}])), "ports[0].protocol: the protocol is missing"),
        (with("ports", json!([{"name": "a", "protocol": "ICMP", "port": 1}])), "`ICMP` has no ports"),
        (with("expectedIps", json!([])), "unknown field"),
    ] {
        let error = refuse("HostEndpoint", &spec);
        assert!(error.contains(part), "{spec}: {error}");
    }
}

#[test]
fn workload_endpoints() {
    let metadata = json!({"name": "node1-k8s-web-eth0", "namespace": "n", "labels": {"app": "web",
        "pcns.team": "x", "pcsa.role": "y", "projectcalico.org/namespace": "other"}});
    let (update, _) = one(
        "WorkloadEndpoint",
        metadata.clone(),
        &json!({"orchestrator": "k8s", "node": "node1", "pod": "web", "endpoint": "eth0", "containerID": "1",
            "ipNetworks": ["10.0.0.1/32", "fd00::1/128", "10.0.0.2"], "interfaceName": "cali1",
            "serviceAccountName": "sa", "profiles": ["kns.n", "ksa.n.other"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80},
                {"protocol": "UDP", "port": 53, "hostPort": 53}]}),
    );
    let mut want = Endpoint::new(EndpointId::workload("n", "web"));
    want.labels = Labels::from_iter([
        ("app", "web"),
        ("projectcalico.org/namespace", "n"),
        ("projectcalico.org/orchestrator", "k8s"),
        ("projectcalico.org/serviceaccount", "sa"),
    ]);
    want.addresses =
        vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    want.service_account = Some("sa".into());
    want.node = Some("node1".into());
    want.interface = Some("cali1".into());
    want.ports = vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 80 }];
    want.profiles = vec!["kns.n".into(), "ksa.n.other".into()];
    assert_eq!(update, Update::Endpoint(want));

    let endpoint = |metadata: Value, spec| match one("WorkloadEndpoint", metadata, &spec).0 {
        Update::Endpoint(endpoint) => endpoint,
        other => panic!("{other:?}"),
    };
    // Without a pod it is called by its own name; profiles and labels also tell the service account.
    let bare = endpoint(json!({"name": "o"}), json!({}));
    assert_eq!(bare.id, EndpointId::workload("default", "o"));
    assert_eq!((bare.profiles.len(), bare.service_account), (0, None));
    assert_eq!(
        endpoint(metadata.clone(), json!({"profiles": ["ksa.m.no", "ksa.n.yes.sir"]}))
            .service_account
            .as_deref(),
        Some("yes.sir")
    );
    let labelled = json!({"name": "o", "labels": {"projectcalico.org/serviceaccount": "sa"}});
    assert_eq!(endpoint(labelled, json!({})).service_account.as_deref(), Some("sa"));

    for (spec, part) in [
        (json!({"ipNetworks": ["10.0.0.0/24"]}), "ipNetworks[0]: `10.0.0.0/24` holds more than one address"),
        (json!({"ipNetworks": ["x"]}), "is not an address"),
        (json!({"ports": [{"protocol": "TCP", "port": 1}]}), "ports[0].name"),
        (json!({"pod": "A"}), "spec.pod: `A`"),
        (json!({"interfaceName": "a b"}), "is not the name of an interface"),
        (json!({"profiles": ["a b"]}), "spec.profiles[0]"),
    ] {
        let error = refuse("WorkloadEndpoint", &spec);
        assert!(error.contains(part), "{spec}: {error}");
    }
}

#[test]
fn profiles() {
    let (update, warnings) = one(
        "Profile",
        json!({"name": "o"}),
        &json!({"ingress": [{"action": "Pass"}], "egress": [{"action": "Allow"}], "types": ["Ingress"],
            "labelsToApply": {"a": "b"}}),
    );
    let Update::Profile(profile) = update else { panic!("{update:?}") };
    assert_eq!((profile.ingress[0].action, profile.egress[0].action), (Action::Pass, Action::Allow));
    assert_eq!(profile.labels, Labels::from_iter([("a", "b")]));
    assert_eq!(profile.origin, ProfileOrigin::Declared);
    assert!(warnings.contains("spec.types: a profile has no types"), "{warnings}");
    assert!(warnings.contains("spec.ingress[0]: there is nothing to pass on to"), "{warnings}");
    for (spec, part) in [
        (json!({"ingress": [{"action": "Reject"}]}), "spec.ingress[0].action"),
        (
            json!({"egress": vec![json!({"action": "Allow"}); 1025]}),
            "spec.egress: must have no more than 1024",
        ),
        (json!({"labelsToApply": {"a b": "c"}}), "spec.labelsToApply[a b]"),
        (json!({"labelsToApply": {"pcns.a": "c"}}), "needs a profile `kns.NAMESPACE`"),
        (json!({"labelsToApply": {"pcsa.a": "c"}}), "needs a profile `kns.NAMESPACE`"),
        (json!({"ingres": []}), "unknown field"),
    ] {
        let error = refuse("Profile", &spec);
        assert!(error.contains(part), "{spec}: {error}");
    }
}

#[test]
fn profiles_of_namespaces_and_service_accounts() {
    let labels = |labels| json!({"labelsToApply": labels});
    let profile = |name: &str, labels| {
        Update::Profile(Profile {
            name: name.into(),
            ingress: vec![],
            egress: vec![],
            labels,
            origin: ProfileOrigin::Declared,
        })
    };
    let (updates, _) = convert(
        "Profile",
        &json!({"name": "kns.n"}),
        &labels(json!({"pcns.team": "a", "own": "b", "pcns.projectcalico.org/name": "n"})),
    )
    .unwrap();
    assert_eq!(
        updates,
        [
            profile("kns.n", Labels::from_iter([("own", "b")])),
            Update::Namespace(Namespace { name: "n".into(), labels: Labels::from_iter([("team", "a")]) }),
        ]
    );
    let (updates, _) =
        convert("Profile", &json!({"name": "ksa.n.sa.b"}), &labels(json!({"pcsa.role": "x"}))).unwrap();
    assert_eq!(
        updates,
        [
            profile("ksa.n.sa.b", Labels::new()),
            Update::ServiceAccount(ServiceAccount {
                namespace: "n".into(),
                name: "sa.b".into(),
                labels: Labels::from_iter([("role", "x")]),
            }),
        ]
    );
    for (name, given) in [
        ("kns.n", json!({"pcsa.a": "b"})),
        ("ksa.n.sa", json!({"pcns.a": "b"})),
        ("kns.n.m", json!({"pcns.a": "b"})),
        ("kns.n", json!({"pcns.projectcalico.org/name": "other"})),
    ] {
        assert!(convert("Profile", &json!({"name": name}), &labels(given)).is_err(), "{name}");
    }
}
