//! Kustomizations: folders whose files are not what they build.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path};

use portcullis_core::quote::quoted;

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::position::Position;
use crate::tree::{Node, NodeKind};
use crate::{shell, yaml};

/// The parts of a kustomization that matter to a reader of its files as they stand.
///
/// Source: kubernetes-sigs/kustomize api/types/kustomization.go (the fields) and
/// api/konfig/general.go (the names of the file).
#[derive(Debug, Default)]
pub(crate) struct Kustomization {
    /// The fields that change what is built.
    changes: Vec<&'static str>,
    patches: Vec<String>,
    resources: Vec<String>,
}

/// Whether a file is a kustomization, by its name.
pub(crate) fn is_one(path: &Path) -> bool {
    path.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// The warning for a kustomization that was named as a file: it holds no objects itself.
pub(crate) fn named(file: &Path) -> ReadError {
    let folder = shell::quoted(file.parent().unwrap_or(Path::new("")));
    let reason = format!(
        "a kustomization holds no objects; read what it builds with `-k {folder}`, or with `kubectl kustomize {folder} | \
         portcullis eval -f - ...`"
    );
    ReadError::new(ReadErrorKind::Object, reason).with_file(file.to_string_lossy().into())
}

impl Kustomization {
    /// Reads a kustomization; `None` when it cannot be read, which is said when its turn as a file comes.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        let text = text.trim_start_matches('\u{feff}');
        let tree = yaml::parse(text, Position::START, &Limits::default()).ok()??;
        Some(Self::of(tree.node(0)))
    }

    fn of(root: Node<'_>) -> Self {
        let is_set = |key: &&&str| {
            root.get(key).is_some_and(|value| match value.kind() {
                NodeKind::Sequence | NodeKind::Mapping => !value.is_empty(),
                NodeKind::Null => false,
                _ => !value.source().is_empty(),
            })
        };
        let items = |key: &str| root.get(key).into_iter().flat_map(Node::items);
        let texts = |key: &str| items(key).filter_map(Node::as_str).map(str::to_owned).collect::<Vec<_>>();
        let paths = |key: &str| items(key).filter_map(|item| item.get_str("path")).map(str::to_owned);
        let mut patches: Vec<String> = paths("patches").chain(paths("patchesJson6902")).collect();
        // A patch may stand there itself instead of its file.
        patches.extend(texts("patchesStrategicMerge").into_iter().filter(|text| !text.contains('\n')));
        let resources = ["resources", "bases", "components"].into_iter().flat_map(texts).collect();
        Self { changes: CHANGES.iter().filter(is_set).copied().collect(), patches, resources }
    }

    /// Files that hold patches, as the kustomization names them.
    pub(crate) fn patches(&self) -> &[String] {
        &self.patches
    }

    /// Files and folders that it builds on, as the kustomization names them.
    pub(crate) fn resources(&self) -> &[String] {
        &self.resources
    }

    /// What reading the files of `root` as they stand leaves out of what `folder` builds; `None` when it is nothing.
    pub(crate) fn warning(&self, file: &Path, folder: &Path, root: &Path) -> Option<ReadError> {
        let names =
            |names: &[&str]| names.iter().map(|name| quoted(name).to_string()).collect::<Vec<_>>().join(", ");
        let outside: Vec<&str> =
            self.resources.iter().map(String::as_str).filter(|path| is_outside(path, folder, root)).collect();
        let left_out = match (self.changes.as_slice(), outside.as_slice()) {
            ([], []) => return None,
            (changes, []) => format!("{} not applied", names(changes)),
            ([], outside) => format!("{} not read", names(outside)),
            (changes, outside) => format!("{} not applied, {} not read", names(changes), names(outside)),
        };
        let folder = shell::quoted(folder);
        let reason = format!(
            "the files of this kustomization are read as they stand: {left_out}; read what it builds with `-k \
             {folder}`, or with `kubectl kustomize {folder} | portcullis eval -f - ...`"
        );
        let error = ReadError::new(ReadErrorKind::Object, reason).with_file(file.to_string_lossy().into());
        Some(error.with_position(Some(Position::START)))
    }
}

/// Whether a resource of the kustomization in `folder` is somewhere else than below `root`.
fn is_outside(resource: &str, folder: &Path, root: &Path) -> bool {
    let is_remote = resource.contains("://") || resource.contains("?ref=") || resource.starts_with("git@");
    if is_remote || resource.starts_with("github.com/") {
        return true;
    }
    if let (Ok(real), Ok(root)) = (fs::canonicalize(folder.join(resource)), fs::canonicalize(root)) {
        return !real.starts_with(root);
    }
    // It is not there: by its words.
    let mut depth = folder.strip_prefix(root).map_or(0, |below| below.components().count());
    for component in Path::new(resource).components() {
        match component {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth = depth.saturating_sub(1),
            Component::Normal(_) => depth = depth.saturating_add(1),
            Component::RootDir | Component::Prefix(_) => return true,
            Component::CurDir => {}
        }
    }
    false
}

/// What the file may be called.
const NAMES: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Fields that change objects, or add some that no file holds.
const CHANGES: &[&str] = &[
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "commonLabels",
    "labels",
    "components",
    "replicas",
    "replacements",
    "vars",
    "transformers",
    "generators",
    "helmCharts",
    "helmChartInflationGenerator",
];

/// A kustomization is small.
const MAX_BYTES: u64 = 1 << 20;
