//! The canonical text of an expression.

use core::fmt;

use crate::label::{Name, Scope};
use crate::selector::{Expr, LabelRef};

/// The canonical form of the selector language.
///
/// Double quotes unless the value holds one, sets in order, `&&` and `||` groups in parentheses, `!` glued to
/// its operand. Source: Calico `libcalico-go/lib/selector/parser/ast.go`.
///
/// What the language cannot say is written so that it cannot be read as something else, nor parsed at all:
/// labels of a namespace and of a service account as `ns:key` and `sa:key`, and a value that holds both kinds
/// of quotes with its double quotes doubled. An empty `And` is printed as `all()`, an empty `Or` as `!all()`.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self, f)
    }
}

/// The canonical text: an expression is easier to read that way, and nesting costs little stack.
impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self, f)
    }
}

/// As in the selector language; labels of other scopes as `ns:key` and `sa:key`.
impl fmt::Display for LabelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            Scope::Own => "",
            Scope::Namespace => "ns:",
            Scope::ServiceAccount => "sa:",
        })?;
        f.write_str(&self.key)
    }
}

/// Prints the connectives; nothing else here recurses, so that a level takes little stack.
fn print(expr: &Expr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match expr {
        Expr::Not(inner) => {
            f.write_str("!")?;
            print(inner, f)
        }
        Expr::And(operands) => print_group(operands, " && ", "all()", f),
        Expr::Or(operands) => print_group(operands, " || ", "!all()", f),
        leaf => print_leaf(leaf, f),
    }
}

fn print_group(operands: &[Expr], connective: &str, empty: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match operands {
        [] => f.write_str(empty),
        [only] => print(only, f),
        [first, others @ ..] => {
            f.write_str("(")?;
            print(first, f)?;
            for operand in others {
                f.write_str(connective)?;
                print(operand, f)?;
            }
            f.write_str(")")
        }
    }
}

fn print_leaf(leaf: &Expr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match leaf {
        Expr::All => f.write_str("all()"),
        Expr::Global => f.write_str("global()"),
        Expr::Has(label) => write!(f, "has({label})"),
        Expr::Eq(label, value) => print_comparison(label, "==", value, f),
        Expr::Ne(label, value) => print_comparison(label, "!=", value, f),
        Expr::Contains(label, value) => print_comparison(label, "contains", value, f),
        Expr::StartsWith(label, value) => print_comparison(label, "starts with", value, f),
        Expr::EndsWith(label, value) => print_comparison(label, "ends with", value, f),
        Expr::In(label, values) => print_set(label, "in", values, f),
        Expr::NotIn(label, values) => print_set(label, "not in", values, f),
        // Printed by the caller.
        Expr::Not(_) | Expr::And(_) | Expr::Or(_) => Ok(()),
    }
}

fn print_comparison(
    label: &LabelRef,
    operator: &str,
    value: &str,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "{label} {operator} ")?;
    print_value(value, f)
}

fn print_set(label: &LabelRef, operator: &str, values: &[Name], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        print_value(value, f)?;
    }
    f.write_str("}")
}

fn print_value(value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !value.contains('"') {
        write!(f, "\"{value}\"")
    } else if !value.contains('\'') {
        write!(f, "'{value}'")
    } else {
        // A quote right after a quoted value is always an error, so this never parses as something wider.
        f.write_str("\"")?;
        for (i, part) in value.split('"').enumerate() {
            if i > 0 {
                f.write_str("\"\"")?;
            }
            f.write_str(part)?;
        }
        f.write_str("\"")
    }
}
