use std::fmt::{self, Write};

use super::ast::{Binary, Expr, ExprKind};
use super::print::{AggregateHead, Modifiers, SubquerySuffix, sign};

/// What is longer than this is broken up.
const LINE_MAX: usize = 100;

/// A query over several lines, as Prometheus' format_query answers it.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(expr, 0, &mut out);
    out
}

fn indent(level: usize, out: &mut String) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

/// Whether the expression is too long for one line. Writing ends as soon as that is known.
fn needs_split(expr: &Expr) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(s.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE_MAX), "{expr}").is_err()
}

fn line(expr: &Expr, level: usize, out: &mut String) {
    indent(level, out);
    // writing to a String cannot fail
    let _ = write!(out, "{expr}");
}

fn write(expr: &Expr, level: usize, out: &mut String) {
    match &expr.kind {
        ExprKind::Subquery(s) => {
            if needs_split(expr) {
                write(&s.expr, level, out);
                let _ = write!(out, "{}", SubquerySuffix(s));
            } else {
                let _ = write!(out, "{expr}");
            }
        }
        ExprKind::Unary { op, expr } => {
            indent(level, out);
            out.push(sign(*op));
            let mut child = String::new();
            write(expr, level, &mut child);
            out.push_str(child.trim());
        }
        ExprKind::Aggregate(_) | ExprKind::Binary(_) | ExprKind::Call { .. } | ExprKind::Paren(_)
            if needs_split(expr) =>
        {
            split(expr, level, out);
        }
        _ => line(expr, level, out),
    }
}

fn split(expr: &Expr, level: usize, out: &mut String) {
    match &expr.kind {
        ExprKind::Binary(_) => binary(expr, level, out),
        ExprKind::Aggregate(a) => {
            indent(level, out);
            let _ = writeln!(out, "{}(", AggregateHead(a));
            if let Some(param) = &a.param {
                write(param, level + 1, out);
                out.push_str(",\n");
            }
            write(&a.expr, level + 1, out);
            close(level, out);
        }
        ExprKind::Call { func, args } => {
            indent(level, out);
            let _ = writeln!(out, "{}(", func.name);
            for (i, arg) in args.iter().enumerate() {
                out.push_str(if i > 0 { ",\n" } else { "" });
                write(arg, level + 1, out);
            }
            close(level, out);
        }
        ExprKind::Paren(inner) => {
            indent(level, out);
            out.push_str("(\n");
            write(inner, level + 1, out);
            close(level, out);
        }
        _ => line(expr, level, out),
    }
}

fn close(level: usize, out: &mut String) {
    out.push('\n');
    indent(level, out);
    out.push(')');
}

/// The left side of a chain stands one level deeper than its operator.
fn binary(expr: &Expr, level: usize, out: &mut String) {
    let mut chain: Vec<(&Binary, usize)> = Vec::new();
    let (mut at, mut deeper) = (expr, level);
    while let ExprKind::Binary(b) = &at.kind {
        if !needs_split(at) {
            break;
        }
        chain.push((b, deeper));
        at = &b.left;
        deeper += 1;
    }
    write(at, deeper, out);
    while let Some((b, level)) = chain.pop() {
        out.push('\n');
        indent(level, out);
        let _ = writeln!(out, "{}{}", b.op.as_str(), Modifiers(b));
        write(&b.right, level + 1, out);
    }
}
