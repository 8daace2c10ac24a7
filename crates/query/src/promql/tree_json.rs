use serde_json::{Map, Value, json};

use super::ast::{At, Binary, Cardinality, DurationExpr, Expr, ExprKind, Extension, Matching, VectorSelector};
use super::literal::decimal;

/// The tree as Prometheus' `/api/v1/parse_query` answers it.
pub fn tree_json(expr: &Expr) -> Value {
    // a chain of operators leans to the left and may be long
    let mut chain: Vec<&Binary> = Vec::new();
    let mut at = expr;
    while let ExprKind::Binary(b) = &at.kind {
        chain.push(b);
        at = &b.left;
    }
    let mut tree = other(at);
    while let Some(b) = chain.pop() {
        tree = json!({
            "type": "binaryExpr",
            "op": b.op.as_str(),
            "lhs": tree,
            "rhs": tree_json(&b.right),
            "matching": b.matching.as_ref().map(matching),
            "bool": b.return_bool,
        });
    }
    tree
}

fn other(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(v) | ExprKind::Duration(v) => json!({"type": "numberLiteral", "val": decimal(*v)}),
        ExprKind::String(s) => json!({"type": "stringLiteral", "val": s}),
        ExprKind::Selector(s) => {
            let mut tree = selector(s);
            tree.insert("type".into(), "vectorSelector".into());
            tree.into()
        }
        ExprKind::Matrix { selector: s, range } => {
            let mut tree = selector(s);
            tree.insert("type".into(), "matrixSelector".into());
            duration_pair(&mut tree, "range", Some(range));
            tree.into()
        }
        ExprKind::Subquery(s) => {
            let mut tree = Map::new();
            tree.insert("type".into(), "subquery".into());
            tree.insert("expr".into(), tree_json(&s.expr));
            duration_pair(&mut tree, "range", Some(&s.range));
            duration_pair(&mut tree, "offset", s.offset.as_ref());
            duration_pair(&mut tree, "step", s.step.as_ref());
            at_pair(&mut tree, s.at);
            tree.into()
        }
        ExprKind::Unary { op, expr } => {
            json!({"type": "unaryExpr", "op": super::print::sign(*op).to_string(), "expr": tree_json(expr)})
        }
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree_json(inner)}),
        ExprKind::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": tree_json(&a.expr),
            "param": a.param.as_ref().map(tree_json),
            "grouping": a.grouping,
            "without": a.without,
        }),
        ExprKind::Call { func, args } => json!({
            "type": "call",
            "func": {
                "name": func.name,
                "argTypes": func.args.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
                "variadic": func.variadic,
                "returnType": func.returns.as_str(),
            },
            "args": args.iter().map(tree_json).collect::<Vec<_>>(),
        }),
        ExprKind::Binary(_) => tree_json(expr),
    }
}

fn matching(m: &Matching) -> Value {
    let card = match m.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": {"lhs": m.fill_left, "rhs": m.fill_right},
    })
}

fn selector(s: &VectorSelector) -> Map<String, Value> {
    let mut tree = Map::new();
    tree.insert("name".into(), s.name.as_str().into());
    duration_pair(&mut tree, "offset", s.offset.as_ref());
    let matchers = s.matchers.iter();
    let matchers = matchers.map(|m| json!({"name": m.name, "value": m.value, "type": m.op.as_str()}));
    tree.insert("matchers".into(), matchers.collect());
    at_pair(&mut tree, s.at);
    tree.insert("anchored".into(), (s.extension == Extension::Anchored).into());
    tree.insert("smoothed".into(), (s.extension == Extension::Smoothed).into());
    tree
}

fn at_pair(tree: &mut Map<String, Value>, at: Option<At>) {
    let (time, word) = match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (ms.into(), Value::Null),
        Some(At::Start) => (Value::Null, "start".into()),
        Some(At::End) => (Value::Null, "end".into()),
    };
    tree.insert("timestamp".into(), time);
    tree.insert("startOrEnd".into(), word);
}

/// `name` in ms where it is a literal, and `nameExpr` where it is not.
fn duration_pair(tree: &mut Map<String, Value>, name: &str, duration: Option<&DurationExpr>) {
    let (ms, expr) = match duration {
        None => (0, Value::Null),
        Some(DurationExpr::Literal(ms)) => (*ms, Value::Null),
        Some(expr) => (0, duration_json(expr, false)),
    };
    tree.insert(name.into(), ms.into());
    tree.insert(format!("{name}Expr"), expr);
}

fn duration_json(duration: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>| {
        let side = |e: Option<&DurationExpr>| e.map(|e| duration_json(e, false));
        json!({"type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": wrapped})
    };
    let literal = |val: String, is_duration: bool| {
        let literal = json!({"type": "numberLiteral", "val": val, "duration": is_duration});
        // a literal in parentheses is held as a unary plus
        match wrapped {
            true => json!({"type": "durationExpr", "op": "+", "lhs": null, "rhs": literal, "wrapped": true}),
            false => literal,
        }
    };
    match duration {
        DurationExpr::Literal(ms) => literal(decimal(*ms as f64 / 1000.0), true),
        DurationExpr::Number(v) => literal(decimal(*v), false),
        DurationExpr::Step => node("step", None, None),
        DurationExpr::Range => node("range", None, None),
        DurationExpr::Min(a, b) => node("min_of", Some(a), Some(b)),
        DurationExpr::Max(a, b) => node("max_of", Some(a), Some(b)),
        DurationExpr::Neg(e) => node("-", None, Some(e)),
        DurationExpr::Binary { op, left, right } => node(op.as_str(), Some(left), Some(right)),
        DurationExpr::Paren(e) => duration_json(e, true),
        DurationExpr::Spanned(_, e) => duration_json(e, wrapped),
    }
}
