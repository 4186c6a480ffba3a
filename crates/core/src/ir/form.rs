//! Snapshots as text and as bytes.
//!
//! Both forms are complete: read back, they give an equal snapshot, and what is read is [verified](Snapshot::verify).
//! Both are written and read by the same walk over the tables, so they cannot drift apart; equal snapshots have
//! equal forms.
//!
//! # Text
//!
//! For people and for tests. Names of users stand in double quotes with `\"`, `\\` and `\u{…}` for control
//! characters; everything else is bare words, numbers, networks and ids (`c7` class, `j7` projection, `p7` program, `t7`
//! table, `d7` decision, `l7` L7 program). Lists stand in brackets, what is absent is `-`, blanks and line ends
//! separate. Tables are sections of one entry a line:
//!
//! ```text
//! portcullis-ir 1
//! generation 3
//! addresses [
//!   10.0.0.7/32 c1
//! ]
//! projections [
//!   j0 rows 1 []
//!   j1 rows 2 [c1 1]
//! ]
//! programs [
//!   p0 v4 source j1 destination j0 columns 1 [t0 t1] v6 source j0 destination j0 columns 1 [t0]
//! ]
//! tables [
//!   t0 other d0 []
//!   t1 other d0 [6 [to 65535 [to 79 d0 to 80 d1 to 65535 d0]]]
//! ]
//! ```
//!
//! A table gives the decision for protocols it does not list, then for each protocol its source intervals and in each
//! its key intervals; `to` is the last port or key of an interval.
//!
//! # Bytes
//!
//! For storage and transport. Magic `PCIR`, version (two bytes, little-endian), the table of names (count, then length
//! and UTF-8 of each), the walk, and the 64-bit FNV-1a hash of all of that, little-endian. Numbers, ids, counts and
//! name references are LEB128; a choice is one byte, as is the presence of what is optional; a network is its
//! family (4 or 6), its address and its prefix length. The hash finds damage, not malice: who does not trust the
//! source must not use what it says, verified or not.
//!
//! # Limits
//!
//! A form is read in memory of a constant factor of its size: ids may exceed the number of entries of their table by
//! [`MAX_VACANT`] at most, and expressions nest no deeper than [`MAX_EXPR_DEPTH`](crate::ir::MAX_EXPR_DEPTH).

mod binary;
mod read;
mod text;
mod write;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::ir::{
    ClassId, DecisionId, Id, L4TableId, L7ProgramId, ProgramId, ProjectionId, Snapshot, VerifyError,
};
use crate::label::Name;
use crate::net::Cidr;
#[cfg(feature = "serde")]
use crate::selector::Expr;

/// The version of both forms. A reader refuses every other.
pub const FORM_VERSION: u16 = 1;

/// How many vacant ids a table may have in a form that is read.
pub const MAX_VACANT: u32 = 1 << 20;

/// Why a text or bytes are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(#[from] Kind);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Kind {
    #[error("{line}:{column}: {reason}")]
    Text { line: usize, column: usize, reason: String },
    #[error("byte {offset}: {reason}")]
    Bytes { offset: usize, reason: String },
    /// The form is well made and says something impossible.
    #[error("{0}")]
    Whole(#[from] VerifyError),
}

impl ReadError {
    /// The invariant that the form as a whole breaks, when that is what is wrong.
    #[must_use]
    pub const fn violation(&self) -> Option<&VerifyError> {
        match &self.0 {
            Kind::Whole(error) => Some(error),
            _ => None,
        }
    }

    /// The line of a text, counted from 1; `None` for bytes, and when the text as a whole breaks an invariant.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        match self.0 {
            Kind::Text { line, .. } => Some(line),
            _ => None,
        }
    }

    /// The offset in bytes; `None` for text, and when the bytes as a whole break an invariant.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match self.0 {
            Kind::Bytes { offset, .. } => Some(offset),
            _ => None,
        }
    }
}

/// A [`Snapshot`] that prints its [text form](crate::ir::form).
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(&'a Snapshot);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::snapshot(self.0, &mut text::Printer::new(f))
    }
}

/// An expression that prints the words that the text form has for it.
#[cfg(feature = "serde")]
pub(crate) struct ExprText<'a>(pub(crate) &'a Expr);

#[cfg(feature = "serde")]
impl fmt::Display for ExprText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::expr(&mut text::Printer::new(f), self.0)
    }
}

/// Reads what [`ExprText`] prints, and checks it as [`Snapshot::verify`] checks the expression of an identity.
#[cfg(feature = "serde")]
pub(crate) fn parse_expr(text: &str) -> Result<Expr, ReadError> {
    let mut parser = text::Parser::new(text);
    let expr = read::expr(&mut parser, 0)?;
    parser.end()?;
    if expr.any(super::verify::has_unsorted_values) {
        return Err(parser.fail("a list of values is not sorted, or has one twice"));
    }
    Ok(expr)
}

impl Snapshot {
    /// The [text form](crate::ir::form), to be printed.
    #[must_use]
    pub const fn text(&self) -> Text<'_> {
        Text(self)
    }

    /// Reads the [text form](crate::ir::form).
    ///
    /// # Errors
    /// When the text is not one, with line and column, or breaks an [invariant](Snapshot::verify).
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let mut parser = text::Parser::new(text);
        let snapshot = read::snapshot(&mut parser)?;
        parser.end()?;
        snapshot.verify().map_err(Kind::Whole)?;
        Ok(snapshot)
    }

    /// The [binary form](crate::ir::form).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = binary::Encoder::default();
        // The encoder itself never fails.
        let _: fmt::Result = write::snapshot(self, &mut encoder);
        encoder.finish()
    }

    /// Reads the [binary form](crate::ir::form).
    ///
    /// # Errors
    /// When the bytes are not one: cut short or longer, of another version, damaged, or breaking an
    /// [invariant](Snapshot::verify).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut decoder = binary::Decoder::new(bytes)?;
        let snapshot = read::snapshot(&mut decoder)?;
        decoder.end()?;
        snapshot.verify().map_err(Kind::Whole)?;
        Ok(snapshot)
    }
}

/// What a form is written to, piece by piece.
trait Sink {
    /// A fixed word, for people only.
    fn label(&mut self, word: &'static str) -> fmt::Result;
    /// One of `words`.
    fn choice(&mut self, words: &'static [&'static str], index: usize) -> fmt::Result;
    fn number(&mut self, number: u64) -> fmt::Result;
    fn id(&mut self, id: impl Id) -> fmt::Result;
    fn name(&mut self, name: &str) -> fmt::Result;
    fn net(&mut self, net: &Cidr) -> fmt::Result;
    /// Whether an optional part follows.
    fn present(&mut self, present: bool) -> fmt::Result;
    /// A list of `len` items, one a line or all in one.
    fn open(&mut self, len: usize, layout: Layout) -> fmt::Result;
    /// Before each item of a list.
    fn item(&mut self) -> fmt::Result;
    fn close(&mut self) -> fmt::Result;
}

/// How a list looks in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Lines,
    Inline,
}

/// What a form is read from: the mirror of [`Sink`].
trait Source {
    /// A list that is being read.
    type List;
    fn label(&mut self, word: &'static str) -> Result<(), ReadError>;
    fn choice(&mut self, words: &'static [&'static str]) -> Result<usize, ReadError>;
    fn number(&mut self, most: u64) -> Result<u64, ReadError>;
    fn id<I: Tagged>(&mut self) -> Result<I, ReadError>;
    fn name(&mut self) -> Result<Name, ReadError>;
    fn net(&mut self) -> Result<Cidr, ReadError>;
    fn present(&mut self) -> Result<bool, ReadError>;
    fn open(&mut self) -> Result<Self::List, ReadError>;
    /// Whether the list has another item; at its end, leaves it.
    fn more(&mut self, list: &mut Self::List) -> Result<bool, ReadError>;
    /// An error here.
    fn fail(&self, reason: &str) -> ReadError;
}

/// The letter that stands before an id.
trait Tagged: Id {
    const TAG: char;
}

macro_rules! tags {
    ($($id:ty = $tag:literal),* $(,)?) => {$(
        impl Tagged for $id {
            const TAG: char = $tag;
        }
    )*};
}

tags! {
    ClassId = 'c',
    ProjectionId = 'j',
    ProgramId = 'p',
    L4TableId = 't',
    DecisionId = 'd',
    L7ProgramId = 'l',
}

/// The words of choices, in the order of their codes. New ones go to the end, with a new [`FORM_VERSION`].
mod words {
    pub(super) const VERDICTS: &[&str] = &["allow", "deny", "continue", "inspect"];
    pub(super) const CAUSES: &[&str] = &[
        "rule",
        "tier-default",
        "profile",
        "profile-default",
        "no-policy",
        "loopback",
        "node",
        "workload-to-host",
        "failsafe",
        "neighbour-discovery",
        "no-backend",
        "no-service-port",
        "tunnel",
    ];
    pub(super) const DIRECTIONS: &[&str] = &["ingress", "egress"];
    pub(super) const EFFECTS: &[&str] = &["decide", "skip-to", "log"];
    pub(super) const PATHS: &[&str] = &["exact", "prefix"];
    pub(super) const SCOPES: &[&str] = &["own", "namespace", "service-account"];
    pub(super) const KINDS: &[&str] = &["workload", "host"];
    /// In the order of [`Hook::ALL`](crate::verdict::Hook::ALL).
    pub(super) const HOOKS: &[&str] = &[
        "workload-ingress",
        "workload-egress",
        "host-ingress",
        "host-egress",
        "forward-ingress",
        "forward-egress",
        "pre-dnat",
        "untracked-ingress",
        "untracked-egress",
    ];
    pub(super) const EXPRS: &[&str] = &[
        "all",
        "global",
        "has",
        "eq",
        "ne",
        "in",
        "not-in",
        "contains",
        "starts-with",
        "ends-with",
        "not",
        "and",
        "or",
    ];
}
