//! Bad input of every kind of object: one clear line with file, line, object, field and reason, exit code 1, and no
//! answer at all.

use crate::{Folder, portcullis, portcullis_with};

const NETWORK_POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [db]}]}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    - podSelector: {matchLabels: {app: web}}
    ports:
    - {protocol: TCP, port: 80, endPort: 90}
";

const CLUSTER_NETWORK_POLICY: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: cnp}
spec:
  tier: Admin
  priority: 5
  subject: {namespaces: {matchExpressions: [{key: app, operator: In, values: [db]}]}}
  ingress:
  - action: Accept
    from:
    - namespaces: {}
    protocols:
    - tcp: {destinationPort: {range: {start: 80, end: 90}}}
  egress:
  - action: Deny
    to:
    - networks: [10.0.0.0/8]
";

const ADMIN_NETWORK_POLICY: &str = "
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: anp}
spec:
  priority: 5
  subject: {namespaces: {matchExpressions: [{key: app, operator: In, values: [db]}]}}
  ingress:
  - action: Allow
    from:
    - namespaces: {}
    ports:
    - portRange: {protocol: TCP, start: 80, end: 90}
  egress:
  - action: Deny
    to:
    - networks: [10.0.0.0/8]
";

const BASELINE_ADMIN_NETWORK_POLICY: &str = "
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
spec:
  subject: {namespaces: {matchExpressions: [{key: app, operator: In, values: [db]}]}}
  ingress:
  - action: Allow
    from:
    - namespaces: {}
    ports:
    - portRange: {protocol: TCP, start: 80, end: 90}
  egress:
  - action: Deny
    to:
    - networks: [10.0.0.0/8]
";

const CALICO_NETWORK_POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: cal, namespace: shop}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.0.0/8], selector: has(app)}
    destination: {ports: [80, '90:99']}
";

const GLOBAL_NETWORK_POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: gnp}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.0.0/8], selector: has(app)}
    destination: {ports: [80, '90:99']}
";

const STAGED_NETWORK_POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: staged, namespace: shop}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.0.0/8], selector: has(app)}
    destination: {ports: [80, '90:99']}
";

const STAGED_GLOBAL_NETWORK_POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: staged}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.0.0/8], selector: has(app)}
    destination: {ports: [80, '90:99']}
";

const STAGED_KUBERNETES_NETWORK_POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: StagedKubernetesNetworkPolicy
metadata: {name: staged, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [db]}]}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    - podSelector: {matchLabels: {app: web}}
    ports:
    - {protocol: TCP, port: 80, endPort: 90}
";

const PROFILE: &str = "
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: prof}
spec:
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.0.0/8], selector: has(app)}
    destination: {ports: [80, '90:99']}
";

const TIER: &str = "
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100, defaultAction: Pass}
";

const NETWORK_SET: &str = "
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: set, namespace: shop, labels: {role: db}}
spec: {nets: [10.0.0.0/8]}
";

const GLOBAL_NETWORK_SET: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: set, labels: {role: db}}
spec: {nets: [10.0.0.0/8]}
";

const HOST_ENDPOINT: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: hep, labels: {role: db}}
spec:
  node: n1
  interfaceName: eth0
  expectedIPs: [192.0.2.1]
  ports: [{name: http, protocol: TCP, port: 80}]
";

const WORKLOAD_ENDPOINT: &str = "
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-k8s-db-eth0, namespace: shop, labels: {role: db}}
spec:
  node: n1
  orchestrator: k8s
  pod: db
  endpoint: eth0
  interfaceName: cali1
  ipNetworks: [10.0.0.5/32]
  ports: [{name: http, protocol: TCP, port: 80}]
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  nodeName: n1
  containers: [{name: c, ports: [{name: http, containerPort: 80, protocol: TCP}]}]
status: {podIP: 10.0.0.5, podIPs: [{ip: 10.0.0.5}]}
";

const NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
";

const SERVICE_ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: sa, namespace: shop, labels: {team: a}}
";

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {team: a}}
spec: {podCIDR: 10.0.0.0/24}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: svc, namespace: shop}
spec:
  selector: {app: db}
  ports: [{name: http, port: 80, protocol: TCP}]
";

const ENDPOINT_SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc-1, namespace: shop, labels: {kubernetes.io/service-name: svc}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.5]}]
ports: [{name: http, port: 80, protocol: TCP}]
";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
";

/// Every kind, with how messages name the object.
const KINDS: &[(&str, &str)] = &[
    (NETWORK_POLICY, "NetworkPolicy shop/np"),
    (CLUSTER_NETWORK_POLICY, "ClusterNetworkPolicy cnp"),
    (ADMIN_NETWORK_POLICY, "AdminNetworkPolicy anp"),
    (BASELINE_ADMIN_NETWORK_POLICY, "BaselineAdminNetworkPolicy default"),
    (CALICO_NETWORK_POLICY, "NetworkPolicy.projectcalico.org shop/cal"),
    (GLOBAL_NETWORK_POLICY, "GlobalNetworkPolicy gnp"),
    (STAGED_NETWORK_POLICY, "StagedNetworkPolicy shop/staged"),
    (STAGED_GLOBAL_NETWORK_POLICY, "StagedGlobalNetworkPolicy staged"),
    (STAGED_KUBERNETES_NETWORK_POLICY, "StagedKubernetesNetworkPolicy shop/staged"),
    (PROFILE, "Profile prof"),
    (TIER, "Tier security"),
    (NETWORK_SET, "NetworkSet shop/set"),
    (GLOBAL_NETWORK_SET, "GlobalNetworkSet set"),
    (HOST_ENDPOINT, "HostEndpoint hep"),
    (WORKLOAD_ENDPOINT, "WorkloadEndpoint shop/n1-k8s-db-eth0"),
    (POD, "Pod shop/db"),
    (NAMESPACE, "Namespace shop"),
    (SERVICE_ACCOUNT, "ServiceAccount shop/sa"),
    (NODE, "Node n1"),
    (SERVICE, "Service shop/svc"),
    (ENDPOINT_SLICE, "EndpointSlice shop/svc-1"),
    (DEPLOYMENT, "Deployment shop/web"),
];

/// A change to the object of a kind, and what the message must say: the field, and words of the reason.
struct Row(&'static str, &'static str, &'static str, &'static [&'static str]);

const KUBERNETES_RULES: &[&str] = &[NETWORK_POLICY, STAGED_KUBERNETES_NETWORK_POLICY];
const ADMIN_RULES: &[&str] = &[ADMIN_NETWORK_POLICY, BASELINE_ADMIN_NETWORK_POLICY];
const CALICO_RULES: &[&str] = &[
    CALICO_NETWORK_POLICY,
    GLOBAL_NETWORK_POLICY,
    STAGED_NETWORK_POLICY,
    STAGED_GLOBAL_NETWORK_POLICY,
    PROFILE,
];
const CALICO_POLICIES: &[&str] = CALICO_RULES.split_at(4).0;

/// What is wrong in the same way with several kinds.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut every = |kinds: &[&'static str],
                     changes: &[(&'static str, &'static str, &'static [&'static str])]| {
        for kind in kinds {
            rows.extend(changes.iter().map(|(from, to, says)| Row(kind, from, to, says)));
        }
    };
    every(
        KUBERNETES_RULES,
        &[
            ("podSelector: {matchExpressions", "podSelector: [matchExpressions", &["malformed"]),
            ("ingress:\n  - from", "ingress:\n  - form", &["spec.ingress[0].form", "unknown field"]),
            ("port: 80", "port: [80]", &["spec.ingress[0].ports[0].port", "expected"]),
            ("[Ingress]", "[Inbound]", &["spec.policyTypes[0]", "`Inbound`"]),
            ("10.0.0.0/8", "10.0.0.300/8", &["spec.ingress[0].from[0].ipBlock.cidr", "`10.0.0.300/8`"]),
            ("10.1.0.0/16", "11.1.0.0/16", &["ipBlock.except[0]", "`11.1.0.0/16`"]),
            ("port: 80,", "port: 0,", &["spec.ingress[0].ports[0].port", "0"]),
            ("port: 80,", "port: 70000,", &["spec.ingress[0].ports[0].port", "70000"]),
            ("endPort: 90", "endPort: 79", &["spec.ingress[0].ports[0].endPort", "79"]),
            ("operator: In", "operator: Is", &["matchExpressions[0].operator", "`Is`"]),
            ("values: [db]", "values: []", &["matchExpressions[0].values", "In"]),
            ("protocol: TCP", "protocol: tcp", &["spec.ingress[0].ports[0].protocol", "`tcp`"]),
            (
                "podSelector: {matchLabels",
                "ipBlock: {cidr: 10.0.0.0/8}\n      podSelector: {matchLabels",
                &["spec.ingress[0].from[1]", "ipBlock"],
            ),
        ],
    );
    every(
        ADMIN_RULES,
        &[
            ("action: Allow", "action: Permit", &["spec.ingress[0].action", "`Permit`"]),
            ("10.0.0.0/8", "10.0.0.0/33", &["spec.egress[0].to[0].networks[0]", "`10.0.0.0/33`"]),
            ("start: 80", "start: 0", &["spec.ingress[0].ports[0].portRange.start", "0"]),
            ("end: 90", "end: 70000", &["spec.ingress[0].ports[0].portRange.end", "70000"]),
            ("end: 90", "end: 79", &["spec.ingress[0].ports[0].portRange", "79"]),
            ("operator: In", "operator: Is", &["matchExpressions[0].operator", "`Is`"]),
            ("namespaces: {}", "namespaces: {}\n      pods: {}", &["spec.ingress[0].from[0]", "pods"]),
            ("action: Deny", "action: [Deny]", &["spec.egress[0].action", "expected"]),
        ],
    );
    every(
        &[CLUSTER_NETWORK_POLICY],
        &[
            ("action: Accept", "action: Permit", &["spec.ingress[0].action", "`Permit`"]),
            ("10.0.0.0/8", "10.0.0.0/33", &["spec.egress[0].to[0].networks[0]", "`10.0.0.0/33`"]),
            ("start: 80", "start: 0", &["destinationPort.range.start", "0"]),
            ("end: 90", "end: 70000", &["destinationPort.range.end", "70000"]),
            ("end: 90", "end: 79", &["destinationPort.range", "79"]),
            ("operator: In", "operator: Is", &["matchExpressions[0].operator", "`Is`"]),
            (
                "- namespaces: {}",
                "- namespaces: {}\n      pods: {podSelector: {}}",
                &["spec.ingress[0].from[0]", "pods"],
            ),
            ("priority: 5", "priority: 1001", &["spec.priority", "1001"]),
            ("tier: Admin", "tier: Owner", &["spec.tier", "`Owner`"]),
        ],
    );
    every(
        CALICO_RULES,
        &[
            ("action: Allow", "action: Permit", &["spec.ingress[0].action", "`Permit`"]),
            ("10.0.0.0/8", "10.0.0.300/8", &["spec.ingress[0].source.nets[0]", "`10.0.0.300/8`"]),
            ("[80, '90:99']", "[70000]", &["spec.ingress[0].destination.ports[0]", "70000"]),
            ("'90:99'", "'99:90'", &["spec.ingress[0].destination.ports[1]", "99:90"]),
            ("has(app)", "has(app", &["spec.ingress[0].source.selector", "`has(app`"]),
            ("protocol: TCP", "protocol: TPC", &["spec.ingress[0].protocol", "TPC"]),
            ("protocol: TCP", "protocol: 256", &["spec.ingress[0].protocol", "256"]),
            ("source: {", "sauce: {", &["spec.ingress[0].sauce", "unknown field"]),
            ("[80, '90:99']", "80", &["spec.ingress[0].destination.ports", "expected"]),
        ],
    );
    every(
        CALICO_POLICIES,
        &[
            ("selector: app == 'db'", "selector: app = 'db'", &["spec.selector", "`app = 'db'`"]),
            ("[Ingress]", "[Inbound]", &["spec.types[0]", "`Inbound`"]),
        ],
    );
    rows.extend([
        Row(TIER, "order: 100", "order: high", &["spec.order", "expected"]),
        Row(TIER, "defaultAction: Pass", "defaultAction: Allow", &["spec.defaultAction", "`Allow`"]),
        Row(NETWORK_SET, "10.0.0.0/8", "10.0.0.0/99", &["spec.nets[0]", "`10.0.0.0/99`"]),
        Row(GLOBAL_NETWORK_SET, "10.0.0.0/8", "ten", &["spec.nets[0]", "`ten`"]),
        Row(HOST_ENDPOINT, "192.0.2.1", "192.0.2.1/24", &["spec.expectedIPs[0]", "`192.0.2.1/24`"]),
        Row(HOST_ENDPOINT, "port: 80", "port: 0", &["spec.ports[0].port", "0"]),
        Row(HOST_ENDPOINT, "role: db", "role: 'd b'", &["metadata.labels", "d b"]),
        Row(WORKLOAD_ENDPOINT, "10.0.0.5/32", "10.0.0.5/3x", &["spec.ipNetworks[0]", "`10.0.0.5/3x`"]),
        Row(POD, "ip: 10.0.0.5", "ip: 10.0.0.500", &["status.podIPs[0].ip", "10.0.0.500"]),
        Row(POD, "containerPort: 80", "containerPort: 70000", &["ports[0].containerPort", "70000"]),
        Row(NAMESPACE, "team: a", "team: [a]", &["metadata.labels.team", "expected"]),
        Row(SERVICE_ACCOUNT, "team: a", "team: a b", &["metadata.labels", "a b"]),
        Row(NODE, "192.0.2.1", "192.0.2", &["status.addresses[0].address", "192.0.2"]),
        Row(SERVICE, "port: 80", "port: eighty", &["spec.ports[0].port", "expected"]),
        Row(ENDPOINT_SLICE, "10.0.0.5", "fd00::5", &["endpoints[0].addresses[0]", "fd00::5"]),
        Row(ENDPOINT_SLICE, "addressType: IPv4", "addressType: IPv5", &["addressType", "`IPv5`"]),
        Row(DEPLOYMENT, "containerPort: 80", "containerPort: 0", &["ports[0].containerPort", "0"]),
    ]);
    rows
}

/// Runs `eval` on `manifest` in a file, and checks that it is refused with a line that begins with the file and a line
/// inside it. Returns the message after the file. Where one mistake is two, there may be a second line.
fn refused(folder: &Folder, manifest: impl AsRef<[u8]>, what: &str) -> String {
    let file = folder.write("object.yaml", &manifest);
    let run = portcullis(&["eval", "-f", &file, "--from", "192.0.2.8", "--to", "192.0.2.9"]);
    assert_eq!(run.code, 1, "{what}: {run:?}");
    assert_eq!(run.stdout, "", "{what}");
    assert!(run.stderr.lines().count() <= 2, "{what}: {}", run.stderr);
    let message = run.stderr.trim_end().strip_prefix(&format!("error: {file}:"));
    let message = message.unwrap_or_else(|| panic!("{what}: {}", run.stderr));
    let line: usize =
        message.split(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{what}: {message}"));
    let lines = manifest.as_ref().split(|byte| *byte == b'\n').count();
    assert!((1..=lines).contains(&line), "{what}: {message}");
    message.to_owned()
}

#[test]
fn every_kind_is_accepted_as_it_stands() {
    let folder = Folder::new("accepted");
    for (manifest, object) in KINDS {
        let file = folder.write("object.yaml", manifest);
        let run = portcullis(&["eval", "-q", "-f", &file, "--from", "192.0.2.8", "--to", "192.0.2.9"]);
        assert_eq!(run.code, 0, "{object}: {run:?}");
    }
    let all: Vec<&str> = KINDS.iter().map(|(manifest, _)| *manifest).collect();
    let run = portcullis_with(
        &["eval", "-f", "-", "--from", "192.0.2.8", "--to", "192.0.2.9"],
        all.join("\n---\n").as_bytes(),
    );
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.stderr.contains("skipped"), "{run:?}");
}

#[test]
fn a_bad_field_is_named_with_its_line_its_object_and_the_reason() {
    let folder = Folder::new("fields");
    let rows = rows();
    for Row(manifest, from, to, says) in &rows {
        let (_, object) = KINDS.iter().find(|(known, _)| known == manifest).unwrap();
        let what = format!("{object}: `{from}` to `{to}`");
        let changed = manifest.replacen(from, to, 1);
        assert_ne!(&changed, manifest, "{what}: nothing was changed");
        let message = refused(&folder, &changed, &what);
        // The line of the change, or of the object when it is no YAML any more.
        let at = 1 + manifest.split(from).next().unwrap().matches('\n').count();
        let last = at + to.matches('\n').count().max(2);
        let line: usize = message.split(':').next().unwrap().parse().unwrap();
        if !says.contains(&"malformed") {
            assert!((at..=last).contains(&line), "{what}: line {line} is not {at}: {message}");
            // Before it is converted, a Calico policy is called by its kind alone.
            let plain = object.replace(".projectcalico.org", "");
            let named = message.contains(object) || message.contains(&plain);
            assert!(named, "{what}: the object is not named: {message}");
        }
        for word in *says {
            assert!(message.contains(word), "{what}: `{word}` is not in: {message}");
        }
    }
    assert!(rows.len() > 100, "only {} rows", rows.len());
}

#[test]
fn an_object_given_twice_is_counted_and_another_of_its_name_names_both_places() {
    let folder = Folder::new("twice");
    let other_meanings = [
        ("podSelector: {matchLabels: {app: web}", "podSelector: {matchLabels: {app: api}"),
        (" labels: {app: web}", " labels: {app: api}"),
        ("metadata: {labels: {app: web}", "metadata: {labels: {app: api}"),
        ("192.0.2.", "192.0.3."),
        ("labels: {app: db}", "labels: {app: other}"),
        ("10.0.0.", "11.0.0."),
        ("order: 100", "order: 101"),
        ("port: 80", "port: 8081"),
        ("containerPort: 80", "containerPort: 8081"),
        ("team: a", "team: b"),
        ("action: Deny", "action: Pass"),
        ("action: Allow", "action: Deny"),
    ];
    for (manifest, object) in KINDS {
        let file = folder.write("object.yaml", format!("{manifest}---{manifest}"));
        let run = portcullis(&["eval", "-f", &file, "--from", "192.0.2.8", "--to", "192.0.2.9"]);
        assert_eq!(run.code, 0, "{object}: {run:?}");
        assert!(
            run.stderr.contains("skipped: 1 objects that were given before with the same meaning"),
            "{run:?}"
        );

        let changed = other_meanings.iter().map(|(from, to)| manifest.replacen(from, to, 1));
        let changed = changed.into_iter().find(|changed| changed != manifest);
        let changed = changed.unwrap_or_else(|| panic!("{object}: nothing to change in {manifest}"));
        let message = refused(&folder, format!("{manifest}---{changed}"), object);
        assert!(message.contains(object), "{object}: {message}");
        assert!(message.contains("object.yaml:"), "{object}: the first place is not named: {message}");
    }
}

#[test]
fn every_kind_is_refused_with_a_bad_name_or_label_or_field() {
    let folder = Folder::new("meta");
    for (manifest, object) in KINDS {
        let name = object.rsplit([' ', '/']).next().unwrap();
        let changed = manifest.replacen(&format!("name: {name}"), "name: -bad-", 1);
        let message = refused(&folder, &changed, object);
        assert!(message.contains("metadata.name") && message.contains("`-bad-`"), "{object}: {message}");
        let changed = manifest.replacen("metadata: {", "metadata: {labels: {'-x': y}, ", 1);
        if changed.matches("labels:").count() == 1 {
            let message = refused(&folder, &changed, object);
            assert!(message.contains("metadata.labels") && message.contains("-x"), "{object}: {message}");
        }
        let changed = manifest.replacen("metadata: {", "metadata: [", 1);
        let message = refused(&folder, &changed, object);
        assert!(message.contains("malformed YAML"), "{object}: {message}");
        let changed =
            manifest.replacen("kind: ", "kind: &a ", 1).replacen("metadata: {", "metadata: *b\nx: {", 1);
        refused(&folder, &changed, object);
        let (before, _) = manifest.split_once("metadata: ").unwrap();
        let message = refused(&folder, format!("{before}metadata: 5\n"), object);
        assert!(message.contains("metadata"), "{object}: {message}");
    }
}

#[test]
fn input_that_no_parser_should_trust() {
    let folder = Folder::new("hostile");
    let message =
        refused(&folder, format!("{NAMESPACE}# {}\n", "x".repeat(10 << 20)), "a comment of ten megabytes");
    assert_eq!(message, "5:1: the line is longer than 4194304 bytes");
    let long = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", "x".repeat(10 << 20));
    refused(&folder, long, "a name of ten megabytes");

    let deep = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {}{}\n",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let message = refused(&folder, &deep, "deep YAML");
    assert!(message.contains("deep"), "{message}");
    let deep = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let file = folder.write("deep.json", &deep);
    let run = portcullis(&["eval", "-f", &file, "--from", "192.0.2.8", "--to", "192.0.2.9"]);
    assert!(run.code == 1 && run.stderr.contains("deep"), "{run:?}");

    let mut bytes = NAMESPACE.as_bytes().to_vec();
    bytes.extend([b'#', 0xff, b'\n']);
    let message = refused(&folder, &bytes, "no UTF-8");
    assert!(message.contains("UTF-8"), "{message}");
    let message = refused(&folder, "a: b: c: d\n", "no YAML");
    assert!(message.contains("malformed YAML"), "{message}");
    let message = refused(&folder, "just text\n", "no object");
    assert!(message.contains("object"), "{message}");
    let message = refused(&folder, "kind: Pod\nmetadata: {name: x}\n", "no apiVersion");
    assert!(message.contains("apiVersion"), "{message}");
    let message = refused(&folder, NETWORK_POLICY.replace("networking.k8s.io/v1", "k8sV1"), "misspelt group");
    assert!(message.contains("`k8sV1` has no kind `NetworkPolicy`"), "{message}");
}

#[test]
fn files_that_are_not_there() {
    let folder = Folder::new("files");
    for path in ["missing.yaml", "missing/folder"] {
        let path = format!("{}/{path}", folder.path());
        let run = portcullis(&["eval", "-f", &path, "--from", "192.0.2.8", "--to", "192.0.2.9"]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert_eq!(run.stderr, format!("error: {path}: no such file or directory\n"));
    }
    // A folder without manifests is more likely a wrong name than a cluster without policy.
    let run = portcullis(&["eval", "-f", folder.path(), "--from", "192.0.2.8", "--to", "192.0.2.9"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.starts_with(&format!("error: {}: ", folder.path())), "{run:?}");
    // A link whose target is gone is a file that vanished.
    #[cfg(unix)]
    {
        folder.write("good.yaml", NAMESPACE);
        std::os::unix::fs::symlink("/nowhere/at/all", format!("{}/gone.yaml", folder.path())).unwrap();
        let run = portcullis(&["eval", "-f", folder.path(), "--from", "192.0.2.8", "--to", "192.0.2.9"]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("gone.yaml: "), "{run:?}");
    }
}
