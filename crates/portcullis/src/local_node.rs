//! The node that this process enforces policy on: compiler, bindings and dataplane kept together.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use portcullis_core::backend::{
    Applied, Binding, Bindings, Dataplane, DataplaneError, DataplaneOptions, DesiredState, Health, Interface,
    NewlyDenied, NodeInterfaces,
};
use portcullis_core::compile::{Compiler, UpdateError};
use portcullis_core::ir::{BeforeImages, Delta, Previous, Snapshot};
use portcullis_core::model::{Cluster, EndpointId, Update};

/// Policy on this node: what objects, endpoints and interfaces are to mean, and the dataplane that enforces it.
///
/// One call, [`LocalNode::change`], does everything that a change needs: it checks and applies updates, commits them,
/// brings the result in force, and ends the flows that it newly denies where [that is chosen](LocalNode::with_flows).
/// After an error of the dataplane, the next change brings everything in force that is missing, and ends the flows that
/// were allowed by the policy before the error and are denied now.
///
/// When not to use it: to analyse policy without enforcing it; a [`Compiler`] does.
pub struct LocalNode {
    compiler: Compiler,
    bindings: Bindings,
    dataplane: Box<dyn Dataplane>,
    /// What the dataplane was opened with.
    options: DataplaneOptions,
    interfaces: Box<dyn FnMut() -> NodeInterfaces + Send>,
    flows: NewlyDeniedFlows,
    stage: Stage,
}

/// What becomes of tracked flows that a change of policy newly denies (decision D16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewlyDeniedFlows {
    /// They go on until they end by themselves.
    #[default]
    Keep,
    /// They are ended; see [`NewlyDenied`].
    End,
}

/// How far the dataplane has followed.
enum Stage {
    /// Nothing was loaded yet.
    New,
    /// The last commit is in force, and no flow is left that should have been ended.
    Current,
    /// The last commit is not in force, or flows are left. The images lead back to the last state that was.
    Behind(Box<BeforeImages>),
}

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode")
            .field("dataplane", &self.dataplane.name())
            .field("generation", &self.snapshot().generation)
            .field("is_current", &self.is_current())
            .field("flows", &self.flows)
            .finish_non_exhaustive()
    }
}

/// What is changed at once. See [`LocalNode::change`].
#[derive(Debug, Default)]
pub struct Change {
    updates: Vec<Update>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Bind(EndpointId, Binding),
    Unbind(EndpointId),
    Close(Interface),
    Reopen(Interface),
    Uplink(Interface),
    RemoveUplink(Interface),
}

impl Change {
    /// An object that came, changed or went.
    pub fn apply(&mut self, update: Update) {
        self.updates.push(update);
    }

    /// As [`Bindings::bind`].
    pub fn bind(&mut self, id: EndpointId, binding: Binding) {
        self.edits.push(Edit::Bind(id, binding));
    }

    /// As [`Bindings::unbind`].
    pub fn unbind(&mut self, id: EndpointId) {
        self.edits.push(Edit::Unbind(id));
    }

    /// As [`Bindings::close`].
    pub fn close(&mut self, interface: Interface) {
        self.edits.push(Edit::Close(interface));
    }

    /// As [`Bindings::reopen`].
    pub fn reopen(&mut self, interface: Interface) {
        self.edits.push(Edit::Reopen(interface));
    }

    /// As [`Bindings::uplink`].
    pub fn uplink(&mut self, interface: Interface) {
        self.edits.push(Edit::Uplink(interface));
    }

    /// As [`Bindings::remove_uplink`].
    pub fn remove_uplink(&mut self, interface: Interface) {
        self.edits.push(Edit::RemoveUplink(interface));
    }
}

impl Edit {
    fn make(self, bindings: &mut Bindings) {
        match self {
            Self::Bind(id, binding) => bindings.bind(id, binding),
            Self::Unbind(id) => drop(bindings.unbind(&id)),
            Self::Close(interface) => bindings.close(interface),
            Self::Reopen(interface) => {
                bindings.reopen(&interface);
            }
            Self::Uplink(interface) => bindings.uplink(interface),
            Self::RemoveUplink(interface) => {
                bindings.remove_uplink(&interface);
            }
        }
    }
}

/// What a change did. The whole desired state is in force, but for the endpoints that [`Changed::applied`] names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "endpoints that were not reached are only told here"]
pub struct Changed {
    /// What is in force.
    pub applied: Applied,
    /// How many entries of flow tables were ended.
    pub ended_flows: usize,
}

/// Why a change was not carried out, or not as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// An update has no meaning. Nothing was changed at all.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The change is noted and not in force; the policy before is. The next change brings both in force.
    #[error("policy is not in force: {0}")]
    Dataplane(#[source] DataplaneError),
    /// The change is in force, and flows may be left that it newly denies. The next change ends them.
    #[error("flows that policy denies now may go on: {source}")]
    Flows {
        /// What is in force.
        applied: Applied,
        /// Why flows could not be ended.
        source: DataplaneError,
    },
}

impl LocalNode {
    /// A node with the objects of `compiler` and no endpoints. Nothing is enforced before the first
    /// [change](LocalNode::change). `options` are those that `dataplane` was opened with.
    #[must_use]
    pub fn new(compiler: Compiler, dataplane: Box<dyn Dataplane>, options: DataplaneOptions) -> Self {
        Self {
            compiler,
            bindings: Bindings::new(),
            dataplane,
            options,
            interfaces: Box::new(NodeInterfaces::new),
            flows: NewlyDeniedFlows::default(),
            stage: Stage::New,
        }
    }

    /// What becomes of flows that a change newly denies. The first change looks at none, because the policy that
    /// allowed them is not known.
    #[must_use]
    pub const fn with_flows(mut self, flows: NewlyDeniedFlows) -> Self {
        self.flows = flows;
        self
    }

    /// How to find out which interfaces and addresses the node has, whenever flows are to be ended. Without it, none
    /// are known. With a kernel backend, `backends::node_interfaces` asks the kernel.
    #[must_use]
    pub fn with_interfaces(mut self, look: impl FnMut() -> NodeInterfaces + Send + 'static) -> Self {
        self.interfaces = Box::new(look);
        self
    }

    /// Makes all changes that `edit` asks for, together: packets are decided by the policy before all of them or after
    /// all of them. The first change loads the dataplane, in place of what an earlier process left.
    ///
    /// # Errors
    /// See [`ChangeError`]. After an error of the dataplane, the next change tries again; [`LocalNode::catch_up`] is
    /// one without anything new.
    pub fn change(&mut self, edit: impl FnOnce(&mut Change)) -> Result<Changed, ChangeError> {
        let mut change = Change::default();
        edit(&mut change);
        change.updates.iter().try_for_each(Compiler::check)?;
        for update in change.updates {
            self.compiler.apply(update)?;
        }
        change.edits.into_iter().for_each(|edit| edit.make(&mut self.bindings));
        let delta = self.compiler.commit();
        self.follow(&delta)
    }

    /// Brings in force what is not yet.
    ///
    /// # Errors
    /// As for [`LocalNode::change`].
    pub fn catch_up(&mut self) -> Result<Changed, ChangeError> {
        self.change(|_| {})
    }

    /// What an agent calls every few seconds and when an interface appears: catches up where that is due, and
    /// [maintains](Dataplane::maintain) the dataplane.
    ///
    /// # Errors
    /// As for [`LocalNode::change`], and when the dataplane cannot be looked at or repaired.
    pub fn maintain(&mut self) -> Result<Health, ChangeError> {
        if !self.is_current() {
            let Changed { .. } = self.catch_up()?;
        }
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        self.dataplane.maintain(desired).map_err(ChangeError::Dataplane)
    }

    /// Whether the last change is in force, and no flow is left that it should have ended.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        matches!(self.stage, Stage::Current)
    }

    /// The objects.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        self.compiler.cluster()
    }

    /// The compiled policy.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        self.compiler.snapshot()
    }

    /// The endpoints and their interfaces.
    #[must_use]
    pub const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The dataplane, for its counters, events and usage.
    pub fn dataplane(&mut self) -> &mut dyn Dataplane {
        &mut *self.dataplane
    }

    /// Takes policy off this machine, see [`Dataplane::remove`]. Dropping the node leaves it in force.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(mut self) -> Result<(), DataplaneError> {
        self.dataplane.remove()
    }

    fn follow(&mut self, delta: &Delta) -> Result<Changed, ChangeError> {
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        let behind = match core::mem::replace(&mut self.stage, Stage::New) {
            Stage::New => {
                let applied = self.dataplane.load(desired).map_err(ChangeError::Dataplane)?;
                self.stage = Stage::Current;
                return Ok(Changed { applied, ended_flows: 0 });
            }
            Stage::Current => None,
            Stage::Behind(mut behind) => {
                // Nobody else commits, so one follows the other.
                let appended = behind.append(self.compiler.before_images().clone());
                debug_assert!(appended.is_ok(), "commits follow each other");
                Some(behind)
            }
        };
        let result = match self.dataplane.update(desired, delta) {
            Err(error) => Err(ChangeError::Dataplane(error)),
            Ok(applied) => match self.end_flows(behind.as_deref()) {
                Err(source) => Err(ChangeError::Flows { applied, source }),
                Ok(ended_flows) => Ok(Changed { applied, ended_flows }),
            },
        };
        self.stage = match &result {
            Ok(_) => Stage::Current,
            Err(_) => {
                Stage::Behind(behind.unwrap_or_else(|| Box::new(self.compiler.before_images().clone())))
            }
        };
        result
    }

    /// Ends the flows that were allowed in the state that `behind` or else the last commit remembers, and are denied
    /// now.
    fn end_flows(&mut self, behind: Option<&BeforeImages>) -> Result<usize, DataplaneError> {
        let before = behind.unwrap_or_else(|| self.compiler.before_images());
        if self.flows == NewlyDeniedFlows::Keep || before.from() == before.to() {
            return Ok(0);
        }
        let snapshot = self.compiler.snapshot();
        let Ok(previous) = Previous::new(snapshot, before) else { return Ok(0) };
        let node = (self.interfaces)();
        let desired = DesiredState::new(snapshot, &self.bindings);
        let newly_denied = NewlyDenied::new(previous, desired, &self.options, &node);
        let newly_denied = newly_denied.with_objects(self.compiler.cluster());
        self.dataplane.terminate(&|flow| newly_denied.contains(flow))
    }
}

const _: () = {
    const fn moved_to_a_thread<T: Send>() {}
    moved_to_a_thread::<LocalNode>();
};
