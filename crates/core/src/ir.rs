//! The decision IR: policy as look-up tables whose cost per packet does not depend on the number of rules.
//!
//! A [`Snapshot`] answers a packet at one hook of one endpoint in a fixed number of steps:
//!
//! 1. Each address has a [`ClassId`]: the longest prefix of [`Snapshot::addresses`] that contains it, or
//!    [`ClassId::UNKNOWN`]. Two addresses of one class look the same to every rule.
//! 2. The endpoint names a [`ProgramId`] for the hook. The program has one [`Body`] per address family. A body
//!    projects the source class and the destination class to a row each, and the cell of the two rows names an
//!    [`L4TableId`].
//! 3. The [`L4Table`] maps protocol, source port and key (destination port, or ICMP type and code) to a
//!    [`DecisionId`].
//! 4. The [`DecisionEntry`] says verdict, cause and log entries. Only when the packet carries a principal or an HTTP
//!    request, and the decision has an [`L7Program`], that program is run instead.
//!
//! First match, tiers, Pass, defaults, negation and profiles are gone: the compiler resolved them, pointwise.
//! A snapshot is plain data. [`Snapshot::verify`] lists every invariant.

mod apply;
mod arena;
mod before;
mod canonical;
mod decision;
mod delta;
mod diff;
pub mod form;
mod images;
mod interpret;
mod lookup;
mod previous;
mod program;
mod snapshot;
mod table;
mod verify;

pub use arena::{Arena, ClassId, DecisionId, Id, L4TableId, L7ProgramId, ProgramId, ProjectionId};
pub use before::BeforeImages;
pub use decision::{DecisionEntry, Effect, Guard, L7Program, L7Step};
pub use delta::{Delta, DeltaError, ProjectionChange};
pub use form::{ReadError, Text};
pub use interpret::{Interpreter, View};
pub use lookup::{L7Context, Lookup};
pub use previous::Previous;
pub use program::{Body, Program, Projection};
pub use snapshot::{EndpointEntry, HookPrograms, IdentityNamespace, Snapshot};
pub use table::{Interval, L4Table, PortMap, SourceInterval};
pub use verify::{MAX_EXPR_DEPTH, Unreferenced, VerifyError};
