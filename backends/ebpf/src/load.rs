//! The kernel's side: the program loaded, its maps written, and the way it gets onto interfaces.

pub(crate) mod accounts;
pub(crate) mod attach;
pub(crate) mod cgroup;
pub(crate) mod clsact;
pub(crate) mod dataplane;
pub(crate) mod decisions;
pub(crate) mod direction;
pub(crate) mod enforcer;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod flow_tables;
pub(crate) mod interfaces;
pub(crate) mod local_sources;
pub(crate) mod maps;
pub(crate) mod mark_generation;
pub(crate) mod memory;
pub(crate) mod object;
pub(crate) mod pins;
pub(crate) mod qdisc;
pub(crate) mod reason;
pub(crate) mod running;
