//! The kernel as one engine more.

use alloc::collections::BTreeSet;
use core::cell::{Cell, RefCell};
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use portcullis::backend::{Oracle, OracleErrorKind};
use portcullis::backends::{self, Backend};
use portcullis::evaluate::Evaluate;
use portcullis::ir::{Snapshot, View};
use portcullis::model::EndpointId;
use portcullis::packet::Packet;
use portcullis::verdict::{Decision, Hook};

/// Whether the kernel can be asked here: as root who may make network namespaces, which a container's may not, with the
/// programs `nft` and `ip`. When it cannot, the test that asks is
/// counted as skipped and named on standard error, past the harness that keeps what passing tests print; with
/// `PORTCULLIS_KERNEL=required` in the environment it fails instead.
///
/// # Panics
/// When the kernel is required and cannot be asked.
#[must_use]
pub fn kernel_can_be_asked() -> bool {
    static MISSING: OnceLock<Option<&str>> = OnceLock::new();
    let missing = *MISSING.get_or_init(missing);
    let required = std::env::var_os("PORTCULLIS_KERNEL").is_some_and(|value| value == "required");
    assert!(
        missing.is_none() || !required,
        "the kernel cannot be asked: {} is missing",
        missing.unwrap_or_default()
    );
    if let Some(missing) = missing {
        static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test").to_owned();
        let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if skipped.insert(name.clone()) {
            let line = format!(
                "SKIPPED {} in this program: {name}: the kernel is NOT asked, {missing} is missing\n",
                skipped.len()
            );
            // In one piece, beside other tests' words. Nobody is left to tell when standard error is closed.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
    missing.is_none()
}

/// What this build or machine lacks, if anything.
#[cfg(feature = "kernel")]
fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    // In a thread of its own, which takes the namespace with it.
    let unshared = std::thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)).join();
    if !matches!(unshared, Ok(Ok(()))) {
        return Some("the right to make a network namespace");
    }
    let runs = |program: &&str| std::process::Command::new(program).arg("-V").output().is_ok();
    ["nft", "ip"].into_iter().find(|program| !runs(program))
}

#[cfg(not(feature = "kernel"))]
const fn missing() -> Option<&'static str> {
    Some("the feature `kernel` of the testkit")
}

/// The backends of the registry that tests ask: all, or the one that `PORTCULLIS_DATAPLANE` names in the environment.
///
/// # Panics
/// When that names none.
#[must_use]
pub fn wanted_backends() -> Vec<&'static Backend> {
    let Ok(name) = std::env::var("PORTCULLIS_DATAPLANE") else { return backends::ALL.iter().collect() };
    let wanted: Vec<&Backend> = backends::ALL.iter().filter(|one| one.name() == name).collect();
    assert!(!wanted.is_empty(), "PORTCULLIS_DATAPLANE: there is no dataplane `{name}`");
    wanted
}

/// A backend on the kernel of this machine. What it cannot be asked is answered by another engine, and counted.
pub struct Kernel<'a> {
    oracle: Box<dyn Oracle>,
    otherwise: &'a dyn Evaluate,
    asked: Cell<usize>,
    unasked: Cell<usize>,
    faults: RefCell<Vec<String>>,
}

impl core::fmt::Debug for Kernel<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Kernel(asked {}, not asked {})", self.asked.get(), self.unasked.get())
    }
}

impl<'a> Kernel<'a> {
    /// Loads one view of `snapshot` into the kernel.
    ///
    /// # Errors
    /// When the machine cannot do it, or the kernel refuses the table.
    pub fn load(
        backend: &Backend,
        snapshot: &Snapshot,
        view: View,
        otherwise: &'a dyn Evaluate,
    ) -> Result<Self, String> {
        let oracle = backend.oracle(snapshot, view).map_err(|error| error.to_string())?;
        let (asked, unasked) = (Cell::new(0), Cell::new(0));
        Ok(Self { oracle, otherwise, asked, unasked, faults: RefCell::default() })
    }

    /// How many packets the kernel decided.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// How many packets could not be sent, or are not routed by any kernel.
    #[must_use]
    pub fn unasked(&self) -> usize {
        self.unasked.get()
    }

    /// What went wrong while asking, one line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.faults.borrow().clone()
    }
}

impl Evaluate for Kernel<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        match self.oracle.ask(endpoint, hook, packet) {
            Ok(decision) => {
                self.asked.set(self.asked.get().saturating_add(1));
                decision
            }
            Err(error) => {
                if error.kind() == OracleErrorKind::Unaskable {
                    self.unasked.set(self.unasked.get().saturating_add(1));
                } else {
                    self.faults.borrow_mut().push(format!("{endpoint} {hook} {packet:?}: {error}"));
                }
                self.otherwise.evaluate(endpoint, hook, packet)
            }
        }
    }
}
