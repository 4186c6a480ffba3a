use alloc::vec;

use portcullis_core::model::{Directions, Enforcement, EntityKinds, Order, Placement, PolicyId};
use portcullis_core::selector::Expr;
use serde_json::json;

use super::*;

const NP: &str = "NetworkPolicy";
const GNP: &str = "GlobalNetworkPolicy";
const KINDS: [&str; 4] = [NP, GNP, "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"];

fn refuse(kind: &str, spec: &Value) -> String {
    match policy_and_warnings(kind, spec) {
        Ok(_) => panic!("accepted: {spec}"),
        Err(error) => error,
    }
}

#[test]
fn identities_and_ties() {
    for (kind, id_kind, namespace, tie) in [
        (NP, "NetworkPolicy.projectcalico.org", Some("n".into()), "p/n/NetworkPolicy"),
        (GNP, GNP, None, "p//GlobalNetworkPolicy"),
        ("StagedNetworkPolicy", "StagedNetworkPolicy", Some("n".into()), "p/n/StagedNetworkPolicy"),
        ("StagedGlobalNetworkPolicy", "StagedGlobalNetworkPolicy", None, "p//StagedGlobalNetworkPolicy"),
    ] {
        let policy = policy(kind, &json!({}));
        assert_eq!(policy.id, PolicyId::new(id_kind, namespace, "p"));
        assert_eq!(policy.tie_key, tie);
        let staged = if kind.starts_with("Staged") { Enforcement::Staged } else { Enforcement::Enforced };
        assert_eq!(policy.enforcement, staged);
    }
    // Names stay as they are, also with the tier in front.
    let (updates, warnings) =
        convert(NP, &json!({"name": "default.foo"}), &json!({"tier": "default"})).unwrap();
    assert!(matches!(&updates[..], [Update::Policy(p)] if p.id.name == "default.foo"
        && p.id.namespace.as_deref() == Some("default")));
    assert_eq!(warnings, "");
}

#[test]
fn names() {
    for (kind, name, doubted) in [
        (NP, "a.b", false),
        (NP, "a.b.c", true),
        (NP, "knp.default.a.b.c", false),
        (GNP, "knp.default.a.b.c", true),
        (GNP, "tier.a", false),
    ] {
        let warnings = convert(kind, &json!({"name": name}), &json!({})).unwrap().1;
        assert_eq!(warnings.contains("Calico refuses the name"), doubted, "{name}: {warnings}");
    }
    for metadata in
        [json!({}), json!({"name": "A"}), json!({"name": "a/b"}), json!({"name": "a", "lables": {}})]
    {
        for kind in KINDS {
            assert!(convert(kind, &metadata, &json!({})).is_err(), "{kind} {metadata}");
        }
    }
    assert!(convert(NP, &json!({"name": "a", "labels": {"a b": "c"}}), &json!({})).is_err());
}

#[test]
fn a_spec_is_needed() {
    for kind in KINDS {
        let error = convert(kind, &json!({"name": "p"}), &Value::Null).unwrap_err();
        assert!(error.ends_with("p: spec: the spec is missing"), "{error}");
        assert!(convert(kind, &json!({"name": "p"}), &json!([])).is_err());
        assert!(
            convert(kind, &json!({"name": "p"}), &json!({"selectr": "a"}))
                .unwrap_err()
                .contains("unknown field")
        );
    }
}

#[test]
fn types_default_from_the_rules() {
    let rules = json!([{"action": "Allow"}]);
    for kind in KINDS {
        for (spec, want) in [
            (json!({}), Directions::INGRESS),
            (json!({"ingress": rules}), Directions::INGRESS),
            (json!({"egress": rules}), Directions::EGRESS),
            (json!({"ingress": [], "egress": rules}), Directions::EGRESS),
            (json!({"egress": []}), Directions::INGRESS),
            (json!({"ingress": rules, "egress": rules}), Directions::BOTH),
            (json!({"types": null, "egress": rules}), Directions::EGRESS),
            (json!({"types": ["Egress"]}), Directions::EGRESS),
            (json!({"types": ["Ingress"]}), Directions::INGRESS),
            (json!({"types": ["Egress", "Ingress"]}), Directions::BOTH),
        ] {
            assert_eq!(policy(kind, &spec).directions, want, "{spec}");
        }
        for (types, part) in [
            (json!([]), "must not be empty"),
            (json!(["ingress"]), "types[0]: `ingress` is not a type"),
            (json!(["Ingress", "Ingress"]), "types[1]: `Ingress` is given twice"),
            (json!(["Ingress", "Egress", "Ingress"]), "no more than 2"),
            (json!("Ingress"), "invalid type"),
        ] {
            let error = refuse(kind, &json!({"types": types}));
            assert!(error.contains(part), "{types}: {error}");
        }
    }
    let (inert, warnings) = policy_and_warnings(NP, &json!({"types": ["Ingress"], "egress": rules})).unwrap();
    assert_eq!((inert.directions, inert.egress.len()), (Directions::INGRESS, 0));
    assert!(warnings.contains("`Egress` is not among the types"), "{warnings}");
}

#[test]
fn subjects_of_namespaced_policies() {
    let subject = |spec| policy(NP, &spec).subject;
    assert_eq!(subject(json!({})).kinds, EntityKinds::WORKLOAD);
    assert_eq!(subject(json!({})).expr, in_namespace("n"));
    assert_eq!(subject(json!({"selector": ""})).expr, in_namespace("n"));
    assert_eq!(
        subject(json!({"selector": "a == 'b' || all()"})).expr,
        Expr::And(vec![in_namespace("n"), own("a == 'b' || all()")])
    );
    assert_eq!(
        subject(json!({"selector": "has(a)", "serviceAccountSelector": "role == 'x' || all()"})).expr,
        Expr::And(vec![in_namespace("n"), of_account("role == 'x' || all()"), own("has(a)")])
    );
}

#[test]
fn subjects_of_global_policies() {
    let subject = |spec| policy(GNP, &spec).subject;
    let kinds = EntityKinds::WORKLOAD.union(EntityKinds::HOST);
    assert_eq!(subject(json!({})).kinds, kinds);
    assert_eq!(subject(json!({})).expr, Expr::All);
    assert_eq!(subject(json!({"selector": "a == 'all()'"})).expr, own("a == 'all()'"));
    assert_eq!(subject(json!({"namespaceSelector": "all()"})).expr, has_namespace());
    assert_eq!(
        subject(json!({"namespaceSelector": "!all() || a == 'all()'"})).expr,
        Expr::Or(vec![Expr::Not(has_namespace().into()), of_namespace("a == 'all()'")])
    );
    // `all()` in the main selector stays what it is (decision D18).
    assert_eq!(
        subject(json!({"namespaceSelector": "team == 'a'", "selector": "all()"})).expr,
        Expr::And(vec![of_namespace("team == 'a'"), Expr::All])
    );
    assert_eq!(
        subject(json!({"serviceAccountSelector": "all()"})).expr,
        of_account("has(projectcalico.org/name)")
    );
    assert_eq!(
        subject(json!({"serviceAccountSelector": "projectcalico.org/name == 'x'"})).expr,
        of_account("projectcalico.org/name == 'x'")
    );
}

#[test]
fn selectors_that_are_refused() {
    for kind in KINDS {
        for field in ["selector", "serviceAccountSelector", "namespaceSelector"] {
            if field == "namespaceSelector" && !kind.contains("Global") {
                continue;
            }
            for (text, part) in [
                ("global()", "only allowed in the namespaceSelector of a rule"),
                ("has(a) || global()", "only allowed"),
                ("a =", "is not a selector"),
                ("a\n== 'b'", "is not a selector"),
            ] {
                let error = refuse(kind, &json!({field: text}));
                assert!(error.contains(&format!("spec.{field}: ")) && error.contains(part), "{error}");
                assert_eq!(error.lines().count(), 1);
            }
            let long = format!("has({})", "a".repeat(1020));
            assert!(refuse(kind, &json!({field: long})).contains("1024 characters"));
        }
    }
}

#[test]
fn tiers_and_orders() {
    let tier = |spec| policy(NP, &spec).tier;
    assert_eq!(tier(json!({})), "default");
    assert_eq!(tier(json!({"tier": ""})), "default");
    assert_eq!(tier(json!({"tier": "web"})), "web");
    for tier in ["A", "a.b", "-", &"a".repeat(64)] {
        assert!(refuse(NP, &json!({"tier": tier})).contains("is not the name of a tier"));
    }
    let order = |spec| policy(GNP, &spec).order;
    assert_eq!(order(json!({})), None);
    assert_eq!(order(json!({"order": null})), None);
    assert_eq!(order(json!({"order": 1})), Order::new(1.0));
    assert_eq!(order(json!({"order": -0.5})), Order::new(-0.5));
    assert!(refuse(GNP, &json!({"order": "1"})).contains("invalid type"));
}

#[test]
fn placements() {
    let placement = |spec| policy(GNP, &spec).placement;
    assert_eq!(placement(json!({"doNotTrack": false, "preDNAT": false})), Placement::Normal);
    assert_eq!(placement(json!({"applyOnForward": true})), Placement::ApplyOnForward);
    assert_eq!(placement(json!({"applyOnForward": true, "preDNAT": true})), Placement::PreDnat);
    assert_eq!(placement(json!({"applyOnForward": true, "doNotTrack": true})), Placement::Untracked);
    let rules = json!([{"action": "Allow"}]);
    for kind in [GNP, "StagedGlobalNetworkPolicy"] {
        for (spec, part) in [
            (json!({"preDNAT": true}), "applyOnForward: must be true"),
            (json!({"doNotTrack": true, "applyOnForward": false}), "applyOnForward: must be true"),
            (json!({"preDNAT": true, "doNotTrack": true, "applyOnForward": true}), "cannot be true together"),
            (json!({"preDNAT": true, "applyOnForward": true, "egress": rules}), "egress: a preDNAT policy"),
            (
                json!({"preDNAT": true, "applyOnForward": true, "types": ["Egress"]}),
                "types: a preDNAT policy",
            ),
            (json!({"preDNAT": "yes"}), "invalid type"),
        ] {
            let error = refuse(kind, &spec);
            assert!(error.contains(part), "{spec}: {error}");
        }
    }
}

#[test]
fn fields_of_other_kinds_are_refused() {
    for (field, value) in [
        ("namespaceSelector", json!("all()")),
        ("doNotTrack", json!(false)),
        ("preDNAT", json!(true)),
        ("applyOnForward", json!(true)),
    ] {
        for kind in [NP, "StagedNetworkPolicy"] {
            let error = refuse(kind, &json!({field: value}));
            assert!(error.contains(&format!("spec.{field}: a {kind} has no such field")), "{error}");
        }
    }
    for kind in [NP, GNP] {
        assert!(refuse(kind, &json!({"stagedAction": "Set"})).contains("has no such field"));
    }
}

#[test]
fn performance_hints_are_only_checked() {
    let hint = "AssumeNeededOnEveryNode";
    assert_eq!(policy(NP, &json!({"performanceHints": [hint]})), policy(NP, &json!({})));
    assert!(refuse(NP, &json!({"performanceHints": ["Faster"]})).contains("performanceHints[0]: `Faster`"));
    assert!(refuse(NP, &json!({"performanceHints": [hint, hint]})).contains("given twice"));
}

#[test]
fn staged_actions() {
    for kind in ["StagedNetworkPolicy", "StagedGlobalNetworkPolicy"] {
        for action in ["Set", "Learn", "Ignore", ""] {
            assert_eq!(policy(kind, &json!({"stagedAction": action})), policy(kind, &json!({})));
        }
        assert!(refuse(kind, &json!({"stagedAction": "set"})).contains("`set` is not a staged action"));
        let delete = |spec: Value| convert(kind, &json!({"name": "p"}), &spec);
        let (updates, warnings) =
            delete(json!({"stagedAction": "Delete", "tier": "web", "egress": []})).unwrap();
        assert_eq!(updates, vec![]);
        assert!(warnings.contains("`Delete` previews the end of a policy"), "{warnings}");
        for (field, value) in [
            ("order", json!(1)),
            ("selector", json!("all()")),
            ("types", json!(["Ingress"])),
            ("ingress", json!([{"action": "Allow"}])),
            ("egress", json!([{"action": "Allow"}])),
            ("performanceHints", json!(["AssumeNeededOnEveryNode"])),
        ] {
            let error = delete(json!({"stagedAction": "Delete", field: value})).unwrap_err();
            assert!(error.contains(&format!("spec.{field}: must not be given")), "{error}");
        }
    }
}

#[test]
fn staged_kubernetes_policies() {
    const KIND: &str = "StagedKubernetesNetworkPolicy";
    let spec = json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Egress", "Ingress"],
        "egress": [{"ports": [{"port": 80}]}]});
    let staged = policy(KIND, &spec);
    assert_eq!(staged.id, PolicyId::new(KIND, Some("n".into()), "p"));
    assert_eq!(staged.tie_key, "p/n/StagedKubernetesNetworkPolicy");
    assert_eq!(staged.enforcement, Enforcement::Staged);
    // Everything else is as in the policy it stages.
    let document = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    let plain: crate::network_policy::NetworkPolicy = serde_json::from_value(document).unwrap();
    let plain = plain.convert().unwrap().0;
    assert_eq!((&staged.subject, &staged.egress, staged.order), (&plain.subject, &plain.egress, plain.order));
    assert_eq!(plain.tie_key, "p/n/KubernetesNetworkPolicy");
    assert_eq!((staged.directions, &staged.tier), (Directions::BOTH, &plain.tier));
    // The default of Kubernetes, not that of Calico.
    let rules = json!([{}]);
    assert_eq!(policy(KIND, &json!({"stagedAction": "Set", "egress": rules})).directions, Directions::BOTH);

    for (spec, part) in [
        (json!({"policyTypes": []}), "spec.policyTypes: must not be empty"),
        (json!({"policyTypes": ["Egress", "Egress"]}), "given twice"),
        (json!({"stagedAction": "Keep"}), "is not a staged action"),
        (json!({"egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}]}), "spec.egress[0].to[0].ipBlock.cidr"),
        (json!({"stagedAction": "Delete", "ingress": rules}), "spec.ingress: must not be given"),
        (json!({"stagedAction": "Delete", "podSelector": {"matchLabels": {"a": "b"}}}), "must not be given"),
        (json!({"tier": "default"}), "unknown field"),
    ] {
        let error = refuse(KIND, &spec);
        assert!(error.contains(part), "{spec}: {error}");
    }
    let deletion = json!({"stagedAction": "Delete", "podSelector": {}});
    assert_eq!(convert(KIND, &json!({"name": "p"}), &deletion).unwrap().0, vec![]);
    assert!(convert(KIND, &json!({"name": "p"}), &Value::Null).is_err());
}
