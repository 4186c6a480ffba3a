//! Which ends a flow comes to, and what is said about answers that hold for a part of it.

use crate::{Folder, portcullis};

/// Asks about one flow in `input`.
fn ask(input: &str, flow: &[&str]) -> crate::Run {
    portcullis(&[&["eval", "-f", input][..], flow].concat())
}

/// A client, and a ReplicaSet with two pods, of which `pod` is the specification.
fn two_pods(pod: &str) -> String {
    let owner = "[{apiVersion: apps/v1, kind: ReplicaSet, name: w, uid: u1, controller: true}]";
    let mut text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: cl, namespace: a, labels: {{app: cl}}}}, status: {{podIP: 10.0.0.1}}}}
---
{{apiVersion: apps/v1, kind: ReplicaSet, metadata: {{name: w, namespace: a, uid: u1}}, spec: {{replicas: 2,
  selector: {{matchLabels: {{app: w}}}}, template: {{metadata: {{labels: {{app: w}}}}, spec: {pod}}}}}}}
"
    );
    for (name, address) in [("w-1", "10.0.0.2"), ("w-2", "10.0.0.3")] {
        text.push_str(&format!(
            "---
{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: a, labels: {{app: w}}, ownerReferences: {owner}}},
  spec: {pod}, status: {{podIP: {address}}}}}
"
        ));
    }
    text
}

/// Rules on services look at addresses, in which pods of one workload differ.
#[test]
fn pods_that_rules_on_services_tell_apart_are_asked_about_apart() {
    let folder = Folder::new("service-rules");
    let policy = |side: &str| {
        format!(
            "---
{{apiVersion: v1, kind: Service, metadata: {{name: w, namespace: a}}, spec: {{ports: [{{port: 8080}}]}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{{port: 8080, protocol: TCP}}],
  metadata: {{name: w-x, namespace: a, labels: {{kubernetes.io/service-name: w}}}},
  endpoints: [{{addresses: [10.0.0.2], conditions: {{ready: true}}}}]}}
---
{{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {{name: p, namespace: a}}, spec: {{{side}}}}}
"
        )
    };
    let to = "selector: app == 'cl', types: [Egress],
  egress: [{action: Allow, protocol: TCP, destination: {services: {name: w, namespace: a}}}]";
    let from = "selector: app == 'cl', types: [Ingress],
  ingress: [{action: Allow, source: {services: {name: w, namespace: a}}}]";
    for (rule, flow, other) in
        [(to, ["--from", "a/cl", "--to", "a/w"], "a/w-2"), (from, ["--from", "a/w", "--to", "a/cl"], "a/w-2")]
    {
        let input = folder.write("input.yaml", two_pods("{containers: [{name: c}]}") + &policy(rule));
        let run = ask(&input, &[&flow[..], &["--port", "8080", "-o", "json"]].concat());
        assert!(run.stdout.starts_with(r#"{"id":null,"verdict":"deny""#), "{run:?}");
        for part in [r#":"a/w-1","#, &format!(r#":"{other}","#)] {
            assert!(run.stdout.contains(part), "{part} in {run:?}");
        }
    }
}

/// Pods in the network of one node are that node, which reaches itself.
#[test]
fn pods_of_one_host_reach_each_other() {
    let folder = Folder::new("one-host");
    let node = "---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: n1},
  spec: {node: n1, interfaceName: '*', expectedIPs: [192.168.0.1]}}
";
    let pods = two_pods("{hostNetwork: true, nodeName: n1, containers: [{name: c}]}");
    let input = folder.write("input.yaml", pods + node);
    for port in [&["--port", "8080"][..], &[]] {
        let run = ask(&input, &[&["--from", "a/w", "--to", "a/w"][..], port, &["-o", "json"]].concat());
        assert!(run.stdout.starts_with(r#"{"id":null,"verdict":"allow""#), "{run:?}");
        assert!(run.stdout.contains(r#""cause":"loopback""#), "{run:?}");
    }
}

/// A service with a node port and an external address; its only backend is on `n2`, and `n1` has a host endpoint.
const SERVICE: &str = "
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: w, namespace: a, labels: {app: w}},
  spec: {nodeName: n2, containers: [{name: c}]}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cl, namespace: a}, spec: {nodeName: n1, containers: [{name: c}]},
  status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: w, namespace: a}, spec: {type: NodePort, clusterIP: 10.96.0.1,
  externalTrafficPolicy: POLICY, externalIPs: [203.0.113.9], selector: {app: w},
  ports: [{port: 8080, targetPort: 80, nodePort: 30080}]}}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: n1, labels: {host: h}},
  spec: {node: n1, interfaceName: '*', expectedIPs: [192.168.0.1]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: early},
  spec: {selector: has(host), preDNAT: true, applyOnForward: true, types: [Ingress],
    ingress: [{action: Deny, protocol: TCP, destination: {ports: [30080]}}]}}
";

/// The trace of a hook before destination NAT is that of the packet which the hook saw.
#[test]
fn a_trace_agrees_with_the_decision_before_destination_nat() {
    let folder = Folder::new("pre-dnat-trace");
    let input = folder.write("input.yaml", SERVICE.replace("POLICY", "Cluster"));
    let flow = ["--from", "198.51.100.1", "--to", "node/n1", "--port", "30080"];
    let run = ask(&input, &flow);
    assert!(run.stdout.starts_with("deny: "), "{run:?}");
    assert!(run.stdout.contains("  pre-dnat of hep/n1: deny\n"), "{run:?}");
    assert!(run.stdout.contains("deny on TCP 30080: matched\n"), "{run:?}");
    let run = ask(&input, &[&flow[..], &["--explain", "-o", "json"]].concat());
    assert!(run.stdout.contains(r#""hook":"pre-dnat","endpoint":"hep/n1","verdict":"deny""#), "{run:?}");
}

/// Whoever sends to node ports and external addresses may be masqueraded, unless the backend is where it is translated.
#[test]
fn where_the_source_may_be_masqueraded_a_warning_says_so() {
    let folder = Folder::new("masquerade");
    for policy in ["Cluster", "Local"] {
        let input = folder.write("input.yaml", SERVICE.replace("POLICY", policy));
        for (to, port, from) in [
            ("203.0.113.9", "8080", "a/cl"),
            ("203.0.113.9", "8080", "198.51.100.1"),
            ("192.168.0.1", "30080", "a/cl"),
            ("192.168.0.1", "30080", "198.51.100.1"),
            ("192.168.0.1", "30080", "node/n2"),
        ] {
            let run = ask(&input, &["--from", from, "--to", to, "--port", port]);
            let is_said = run.stderr.contains("may put its own address in place of the source's");
            assert_eq!(is_said, policy == "Cluster", "{from} {to}: {run:?}");
        }
        for (to, port, from) in [
            ("203.0.113.9", "8080", "node/n1"),
            ("192.168.0.2", "30080", "a/cl"),
            ("192.168.0.2", "30080", "198.51.100.1"),
            ("10.96.0.1", "8080", "a/cl"),
        ] {
            let run = ask(&input, &["--from", from, "--to", to, "--port", port]);
            assert!(!run.stderr.contains("its own address in place"), "{from} {to}: {run:?}");
        }
        let run = ask(&input, &["--from", "198.51.100.1", "--to", "203.0.113.9", "--port", "8080"]);
        let is_said = run.stderr.contains("is taken to come in at node n2");
        assert_eq!(is_said, policy == "Cluster", "{run:?}");
    }
}

/// The summary of an answer for many ports stands first, and tables do not call it a plain denial.
#[test]
fn an_answer_for_a_part_says_for_which() {
    let folder = Folder::new("in-part");
    let policy = "---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: a},
  spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}}
";
    let input = folder.write("input.yaml", two_pods("{containers: [{name: c}]}") + policy);
    let flow = ["--from", "a/cl", "--to", "a/w"];
    let run = ask(&input, &flow);
    let first = "deny in part: a/cl to a/w, TCP every port: allow on TCP 80; otherwise deny\n";
    assert!(run.stdout.starts_with(first), "{run:?}");
    let run = ask(&input, &[&flow[..], &["-o", "table", "--expect", "allow", "--color", "always"]].concat());
    assert!(run.stdout.contains("deny in part (expected allow)"), "{run:?}");
    assert!(run.stdout.contains("allow on TCP 80; otherwise deny: NetworkPolicy a/p"), "{run:?}");
    let run = ask(&input, &[&flow[..], &["-o", "json"]].concat());
    assert!(run.stdout.starts_with(r#"{"id":null,"verdict":"deny","#), "{run:?}");
}

#[test]
fn no_flow_goes_to_port_0() {
    let folder = Folder::new("port-0");
    let input = folder.write("input.yaml", two_pods("{containers: [{name: c}]}"));
    let run = ask(&input, &["--from", "a/cl", "--to", "a/w", "--port", "0"]);
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("--port: no connection goes to port 0"), "{run:?}");
    let run = ask(&input, &["--from", "a/cl", "--to", "a/w", "--protocol", "ICMP"]);
    assert_eq!(run.code, 0, "{run:?}");
}

/// A pod hides a workload of its name, which is then named with its kind.
#[test]
fn a_pod_that_hides_a_workload_is_said() {
    let folder = Folder::new("hidden-workload");
    let pod = "---
{apiVersion: v1, kind: Pod, metadata: {name: w, namespace: a}, status: {podIP: 10.0.0.9}}
";
    let input = folder.write("input.yaml", two_pods("{containers: [{name: c}]}") + pod);
    let run = ask(&input, &["--from", "a/cl", "--to", "a/w", "--port", "80"]);
    assert!(run.stdout.contains("10.0.0.1 to 10.0.0.9\n"), "{run:?}");
    let says = "warning: `a/w` is a pod and a ReplicaSet: the pod is meant; the other is `a/w-replicaset`\n";
    assert!(run.stderr.contains(says), "{run:?}");
    let run = ask(&input, &["--from", "a/cl", "--to", "a/w-replicaset", "--port", "80"]);
    assert!(run.stdout.contains("10.0.0.1 to 10.0.0.2\n"), "{run:?}");
    assert!(!run.stderr.contains("is a pod and"), "{run:?}");
}
