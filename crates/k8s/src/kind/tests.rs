//! Which kinds matter.

use super::*;

#[test]
fn kinds_that_matter() {
    for (version, kind) in [
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("extensions/v1beta1", "NetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
        ("batch/v1beta1", "CronJob"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "Endpoints"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("projectcalico.org/v3", "FelixConfiguration"),
        ("crd.projectcalico.org/v1", "FelixConfiguration"),
    ] {
        assert!(Kind::of(version, kind).kind().is_some(), "{version} {kind}");
    }
    for (version, kind) in [
        ("v1", "ConfigMap"),
        ("networking.k8s.io/v1", "Ingress"),
        ("projectcalico.org/v3", "IPPool"),
        ("serving.knative.dev/v1", "Service"),
        ("", ""),
    ] {
        assert_eq!(Kind::of(version, kind), Relevance::Ignored, "{version} {kind}");
    }
    for (version, kind) in [
        ("crd.antrea.io/v1beta1", "NetworkPolicy"),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("v1", "EgressNetworkPolicy"),
        ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy"),
        ("networking.k8s.aws/v1alpha1", "ClusterNetworkPolicy"),
        ("projectcalico.org/v3", "EgressGatewayPolicy"),
        ("crd.projectcalico.org/v1", "EgressGatewayPolicy"),
    ] {
        assert_eq!(Kind::of(version, kind), Relevance::Foreign, "{version} {kind}");
    }
    for (version, kind) in [
        ("networking.k8s.io/v2", "NetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "ClusterNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha2", "NodeNetworkPolicy"),
        ("v2", "Pod"),
        ("apps/v1", "Pod"),
        ("k8sV1", "NetworkPolicy"),
        ("networking.k8s.io/v1", "GlobalNetworkPolicy"),
        ("projectcalico/v3", "NetworkPolicy"),
        ("networking.k8s.io/v1", "Networkpolicy"),
        ("networking.k8s.io/v1", "NetworkPolicys"),
        ("v1", "pod"),
        ("apps/v1", "Deploymnet"),
        ("crd.projectcalico.org/v1", "GlobalNetworkSets"),
        ("projectcalico.org/v1", "FelixConfiguration"),
        ("v1", "FelixConfiguration"),
        ("v1", "Networkpolicy"),
        ("apps/v1", "networkPolicy"),
        ("networking.k8s.io/v1", "XNetworkPolicy"),
        ("networking.k8.io/v1", "NetworkPolicy"),
        ("projectcalico.org/v3", "GlobaNetworkPolicy"),
        ("projectcalico.og/v3", "GlobalNetworkSet"),
        ("policy.network.k8s.io/v1alpha1", "Networkpolicy"),
    ] {
        assert!(matches!(Kind::of(version, kind), Relevance::Unsupported(_)), "{version} {kind}");
    }
}

#[test]
fn kinds_of_a_server_are_not_taken_for_misspelt_ones() {
    for (version, kinds) in [
        (
            "v1",
            "ConfigMap Secret Event PersistentVolume PersistentVolumeClaim LimitRange ResourceQuota PodTemplate Binding",
        ),
        ("apps/v1", "ControllerRevision"),
        ("networking.k8s.io/v1", "Ingress IngressClass IPAddress ServiceCIDR"),
        ("extensions/v1beta1", "Ingress PodSecurityPolicy"),
        ("policy/v1", "PodDisruptionBudget PodSecurityPolicy Eviction"),
        ("rbac.authorization.k8s.io/v1", "Role RoleBinding ClusterRole ClusterRoleBinding"),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy MutatingAdmissionPolicy"),
        ("gateway.networking.k8s.io/v1", "Gateway GatewayClass HTTPRoute BackendTLSPolicy ReferenceGrant"),
        ("node.k8s.io/v1", "RuntimeClass"),
        ("storage.k8s.io/v1", "StorageClass CSIDriver CSINode"),
        (
            "projectcalico.org/v3",
            "IPPool BGPPeer BGPConfiguration NodeStatus ClusterInformation IPReservation",
        ),
    ] {
        for kind in kinds.split(' ') {
            assert_eq!(Kind::of(version, kind), Relevance::Ignored, "{version} {kind}");
        }
    }
}
