//! From text to expression tree.
//!
//! The grammar is Calico's (`libcalico-go/lib/selector/parser/parser.go`):
//!
//! ```text
//! selector  := blanks | or
//! or        := and ( '||' and )*
//! and       := operation ( '&&' operation )*
//! operation := '!'* ( 'has(' label ')' | 'all(' ')' | 'global(' ')' | '(' or ')' | comparison )
//! ```
//!
//! Open parentheses are kept on a list, not on the call stack: they cost no stack however many there are, and
//! those that group nothing leave no trace in the tree. Only the depth of the tree is bounded.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::label::{Name, Scope};
use crate::selector::cursor::{Cursor, Operator};
use crate::selector::error::{SelectorError, SelectorErrorKind as Kind};
use crate::selector::{Expr, GROUP_LEVELS, LabelRef, MAX_DEPTH, MAX_TEXT};

/// Parses a whole selector. Every label is looked up in [`Scope::Own`].
pub(super) fn parse(text: &str) -> Result<Expr, SelectorError> {
    if text.len() > MAX_TEXT {
        return Err(SelectorError::new(Kind::TooLong, text.len()..text.len(), ""));
    }
    let mut cursor = Cursor::new(text);
    cursor.skip_blanks();
    if cursor.at_end() {
        return Ok(Expr::All);
    }
    // The group in hand, and those around it, outermost first.
    let mut group = Group::default();
    let mut outer: Vec<Group> = Vec::new();
    loop {
        let (start, negated) = negations(&mut cursor);
        let open = cursor.offset();
        let mut term = if cursor.eat("(") {
            outer.push(core::mem::replace(&mut group, Group { start, open, negated, ..Group::default() }));
            continue;
        } else {
            let leaf = Measured { expr: leaf(&mut cursor)?, depth: 1 };
            negate(leaf, negated)
        };
        loop {
            let end = cursor.offset();
            cursor.skip_blanks();
            if cursor.eat("&&") {
                group.operands.push(term);
                break;
            }
            if cursor.eat("||") {
                group.operands.push(term);
                group.end_alternative();
                break;
            }
            if cursor.at_end() {
                if !outer.is_empty() {
                    return Err(
                        cursor.error(Kind::UnclosedParenthesis, group.open..group.open.saturating_add(1))
                    );
                }
                group.operands.push(term);
                let start = group.start;
                return Ok(checked(&cursor, start..end, group.finish())?.expr);
            }
            let close = cursor.offset();
            if !cursor.eat(")") {
                return Err(cursor.unexpected(Kind::ExpectedConnective));
            }
            let Some(around) = outer.pop() else {
                return Err(cursor.error(Kind::UnmatchedParenthesis, close..cursor.offset()));
            };
            group.operands.push(term);
            let closed = core::mem::replace(&mut group, around);
            let (start, negated) = (closed.start, closed.negated);
            term = checked(&cursor, start..cursor.offset(), negate(closed.finish(), negated))?;
        }
    }
}

/// Reads any number of `!`. Returns where they start and whether their number is odd.
fn negations(cursor: &mut Cursor<'_>) -> (usize, bool) {
    cursor.skip_blanks();
    let start = cursor.offset();
    let mut negated = false;
    while cursor.eat("!") {
        negated = !negated;
        cursor.skip_blanks();
    }
    (start, negated)
}

/// Reads one test: a call or a comparison.
fn leaf(cursor: &mut Cursor<'_>) -> Result<Expr, SelectorError> {
    if cursor.eat("has(") {
        cursor.skip_blanks();
        let Some(label) = cursor.label()? else { return Err(cursor.unexpected(Kind::ExpectedLabel)) };
        call_end(cursor)?;
        return Ok(Expr::Has(own(label)));
    }
    for (name, expr) in [("all(", Expr::All), ("global(", Expr::Global)] {
        if cursor.eat(name) {
            call_end(cursor)?;
            return Ok(expr);
        }
    }
    let Some(label) = cursor.label()? else { return Err(cursor.unexpected(Kind::ExpectedOperand)) };
    cursor.skip_blanks();
    let operator = cursor.operator()?;
    cursor.skip_blanks();
    let label = own(label);
    Ok(match operator {
        Operator::Eq => Expr::Eq(label, value(cursor)?),
        Operator::Ne => Expr::Ne(label, value(cursor)?),
        Operator::In => Expr::In(label, set(cursor)?),
        Operator::NotIn => Expr::NotIn(label, set(cursor)?),
        Operator::Contains => Expr::Contains(label, value(cursor)?),
        Operator::StartsWith => Expr::StartsWith(label, value(cursor)?),
        Operator::EndsWith => Expr::EndsWith(label, value(cursor)?),
    })
}

/// Reads the end of `has(`, `all(` and `global(`.
fn call_end(cursor: &mut Cursor<'_>) -> Result<(), SelectorError> {
    cursor.skip_blanks();
    if cursor.eat(")") { Ok(()) } else { Err(cursor.unexpected(Kind::ExpectedCallEnd)) }
}

/// Reads a quoted value.
fn value(cursor: &mut Cursor<'_>) -> Result<Name, SelectorError> {
    match cursor.string()? {
        Some(value) => Ok(Name::new(value)),
        None => Err(cursor.unexpected(Kind::ExpectedString)),
    }
}

/// Reads a set of quoted values; it may be empty, and a comma may follow the last one.
fn set(cursor: &mut Cursor<'_>) -> Result<Vec<Name>, SelectorError> {
    if !cursor.eat("{") {
        return Err(cursor.unexpected(Kind::ExpectedSet));
    }
    let mut values = Vec::new();
    loop {
        cursor.skip_blanks();
        let Some(value) = cursor.string()? else {
            if cursor.eat("}") {
                break;
            }
            return Err(cursor.unexpected(Kind::ExpectedSetValue));
        };
        values.push(Name::new(value));
        cursor.skip_blanks();
        if cursor.eat(",") {
            continue;
        }
        if cursor.eat("}") {
            break;
        }
        return Err(cursor.unexpected(Kind::ExpectedSetEnd));
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn own(label: &str) -> LabelRef {
    LabelRef::new(Scope::Own, label)
}

/// An expression and the depth of its tree, counted as [`MAX_DEPTH`] says.
struct Measured {
    expr: Expr,
    depth: usize,
}

/// Refuses an expression that is too deep.
///
/// This is asked after each step that deepens the tree, so the tree in hand is never much deeper than the limit.
fn checked(
    cursor: &Cursor<'_>,
    span: core::ops::Range<usize>,
    term: Measured,
) -> Result<Measured, SelectorError> {
    if term.depth > MAX_DEPTH { Err(cursor.error(Kind::TooDeep, span)) } else { Ok(term) }
}

fn negate(term: Measured, negated: bool) -> Measured {
    if negated {
        Measured { expr: Expr::Not(Box::new(term.expr)), depth: term.depth.saturating_add(1) }
    } else {
        term
    }
}

/// What has been read of the inside of a pair of parentheses, or of the whole text.
#[derive(Default)]
struct Group {
    /// Where the group starts, its negations included.
    start: usize,
    /// Where its parenthesis is.
    open: usize,
    /// Whether the group is negated.
    negated: bool,
    /// Complete operands of `||`.
    alternatives: Vec<Measured>,
    /// Operands of the `&&` that is being read.
    operands: Vec<Measured>,
}

impl Group {
    /// `||` or the end of the group was read: what has been read since the last one is a complete operand.
    fn end_alternative(&mut self) {
        let operands = core::mem::take(&mut self.operands);
        self.alternatives.push(join(operands, Expr::And));
    }

    fn finish(mut self) -> Measured {
        self.end_alternative();
        join(self.alternatives, Expr::Or)
    }
}

/// Joins operands, unless there is only one.
fn join(mut operands: Vec<Measured>, connect: fn(Vec<Expr>) -> Expr) -> Measured {
    if operands.len() == 1
        && let Some(only) = operands.pop()
    {
        return only;
    }
    let deepest = operands.iter().map(|operand| operand.depth).max().unwrap_or(0);
    Measured {
        expr: connect(operands.into_iter().map(|operand| operand.expr).collect()),
        depth: deepest.saturating_add(GROUP_LEVELS),
    }
}
