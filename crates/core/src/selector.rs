//! Selectors: boolean expressions over labels.

mod expr;

pub use expr::{Expr, LabelRef};
