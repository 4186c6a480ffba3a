//! Which pods belong to which workload.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;

use crate::autoscaling::HorizontalPodAutoscaler;
use crate::form::WorkloadRecord;
use crate::workload::{Hosting, Owner, PodCount, PodRecord, WorkloadKind};

/// A workload of the input, or one that is known by its pods alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPods {
    /// Its kind.
    pub kind: Name,
    /// Its pods, by name; the endpoint that stands for them when none was given. Never none.
    pub pods: Vec<EndpointId>,
    /// How many pods it may have at a time.
    pub count: PodCount,
}

/// A workload: namespace, kind, name.
pub(crate) type WorkloadKey = (Option<Name>, Name, Name);

/// Workloads by what owner references, labels and names tell.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// The pods of each workload that has any in the input.
    pods: BTreeMap<WorkloadKey, BTreeSet<EndpointId>>,
    /// Workloads of the input that another one of the input makes.
    made: BTreeSet<WorkloadKey>,
    /// Pods that have finished.
    finished: BTreeSet<EndpointId>,
    /// Workloads that have, or may get, several pods.
    several: BTreeSet<WorkloadKey>,
    /// Endpoints that stand for the pods of a workload.
    representatives: BTreeMap<WorkloadKey, EndpointId>,
}

impl Owners {
    pub(crate) fn new<'a>(
        pods: impl IntoIterator<Item = &'a PodRecord>,
        workloads: impl IntoIterator<Item = &'a WorkloadRecord> + Clone,
        autoscalers: impl IntoIterator<Item = &'a HorizontalPodAutoscaler>,
    ) -> Self {
        let mut owners = Self::default();
        let parents: BTreeMap<WorkloadKey, &[Owner]> = workloads
            .clone()
            .into_iter()
            .map(|workload| (key(workload.kind, &workload.pod.endpoint.id), workload.pod.owners.as_slice()))
            .collect();
        for WorkloadRecord { kind, pod, count } in workloads {
            let namespace = &pod.endpoint.id.namespace;
            let this = key(*kind, &pod.endpoint.id);
            if pod.owners.iter().any(|owner| parents.contains_key(&key_of(namespace.as_ref(), owner))) {
                owners.made.insert(this.clone());
            }
            if *count == PodCount::Several {
                owners.several.insert(this);
            }
        }
        owners.several.extend(autoscalers.into_iter().filter_map(scaled));
        for pod in pods {
            owners.pod(pod, &parents);
        }
        owners
    }

    /// Notes `pod` with each workload that it belongs to, through those between.
    fn pod(&mut self, pod: &PodRecord, parents: &BTreeMap<WorkloadKey, &[Owner]>) {
        let id = &pod.endpoint.id;
        if pod.hosting == Hosting::Finished {
            self.finished.insert(id.clone());
        }
        let namespace = id.namespace.as_ref();
        let known = pod.owners.iter().filter(|owner| owner.kind.as_str() != "Node");
        let mut open: Vec<WorkloadKey> = known.map(|owner| key_of(namespace, owner)).collect();
        if pod.owners.is_empty() {
            open.extend(by_labels(pod));
        }
        let mut seen = BTreeSet::new();
        while let Some(owner) = open.pop() {
            if !seen.insert(owner.clone()) {
                continue;
            }
            match parents.get(&owner) {
                Some(parents) => open.extend(parents.iter().map(|owner| key_of(namespace, owner))),
                None => {
                    let maker = maker(&owner, pod, |maker| parents.contains_key(maker));
                    open.extend(maker);
                }
            }
            self.pods.entry(owner).or_default().insert(id.clone());
        }
    }

    /// Whether the workload needs no endpoint that stands for its pods: its own are in the input, or another workload of
    /// the input makes it.
    pub(super) fn covers(&self, workload: &WorkloadKey) -> bool {
        self.pods.contains_key(workload) || self.made.contains(workload)
    }

    /// Notes the endpoint that stands for the pods of `workload`.
    pub(super) fn represent(&mut self, workload: WorkloadKey, id: EndpointId) {
        self.representatives.insert(workload, id);
    }

    /// All workloads that have pods, or an endpoint that stands for them, by namespace and name.
    ///
    /// Where several workloads share a name, or a pod has it, each can also be named with its kind, as `web-statefulset`.
    pub(crate) fn by_name(self, named: &BTreeSet<EndpointId>) -> BTreeMap<EndpointId, Vec<WorkloadPods>> {
        let Self { pods, finished, several, representatives, .. } = self;
        let represented = representatives.into_iter().map(|(key, id)| (key, BTreeSet::from([id])));
        let mut found: BTreeMap<EndpointId, Vec<WorkloadPods>> = BTreeMap::new();
        for (workload, pods) in pods.into_iter().chain(represented) {
            let running = pods.iter().filter(|id| !finished.contains(*id)).count();
            let is_single = !several.contains(&workload) && running <= 1;
            let (Some(namespace), kind, name) = workload else { continue };
            let count = if is_single { PodCount::One } else { PodCount::Several };
            let pods: Vec<EndpointId> = pods.into_iter().collect();
            let of_name = found.entry(EndpointId::workload(namespace, name)).or_default();
            // An operator's object often has the name of the workload that it makes.
            match of_name.iter_mut().find(|known| known.pods == pods) {
                Some(known) if count == PodCount::Several => known.count = count,
                Some(_) => {}
                None => of_name.push(WorkloadPods { kind, pods, count }),
            }
        }
        let is_hidden = |id: &EndpointId, of_name: &[WorkloadPods]| {
            named.contains(id) && of_name.iter().all(|workload| workload.pods != [id.clone()])
        };
        let shared = found.iter().filter(|(id, of_name)| of_name.len() > 1 || is_hidden(id, of_name));
        let aliases: Vec<(EndpointId, WorkloadPods)> = shared
            .flat_map(|(id, of_name)| of_name.iter().map(|workload| (alias(id, workload), workload.clone())))
            .collect();
        for (id, workload) in aliases {
            found.entry(id).or_insert_with(|| alloc::vec![workload]);
        }
        found
    }
}

/// The name of a workload that shares its own with another one.
fn alias(id: &EndpointId, workload: &WorkloadPods) -> EndpointId {
    let name = format!("{}-{}", id.name, workload.kind.to_ascii_lowercase());
    EndpointId { name: Name::from(name), ..id.clone() }
}

pub(super) fn key(kind: WorkloadKind, id: &EndpointId) -> WorkloadKey {
    (id.namespace.clone(), Name::new(kind.name()), id.name.clone())
}

fn key_of(namespace: Option<&Name>, owner: &Owner) -> WorkloadKey {
    (namespace.cloned(), owner.kind.clone(), owner.name.clone())
}

/// The workload that an autoscaler may give several pods.
fn scaled(autoscaler: &HorizontalPodAutoscaler) -> Option<WorkloadKey> {
    let spec = autoscaler.spec.as_ref().filter(|spec| spec.max_replicas.is_none_or(|most| most > 1))?;
    let target = spec.scale_target_ref.as_ref()?;
    let namespace = autoscaler.metadata.namespace.as_deref().unwrap_or("default");
    Some((Some(Name::new(namespace)), Name::new(target.kind.as_deref()?), Name::new(target.name.as_deref()?)))
}

/// The Deployment of a ReplicaSet, and the CronJob of a Job, that are not in the input: by the way controllers name
/// what they make. `is_given` tells whether a workload is in the input.
///
/// Sources: kubernetes `pkg/controller/deployment/sync.go`, where the suffix is the label `pod-template-hash`;
/// `pkg/controller/cronjob/cronjob_controllerv2.go`, `getJobName`, where it is the time in minutes.
fn maker(
    (namespace, kind, name): &WorkloadKey,
    pod: &PodRecord,
    is_given: impl Fn(&WorkloadKey) -> bool,
) -> Option<WorkloadKey> {
    let (base, suffix) =
        name.rsplit_once('-').filter(|(base, suffix)| !base.is_empty() && !suffix.is_empty())?;
    let (kind, is_its) = match kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.endpoint.labels.value("pod-template-hash");
            ("Deployment", hash.map_or(suffix.len() >= HASH && is_safe(suffix), |hash| hash == suffix))
        }
        "Job" => ("CronJob", suffix.len() >= MINUTES && suffix.bytes().all(|byte| byte.is_ascii_digit())),
        _ => return None,
    };
    let maker = (namespace.clone(), Name::new(kind), Name::new(base));
    let is_plain = suffix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (is_its || (is_plain && is_given(&maker))).then_some(maker)
}

/// The workload of a pod without owner references, by the labels and the name that controllers give.
///
/// Sources: kubernetes `pkg/controller/statefulset/stateful_set_utils.go`, `pkg/controller/job/job_controller.go`,
/// `pkg/controller/deployment/sync.go`, `pkg/controller/daemon/daemon_controller.go`.
fn by_labels(pod: &PodRecord) -> Option<WorkloadKey> {
    let (id, labels) = (&pod.endpoint.id, &pod.endpoint.labels);
    let (kind, name) = if labels.value("statefulset.kubernetes.io/pod-name") == Some(id.name.as_str()) {
        ("StatefulSet", id.name.rsplit_once('-')?.0)
    } else if let Some(job) =
        labels.value("batch.kubernetes.io/job-name").or_else(|| labels.value("job-name"))
    {
        ("Job", job)
    } else if let Some(hash) = labels.value("pod-template-hash") {
        let set = id.name.rsplit_once('-')?.0;
        set.strip_suffix(hash)?.strip_suffix('-')?;
        ("ReplicaSet", set)
    } else if labels.value("pod-template-generation").is_some() {
        ("DaemonSet", id.name.rsplit_once('-')?.0)
    } else {
        return None;
    };
    Some((id.namespace.clone(), Name::new(kind), Name::new(name)))
}

/// Whether `text` has only letters of generated suffixes.
/// Source: kubernetes `staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go`.
fn is_safe(text: &str) -> bool {
    text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
}

/// The fewest letters of the hash of a pod template.
const HASH: usize = 6;

/// The fewest digits of a time in minutes since 1970, from 1989 on.
const MINUTES: usize = 8;
