//! What a folder holds for a reader, found before any of it is read.
//!
//! All of it is listed first, because files say what others are: a kustomization names its patches, which look like
//! objects and are none.

use alloc::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{ReadError, ReadErrorKind};
use crate::kustomization::{self, Kustomization};
use crate::other::Others;
use crate::pattern::Patterns;
use crate::source::io_reason;

/// One thing to do, in order.
#[derive(Debug)]
pub(crate) enum Step {
    /// Read this file.
    Read(PathBuf),
    /// Say what cannot be read.
    Fail(ReadError),
}

/// A walk through one folder.
#[derive(Debug)]
pub(crate) struct Walk<'r> {
    /// Folders and files that were read, by their real path, and in which call.
    pub(crate) seen: &'r mut HashMap<PathBuf, u32>,
    pub(crate) call: u32,
    pub(crate) excluded: &'r mut Patterns,
    pub(crate) others: &'r mut Others,
}

impl Walk<'_> {
    /// What to do about `root`: its files in the bytewise order of their names.
    pub(crate) fn steps(mut self, root: &Path) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut patches = BTreeSet::new();
        let mut is_empty = true;
        // Folders nest as deep as the file system lets them: no recursion.
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            if path != root && self.excluded.match_path(&path, root) {
                is_empty = false;
                continue;
            }
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // A link that leads nowhere, or something that has just vanished, matters if it is a manifest.
                Err(error) => {
                    if is_manifest(&path) {
                        is_empty = false;
                        steps.push(Step::Fail(file_error(&path, &error)));
                    }
                    continue;
                }
            };
            if metadata.is_dir() {
                if path != root && is_hidden(&path) {
                    self.pass_over_hidden(&path);
                    continue;
                }
                match self.list(&path) {
                    Ok(Some(entries)) => {
                        self.note_kustomization(&entries, &path, root, &mut patches);
                        waiting.extend(entries);
                    }
                    // Read by an earlier call, which has said whether there was anything.
                    Ok(None) => is_empty = false,
                    Err(error) => steps.push(Step::Fail(error)),
                }
            } else if is_manifest(&path) {
                is_empty = false;
                steps.push(step(path, &metadata));
            }
        }
        if is_empty && !steps.iter().any(|step| matches!(step, Step::Fail(_))) {
            let reason = "no manifest in this directory: no file ends in .yaml, .yml or .json";
            steps.push(Step::Fail(
                ReadError::new(ReadErrorKind::File, reason).with_file(root.to_string_lossy().into()),
            ));
        }
        steps.retain(|step| !self.is_patch(step, &patches));
        steps
    }

    /// Patches of a kustomization look like objects, but only together with what they change.
    fn is_patch(&mut self, step: &Step, patches: &BTreeSet<PathBuf>) -> bool {
        let Step::Read(path) = step else { return false };
        let is_patch =
            !patches.is_empty() && fs::canonicalize(path).is_ok_and(|real| patches.contains(&real));
        if is_patch {
            self.others.count("kustomize patch");
        }
        is_patch
    }

    fn note_kustomization(
        &mut self,
        entries: &[PathBuf],
        folder: &Path,
        root: &Path,
        patches: &mut BTreeSet<PathBuf>,
    ) {
        let Some(file) = entries.iter().find(|path| kustomization::is_one(path)) else { return };
        if self.excluded.match_path(file, root) {
            return;
        }
        let Some(kustomization) = Kustomization::read(file) else { return };
        let real = |path: &String| fs::canonicalize(folder.join(path)).ok();
        patches.extend(kustomization.patches().iter().filter_map(real));
        self.others.warnings.extend(kustomization.warning(file, folder, root));
        self.others.kustomizations.push(folder.to_owned());
    }

    /// Hidden folders belong to tools. One that holds manifests all the same is told.
    fn pass_over_hidden(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `..data` and its like are how the kubelet writes a volume; the files are there once more, as links.
        if TOOLS.contains(&&*name) || name.starts_with("..") {
            self.others.count("hidden folder");
            return;
        }
        let manifests = count_manifests(path);
        if manifests > 0 && CI.contains(&&*name) {
            self.others.count_many("CI workflow", manifests);
            return;
        }
        self.others.count("hidden folder");
        if manifests == 0 {
            return;
        }
        let reason = "a hidden folder is passed over; to read its manifests, name it";
        let warning = ReadError::new(ReadErrorKind::File, reason).with_file(path.to_string_lossy().into());
        self.others.warnings.push(warning);
    }

    /// What is in a folder, last name first: nothing if this call has listed it, `None` if an earlier one has.
    fn list(&mut self, path: &Path) -> Result<Option<Vec<PathBuf>>, ReadError> {
        let failed = |error: &io::Error| file_error(path, error);
        match self.seen.entry(fs::canonicalize(path).map_err(|error| failed(&error))?) {
            Entry::Vacant(entry) => entry.insert(self.call),
            Entry::Occupied(entry) if *entry.get() == self.call => return Ok(Some(Vec::new())),
            Entry::Occupied(_) => return Ok(None),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| failed(&error))? {
            names.push(entry.map_err(|error| failed(&error))?.file_name());
        }
        names.sort_by(|one, other| other.as_encoded_bytes().cmp(one.as_encoded_bytes()));
        Ok(Some(names.into_iter().map(|name| path.join(name)).collect()))
    }
}

fn step(path: PathBuf, metadata: &Metadata) -> Step {
    if metadata.is_file() {
        return Step::Read(path);
    }
    let error = ReadError::new(ReadErrorKind::File, "not a regular file");
    Step::Fail(error.with_file(path.to_string_lossy().into()))
}

/// Whether a file of a folder is read, by its name.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().first() == Some(&b'.'))
}

/// How many files in a folder or below it are called like manifests. Links are not followed, and the rest of a very
/// large folder counts as one.
fn count_manifests(path: &Path) -> u64 {
    let mut waiting = vec![path.to_owned()];
    let (mut looked_at, mut found) = (0_usize, 0_u64);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            looked_at = looked_at.saturating_add(1);
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if looked_at > ENTRIES {
                return found.saturating_add(1);
            }
            if is_folder {
                waiting.push(entry.path());
            } else if is_manifest(&entry.path()) {
                found = found.saturating_add(1);
            }
        }
    }
    found
}

/// An error about a file as a whole.
pub(crate) fn file_error(path: &Path, error: &io::Error) -> ReadError {
    ReadError::new(ReadErrorKind::File, io_reason(error)).with_file(path.to_string_lossy().into())
}

/// Hidden folders of which everybody knows that they hold no objects.
const TOOLS: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".idea",
    ".vscode",
    ".venv",
    ".terraform",
    ".tox",
    ".cache",
    ".yarn",
    ".devcontainer",
];

/// Hidden folders that say what happens to a repository.
const CI: &[&str] = &[".github", ".gitlab", ".gitea", ".forgejo", ".circleci", ".buildkite", ".woodpecker"];

/// Entries of a hidden folder that are looked at.
const ENTRIES: usize = 10_000;
