//! Generated clusters. The same numbers give the same bytes.

use std::io::{self, Write};

/// Pods of one namespace; the last namespace may have fewer.
const PODS: u32 = 200;

/// Writes `pods` pods, 200 a namespace, and `policies` NetworkPolicies spread over the namespaces.
pub(crate) fn manifests(out: &mut impl Write, pods: u32, policies: u32) -> io::Result<()> {
    let namespaces = pods.div_ceil(PODS);
    for namespace in 0..namespaces {
        writeln!(
            out,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{namespace}, labels: {{team: t{}}}}}",
            namespace % 50
        )?;
    }
    for pod in 0..pods {
        let [_, b, c, d] = (0x0a00_0000 | pod).to_be_bytes();
        writeln!(
            out,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{pod}\n  namespace: ns-{}\n  labels:\n    app: app-{}\n    \
             tier: tier-{}\n    pod-template-hash: h{}\nspec:\n  nodeName: node-{}\n  serviceAccountName: sa-{}\n  containers:\n  \
             - name: main\n    image: registry.invalid/app:1\n    ports:\n    - name: http\n      containerPort: 8080\n\
             status:\n  phase: Running\n  podIP: 10.{b}.{c}.{d}\n  podIPs:\n  - ip: 10.{b}.{c}.{d}",
            pod / PODS,
            pod % 20,
            pod % 4,
            pod % 40,
            pod % 1000,
            pod % 10,
        )?;
    }
    for policy in 0..policies {
        writeln!(
            out,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: policy-{policy}, namespace: ns-{}}}\n\
             spec:\n  podSelector: {{matchLabels: {{app: app-{}}}}}\n  policyTypes: [Ingress]\n  ingress:\n  - from:\n    - \
             podSelector: {{matchLabels: {{app: app-{}}}}}\n    - namespaceSelector: {{matchLabels: {{team: t{}}}}}\n      \
             podSelector: {{matchLabels: {{tier: tier-{}}}}}\n    - ipBlock: {{cidr: 192.0.{}.0/24}}\n    ports:\n    - port: {}\n    - port: http",
            policy % namespaces,
            policy / namespaces % 20,
            (policy + 3) % 20,
            (policy + 1) % 50,
            policy % 4,
            policy % 256,
            8000 + policy % 5,
        )?;
    }
    Ok(())
}

/// The ends of flow `number` among the first `pods` pods of the first namespace.
pub(crate) fn flow(number: u32, pods: u32) -> (String, String) {
    let mixed = number.wrapping_mul(2_654_435_761);
    (format!("ns-0/pod-{}", mixed % pods), format!("ns-0/pod-{}", (mixed >> 12) % pods))
}
