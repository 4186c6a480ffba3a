//! Clusters of namespaces, pods and label policies.

use portcullis::model::{
    Action, Directions, Endpoint, EntityKinds, EntityMatch, EntitySelector, Order, Policy, PolicyId, Update,
};
use portcullis::selector::Expr;

use super::build::{Names, Random, in_namespace, namespace, own, pod, pods, policy, rule, tiers};

/// The workload that Red Hat runs against OVN-Kubernetes: many namespaces whose policies name five of everything.
pub(super) fn w1(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(1));
    tiers(sink);
    for ns in 0..240 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("name", &name)], sink);
        for number in 0..10 {
            let number = ns * 10 + number;
            let app = format!("app-{}", number % 10);
            sink(Update::Endpoint(pod(&mut names, &name, number, &[("app", &app)])));
        }
        for number in 0..20 {
            let ports: Vec<(u16, u16)> = (0..5_u16)
                .flat_map(|port| {
                    let start = 8_000 + 100 * port;
                    [(1_000 + 7 * port, 1_000 + 7 * port), (start, start + 50)]
                })
                .collect();
            let mut peers = Vec::new();
            for _ in 0..5 {
                let remote = format!("ns-{}", random.below(240));
                peers.push(pods(in_namespace(&mut names, &remote)));
                let app = format!("app-{}", random.below(10));
                let remote = in_namespace(&mut names, &remote);
                peers.push(pods(remote.and(own(&mut names, "app", &app))));
                let net = format!("172.{}.{}.0/24", 16 + random.below(16), random.below(256));
                peers.extend(net.parse().ok().map(|net| EntityMatch::nets(vec![net])));
            }
            let mut policy =
                policy(&mut names, &name, &format!("policy-{number}"), Expr::All, Directions::BOTH);
            policy.ingress = vec![rule(Action::Allow, peers.clone(), &ports)];
            policy.egress = vec![rule(Action::Allow, peers, &ports)];
            sink(Update::Policy(policy));
        }
    }
}

/// Cilium's scale test: five pods and five policies for each of 6,000 label sets, here in 60 namespaces.
pub(super) fn w2(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(2));
    tiers(sink);
    for ns in 0..60 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("name", &name)], sink);
        for set in 0..100 {
            let app = format!("app-{set}");
            for number in 0..5 {
                let number = (ns * 100 + set) * 5 + number;
                sink(Update::Endpoint(pod(&mut names, &name, number, &[("app", &app)])));
                let port = 8_000 + u16::try_from(number % 5).unwrap_or_default();
                let subject = own(&mut names, "app", &app);
                let mut policy =
                    policy(&mut names, &name, &format!("policy-{number}"), subject, Directions::INGRESS);
                let from = format!("app-{}", random.below(100));
                let from = in_namespace(&mut names, &name).and(own(&mut names, "app", &from));
                policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(port, port)])];
                sink(Update::Policy(policy));
            }
        }
    }
}

/// Antrea's "extra large, small namespaces": four pods in two pairs, a policy for each pair, and default deny.
pub(super) fn w3a(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    for ns in 0..25_000 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("app", &name)], sink);
        for number in 0..4 {
            sink(Update::Endpoint(w3a_pod(&mut names, ns, ns * 4 + number)));
        }
        for number in 0..3 {
            sink(Update::Policy(w3a_policy(&mut names, ns, number)));
        }
    }
}

/// Pod `number` of W3a in namespace `ns`.
pub(crate) fn w3a_pod(names: &mut Names, ns: u32, number: u32) -> Endpoint {
    let pair = 1 + number / 2 % 2;
    let label = (format!("app-{pair}"), format!("scale-{pair}"));
    pod(names, &format!("ns-{ns}"), number, &[(&label.0, &label.1)])
}

/// Policy `number`, from 0 to 2, of a namespace of W3a.
pub(crate) fn w3a_policy(names: &mut Names, ns: u32, number: u32) -> Policy {
    let ns = format!("ns-{ns}");
    let policy_name = format!("policy-{number}");
    if number == 0 {
        return policy(names, &ns, &policy_name, Expr::All, Directions::INGRESS);
    }
    let pair = (format!("app-{number}"), format!("scale-{number}"));
    let subject = own(names, &pair.0, &pair.1);
    let mut policy = policy(names, &ns, &policy_name, subject.clone(), Directions::INGRESS);
    let from = in_namespace(names, &ns).and(subject);
    policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[])];
    policy
}

/// Antrea's large namespaces: a policy for every ten pods, and default deny.
pub(super) fn w3b(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    for ns in 0..100 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("app", &name)], sink);
        for number in 0..1_000 {
            let app = format!("app-{}", number % 100);
            sink(Update::Endpoint(pod(&mut names, &name, ns * 1_000 + number, &[("app", &app)])));
        }
        let deny = policy(&mut names, &name, "default-deny", Expr::All, Directions::INGRESS);
        sink(Update::Policy(deny));
        for number in 0..100 {
            let app = own(&mut names, "app", &format!("app-{number}"));
            let mut policy =
                policy(&mut names, &name, &format!("policy-{number}"), app.clone(), Directions::INGRESS);
            policy.ingress =
                vec![rule(Action::Allow, vec![pods(in_namespace(&mut names, &name).and(app))], &[])];
            sink(Update::Policy(policy));
        }
    }
}

/// Antrea's one namespace in which every policy selects every pod, as subject and as peer.
pub(super) fn w3c(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    for number in 0..10_000 {
        sink(Update::Endpoint(pod(&mut names, "ns", number, &[("app", "all")])));
    }
    for number in 0..10_000 {
        let app = own(&mut names, "app", "all");
        let mut policy =
            policy(&mut names, "ns", &format!("policy-{number}"), app.clone(), Directions::INGRESS);
        let port = 1_024 + u16::try_from(number).unwrap_or_default();
        let from = in_namespace(&mut names, "ns").and(app);
        policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(port, port)])];
        sink(Update::Policy(policy));
    }
}

/// Antrea's one namespace with a policy for each pod.
pub(super) fn w3d(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    for number in 0..10_000 {
        let app = format!("app-{number}");
        sink(Update::Endpoint(pod(&mut names, "ns", number, &[("app", &app)])));
        let subject = own(&mut names, "app", &app);
        let mut policy = policy(&mut names, "ns", &format!("policy-{number}"), subject, Directions::INGRESS);
        let from = own(&mut names, "app", &format!("app-{}", (number + 1) % 10_000));
        let from = in_namespace(&mut names, "ns").and(from);
        policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(80, 80)])];
        sink(Update::Policy(policy));
    }
}

/// Antrea's cluster-scoped policies: each selects one label in one tenth of the namespaces.
pub(super) fn w3e(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    for ns in 0..1_000 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("team", &format!("team-{}", ns % 10))], sink);
        for number in 0..100 {
            let app = format!("app-{}", number % 10);
            sink(Update::Endpoint(pod(&mut names, &name, ns * 100 + number, &[("app", &app)])));
        }
    }
    for number in 0..10_000 {
        let id = PolicyId::new(names.name("ClusterNetworkPolicy"), None, format!("policy-{number}"));
        let subject = in_namespace(&mut names, &format!("ns-{}", number % 1_000));
        let subject = subject.and(own(&mut names, "app", &format!("app-{}", number / 1_000)));
        let subject = EntitySelector { kinds: EntityKinds::WORKLOAD, expr: subject };
        let mut policy = Policy::new(id, names.name("kube-admin"), subject, Directions::INGRESS);
        policy.order = Some(Order::from(number));
        let from = in_namespace(&mut names, &format!("ns-{}", (number + 1) % 1_000));
        policy.ingress = vec![
            rule(Action::Allow, vec![pods(from)], &[(8_080, 8_080)]),
            rule(Action::Deny, vec![pods(Expr::All)], &[(22, 22)]),
        ];
        sink(Update::Policy(policy));
    }
}

/// Calico's calculation graph: many endpoints elsewhere, few here.
pub(super) fn w4(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    for ns in 0..100 {
        namespace(&mut names, &format!("ns-{ns}"), &[("app", "ns")], sink);
    }
    for number in 0..250_000 {
        let label = format!("app-{}", number % 10_000);
        let ns = format!("ns-{}", number % 100);
        let mut pod = pod(&mut names, &ns, number, &[("app", &label)]);
        // 200 pods here; the rest on other nodes.
        let node = if number % 1_250 == 0 { 0 } else { 1 + number % 999 };
        pod.node = Some(names.name(&format!("node-{node}")));
        sink(Update::Endpoint(pod));
    }
    for number in 0..10_000 {
        let ns = format!("ns-{}", number % 100);
        let subject = own(&mut names, "app", &format!("app-{number}"));
        let mut policy = policy(&mut names, &ns, &format!("policy-{number}"), subject, Directions::INGRESS);
        let from = own(&mut names, "app", &format!("app-{}", (number + 100) % 10_000));
        let from = in_namespace(&mut names, &ns).and(from);
        policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(80, 80), (443, 443)])];
        sink(Update::Policy(policy));
    }
}
