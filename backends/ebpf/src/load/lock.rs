//! One enforcer for one folder of pins: the folder is locked while its process has policy in force.

use core::time::Duration;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Instant;

use nix::sys::stat::{FileStat, major, minor, stat};

use crate::error::{Context as _, LoadError};

/// The lock (`flock`) on a folder. The kernel takes it back when the process ends, also by a signal.
#[derive(Debug)]
pub(crate) struct FolderLock {
    /// Holds the lock while it is open.
    _folder: File,
    identity: [u64; 2],
}

impl FolderLock {
    /// Locks `folder`, which another process may be about to let go.
    pub(crate) fn take(folder: &Path) -> Result<Self, LoadError> {
        let what = format!("cannot lock `{}`", folder.display());
        let file = File::open(folder).context(&what)?;
        let identity = identity(&stat(folder).context(&what)?);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _folder: file, identity }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!("{what}: {} enforces policy with it", holder(folder));
                    return Err(LoadError::plain(reason).of_environment());
                }
                Err(TryLockError::Error(error)) => return Err(LoadError::new(what, error)),
            }
        }
    }

    /// Whether it is still `folder` that is locked, rather than one that others took away.
    pub(crate) fn is_of(&self, folder: &Path) -> bool {
        stat(folder).is_ok_and(|found| identity(&found) == self.identity)
    }
}

const fn identity(of: &FileStat) -> [u64; 2] {
    [of.st_dev, of.st_ino]
}

/// Who has the lock, as far as this process may know.
fn holder(folder: &Path) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = stat(folder).ok().and_then(|found| process_of(&locks, &found));
    let Some(process) = process else { return "another dataplane".to_owned() };
    if process == std::process::id() {
        return "another dataplane of this process".to_owned();
    }
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim()),
        Err(_) => format!("process {process}"),
    }
}

/// The process that has a lock of the whole file, from lines as `1: FLOCK ADVISORY WRITE 4711 00:1c:42 0 EOF` (proc_locks(5)).
fn process_of(locks: &str, found: &FileStat) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{}", major(found.st_dev), minor(found.st_dev), found.st_ino);
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_flock = fields.next() == Some("FLOCK");
        let mut fields = fields.skip(2);
        let process = fields.next()?.parse().ok().filter(|process| *process != 0)?;
        (is_flock && fields.next() == Some(place.as_str())).then_some(process)
    })
}

/// How long a process that ends may take to let the lock go.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let folder = std::env::temp_dir().join(format!("portcullis-lock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let first = FolderLock::take(&folder).unwrap();
        assert!(first.is_of(&folder));
        let error = FolderLock::take(&folder).unwrap_err().to_string();
        assert!(error.ends_with("another dataplane of this process enforces policy with it"), "{error}");
        let found = stat(&folder).unwrap();
        let place = format!("{:02x}:{:02x}:{}", major(found.st_dev), minor(found.st_dev), found.st_ino);
        let line = |kind: &str, process: u32| format!("1: {kind}  ADVISORY  WRITE {process} {place} 0 EOF\n");
        assert_eq!(process_of(&(line("POSIX", 7) + &line("FLOCK", 8)), &found), Some(8));
        // Of a process in another namespace.
        assert_eq!(process_of(&line("FLOCK", 0), &found), None);
        // The folder is another one.
        let moved = folder.with_extension("moved");
        fs::rename(&folder, &moved).unwrap();
        fs::create_dir(&folder).unwrap();
        assert!(!first.is_of(&folder) && first.is_of(&moved));
        drop(FolderLock::take(&folder).unwrap());
        drop(first);
        drop(FolderLock::take(&moved).unwrap());
        fs::remove_dir(&folder).unwrap();
        fs::remove_dir(&moved).unwrap();
    }
}
