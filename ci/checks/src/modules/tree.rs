//! The files of one crate, the module each of them is, and which file a path leads to.

use alloc::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::scan::{Import, Scan, Segments, Written};

/// Re-exports of re-exports are followed this far.
const MAX_STEPS: usize = 32;

/// One crate, read from its files.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The folder of the crate's root file.
    folder: PathBuf,
    /// What is in each file, by its path below `folder`.
    files: BTreeMap<String, File>,
    /// The file of each module, by its path from the root, without `crate`.
    modules: BTreeMap<Segments, String>,
}

/// One file.
#[derive(Debug)]
struct File {
    module: Segments,
    scan: Scan,
}

/// A use of one file by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// The file that uses, and its module.
    pub(crate) from: String,
    /// The file that is used.
    pub(crate) to: String,
    /// The path as it is written.
    pub(crate) path: String,
}

impl Tree {
    /// Reads the crate whose root is `root`, following its `mod` lines.
    ///
    /// # Errors
    /// When a file is missing or is no Rust.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let folder = root.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut tree = Self { folder, files: BTreeMap::new(), modules: BTreeMap::new() };
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Files to read, with their modules.
        let mut open = vec![(name, Segments::new())];
        while let Some((name, module)) = open.pop() {
            let path = tree.folder.join(&name);
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let scan = Scan::read(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            tree.modules.insert(module.clone(), name.clone());
            for inline in &scan.inline {
                tree.modules.insert([module.as_slice(), inline].concat(), name.clone());
            }
            for declared in &scan.files {
                let below = [module.as_slice(), &declared.path].concat();
                open.push((tree.find(&name, &below, declared.file.as_deref()), below));
            }
            tree.files.insert(name, File { module, scan });
        }
        Ok(tree)
    }

    /// The file of the module `below`, declared in the file `by`.
    fn find(&self, by: &str, below: &[String], named: Option<&str>) -> String {
        if let Some(named) = named {
            return match Path::new(by).parent() {
                Some(folder) if folder != Path::new("") => format!("{}/{named}", folder.display()),
                _ => named.into(),
            };
        }
        let plain = below.join("/");
        let in_folder = format!("{plain}/mod.rs");
        if self.folder.join(&in_folder).exists() { in_folder } else { format!("{plain}.rs") }
    }

    /// The names of all files, with the module each of them is.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.files.iter().map(|(name, file)| (name.as_str(), file.module.as_slice()))
    }

    /// Every use of one file by another, in order, each pair once.
    ///
    /// Two ties are natural and left out: a module re-exports what its own modules define, and a module below another uses
    /// what that one defines for all of them.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (name, file) in &self.files {
            for written in file.written() {
                let Some(to) = self.file_of(file, written) else { continue };
                let Some(target) = self.files.get(&to) else { continue };
                let is_above = file.module.starts_with(&target.module);
                if to != *name && !is_above && seen.insert((name, to.clone())) {
                    found.push(Use { from: name.clone(), to, path: written.path.join("::") });
                }
            }
            for import in &file.scan.imports {
                let Some(to) = self.file_of_import(file, import) else { continue };
                let Some(target) = self.files.get(&to) else { continue };
                let is_above = file.module.starts_with(&target.module);
                let is_export = import.is_public && target.module.starts_with(&file.module);
                if to != *name && !is_above && !is_export && seen.insert((name, to.clone())) {
                    found.push(Use { from: name.clone(), to, path: import.written.path.join("::") });
                }
            }
        }
        found
    }

    /// The first module below the root that each path of the file `name` leads to by its words alone, with the path.
    pub(crate) fn mentions(&self, name: &str) -> Vec<(String, String)> {
        let Some(file) = self.files.get(name) else { return Vec::new() };
        let imports = file.scan.imports.iter().map(|import| &import.written);
        let mut found = Vec::new();
        for written in imports.chain(file.written()) {
            if let Some(absolute) = self.absolute(file, written)
                && let Some(first) = absolute.first()
                && self.modules.contains_key([first.clone()].as_slice())
            {
                found.push((first.clone(), written.path.join("::")));
            }
        }
        found
    }

    /// The file that defines what `written` names; `None` when it is no file of this crate, or a module as a whole.
    fn file_of(&self, file: &File, written: &Written) -> Option<String> {
        let absolute = self.absolute(file, written)?;
        let (module, rest) = self.follow(absolute, MAX_STEPS)?;
        if rest.is_empty() { None } else { self.modules.get(&module).cloned() }
    }

    fn file_of_import(&self, file: &File, import: &Import) -> Option<String> {
        let absolute = self.absolute(file, &import.written)?;
        let (module, rest) = self.follow(absolute, MAX_STEPS)?;
        // A module that is imported is used where a path begins with its name.
        if rest.is_empty() && import.name.is_some() { None } else { self.modules.get(&module).cloned() }
    }

    /// The path from the root of the crate, without `crate`; `None` when it begins outside.
    fn absolute(&self, file: &File, written: &Written) -> Option<Segments> {
        let here = [file.module.as_slice(), &written.within].concat();
        let (first, rest) = written.path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" | "super" => {
                let mut base = here;
                let mut rest = written.path.as_slice();
                while let [first, after @ ..] = rest {
                    match first.as_str() {
                        "self" => {}
                        "super" => {
                            base.pop()?;
                        }
                        _ => break,
                    }
                    rest = after;
                }
                Some([base.as_slice(), rest].concat())
            }
            name => {
                let child = [here.as_slice(), core::slice::from_ref(first)].concat();
                if self.modules.contains_key(&child) {
                    return Some([child.as_slice(), rest].concat());
                }
                let import = file.import(&written.within, name)?;
                // `use name::…` would lead to itself.
                if import.written.path.first().is_some_and(|first| first == name) {
                    return None;
                }
                let base = self.absolute(file, &import.written)?;
                Some([base.as_slice(), rest].concat())
            }
        }
    }

    /// Walks a path from the root through modules and re-exports: the module that it ends in, and what is named in it.
    fn follow(&self, path: Segments, steps: usize) -> Option<(Segments, Segments)> {
        let steps = steps.checked_sub(1)?;
        let mut module = Segments::new();
        let mut rest = path.as_slice();
        while let [first, after @ ..] = rest {
            let child = [module.as_slice(), core::slice::from_ref(first)].concat();
            if self.modules.contains_key(&child) {
                module = child;
                rest = after;
                continue;
            }
            let file = self.files.get(self.modules.get(&module)?)?;
            let within = module.get(file.module.len()..).unwrap_or_default();
            if let Some(import) = file.import(within, first)
                && let Some(base) = self.absolute(file, &import.written)
                && base != path
            {
                return self.follow([base.as_slice(), after].concat(), steps);
            }
            break;
        }
        Some((module, rest.to_vec()))
    }
}

impl File {
    /// Paths that are written outside of imports.
    fn written(&self) -> impl Iterator<Item = &Written> {
        self.scan.paths.iter()
    }

    /// The import that gives `name` its meaning in the module `within` of this file.
    fn import(&self, within: &[String], name: &str) -> Option<&Import> {
        let mut imports = self.scan.imports.iter();
        imports.find(|import| import.written.within == within && import.name.as_deref() == Some(name))
    }
}
