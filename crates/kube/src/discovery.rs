//! Which of the kinds that policy depends on a server has.

use alloc::collections::BTreeMap;

use portcullis_k8s::{Kind, Relevance};

use crate::client::{Client, Failure, JSON};
use crate::definitions::Board;
use crate::list::ANSWER;
use crate::options::Options;
use crate::wire::{GroupList, ResourceList};

/// What a server has.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    /// By name of the kind.
    pub(crate) kinds: BTreeMap<&'static str, Served>,
    /// Kinds in versions that are not known here, with the reason.
    pub(crate) unsupported: BTreeMap<String, String>,
    /// Versions of groups of which it could not be learnt what is in them.
    pub(crate) unknown: Vec<(String, Failure)>,
}

/// A kind in the version that it is followed in.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) kind: Kind,
    /// Group and version.
    pub(crate) version: String,
    /// The name of the kind in paths.
    pub(crate) plural: String,
    /// Less is better.
    rank: usize,
}

impl Served {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.version == other.version && self.plural == other.plural
    }

    pub(crate) fn path(&self) -> String {
        let root = if self.version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/{}", self.version, self.plural)
    }

    /// The name of its definition, if it is a custom resource.
    pub(crate) fn definition(&self) -> String {
        let group = self.version.split_once('/').map_or("", |(group, _)| group);
        format!("{}.{group}", self.plural)
    }
}

/// Looks up the kinds. Where Calico's are there twice, as it stores them and as it serves them, they are the ones that it
/// stores, as its own agent reads them, unless those that it serves are stored themselves. Source: Calico
/// `libcalico-go/lib/backend/k8s/k8s.go`.
pub(crate) async fn discover(
    client: &Client,
    options: &Options,
    board: &Board,
) -> Result<Discovery, Failure> {
    let groups = get(client, "/apis").await?;
    let groups = serde_json::from_slice::<GroupList>(&groups).map_err(|error| Failure::garbled(&error))?;
    let ours = groups.groups.iter().flatten().filter(|group| GROUPS.contains(&group.name.as_str()));
    let versions = ours.flat_map(|group| group.versions.iter().flatten());
    let mut discovery = Discovery::default();
    add(client, "/api/v1", "v1", (options, board), &mut discovery).await;
    for version in versions {
        let version = &version.group_version;
        add(client, &format!("/apis/{version}"), version, (options, board), &mut discovery).await;
    }
    let Discovery { kinds, unsupported, .. } = &mut discovery;
    unsupported.retain(|kind, _| kinds.values().all(|served| served.kind.name() != kind.as_str()));
    Ok(discovery)
}

async fn add(
    client: &Client,
    path: &str,
    version: &str,
    (options, board): (&Options, &Board),
    discovery: &mut Discovery,
) {
    let resources = match get(client, path).await {
        Ok(bytes) => serde_json::from_slice::<ResourceList>(&bytes).map_err(|error| Failure::garbled(&error)),
        // It went between the two questions.
        Err(failure) if failure.status() == Some(404) => Ok(ResourceList::default()),
        Err(failure) => Err(failure),
    };
    let resources = match resources {
        Ok(resources) => resources,
        Err(failure) => return discovery.unknown.push((version.to_owned(), failure)),
    };
    let rank = RANKS.iter().position(|known| *known == version).unwrap_or(RANKS.len());
    for resource in resources.resources.into_iter().flatten() {
        let can = |verb: &str| resource.verbs.iter().flatten().any(|known| known == verb);
        if resource.name.contains('/') || !can("list") || !can("watch") {
            continue;
        }
        match Kind::of(version, &resource.kind) {
            Relevance::Relevant(kind) if is_wanted(kind, options) => {
                let mut served = Served { kind, version: version.to_owned(), plural: resource.name, rank };
                if version == CALICO && board.is_defined(&served.definition()) {
                    served.rank = 0;
                }
                let is_better = |known: &Served| served.rank < known.rank;
                if discovery.kinds.get(kind.name()).is_none_or(is_better) {
                    discovery.kinds.insert(kind.name(), served);
                }
            }
            Relevance::Unsupported(reason) => drop(discovery.unsupported.insert(resource.kind, reason)),
            _ => {}
        }
    }
}

/// Kinds that only stand for pods are not among those of a cluster that runs: their pods are.
fn is_wanted(kind: Kind, options: &Options) -> bool {
    kind.name() != "ReplicationController" && !options.without.iter().any(|name| name == kind.name())
}

async fn get(client: &Client, path: &str) -> Result<Vec<u8>, Failure> {
    client.get(path, JSON, ANSWER).await?.whole(BYTES, ANSWER).await
}

/// Groups with kinds that policy depends on in a cluster that runs.
const GROUPS: [&str; 5] = [
    "discovery.k8s.io",
    "networking.k8s.io",
    "policy.networking.k8s.io",
    "projectcalico.org",
    "crd.projectcalico.org",
];
const CALICO: &str = "projectcalico.org/v3";
/// Where a kind has several versions, the first of these is followed.
const RANKS: [&str; 8] = [
    "v1",
    "discovery.k8s.io/v1",
    "discovery.k8s.io/v1beta1",
    "networking.k8s.io/v1",
    "policy.networking.k8s.io/v1alpha2",
    "policy.networking.k8s.io/v1alpha1",
    "crd.projectcalico.org/v1",
    CALICO,
];
const BYTES: usize = 32 << 20;
