//! Objects of every kind that policy depends on.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer};

use crate::admin_network_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy};
use crate::autoscaling::HorizontalPodAutoscaler;
use crate::calico::{CalicoObject, FelixConfiguration};
use crate::cluster::{Namespace, Node, ServiceAccount};
use crate::cluster_network_policy::ClusterNetworkPolicy;
use crate::error::{ConvertErrors, ObjectRef, Warning};
use crate::form::{Form, WorkloadRecord};
use crate::importer::services::{self, Plan};
use crate::kind::{Kind, Known};
use crate::meta::{ObjectMeta, Placing};
use crate::names::Names;
use crate::network_policy::{ExtensionsNetworkPolicy, NetworkPolicy};
use crate::service::{EndpointSlice, Endpoints, Service};
use crate::workload::{Pod, Workload};

/// An object that policy depends on, as its manifest has it. Not yet checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Object {
    /// A namespace.
    Namespace(Box<Namespace>),
    /// A service account.
    ServiceAccount(Box<ServiceAccount>),
    /// A node.
    Node(Box<Node>),
    /// A pod.
    Pod(Box<Pod>),
    /// Something that makes pods.
    Workload(Box<Workload>),
    /// A service.
    Service(Box<Service>),
    /// Backends of a service.
    EndpointSlice(Box<EndpointSlice>),
    /// Backends of a service, in the older form.
    Endpoints(Box<Endpoints>),
    /// What changes the number of a workload's pods.
    HorizontalPodAutoscaler(Box<HorizontalPodAutoscaler>),
    /// A NetworkPolicy of `networking.k8s.io/v1`.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A NetworkPolicy of `extensions/v1beta1`.
    ExtensionsNetworkPolicy(Box<NetworkPolicy>),
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy(Box<ClusterNetworkPolicy>),
    /// An AdminNetworkPolicy.
    AdminNetworkPolicy(Box<AdminNetworkPolicy>),
    /// The BaselineAdminNetworkPolicy.
    BaselineAdminNetworkPolicy(Box<BaselineAdminNetworkPolicy>),
    /// The configuration of Calico's node agent.
    FelixConfiguration(Box<FelixConfiguration>),
    /// An object of one of Calico's kinds of policy and of what policy selects.
    Calico(Box<CalicoObject>),
}

impl Object {
    /// Reads an object of a kind from its document.
    ///
    /// `apiVersion` and `kind` may be missing in the document, as they are in the items of a typed list: they are not read
    /// again. Policies are read as an API server reads them in strict mode: unknown fields are refused. Of other objects
    /// only what policy depends on is read.
    ///
    /// ```
    /// use portcullis_k8s::{Kind, Object};
    /// use serde_json::json;
    ///
    /// let kind = Kind::of("v1", "Namespace").kind().unwrap();
    /// let object = Object::deserialize(kind, json!({"metadata": {"name": "shop"}})).unwrap();
    /// assert_eq!(object.reference().to_string(), "Namespace shop");
    /// ```
    ///
    /// # Errors
    /// When a field that is read has the wrong type, or a policy has an unknown field.
    pub fn deserialize<'de, D: Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<Self, D::Error> {
        Ok(match kind.known() {
            Known::Namespace => Self::Namespace(read(deserializer)?),
            Known::ServiceAccount => Self::ServiceAccount(read(deserializer)?),
            Known::Node => Self::Node(read(deserializer)?),
            Known::Pod => Self::Pod(read(deserializer)?),
            Known::Service => Self::Service(read(deserializer)?),
            Known::EndpointSlice => Self::EndpointSlice(read(deserializer)?),
            Known::Endpoints => Self::Endpoints(read(deserializer)?),
            Known::HorizontalPodAutoscaler => Self::HorizontalPodAutoscaler(read(deserializer)?),
            Known::Workload(kind) => Self::Workload(Box::new(Workload::deserialize(kind, deserializer)?)),
            Known::NetworkPolicy => Self::NetworkPolicy(read(deserializer)?),
            Known::ExtensionsNetworkPolicy => {
                let old = ExtensionsNetworkPolicy::deserialize(deserializer)?;
                Self::ExtensionsNetworkPolicy(Box::new(old.into()))
            }
            Known::ClusterNetworkPolicy => Self::ClusterNetworkPolicy(read(deserializer)?),
            Known::AdminNetworkPolicy => Self::AdminNetworkPolicy(read(deserializer)?),
            Known::BaselineAdminNetworkPolicy => Self::BaselineAdminNetworkPolicy(read(deserializer)?),
            Known::FelixConfiguration => Self::FelixConfiguration(read(deserializer)?),
            Known::Calico(kind, group) => {
                Self::Calico(Box::new(CalicoObject::deserialize(kind, group, deserializer)?))
            }
        })
    }

    /// The kind, as a user writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "Namespace",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Node(_) => "Node",
            Self::Pod(_) => "Pod",
            Self::Workload(o) => o.kind.name(),
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Endpoints(_) => "Endpoints",
            Self::HorizontalPodAutoscaler(_) => "HorizontalPodAutoscaler",
            Self::NetworkPolicy(_) | Self::ExtensionsNetworkPolicy(_) => "NetworkPolicy",
            Self::ClusterNetworkPolicy(_) => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy(_) => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy(_) => "BaselineAdminNetworkPolicy",
            Self::FelixConfiguration(_) => "FelixConfiguration",
            Self::Calico(o) => o.kind(),
        }
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(o) => &o.metadata,
            Self::ServiceAccount(o) => &o.metadata,
            Self::Node(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Workload(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
            Self::EndpointSlice(o) => &o.metadata,
            Self::Endpoints(o) => &o.metadata,
            Self::HorizontalPodAutoscaler(o) => &o.metadata,
            Self::NetworkPolicy(o) | Self::ExtensionsNetworkPolicy(o) => &o.metadata,
            Self::ClusterNetworkPolicy(o) => &o.metadata,
            Self::AdminNetworkPolicy(o) => &o.metadata,
            Self::BaselineAdminNetworkPolicy(o) => &o.metadata,
            Self::FelixConfiguration(o) => &o.metadata,
            Self::Calico(o) => o.metadata(),
        }
    }

    /// The object in the form that the model is made of.
    pub(crate) fn form(&self, names: &mut Names) -> Result<(Form, Vec<Warning>), ConvertErrors> {
        let policy = |(policy, warnings)| (Form::Policies(vec![policy]), warnings);
        Ok(match self {
            Self::Namespace(o) => with(o.convert_with(names)?, Form::Namespace),
            Self::ServiceAccount(o) => with(o.convert_with(names)?, Form::ServiceAccount),
            Self::Node(o) => with(o.convert_with(names)?, Form::Node),
            Self::Pod(o) => with(o.record(names)?, |record| Form::Pod(Box::new(record))),
            Self::Workload(o) => with(o.record(names)?, |pod| {
                Form::Workload(Box::new(WorkloadRecord { kind: o.kind, pod, count: o.count }))
            }),
            Self::HorizontalPodAutoscaler(o) => (Form::Autoscaler(o.clone()), Vec::new()),
            Self::Service(o) => with(Plan::read(o, names)?, |plan| Form::Service(Box::new(plan))),
            Self::Endpoints(o) => with(services::endpoints(o, names)?, Form::Endpoints),
            Self::EndpointSlice(o) => with(services::slice(o, names)?, Form::EndpointSlice),
            Self::NetworkPolicy(o) => policy(o.convert_with(names)?),
            Self::ExtensionsNetworkPolicy(o) => {
                let (form, mut warnings) = policy(o.convert_with(names)?);
                warnings.push(Warning {
                    object: self.reference(),
                    field: "apiVersion".into(),
                    message: "`extensions/v1beta1` is read as `networking.k8s.io/v1`".into(),
                });
                (form, warnings)
            }
            Self::ClusterNetworkPolicy(o) => policy(o.convert_with(names)?),
            Self::AdminNetworkPolicy(o) => policy(o.convert_with(names)?),
            Self::BaselineAdminNetworkPolicy(o) => policy(o.convert_with(names)?),
            Self::FelixConfiguration(o) => with(o.convert(names)?, Form::Felix),
            Self::Calico(o) => o.convert(names)?,
        })
    }

    /// How messages call the object.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        self.metadata().reference(self.kind(), self.placing())
    }

    /// Puts a namespaced object that names no namespace into `namespace`, as `kubectl -n` does; other objects stay as they
    /// are.
    pub fn set_default_namespace(&mut self, namespace: &str) {
        if matches!(self.placing(), Placing::Namespaced) {
            let given = &mut self.metadata_mut().namespace;
            if given.as_deref().unwrap_or_default().is_empty() {
                *given = Some(namespace.into());
            }
        }
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Namespace(o) => &mut o.metadata,
            Self::ServiceAccount(o) => &mut o.metadata,
            Self::Node(o) => &mut o.metadata,
            Self::Pod(o) => &mut o.metadata,
            Self::Workload(o) => &mut o.metadata,
            Self::Service(o) => &mut o.metadata,
            Self::EndpointSlice(o) => &mut o.metadata,
            Self::Endpoints(o) => &mut o.metadata,
            Self::HorizontalPodAutoscaler(o) => &mut o.metadata,
            Self::NetworkPolicy(o) | Self::ExtensionsNetworkPolicy(o) => &mut o.metadata,
            Self::ClusterNetworkPolicy(o) => &mut o.metadata,
            Self::AdminNetworkPolicy(o) => &mut o.metadata,
            Self::BaselineAdminNetworkPolicy(o) => &mut o.metadata,
            Self::FelixConfiguration(o) => &mut o.metadata,
            Self::Calico(o) => o.metadata_mut(),
        }
    }

    pub(crate) fn placing(&self) -> Placing {
        match self {
            Self::Namespace(_)
            | Self::Node(_)
            | Self::ClusterNetworkPolicy(_)
            | Self::AdminNetworkPolicy(_)
            | Self::BaselineAdminNetworkPolicy(_)
            | Self::FelixConfiguration(_) => Placing::Cluster,
            Self::ServiceAccount(_)
            | Self::Pod(_)
            | Self::Workload(_)
            | Self::Service(_)
            | Self::EndpointSlice(_)
            | Self::Endpoints(_)
            | Self::HorizontalPodAutoscaler(_)
            | Self::NetworkPolicy(_)
            | Self::ExtensionsNetworkPolicy(_) => Placing::Namespaced,
            Self::Calico(o) => o.placing(),
        }
    }
}

fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Box<T>, D::Error> {
    T::deserialize(deserializer).map(Box::new)
}

fn with<T>((read, warnings): (T, Vec<Warning>), form: impl FnOnce(T) -> Form) -> (Form, Vec<Warning>) {
    (form(read), warnings)
}
