use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;

use portcullis_core::model::{
    Action, EntityKinds, EntityMatch, HttpMatch, IcmpMatch, L4Match, PathMatch, PortMatch, PortRange, Rule,
    ServiceId,
};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_core::selector::Expr;
use serde_json::json;

use super::*;
use crate::calico::selector::service_account_name;

const NP: &str = "NetworkPolicy";
const GNP: &str = "GlobalNetworkPolicy";

/// The far end of a rule that names one.
fn peer(rule: &Rule) -> &EntityMatch {
    assert_eq!(rule.peers.len(), 1);
    &rule.peers[0]
}

/// The positive selector of the far end.
fn selected(rule: &Rule) -> &Expr {
    let selector = peer(rule).selector.as_ref().unwrap();
    assert_eq!(selector.kinds, EntityKinds::CALICO);
    &selector.expr
}

fn and(parts: impl Into<Vec<Expr>>) -> Expr {
    Expr::And(parts.into())
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn port(first: u16, last: u16) -> PortMatch {
    PortMatch::Range(PortRange::new(first, last).unwrap())
}

#[test]
fn an_empty_rule_matches_everything() {
    for (text, action) in
        [("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass), ("Log", Action::Log)]
    {
        let rule = json!({"action": text, "source": {}, "destination": {}, "icmp": null, "http": null});
        assert_eq!(ingress(NP, &rule), Rule::new(action));
        assert_eq!(egress(GNP, &rule), Rule::new(action));
    }
}

#[test]
fn actions() {
    for (rule, part) in [
        (json!({"action": "allow"}), "`allow` is not an action"),
        (json!({"action": ""}), "is not an action"),
        (json!({"action": "Reject"}), "is not an action"),
        (json!({}), "spec.ingress[0].action: the action is missing"),
        (json!({"action": 1}), "invalid type"),
        (json!({"action": "Allow", "Source": {}}), "unknown field `Source`"),
        (json!({"action": "Allow", "source": {"pods": []}}), "unknown field `pods`"),
        (json!({"action": "Allow", "metadata": {"annotations": {"a": 1}}}), "invalid type"),
        (json!({"action": "Allow", "metadata": {"annotations": {"a b": "c"}}}), "metadata.annotations[a b]"),
    ] {
        let error = refused(&rule);
        assert!(error.contains(part), "{rule}: {error}");
    }
    assert_eq!(
        ingress(NP, &json!({"action": "Deny", "metadata": {"annotations": {"a": "b"}}})),
        Rule::new(Action::Deny)
    );
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let error = policy_and_warnings(
        NP,
        &json!({"ingress": [{"action": "no"}, {"action": "Allow", "source": {"nets": ["x"]}}], "order": 1,
            "egress": [{"action": "Allow", "destination": {"selector": "a =="}}]}),
    )
    .unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(
        lines[0].starts_with("NetworkPolicy.projectcalico.org n/p: spec.ingress[0].action: `no`"),
        "{error}"
    );
    assert!(lines[1].contains("spec.ingress[1].source.nets[0]: `x` is not a network"), "{error}");
    assert!(lines[2].contains("spec.egress[0].destination.selector: `a ==` is not a selector"), "{error}");
}

#[test]
fn sides_depend_on_the_direction() {
    let rule = allow(json!({"protocol": "TCP",
        "source": {"nets": ["10.0.0.0/8"], "ports": [1], "notPorts": [2]},
        "destination": {"nets": ["11.0.0.0/8"], "ports": ["3:4"], "notPorts": ["http"]}}));
    let far = EntityMatch::nets(vec!["10.0.0.0/8".parse().unwrap()]);
    let near = EntityMatch::nets(vec!["11.0.0.0/8".parse().unwrap()]);
    let l4 = L4Match {
        protocol: Some(Protocol::TCP),
        source_ports: vec![port(1, 1)],
        not_source_ports: vec![port(2, 2)],
        destination_ports: vec![port(3, 4)],
        not_destination_ports: vec![PortMatch::Named("http".into())],
        ..L4Match::default()
    };
    let want =
        Rule { peers: vec![far.clone()], local: near.clone(), l4: vec![l4], ..Rule::new(Action::Allow) };
    assert_eq!(ingress(GNP, &rule), want);
    assert_eq!(egress(GNP, &rule), Rule { peers: vec![near], local: far, ..want });
}

#[test]
fn a_bare_port_or_net_does_not_pull_in_the_own_namespace() {
    let rule = ingress(
        NP,
        &allow(json!({"protocol": "TCP", "source": {"nets": ["10.0.0.0/8"]},
        "destination": {"ports": [80]}})),
    );
    assert_eq!(peer(&rule).selector, None);
    assert_eq!(rule.local, EntityMatch::default());
    let rule = ingress(
        NP,
        &allow(json!({"source": {"serviceAccounts": {}, "selector": "", "notSelector": "",
        "namespaceSelector": ""}})),
    );
    assert_eq!(rule.peers, vec![]);
}

#[test]
fn selectors_of_a_namespaced_policy_stay_in_its_namespace() {
    let rule = ingress(NP, &allow(json!({"source": {"selector": "a == 'b'"}})));
    assert_eq!(*selected(&rule), and([in_namespace("n"), own("a == 'b'")]));
    assert_eq!(peer(&rule).identity, None);
    let rule = egress(NP, &allow(json!({"source": {"selector": "all()"}})));
    assert_eq!(rule.local.selector.as_ref().unwrap().expr, and([in_namespace("n"), Expr::All]));
    // Blanks are a selector too.
    let rule = ingress(NP, &allow(json!({"source": {"selector": " "}})));
    assert_eq!(*selected(&rule), and([in_namespace("n"), Expr::All]));
}

#[test]
fn a_lone_not_selector_means_the_own_namespace_or_everyone() {
    let rule = allow(json!({"source": {"notSelector": "a == 'b'"}}));
    assert_eq!(*selected(&ingress(NP, &rule)), and([in_namespace("n"), not(own("a == 'b'"))]));
    let global = ingress(GNP, &rule);
    assert_eq!(peer(&global).selector, None);
    let negative = peer(&global).not_selector.as_ref().unwrap();
    assert_eq!((negative.kinds, &negative.expr), (EntityKinds::CALICO, &own("a == 'b'")));
    let both = allow(json!({"source": {"selector": "c", "notSelector": "a == 'b'"}}));
    assert!(refused(&both).contains("`c` is not a selector"));
    let both = ingress(GNP, &allow(json!({"source": {"selector": "has(c)", "notSelector": "a == 'b'"}})));
    assert_eq!(*selected(&both), and([own("has(c)"), not(own("a == 'b'"))]));
    assert_eq!(peer(&both).not_selector, None);
}

#[test]
fn namespace_selectors_replace_the_own_namespace() {
    let rule = |namespaces: &str| allow(json!({"source": {"namespaceSelector": namespaces}}));
    for kind in [NP, GNP] {
        assert_eq!(*selected(&ingress(kind, &rule("team == 'a'"))), of_namespace("team == 'a'"));
        assert_eq!(*selected(&ingress(kind, &rule("all()"))), has_namespace());
        assert_eq!(*selected(&ingress(kind, &rule(" "))), has_namespace());
        assert_eq!(*selected(&ingress(kind, &rule("global()"))), not(has_namespace()));
        assert_eq!(*selected(&ingress(kind, &rule(" global( ) "))), not(has_namespace()));
        assert_eq!(*selected(&ingress(kind, &rule("!all()"))), not(has_namespace()));
        assert_eq!(
            *selected(&ingress(kind, &rule("a == 'all()' || all()"))),
            Expr::Or(vec![of_namespace("a == 'all()'"), has_namespace()])
        );
        assert_eq!(*selected(&ingress(kind, &rule("projectcalico.org/name == 'x'"))), in_namespace("x"));
    }
    let rule = ingress(NP, &allow(json!({"source": {"namespaceSelector": "global()", "selector": "all()"}})));
    assert_eq!(*selected(&rule), and([not(has_namespace()), Expr::All]));
}

#[test]
fn global_stands_alone_in_the_namespace_selector_of_a_rule() {
    assert_refused(&[
        (json!({"source": {"namespaceSelector": "global() || a == 'b'"}}), "`global()` must stand alone"),
        (json!({"source": {"namespaceSelector": "!global()"}}), "`global()` must stand alone"),
        (json!({"source": {"selector": "global()"}}), "only allowed in the namespaceSelector of a rule"),
        (json!({"source": {"notSelector": "global()"}}), "only allowed"),
        (json!({"source": {"serviceAccounts": {"selector": "global()"}}}), "only allowed"),
        (json!({"destination": {"selector": "has(a) && global()"}}), "spec.ingress[0].destination.selector"),
    ]);
    // In quotes it is a value (decision D18).
    let rule = ingress(GNP, &allow(json!({"source": {"selector": "a == 'global()'"}})));
    assert_eq!(*selected(&rule), own("a == 'global()'"));
}

#[test]
fn service_accounts_are_names_and_labels_together() {
    let named = || Expr::In(service_account_name(), vec!["a".into(), "b".into()]);
    let rule = ingress(GNP, &allow(json!({"source": {"serviceAccounts": {"names": ["b", "a"]}}})));
    assert_eq!(*selected(&rule), named());
    assert_eq!(peer(&rule).identity.as_ref().unwrap().expr, named());

    let accounts = json!({"names": ["b", "a"], "selector": "role != 'x'"});
    let rule = ingress(NP, &allow(json!({"source": {"serviceAccounts": accounts, "selector": "has(c)"}})));
    let condition = and([named(), of_account("role != 'x'")]);
    assert_eq!(*selected(&rule), and([in_namespace("n"), condition.clone(), own("has(c)")]));
    assert_eq!(peer(&rule).identity.as_ref().unwrap().expr, and([in_namespace("n"), condition.clone()]));

    let rule = ingress(
        NP,
        &allow(json!({"source": {"serviceAccounts": accounts, "namespaceSelector": "team == 'a'"}})),
    );
    assert_eq!(*selected(&rule), and([of_namespace("team == 'a'"), condition.clone()]));
    assert_eq!(peer(&rule).identity.as_ref().unwrap().expr, *selected(&rule));

    // Only the source of an ingress rule has an identity that a proxy can vouch for.
    let rule = egress(GNP, &allow(json!({"destination": {"serviceAccounts": accounts}})));
    assert_eq!(*selected(&rule), condition);
    assert_eq!(peer(&rule).identity, None);
    let rule = ingress(GNP, &allow(json!({"source": {"serviceAccounts": {"selector": "all()"}}})));
    assert_eq!(*selected(&rule), Expr::All);
    assert_refused(&[
        (json!({"source": {"serviceAccounts": {"names": ["a", "a"]}}}), "names[1]: `a` is given twice"),
        (json!({"source": {"serviceAccounts": {"selector": "a"}}}), "serviceAccounts.selector"),
    ]);
}

#[test]
fn selectors_have_limits() {
    let long = |len: usize| format!("has({})", "a".repeat(len - 5));
    assert!(refused(&allow(json!({"source": {"selector": "a".repeat(1025)}}))).contains("1024 characters"));
    let rows = format!("{}{}", "a == 'x' || ".repeat(80), long(64));
    assert_eq!(rows.len(), 1024);
    ingress(
        GNP,
        &allow(json!({"source": {"selector": rows, "notSelector": rows, "namespaceSelector": rows}})),
    );
    let rows = format!("{rows} ");
    for field in ["selector", "notSelector", "namespaceSelector"] {
        let error = refused(&allow(json!({"destination": {field: rows}})));
        assert!(error.contains(&format!("{field}: a selector must have no more than 1024")), "{error}");
    }
    ingress(GNP, &allow(json!({"source": {"serviceAccounts": {"selector": rows}}})));
}

#[test]
fn networks() {
    let rule = ingress(
        GNP,
        &allow(json!({"source": {"nets": ["10.0.0.0/8", "0.0.0.0/0"], "notNets": ["10.1.0.0/16"]}})),
    );
    assert_eq!(peer(&rule).nets, ["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()]);
    assert_eq!(peer(&rule).not_nets, ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(rule.ip_version, None);

    // Host bits (decision D21) and a missing prefix length are read as Calico's dataplane reads them.
    let spec = json!({"ingress": [allow(json!({"source": {"nets": ["10.1.2.3/8", "2.3.4.5"]}}))]});
    let (policy, warnings) = policy_and_warnings(GNP, &spec).unwrap();
    assert_eq!(peer(&policy.ingress[0]).nets, ["10.0.0.0/8".parse().unwrap(), "2.3.4.5/32".parse().unwrap()]);
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    assert!(
        warnings.contains("nets[0]: `10.1.2.3/8` has bits set beyond its prefix and is read as `10.0.0.0/8`")
    );
    assert!(warnings.contains("nets[1]: `2.3.4.5` has no prefix length and is read as `2.3.4.5/32`"));

    let too_many = many("10.0.0.0/", 257);
    assert_refused(&[
        (json!({"source": {"nets": ["10.0.0.0/33"]}}), "source.nets[0]: `10.0.0.0/33` is not a network"),
        (json!({"source": {"nets": ["10.0.0/8"]}}), "is not a network"),
        (json!({"source": {"nets": [""]}}), "is not a network"),
        (json!({"source": {"nets": ["::ffff:10.0.0.0/104"]}}), "is not a network"),
        (json!({"source": {"nets": "10.0.0.0/8"}}), "invalid type"),
        (json!({"source": {"nets": ["10.0.0.0/8", "10.0.0.0/8"]}}), "is given twice"),
        (
            json!({"source": {"nets": ["10.0.0.0/8", "::/0"]}}),
            "nets[1]: `::/0` is an IPv6 network and the rule is about IPv4",
        ),
        (
            json!({"source": {"nets": ["10.0.0.0/8"]}, "destination": {"notNets": ["1::/16"]}}),
            "destination.notNets[0]",
        ),
        (json!({"ipVersion": 6, "destination": {"nets": ["10.0.0.0/8"]}}), "the rule is about IPv6"),
        (json!({"source": {"notNets": ["0.0.0.0/0"]}}), "leaves no address"),
        (json!({"source": {"notNets": ["::/0"]}}), "leaves no address"),
        (json!({"source": {"nets": too_many}}), "must have no more than 256 items"),
    ]);
}

#[test]
fn protocols_and_families() {
    let rule = |rule| ingress(GNP, &allow(rule));
    let l4 = rule(json!({"protocol": "UDP", "notProtocol": 6})).l4;
    assert_eq!(
        l4,
        [L4Match { protocol: Some(Protocol::UDP), not_protocol: Some(Protocol::TCP), ..L4Match::default() }]
    );
    assert_eq!(rule(json!({"ipVersion": 6})).ip_version, Some(IpVersion::V6));
    assert_eq!(rule(json!({"protocol": "ICMP"})).ip_version, Some(IpVersion::V4));
    assert_eq!(rule(json!({"protocol": 58})).ip_version, Some(IpVersion::V6));
    assert_eq!(rule(json!({"notProtocol": "ICMP"})).ip_version, None);
    assert_refused(&[
        (json!({"ipVersion": 5}), "`5` is not an IP version"),
        (json!({"ipVersion": "4"}), "invalid type"),
        (json!({"protocol": "tcp"}), "`tcp` is not a protocol"),
        (json!({"protocol": 0}), "is not a protocol"),
        (json!({"notProtocol": 256}), "notProtocol: `256` is not a protocol"),
        (json!({"protocol": "ICMP", "ipVersion": 6}), "protocol: needs ipVersion 4, not 6"),
        (json!({"protocol": "1", "ipVersion": 6}), "needs ipVersion 4"),
        (json!({"protocol": "ICMPv6", "ipVersion": 4}), "needs ipVersion 6"),
        (json!({"notProtocol": 1, "ipVersion": 6}), "notProtocol: needs ipVersion 4"),
        (json!({"notProtocol": "ICMPv6", "ipVersion": 4}), "notProtocol: needs ipVersion 6"),
    ]);
    let spec = json!({"ingress": [allow(json!({"protocol": "ICMP", "source": {"nets": ["1::/16"]}}))]});
    let (_, warnings) = policy_and_warnings(GNP, &spec).unwrap();
    assert!(warnings.contains("so it matches nothing"), "{warnings}");
}

#[test]
fn icmp() {
    let l4 = |rule| ingress(GNP, &allow(rule)).l4;
    let icmp = |kind, code| Some(IcmpMatch { kind: Some(kind), code });
    assert_eq!(
        l4(json!({"protocol": "ICMP", "icmp": {"type": 254, "code": 255}}))[0].icmp,
        icmp(254, Some(255))
    );
    assert_eq!(l4(json!({"protocol": 58, "icmp": {"type": 0}}))[0].icmp, icmp(0, None));
    assert_eq!(l4(json!({"notICMP": {"type": 8, "code": 0}}))[0].not_icmp, icmp(8, Some(0)));
    assert_eq!(l4(json!({"notICMP": {}})), []);
    assert_eq!(l4(json!({"protocol": "ICMP", "icmp": {}}))[0].icmp, None);
    assert_refused(&[
        (json!({"icmp": {"type": 8}}), "icmp: needs protocol ICMP or ICMPv6"),
        (json!({"protocol": "TCP", "icmp": {"type": 8}}), "icmp: needs protocol ICMP or ICMPv6"),
        (json!({"protocol": "UDP", "icmp": {}}), "icmp: needs protocol ICMP or ICMPv6"),
        (json!({"protocol": "ICMP", "icmp": {"code": 1}}), "code: needs a type"),
        (json!({"notICMP": {"code": 1}}), "notICMP.code: needs a type"),
        (json!({"protocol": "ICMP", "icmp": {"type": 255}}), "from 0 to 254"),
        (json!({"protocol": "ICMP", "icmp": {"type": -1}}), "from 0 to 254"),
        (json!({"protocol": "ICMP", "icmp": {"type": 1, "code": 256}}), "from 0 to 255"),
        (json!({"protocol": "ICMP", "icmp": {"type": 1, "kode": 2}}), "unknown field"),
    ]);
}

#[test]
fn ports_need_a_protocol_that_has_them() {
    for protocol in [json!("TCP"), json!("UDP"), json!("SCTP"), json!(6), json!("17")] {
        ingress(GNP, &allow(json!({"protocol": protocol, "destination": {"ports": [80, "a", "1:2"]}})));
    }
    let named =
        ingress(GNP, &allow(json!({"destination": {"ports": ["http"]}, "source": {"notPorts": ["b"]}})));
    assert_eq!(named.l4[0].protocol, None);
    assert_eq!(named.l4[0].destination_ports, [PortMatch::Named("http".into())]);
    assert_refused(&[
        (json!({"destination": {"ports": [80]}}), "destination.ports: needs protocol TCP, UDP or SCTP"),
        (json!({"destination": {"ports": ["http", 80]}}), "needs protocol"),
        (json!({"source": {"notPorts": [80]}}), "source.notPorts: needs protocol"),
        (json!({"protocol": "ICMP", "destination": {"ports": ["http"]}}), "needs protocol"),
        (json!({"protocol": "UDPLite", "source": {"ports": [1]}}), "needs protocol"),
        (json!({"protocol": 47, "source": {"ports": [1]}}), "needs protocol"),
        (json!({"notProtocol": "TCP", "source": {"ports": [1]}}), "needs protocol"),
        (json!({"protocol": "TCP", "source": {"ports": [0]}}), "source.ports[0]: `0` is not a port"),
        (json!({"protocol": "TCP", "source": {"ports": [70000]}}), "`70000` is not a port"),
        (json!({"protocol": "TCP", "source": {"ports": ["9:8"]}}), "ends before it begins"),
        (json!({"protocol": "TCP", "source": {"ports": [1.5]}}), "invalid type"),
        (json!({"protocol": "TCP", "source": {"ports": many("p", 51)}}), "no more than 50 items"),
    ]);
    let spec = json!({"ingress": [allow(json!({"destination": {"ports": ["a-name-that-is-too-long"]}}))]});
    assert!(policy_and_warnings(GNP, &spec).unwrap().1.contains("no port can have the name"));
}

#[test]
fn services() {
    let id = |namespace: &str| Some(ServiceId { namespace: namespace.into(), name: "s".into() });
    let service = json!({"services": {"name": "s", "namespace": "m"}});
    assert_eq!(peer(&egress(GNP, &allow(json!({"destination": service})))).service, id("m"));
    assert_eq!(peer(&egress(NP, &allow(json!({"destination": service})))).service, id("m"));
    let mut source = service.clone();
    source["ports"] = json!([1]);
    let rule = ingress(GNP, &allow(json!({"protocol": "TCP", "source": source})));
    assert_eq!(peer(&rule).service, id("m"));
    assert_eq!(rule.l4[0].source_ports, [port(1, 1)]);
    // Without a namespace, the policy's own (decision D19), and no selector joins in.
    let rule = egress(NP, &allow(json!({"destination": {"services": {"name": "s"}}})));
    assert_eq!((peer(&rule).service.clone(), peer(&rule).selector.clone()), (id("n"), None));

    let with = |field: &str, value: Value| {
        let mut end = service.clone();
        end[field] = value;
        json!({"source": end})
    };
    assert_refused(&[
        (json!({"source": {"services": {"name": "s"}}}), "services.namespace: must be given"),
        (
            json!({"source": {"services": {"name": "s", "namespace": ""}}}),
            "services.namespace: must be given",
        ),
        (
            json!({"source": {"services": {"namespace": "m"}}}),
            "services.name: the name of a service is missing",
        ),
        (json!({"source": {"services": {"name": "", "namespace": "m"}}}), "services.name"),
        (json!({"source": {"services": {"name": "s".repeat(254), "namespace": "m"}}}), "253 characters"),
        (json!({"destination": service}), "services are only allowed in the source of an ingress rule"),
        (with("selector", json!("all()")), "cannot be combined with selector"),
        (with("notSelector", json!("all()")), "cannot be combined with notSelector"),
        (with("namespaceSelector", json!("all()")), "cannot be combined with namespaceSelector"),
        (with("serviceAccounts", json!({})), "cannot be combined with serviceAccounts"),
        (with("nets", json!(["10.0.0.0/8"])), "cannot be combined with nets"),
        (with("notNets", json!(["10.0.0.0/8"])), "cannot be combined with notNets"),
    ]);
    for field in ["ports", "notPorts"] {
        let mut end = service.clone();
        end[field] = json!([80]);
        let spec = json!({"egress": [allow(json!({"protocol": "TCP", "destination": end}))]});
        let error = policy_and_warnings(GNP, &spec).unwrap_err();
        assert!(error.contains(&format!("cannot be combined with {field}")), "{error}");
    }
    let spec = json!({"egress": [allow(json!({"source": service}))]});
    assert!(policy_and_warnings(GNP, &spec).unwrap_err().contains("services are only allowed"));
}

#[test]
fn http() {
    let rule = ingress(
        GNP,
        &allow(json!({"protocol": "TCP", "http": {"methods": ["GET", "*"],
            "paths": [{"exact": "/a"}, {"prefix": "/b/", "exact": ""}]}})),
    );
    assert_eq!(
        rule.http,
        Some(HttpMatch {
            methods: vec!["GET".into(), "*".into()],
            paths: vec![PathMatch::Exact("/a".into()), PathMatch::Prefix("/b/".into())],
        })
    );
    assert_eq!(ingress(GNP, &allow(json!({"http": {}}))).http, None);
    assert!(ingress(GNP, &allow(json!({"protocol": 6, "http": {"methods": ["GET"]}}))).http.is_some());
    let paths = |paths| json!({"http": {"paths": paths}});
    assert_refused(&[
        (json!({"action": "Deny", "http": {"methods": ["GET"]}}), "http: is only allowed in Allow rules"),
        (json!({"action": "Log", "http": {}}), "http: is only allowed in Allow rules"),
        (json!({"protocol": "UDP", "http": {"methods": ["GET"]}}), "http: needs protocol TCP or none"),
        (json!({"http": {"methods": ["GET", "GET"]}}), "methods[1]: `GET` is given twice"),
        (json!({"http": {"methods": many("M", 21)}}), "methods: must have no more than 20"),
        (paths(json!([{}])), "paths[0]: needs either exact or prefix"),
        (paths(json!([{"exact": "/a", "prefix": "/b"}])), "needs either exact or prefix"),
        (paths(json!([{"exact": "a"}])), "`a` is not a path"),
        (paths(json!([{"prefix": "/a?b"}])), "is not a path"),
        (paths(json!([{"prefix": "/a#b"}])), "is not a path"),
        (paths(json!([{"prefix": "/a b"}])), "is not a path"),
        (paths(json!([{"prefix": format!("/{}", "a".repeat(1024))}])), "1024 characters"),
        (paths(Value::from(vec![json!({"exact": "/a"}); 21])), "paths: must have no more than 20"),
        (json!({"http": {"headers": []}}), "unknown field"),
    ]);
    let spec = json!({"egress": [allow(json!({"http": {"methods": ["GET"]}}))]});
    assert!(policy_and_warnings(GNP, &spec).unwrap_err().contains("http: is only allowed in ingress rules"));
}

#[test]
fn a_list_of_rules_has_a_limit() {
    let rules = |count: usize| json!({"ingress": vec![json!({"action": "Allow"}); count]});
    assert_eq!(policy(GNP, &rules(1024)).ingress.len(), 1024);
    let error = policy_and_warnings(GNP, &rules(1025)).unwrap_err();
    assert_eq!(error.to_string(), "GlobalNetworkPolicy p: spec.ingress: must have no more than 1024 items");
}
