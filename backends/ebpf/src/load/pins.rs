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

impl Pins {
    /// Makes the folder if it is not there, and reads it.
    pub(crate) fn open(folder: &Path) -> Result<Self, LoadError> {
        let what = format!("`{}`", folder.display());
        fs::create_dir_all(folder).context(&what).map_err(LoadError::of_environment)?;
        let found = statfs(folder).context(&what)?;
        if found.filesystem_type() != BPF_FS_MAGIC {
            let reason =
                format!("{what} is not in a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf");
            return Err(LoadError::plain(reason).of_environment());
        }
        Self::read(folder)
    }

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
