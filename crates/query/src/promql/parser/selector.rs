use super::*;
use crate::promql::is_utf8;

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let mut pos = span(token);
        let name = match token.tok {
            Tok::LeftBrace => String::new(),
            tok if can_be_metric(tok) => {
                self.take();
                self.text(token).to_owned()
            }
            _ => return Err(self.unexpected_here()),
        };
        let mut matchers = Vec::new();
        if self.peek_tok() == Tok::LeftBrace {
            self.take();
            matchers = self.label_matchers()?;
            pos.end = self.last_end();
        }
        if !name.is_empty() {
            matchers.push(Matcher::equal(model::METRIC_NAME, name.clone()));
        }
        let selector = VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            extension: Extension::None,
        };
        Ok(Expr::new(pos, ExprKind::Selector(selector)))
    }

    /// Matchers up to and with the closing brace.
    fn label_matchers(&mut self) -> Parsed<Vec<Matcher>> {
        const CONTEXT: &str = "label matching";
        let mut matchers = Vec::new();
        if self.take_if(Tok::RightBrace).is_some() {
            return Ok(matchers);
        }
        loop {
            let name = self.peek();
            let label = match name.tok {
                Tok::Identifier => self.text(name).to_owned(),
                Tok::String => unquote(self.text(name)),
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            };
            self.take();
            let op = match self.peek_tok() {
                Tok::Assign => Some(model::MatchOp::Equal),
                Tok::Neq => Some(model::MatchOp::NotEqual),
                Tok::EqlRegex => Some(model::MatchOp::Regex),
                Tok::NeqRegex => Some(model::MatchOp::NotRegex),
                _ if name.tok == Tok::String => None,
                _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
            };
            matchers.push(match op {
                None => Matcher::equal(model::METRIC_NAME, label),
                Some(op) => {
                    self.take();
                    let Some(value) = self.take_if(Tok::String) else {
                        return Err(self.unexpected(CONTEXT, "string"));
                    };
                    let text = unquote(self.text(value));
                    if !matches!(op, model::MatchOp::Equal | model::MatchOp::NotEqual) && !is_utf8(&text) {
                        let what = format!("error parsing regexp: invalid UTF-8: `{text}`");
                        return Err(self.error(merge(span(name), span(value)), what));
                    }
                    Matcher::new(label, op, text).map_err(|e| self.error(merge(span(name), span(value)), e.reason))?
                }
            });
            let comma = self.take_if(Tok::Comma).is_some();
            if self.take_if(Tok::RightBrace).is_some() {
                return Ok(matchers);
            }
            if !comma {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
    }

    pub(super) fn range_or_subquery(&mut self, node: Node) -> Parsed<Node> {
        const KINDS: &str = "number, duration, step(), or range()";
        let open = self.take();
        let range = self.positive_duration("subquery or range selector", KINDS)?;
        match self.peek_tok() {
            Tok::RightBracket => {
                let close = self.take();
                self.matrix(node, range, merge(span(open), span(close)))
            }
            Tok::Colon => {
                self.take();
                let step = match self.peek_tok() {
                    Tok::RightBracket => None,
                    _ => Some(
                        self.positive_duration("subquery selector", "number, duration, step(), range(), or \"]\"")?,
                    ),
                };
                let Some(close) = self.take_if(Tok::RightBracket) else {
                    return Err(self.unexpected("subquery selector", "\"]\""));
                };
                let pos = Pos {
                    start: node.expr.pos.start,
                    end: close.end,
                };
                let subquery = Subquery {
                    expr: node.expr,
                    range,
                    step,
                    offset: None,
                    at: None,
                };
                let expr = Expr::new(pos, ExprKind::Subquery(Box::new(subquery)));
                self.node(expr, node.depth + 1, node.height + 1)
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
    }

    /// `selector[range]`; `brackets` is the place of the range.
    fn matrix(&mut self, node: Node, range: DurationExpr, brackets: Pos) -> Parsed<Node> {
        let pos = Pos {
            start: node.expr.pos.start,
            end: brackets.end,
        };
        let problem = match node.expr.kind {
            ExprKind::Selector(s) if set_offset(&s.offset) => Err("no offset modifiers allowed before range"),
            ExprKind::Selector(s) if s.at.is_some() => Err("no @ modifiers allowed before range"),
            ExprKind::Selector(s) => Ok(s),
            _ => Err("ranges only allowed for vector selectors"),
        };
        let selector = problem.map_err(|what| self.error(brackets, what))?;
        self.node(Expr::new(pos, ExprKind::Matrix { selector, range }), 1, 1)
    }

    pub(super) fn set_offset(&mut self, expr: &mut Expr, offset: DurationExpr) -> Parsed<()> {
        let slot = match &mut expr.kind {
            ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => &mut s.offset,
            ExprKind::Subquery(s) => &mut s.offset,
            _ => {
                return Err(self.error(
                    expr.pos,
                    "offset modifier must be preceded by an instant vector selector or range vector selector or a \
                     subquery",
                ));
            }
        };
        if set_offset(slot) {
            return Err(self.error(expr.pos, "offset may not be set multiple times"));
        }
        *slot = Some(offset);
        expr.pos.end = self.last_end();
        Ok(())
    }

    /// `@ 12.5`, `@ start()`, `@ end()`.
    pub(super) fn at(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.take();
        let sign = self.peek_tok();
        let at = match sign {
            Tok::Start | Tok::End => {
                self.take();
                for tok in [Tok::LeftParen, Tok::RightParen] {
                    if self.take_if(tok).is_none() {
                        return Err(self.unexpected("@", "timestamp"));
                    }
                }
                if sign == Tok::Start { At::Start } else { At::End }
            }
            _ => {
                if matches!(sign, Tok::Add | Tok::Sub) {
                    self.take();
                }
                let token = self.peek();
                let value = match token.tok {
                    Tok::Number => {
                        self.take();
                        self.number(token)?
                    }
                    Tok::Duration => {
                        self.take();
                        self.duration_seconds(token)?
                    }
                    _ => return Err(self.unexpected("@", "timestamp")),
                };
                let seconds = if sign == Tok::Sub { -value } else { value };
                if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
                    let shown = super::super::literal::fixed6(seconds);
                    return Err(self.error(
                        expr.pos,
                        format_args!("timestamp out of bounds for @ modifier: {shown}"),
                    ));
                }
                At::Time((seconds * 1000.0).round() as i64)
            }
        };
        let slot = match &mut expr.kind {
            ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => &mut s.at,
            ExprKind::Subquery(s) => &mut s.at,
            _ => {
                return Err(self.error(
                    expr.pos,
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                ));
            }
        };
        if slot.is_some() {
            return Err(self.error(expr.pos, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        expr.pos.end = self.last_end();
        Ok(())
    }

    pub(super) fn extend(&mut self, expr: &mut Expr, extension: Extension) -> Parsed<()> {
        let word = match extension {
            Extension::Smoothed => "smoothed",
            _ => "anchored",
        };
        match &mut expr.kind {
            ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => {
                if s.extension != Extension::None && s.extension != extension {
                    return Err(self.error(expr.pos, "anchored and smoothed modifiers cannot be used together"));
                }
                s.extension = extension;
                Ok(())
            }
            ExprKind::Subquery(_) => Err(self.error(
                expr.pos,
                format_args!("{word} modifier is not supported for subqueries"),
            )),
            _ => Err(self.error(expr.pos, format_args!("{word} modifier not implemented"))),
        }
    }
}

/// Whether an offset counts as given; `offset 0s` does not.
fn set_offset(offset: &Option<DurationExpr>) -> bool {
    !matches!(offset, None | Some(DurationExpr::Literal(0)))
}
