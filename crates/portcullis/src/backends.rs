//! The registry of kernel backends: which there are, and how to open each.
//!
//! Every backend is listed with every set of features, so that a program can offer it by name and say which feature
//! would add it. A further backend is a crate that implements the [contract](crate::backend), its features in the
//! `Cargo.toml` of this crate, and an entry in [`ALL`].

#[cfg(all(target_os = "linux", any(feature = "nftables-apply", feature = "ebpf-load")))]
mod interfaces;

use alloc::boxed::Box;

use portcullis_core::backend::{Dataplane, DataplaneError, DataplaneOptions, Oracle, OracleError};
use portcullis_core::ir::{Snapshot, View};

/// What a feature adds to a backend, where the feature is on and the system is Linux.
macro_rules! face {
    ($feature:literal, $kind:ty, $open:expr) => {{
        #[cfg(all(target_os = "linux", feature = $feature))]
        let open: Option<$kind> = Some($open);
        #[cfg(not(all(target_os = "linux", feature = $feature)))]
        let open: Option<$kind> = None;
        Face { feature: $feature, open }
    }};
}

#[cfg(all(target_os = "linux", any(feature = "nftables-apply", feature = "ebpf-load")))]
pub use interfaces::node_interfaces;

/// All backends that a kernel runs.
pub const ALL: &[Backend] = &[
    Backend {
        name: "nftables",
        summary: "The Linux kernel, through nftables",
        dataplane: face!("nftables-apply", OpenDataplane, |options| {
            Ok(Box::new(portcullis_nftables::Enforcer::open(options.into())?))
        }),
        oracle: face!("nftables-oracle", OpenOracle, |snapshot, view| {
            Ok(Box::new(portcullis_nftables::oracle::Oracle::load(snapshot.clone(), view)?))
        }),
    },
    Backend {
        name: "ebpf",
        summary: "The Linux kernel, through eBPF",
        dataplane: face!("ebpf-load", OpenDataplane, |options| {
            Ok(Box::new(portcullis_ebpf::Enforcer::open(options.into())?))
        }),
        oracle: face!("ebpf-oracle", OpenOracle, |snapshot, view| {
            Ok(Box::new(portcullis_ebpf::oracle::Oracle::load(snapshot.clone(), view)?))
        }),
    },
];

/// The backend of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Backend> {
    ALL.iter().find(|backend| backend.name == name)
}

/// A backend that a kernel runs.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    name: &'static str,
    summary: &'static str,
    dataplane: Face<OpenDataplane>,
    oracle: Face<OpenOracle>,
}

type OpenDataplane = fn(DataplaneOptions) -> Result<Box<dyn Dataplane>, DataplaneError>;
type OpenOracle = fn(&Snapshot, View) -> Result<Box<dyn Oracle>, OracleError>;

#[derive(Clone, Copy, Debug)]
struct Face<F> {
    feature: &'static str,
    /// `None` where this build is without it.
    open: Option<F>,
}

impl<F: Copy> Face<F> {
    fn open(&self) -> Result<F, NotBuilt> {
        self.open.ok_or(NotBuilt { feature: self.feature })
    }
}

impl Backend {
    /// What it is called: `nftables` or `ebpf`. The same as [`Dataplane::name`].
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it is, in a few words for a help text.
    #[must_use]
    pub const fn summary(&self) -> &'static str {
        self.summary
    }

    /// Opens the dataplane, in the network namespace of this thread. Nothing is in force before its first
    /// [load](Dataplane::load); what an earlier process left stays until then.
    ///
    /// # Errors
    /// This build is without it, the options are none for this backend, or rights or kernel features are missing.
    pub fn open(&self, options: DataplaneOptions) -> Result<Box<dyn Dataplane>, OpenError> {
        let open = self.dataplane.open()?;
        open(options).map_err(|source| OpenError::Dataplane { backend: self.name, source })
    }

    /// Loads what `view` of `snapshot` says for all of its endpoints where no traffic meets it, to ask the kernel about
    /// single packets. Needs root.
    ///
    /// # Errors
    /// This build is without it, or the machine cannot do it: no root, a program that is missing, or a kernel that refuses.
    pub fn oracle(&self, snapshot: &Snapshot, view: View) -> Result<Box<dyn Oracle>, OpenError> {
        let open = self.oracle.open()?;
        open(snapshot, view).map_err(|source| OpenError::Oracle { backend: self.name, source })
    }
}

/// Two names of one backend are the same backend.
impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Backend {}

/// Why a backend cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This build is without it.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
    /// The dataplane cannot be opened.
    #[error("`{backend}`: {source}")]
    Dataplane {
        /// The name of the backend.
        backend: &'static str,
        /// Why.
        source: DataplaneError,
    },
    /// The oracle cannot be loaded.
    #[error("`{backend}`: {source}")]
    Oracle {
        /// The name of the backend.
        backend: &'static str,
        /// Why.
        source: OracleError,
    },
}

/// This build is without what was asked for: its feature is off, or the system is not Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not in this build: it needs Linux and the feature `{feature}` of the crate `portcullis`")]
pub struct NotBuilt {
    feature: &'static str,
}

impl NotBuilt {
    /// The feature of this crate that adds it.
    #[must_use]
    pub const fn feature(&self) -> &'static str {
        self.feature
    }
}
