//! Policies of other network plugins.
//!
//! They decide about flows beside the policies that are read here, so an answer without them has to say so (decision
//! D30). The kinds are named in the documentation of each project; groups are matched as a whole or by their end.

/// Whether `kind` of `group` is a policy of another implementation, which lets flows pass or stops them.
///
/// In a group of a network plugin these are all kinds that end in `Policy` or `Firewall`, but for the few that only
/// route or watch, and the kinds of that plugin that are policies by another name. In any other group it is a kind
/// that calls itself a network policy.
pub(crate) fn is_policy(group: &str, kind: &str) -> bool {
    let is_named_so = kind.ends_with("Policy") || kind.ends_with("Firewall");
    let of_a_plugin =
        |(plugin, kinds): &(&str, &[&str])| is_group(group, plugin) && (is_named_so || kinds.contains(&kind));
    !NO_POLICIES.contains(&kind)
        && (kind.ends_with("NetworkPolicy")
            || PLUGINS.iter().any(of_a_plugin)
            || OTHERS.contains(&(group, kind)))
}

/// Whether `group` is `known`, or ends in it where that begins with a dot.
fn is_group(group: &str, known: &str) -> bool {
    group == known
        || (known.starts_with('.') && (group.ends_with(known) || group == known.trim_start_matches('.')))
}

/// Groups of network plugins and of meshes that authorize, and their policies that have another name. A group that
/// begins with a dot stands for all that end so.
const PLUGINS: [(&str, &[&str]); 23] = [
    // Cilium, and its edition of Isovalent.
    ("cilium.io", &[]),
    (".isovalent.com", &[]),
    // Antrea, of all years.
    (".antrea.io", &[]),
    (".antrea.tanzu.vmware.com", &[]),
    // OVN-Kubernetes and OpenShift.
    ("k8s.ovn.org", &[]),
    ("network.openshift.io", &["NetNamespace"]),
    ("ingressnodefirewall.openshift.io", &[]),
    // Policies for secondary networks.
    ("k8s.cni.cncf.io", &[]),
    // Amazon's CNI.
    ("networking.k8s.aws", &["PolicyEndpoint", "ClusterPolicyEndpoint"]),
    ("vpcresources.k8s.aws", &[]),
    // Kube-OVN.
    ("kubeovn.io", &["SecurityGroup"]),
    // NSX, Contrail, NeuVector.
    (".nsx.vmware.com", &[]),
    (".contrail.juniper.net", &[]),
    ("neuvector.com", &["NvSecurityRule", "NvClusterSecurityRule"]),
    // Istio.
    ("security.istio.io", &["PeerAuthentication"]),
    ("authentication.istio.io", &[]),
    ("rbac.istio.io", &["ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"]),
    // Linkerd.
    ("policy.linkerd.io", &["EgressNetwork", "Server", "ServerAuthorization"]),
    // Kuma, Consul, Open Service Mesh and what Service Mesh Interface called them.
    ("kuma.io", &["MeshTrafficPermission", "TrafficPermission"]),
    ("consul.hashicorp.com", &["ServiceIntentions"]),
    ("policy.openservicemesh.io", &["Egress", "IngressBackend"]),
    ("access.smi-spec.io", &["TrafficTarget"]),
    // Calico's own groups: kinds of its other editions and of later versions.
    (".projectcalico.org", &[]),
];

/// Policies in groups whose other kinds are not.
const OTHERS: [(&str, &str); 2] =
    // The form of OpenShift 3; the firewall of the virtual network in GKE, whose other policies are of gateways.
    [("", "EgressNetworkPolicy"), ("networking.gke.io", "GCPFirewall")];

/// Kinds of these groups that stop no flow: they announce routes, shape traffic, watch processes or say how much may
/// be used.
const NO_POLICIES: [&str; 8] = [
    "BGPPolicy",
    "CiliumBGPPeeringPolicy",
    "CiliumL2AnnouncementPolicy",
    "GatewayPolicy",
    "HTTPLocalRateLimitPolicy",
    "QoSPolicy",
    "TracingPolicy",
    "TracingPolicyNamespaced",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_other_plugins() {
        for (group, kind) in [
            ("cilium.io", "CiliumNetworkPolicy"),
            ("cilium.io", "CiliumClusterwideNetworkPolicy"),
            ("cilium.io", "CiliumEgressGatewayPolicy"),
            ("cilium.io", "CiliumLocalRedirectPolicy"),
            ("isovalent.com", "IsovalentEgressGatewayPolicy"),
            ("crd.antrea.io", "ClusterNetworkPolicy"),
            ("crd.antrea.io", "NetworkPolicy"),
            ("controlplane.antrea.io", "NetworkPolicy"),
            ("security.antrea.tanzu.vmware.com", "ClusterNetworkPolicy"),
            ("k8s.ovn.org", "EgressFirewall"),
            ("network.openshift.io", "EgressNetworkPolicy"),
            ("network.openshift.io", "NetNamespace"),
            ("", "EgressNetworkPolicy"),
            ("ingressnodefirewall.openshift.io", "IngressNodeFirewall"),
            ("k8s.cni.cncf.io", "MultiNetworkPolicy"),
            ("networking.k8s.aws", "PolicyEndpoint"),
            ("networking.k8s.aws", "ClusterPolicyEndpoint"),
            ("networking.k8s.aws", "ApplicationNetworkPolicy"),
            ("networking.k8s.aws", "ClusterNetworkPolicy"),
            ("vpcresources.k8s.aws", "SecurityGroupPolicy"),
            ("networking.gke.io", "FQDNNetworkPolicy"),
            ("kubeovn.io", "SecurityGroup"),
            ("crd.nsx.vmware.com", "SecurityPolicy"),
            ("security.istio.io", "AuthorizationPolicy"),
            ("security.istio.io", "PeerAuthentication"),
            ("policy.linkerd.io", "Server"),
            ("policy.linkerd.io", "ServerAuthorization"),
            ("policy.linkerd.io", "AuthorizationPolicy"),
            ("kuma.io", "MeshTrafficPermission"),
            ("consul.hashicorp.com", "ServiceIntentions"),
            ("netpol.example.com", "TenantNetworkPolicy"),
        ] {
            assert!(is_policy(group, kind), "{kind} of {group}");
        }
    }

    #[test]
    fn kinds_that_are_no_network_policy() {
        for (group, kind) in [
            ("policy", "PodDisruptionBudget"),
            ("policy", "PodSecurityPolicy"),
            ("extensions", "PodSecurityPolicy"),
            ("kyverno.io", "ClusterPolicy"),
            ("kyverno.io", "Policy"),
            ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
            ("gateway.networking.k8s.io", "BackendTLSPolicy"),
            ("gateway.envoyproxy.io", "SecurityPolicy"),
            ("networking.gke.io", "GCPBackendPolicy"),
            ("networking.gke.io", "HealthCheckPolicy"),
            ("networking.istio.io", "DestinationRule"),
            ("security.istio.io", "RequestAuthentication"),
            ("k8s.ovn.org", "AdminPolicyBasedExternalRoute"),
            ("k8s.ovn.org", "EgressQoS"),
            ("cilium.io", "CiliumEndpoint"),
            ("cilium.io", "CiliumCIDRGroup"),
            ("cilium.io", "CiliumBGPPeeringPolicy"),
            ("cilium.io", "TracingPolicy"),
            ("crd.antrea.io", "Egress"),
            ("autoscaling.k8s.io", "VerticalPodAutoscaler"),
            ("iam.aws.crossplane.io", "Policy"),
            ("projectcalico.org", "IPPool"),
            ("k8s.cni.cncf.io", "NetworkAttachmentDefinition"),
            ("notcilium.io", "FooPolicy"),
        ] {
            assert!(!is_policy(group, kind), "{kind} of {group}");
        }
    }
}
