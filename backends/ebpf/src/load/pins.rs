//! The folder of pins and marks in a BPF file system.

use alloc::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Context as _, LoadError};

/// The folder where links, flow tables and mark generations are pinned, and filters marked.
///
/// Its content is read once. After that, only this process changes it.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
    names: BTreeSet<String>,
}

/// The folder at the begin of a load, with what has to be taken back when the load fails.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) pins: Pins,
    /// Folders that were made for it, from the outermost on.
    made: Vec<PathBuf>,
    before: BTreeSet<String>,
}

impl Opened {
    /// Makes the folder if it is not there, and reads it. Nothing is made outside a BPF file system.
    pub(crate) fn open(folder: &Path) -> Result<Self, LoadError> {
        let what = format!("`{}`", folder.display());
        let mut missing: Vec<&Path> = Vec::new();
        for above in folder.ancestors() {
            match statfs(above) {
                Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => break,
                Err(nix::errno::Errno::ENOENT) if !above.as_os_str().is_empty() => missing.push(above),
                Ok(_) => {
                    let reason = format!(
                        "{what} is not in a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf"
                    );
                    return Err(LoadError::plain(reason).of_environment());
                }
                Err(error) => return Err(LoadError::new(&what, error).of_environment()),
            }
        }
        let mut made = Vec::new();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => made.push(folder.to_owned()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
                    return Err(LoadError::new(&what, error).of_environment());
                }
            }
        }
        let pins = Pins::read(folder)?;
        Ok(Self { before: pins.names.clone(), pins, made })
    }

    /// Reads the folder once it is locked.
    pub(crate) fn read_again(&mut self) -> Result<(), LoadError> {
        self.pins = Pins::read(&self.pins.folder)?;
        self.before.clone_from(&self.pins.names);
        Ok(())
    }

    /// The load failed: takes away what it pinned, but for interfaces, which have been given back what they had; and the folders that it
    /// made.
    pub(crate) fn leave(&mut self) {
        if let Ok(pins) = Pins::read(&self.pins.folder) {
            self.pins = pins;
        }
        let new: Vec<String> =
            self.pins.names().filter(|name| !self.before.contains(*name)).map(str::to_owned).collect();
        for name in new.iter().filter(|name| interface_of(name).is_none()) {
            drop(self.pins.unpin(name));
        }
        for folder in self.made.iter().rev() {
            // Not where something is in it.
            drop(fs::remove_dir(folder));
        }
    }
}

/// The interface that a pin or a mark is about.
pub(crate) fn interface_of(name: &str) -> Option<u32> {
    name.split_once('-')?.0.parse().ok()
}

impl Pins {
    /// What an earlier process left in the folder; nothing when a BPF file system is there without the folder. Without the file
    /// system, nobody can tell.
    pub(crate) fn left_in(folder: &Path) -> Result<Option<Self>, LoadError> {
        for above in folder.ancestors() {
            match statfs(above) {
                Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
                    return if above == folder { Self::read(folder).map(Some) } else { Ok(None) };
                }
                Ok(_) => break,
                Err(nix::errno::Errno::ENOENT) => {}
                Err(error) => return Err(LoadError::new(format!("`{}`", above.display()), error)),
            }
        }
        let what = folder.display();
        let reason = format!(
            "`{what}` is not in a BPF file system, so what is in force cannot be told; mount the one that it was loaded with"
        );
        Err(LoadError::plain(reason).of_environment())
    }

    fn read(folder: &Path) -> Result<Self, LoadError> {
        let what = format!("`{}`", folder.display());
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder).context(&what)? {
            // Names that are no text are not ours.
            names.extend(entry.context(&what)?.file_name().into_string());
        }
        Ok(Self { folder: folder.to_owned(), names })
    }

    /// Where something of this name is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The names that begin like this, without that beginning, in order.
    pub(crate) fn ends_of(&self, beginning: &str) -> impl Iterator<Item = &str> {
        let from = self.names.range(beginning.to_owned()..);
        from.map_while(move |name| name.strip_prefix(beginning))
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Something was pinned there.
    pub(crate) fn note(&mut self, name: String) {
        self.names.insert(name);
    }

    /// Takes a pin away, if it is there.
    pub(crate) fn unpin(&mut self, name: &str) -> Result<(), LoadError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LoadError::new(format!("`{}`", path.display()), error))
            }
            _ => {
                self.names.remove(name);
                Ok(())
            }
        }
    }

    /// Takes away what is there, of whatever kind, because it is not what its name says.
    pub(crate) fn set_aside(&mut self, name: &str) -> Result<(), LoadError> {
        let path = self.path(name);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let done = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        done.context(format!("cannot set `{}` aside", path.display()))?;
        self.names.remove(name);
        Ok(())
    }

    /// Gives a pin another name.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), LoadError> {
        fs::rename(self.path(from), self.path(to)).context(format!("`{}`", self.path(to).display()))?;
        self.names.remove(from);
        self.names.insert(to.to_owned());
        Ok(())
    }

    /// Makes a mark, which is a folder because there can be no files.
    pub(crate) fn mark(&mut self, name: &str) -> Result<(), LoadError> {
        let path = self.path(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(LoadError::new(format!("`{}`", path.display()), error))
            }
            _ => {
                self.names.insert(name.to_owned());
                Ok(())
            }
        }
    }

    /// Takes a mark away, if it is there.
    pub(crate) fn unmark(&mut self, name: &str) -> Result<(), LoadError> {
        let path = self.path(name);
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LoadError::new(format!("`{}`", path.display()), error))
            }
            _ => {
                self.names.remove(name);
                Ok(())
            }
        }
    }

    /// Removes the folder, which has to be empty.
    pub(crate) fn remove_folder(&self) -> Result<(), LoadError> {
        fs::remove_dir(&self.folder).context(format!("`{}`", self.folder.display()))
    }
}
