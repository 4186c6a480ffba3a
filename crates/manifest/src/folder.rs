//! What a folder holds for a reader, found before any of it is read.
//!
//! All of it is listed first, because files say what others are: a kustomization names its patches, which look like
//! objects and are none.

use alloc::collections::BTreeSet;
use core::ops::ControlFlow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use portcullis_k8s::{Kind, Relevance};

use crate::error::{ReadError, ReadErrorKind};
use crate::kustomization::{self, Kustomization};
use crate::limits::Limits;
use crate::other::Others;
use crate::pattern::Patterns;
use crate::values::read_values;

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
        let mut resources = BTreeSet::new();
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
                        steps.push(Step::Fail(file_error(&path, error)));
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
                        self.note_kustomization(&entries, &path, root, &mut patches, &mut resources);
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
        // A file that a kustomization builds on is an object, also where another kustomization patches with it.
        let patches: BTreeSet<PathBuf> = patches.difference(&resources).cloned().collect();
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
            self.others.warnings.extend(patch_warning(path));
        }
        is_patch
    }

    fn note_kustomization(
        &mut self,
        entries: &[PathBuf],
        folder: &Path,
        root: &Path,
        patches: &mut BTreeSet<PathBuf>,
        resources: &mut BTreeSet<PathBuf>,
    ) {
        let Some(file) = entries.iter().find(|path| kustomization::is_one(path)) else { return };
        if self.excluded.match_path(file, root) {
            return;
        }
        let Some(kustomization) = Kustomization::read(file) else { return };
        let real = |path: &String| fs::canonicalize(folder.join(path)).ok();
        patches.extend(kustomization.patches().iter().filter_map(real));
        resources.extend(kustomization.resources().iter().filter_map(real));
        self.others.warnings.extend(kustomization.warning(file, folder, root));
        self.others.kustomizations.push(folder.to_owned());
    }

    /// Hidden folders belong to tools. One that holds manifests all the same is told.
    fn pass_over_hidden(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `..data` and its like are how the kubelet writes a volume; the files are there once more, as links.
        if TOOLS.contains(&&*name) || is_volume(&name) {
            self.others.count("hidden folder");
            return;
        }
        let mut manifests = count_manifests(path, is_manifest);
        let workflows = path.join("workflows");
        // What such a folder holds beside workflows configures the service, unless it looks like an object.
        let is_ci = CI.contains(&&*name)
            || (WORKFLOWS.contains(&&*name)
                && count_manifests(path, has_head) <= count_manifests(&workflows, has_head));
        if manifests > 0 && is_ci {
            self.others.count_many("CI workflow", manifests);
            return;
        }
        let workflows =
            if WORKFLOWS.contains(&&*name) { count_manifests(&workflows, is_manifest) } else { 0 };
        if workflows > 0 {
            self.others.count_many("CI workflow", workflows);
            manifests = manifests.saturating_sub(workflows);
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
        let failed = |error: io::Error| file_error(path, error);
        match self.seen.entry(fs::canonicalize(path).map_err(failed)?) {
            Entry::Vacant(entry) => entry.insert(self.call),
            Entry::Occupied(entry) if *entry.get() == self.call => return Ok(Some(Vec::new())),
            Entry::Occupied(_) => return Ok(None),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_by(|one, other| other.as_encoded_bytes().cmp(one.as_encoded_bytes()));
        Ok(Some(names.into_iter().map(|name| path.join(name)).collect()))
    }
}

/// That a patch of a policy is left out, which may be a whole policy.
fn patch_warning(path: &Path) -> Option<ReadError> {
    let name = path.to_string_lossy();
    let mut warning = None;
    let file = fs::File::open(path).ok()?;
    // What cannot be read is a patch of no policy that anybody could read.
    let _ = read_values(&name, file, &Limits::default(), &mut |node| {
        let [version, kind] = ["apiVersion", "kind"].map(|key| node.get_str(key).unwrap_or_default());
        if !kind.contains("Policy") || matches!(Kind::of(version, kind), Relevance::Ignored) {
            return ControlFlow::Continue(());
        }
        let reason = "a kustomization changes a policy with it: passed over as it stands";
        let error = ReadError::new(ReadErrorKind::Object, reason).with_file(name.as_ref().into());
        warning = Some(error.with_position(Some(node.position())).with_object(node.identity()));
        ControlFlow::Break(())
    });
    warning
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

/// What the kubelet makes in a volume: `..data`, and the folder with a time that it leads to.
fn is_volume(name: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    name == "..data"
        || name.strip_prefix("..").is_some_and(|time| {
            let (year, rest) = time.as_bytes().split_at_checked(4).unwrap_or_default();
            !year.is_empty() && year.iter().all(is_digit) && matches!(rest.first(), None | Some(b'_'))
        })
}

/// Whether a file is called like a manifest and its text has the first word of an object's head.
fn has_head(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = |file: fs::File| file.take(HEAD_BYTES).read_to_end(&mut text);
    is_manifest(path)
        && fs::File::open(path).and_then(read).is_ok()
        && text.windows(b"apiVersion".len()).any(|window| window == b"apiVersion")
}

/// How much of a file in a hidden folder is looked at.
const HEAD_BYTES: u64 = 1 << 20;

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().first() == Some(&b'.'))
}

/// How many files in a folder or below it are called like manifests. Links are not followed, and the rest of a very
/// large folder counts as one.
fn count_manifests(path: &Path, is_one: fn(&Path) -> bool) -> u64 {
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
            } else if is_one(&entry.path()) {
                found = found.saturating_add(1);
            }
        }
    }
    found
}

/// An error about a file as a whole.
pub(crate) fn file_error(path: &Path, error: io::Error) -> ReadError {
    ReadError::of_system(error).with_file(path.to_string_lossy().into())
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
const CI: &[&str] = &[".circleci", ".buildkite", ".woodpecker"];

/// Hidden folders whose `workflows` do.
const WORKFLOWS: &[&str] = &[".github", ".gitlab", ".gitea", ".forgejo"];

/// Entries of a hidden folder that are looked at.
const ENTRIES: usize = 10_000;
