//! Selectors: boolean expressions over labels.
//!
//! [`Expr`] is the tree and its meaning. [`Selector`] adds the text: Calico's selector language, which is a
//! superset of what Kubernetes label selectors can say.
//!
//! ```
//! use portcullis_core::label::Labels;
//! use portcullis_core::selector::Selector;
//!
//! let selector = Selector::parse("app == 'web' && tier not in {'test', 'dev'}")?;
//! assert!(selector.matches(&Labels::from_iter([("app", "web")])));
//! assert_eq!(selector.to_string(), r#"(app == "web" && tier not in {"dev", "test"})"#);
//! # Ok::<(), portcullis_core::selector::SelectorError>(())
//! ```

mod build;
mod cursor;
mod error;
mod expr;
mod parser;
mod print;
mod restrict;

use core::fmt;
use core::str::FromStr;

use crate::label::{LabelSource, Scope};

pub use error::{SelectorError, SelectorErrorKind};
pub use expr::{Expr, LabelRef};
pub use restrict::Restriction;

/// A selector: an expression that has, or could have, a text in Calico's selector language.
///
/// `Display` prints the canonical text, see [`Expr`]. It parses back to an equal selector with two exceptions:
/// a nested double negation, which is kept in the tree and printed as `!!`, comes back without it (the meaning
/// is the same), and an expression that does not come from the parser may say what the language cannot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    expr: Expr,
}

impl Selector {
    /// Wraps an expression.
    #[must_use]
    pub const fn new(expr: Expr) -> Self {
        Self { expr }
    }

    /// Parses a text in Calico's selector language. Every label is looked up in [`Scope::Own`]; a text of
    /// blanks only is `all()`.
    ///
    /// # Errors
    /// The text is not a selector, or is over one of the limits [`MAX_TEXT`], [`MAX_LABEL`] and [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(Self::new)
    }

    /// The expression.
    #[must_use]
    pub const fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Unwraps the expression.
    #[must_use]
    pub fn into_expr(self) -> Expr {
        self.expr
    }

    /// Looks every label up in `scope` instead: `namespaceSelector` and `serviceAccountSelector` are written
    /// in the same language and mean labels of other objects.
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        Self::new(self.expr.in_scope(scope))
    }

    /// Whether the selector holds for `labels`.
    pub fn matches(&self, labels: &(impl LabelSource + ?Sized)) -> bool {
        self.expr.matches(labels)
    }
}

impl From<Expr> for Selector {
    fn from(expr: Expr) -> Self {
        Self::new(expr)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.expr, f)
    }
}

/// Longest label, in bytes, as in Calico.
pub const MAX_LABEL: usize = 512;

/// Longest text the parser reads, in bytes. Calico's parser has no such limit.
pub const MAX_TEXT: usize = 64 * 1024;

/// Longest selector, in characters, in an object that the Kubernetes API server accepts. The parser reads
/// longer ones; this is for callers who enforce the limits of the Calico resource definitions.
pub const MAX_RESOURCE_CHARS: usize = 1024;

/// Deepest tree that the parser builds. Calico's parser has no such limit.
///
/// A test counts one level, a negation one, and an `&&` or `||` of several operands three, about their share
/// of stack. Parentheses that group nothing count nothing. Every text of up to [`MAX_RESOURCE_CHARS`]
/// characters is within the limit, and whatever is within it can be matched, printed, cloned, compared and
/// dropped on a stack of 128 KiB.
pub const MAX_DEPTH: usize = 448;

/// Levels of [`MAX_DEPTH`] that an `&&` or `||` counts.
const GROUP_LEVELS: usize = 3;

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Selector>();
    shared_between_threads::<SelectorError>();
};
