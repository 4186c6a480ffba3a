//! What must not hurt: labels without end, ranges without end, networks without end.

use portcullis::model::{Action, Directions, EntityMatch, Update};
use portcullis::selector::Expr;

use super::build::{Names, Random, in_namespace, namespace, own, pod, pods, policy, rule, tiers};
use super::rules::cidr;

/// Every pod has a label value of its own, which no policy asks for.
pub(super) fn w7a(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(7));
    tiers(sink);
    for ns in 0..100 {
        let name = format!("ns-{ns}");
        namespace(&mut names, &name, &[("app", &name)], sink);
        for number in 0..1_000 {
            let uuid = format!("{:016x}{:016x}", random.next(), random.next());
            let app = format!("app-{}", number % 10);
            let labels = [("app", app.as_str()), ("uuid", uuid.as_str())];
            sink(Update::Endpoint(pod(&mut names, &name, ns * 1_000 + number, &labels)));
        }
        for number in 0..10 {
            let subject = own(&mut names, "app", &format!("app-{number}"));
            let mut policy =
                policy(&mut names, &name, &format!("policy-{number}"), subject, Directions::INGRESS);
            let from = own(&mut names, "app", &format!("app-{}", (number + 1) % 10));
            let from = in_namespace(&mut names, &name).and(from);
            policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(80, 80)])];
            sink(Update::Policy(policy));
        }
    }
}

/// One port range in each of 1,000 policies on every pod of a crowded node.
pub(super) fn w7b(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(8));
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    for number in 0..1_500 {
        let app = format!("app-{}", number % 10);
        sink(Update::Endpoint(pod(&mut names, "ns", number, &[("app", &app)])));
    }
    for number in 0..1_000 {
        let mut policy =
            policy(&mut names, "ns", &format!("policy-{number}"), Expr::All, Directions::INGRESS);
        let first = u16::try_from(random.below(60_000)).unwrap_or_default();
        let last = first + u16::try_from(random.below(5_000)).unwrap_or_default();
        let from = own(&mut names, "app", &format!("app-{}", number % 10));
        let from = in_namespace(&mut names, "ns").and(from);
        policy.ingress = vec![rule(Action::Allow, vec![pods(from)], &[(first, last)])];
        sink(Update::Policy(policy));
    }
}

/// 25,000 networks, each with one exception.
pub(super) fn w7c(sink: &mut dyn FnMut(Update)) {
    let mut names = Names::default();
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    sink(Update::Endpoint(pod(&mut names, "ns", 0, &[("app", "web")])));
    let mut policy = policy(&mut names, "ns", "cidrs", Expr::All, Directions::EGRESS);
    for number in 0..100_u32 {
        let (mut nets, mut except) = (Vec::new(), Vec::new());
        for net in 0..250_u32 {
            let base = 0x4000_0000 + ((number * 250 + net) << 12);
            nets.extend(cidr(base, 20));
            except.extend(cidr(base + 0x0100, 24));
        }
        let port = 1_000 + u16::try_from(number % 10).unwrap_or_default();
        let peer = EntityMatch { not_nets: except, ..EntityMatch::nets(nets) };
        policy.egress.push(rule(Action::Allow, vec![peer], &[(port, port)]));
    }
    sink(Update::Policy(policy));
}
