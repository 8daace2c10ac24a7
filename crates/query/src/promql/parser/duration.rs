use super::super::duration::SECONDS_MAX;
use super::*;

/// A duration under construction.
struct Part {
    expr: DurationExpr,
    pos: Pos,
    depth: u32,
    /// The value of a bare literal, in seconds.
    literal: Option<f64>,
}

impl Part {
    /// As the tree holds it: a bare literal in ms, anything else with its place.
    fn finish(self) -> DurationExpr {
        match self.literal {
            Some(seconds) => DurationExpr::Literal(whole_ms(seconds)),
            None => DurationExpr::Spanned(self.pos, Box::new(self.expr)),
        }
    }
}

/// Milliseconds of seconds that are in range, as Prometheus has them: whole nanoseconds, the rest of a ms cut off.
fn whole_ms(seconds: f64) -> i64 {
    // no number is the earliest time there, and here too
    if seconds.is_nan() {
        i64::MIN / 1_000_000
    } else {
        (seconds * 1e9).round() as i64 / 1_000_000
    }
}

const UNARY_BINDING: u8 = 2;

fn duration_op(tok: Tok) -> Option<(BinaryOp, u8)> {
    Some(match tok {
        Tok::Add => (BinaryOp::Add, 1),
        Tok::Sub => (BinaryOp::Sub, 1),
        Tok::Mul => (BinaryOp::Mul, UNARY_BINDING),
        Tok::Div => (BinaryOp::Div, UNARY_BINDING),
        Tok::Mod => (BinaryOp::Mod, UNARY_BINDING),
        Tok::Pow => (BinaryOp::Pow, 3),
        _ => return None,
    })
}

/// Where an error within the duration is reported.
#[derive(Clone, Copy)]
struct Context(&'static str, &'static str);

const OFFSET: Context = Context("offset", "number, duration, step(), or range()");

impl Parser<'_> {
    /// What stands in brackets.
    pub(super) fn positive_duration(&mut self, context: &'static str, expected: &'static str) -> Parsed<DurationExpr> {
        let part = self.duration(0, Context(context, expected))?;
        self.no_lexer_error()?;
        if part.literal.is_some_and(|v| v <= 0.0) {
            return Err(self.error(part.pos, "duration must be greater than 0"));
        }
        Ok(part.finish())
    }

    /// What follows `offset`. A bare term ends it, so that `offset 5m * 2` is a product of two values; an expression
    /// needs parentheses at its start.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        let signed = matches!(self.peek_tok(), Tok::Add | Tok::Sub);
        let first = if signed { self.peek_second() } else { self.peek_tok() };
        let part = match first {
            Tok::Number | Tok::Duration | Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf => {
                self.duration_operand(OFFSET)?
            }
            Tok::LeftParen if signed => self.duration_operand(OFFSET)?,
            _ => {
                let part = self.duration(0, OFFSET)?;
                self.no_lexer_error()?;
                part
            }
        };
        Ok(part.finish())
    }

    fn duration_depth(&self, depth: u32, pos: Pos) -> Parsed<u32> {
        if depth > DEPTH_MAX {
            Err(self.too_deep(pos))
        } else {
            Ok(depth)
        }
    }

    fn duration(&mut self, above: u8, context: Context) -> Parsed<Part> {
        let mut left = self.duration_signed(context)?;
        while let Some((op, binding)) = duration_op(self.peek_tok())
            && binding > above
        {
            let op_token = self.take();
            let right = if op == BinaryOp::Pow {
                self.enter()?;
                let right = self.duration(binding - 1, context)?;
                self.leave();
                right
            } else {
                self.duration(binding, context)?
            };
            if right.literal == Some(0.0) {
                self.no_lexer_error()?;
                match op {
                    BinaryOp::Div => return Err(self.error(span(op_token), "division by zero")),
                    BinaryOp::Mod => return Err(self.error(span(op_token), "modulo by zero")),
                    _ => {}
                }
            }
            let pos = merge(left.pos, right.pos);
            let depth = self.duration_depth(left.depth.max(right.depth) + 1, pos)?;
            let expr = DurationExpr::Binary {
                op,
                left: Box::new(inner(left)),
                right: Box::new(inner(right)),
            };
            left = Part {
                expr,
                pos,
                depth,
                literal: None,
            };
        }
        Ok(left)
    }

    /// Signs bind like `*`: what follows them takes `^` along.
    fn duration_signed(&mut self, context: Context) -> Parsed<Part> {
        if !matches!(self.peek_tok(), Tok::Add | Tok::Sub) {
            return self.duration_operand(context);
        }
        let sign = self.take();
        self.enter()?;
        let part = self.duration(UNARY_BINDING, context)?;
        self.leave();
        self.apply_sign(sign, part)
    }

    fn apply_sign(&self, sign: Token, mut part: Part) -> Parsed<Part> {
        let pos = Pos {
            start: sign.start,
            end: part.pos.end,
        };
        if sign.tok == Tok::Add && part.literal.is_none() {
            return Ok(part);
        }
        part.pos = pos;
        if sign.tok == Tok::Sub {
            part.literal = part.literal.map(|v| -v);
            part.expr = match part.expr {
                DurationExpr::Literal(ms) if part.literal.is_some() => DurationExpr::Literal(-ms),
                DurationExpr::Number(v) if part.literal.is_some() => DurationExpr::Number(-v),
                other => {
                    part.depth = self.duration_depth(part.depth + 1, pos)?;
                    DurationExpr::Neg(Box::new(DurationExpr::Spanned(pos, Box::new(other))))
                }
            };
        }
        Ok(part)
    }

    /// A literal, `step()`, `range()`, `min_of(…)`, `max_of(…)` or a parenthesis, with at most one sign.
    fn duration_operand(&mut self, context: Context) -> Parsed<Part> {
        let token = self.peek();
        match token.tok {
            Tok::Add | Tok::Sub => {
                self.take();
                let part = match self.peek_tok() {
                    Tok::Number | Tok::Duration => self.duration_literal(span(token))?,
                    _ => self.duration_operand(context)?,
                };
                self.apply_sign(token, part)
            }
            Tok::Number | Tok::Duration => self.duration_literal(span(token)),
            Tok::Step | Tok::Range => {
                self.take();
                self.duration_token(Tok::LeftParen, context)?;
                let close = self.duration_token(Tok::RightParen, context)?;
                let expr = if token.tok == Tok::Step {
                    DurationExpr::Step
                } else {
                    DurationExpr::Range
                };
                Ok(Part {
                    expr,
                    pos: merge(span(token), span(close)),
                    depth: 1,
                    literal: None,
                })
            }
            Tok::MinOf | Tok::MaxOf => {
                self.take();
                self.enter()?;
                self.duration_token(Tok::LeftParen, context)?;
                let a = self.duration(0, context)?;
                self.duration_token(Tok::Comma, context)?;
                let b = self.duration(0, context)?;
                let close = self.duration_token(Tok::RightParen, context)?;
                self.leave();
                let depth = a.depth.max(b.depth) + 1;
                let (a, b) = (Box::new(inner(a)), Box::new(inner(b)));
                let expr = if token.tok == Tok::MinOf {
                    DurationExpr::Min(a, b)
                } else {
                    DurationExpr::Max(a, b)
                };
                // positions of the two functions span their operands only, as in Prometheus
                Ok(Part {
                    expr,
                    pos: merge(span(token), span(close)),
                    depth,
                    literal: None,
                })
            }
            Tok::LeftParen => {
                self.take();
                self.enter()?;
                let part = self.duration(0, context)?;
                let close = self.duration_token(Tok::RightParen, context)?;
                self.leave();
                let pos = if part.literal.is_some() {
                    merge(span(token), span(close))
                } else {
                    part.pos
                };
                let depth = self.duration_depth(part.depth + 1, pos)?;
                let expr = match inner(part) {
                    // one pair is all that Prometheus remembers
                    DurationExpr::Spanned(at, e) if matches!(*e, DurationExpr::Paren(_)) => {
                        DurationExpr::Spanned(at, e)
                    }
                    paren @ DurationExpr::Paren(_) => paren,
                    other => DurationExpr::Paren(Box::new(other)),
                };
                Ok(Part {
                    expr,
                    pos,
                    depth,
                    literal: None,
                })
            }
            _ => Err(self.unexpected(context.0, context.1)),
        }
    }

    /// A number or duration; one that is too large is blamed on `blame`.
    fn duration_literal(&mut self, blame: Pos) -> Parsed<Part> {
        let token = self.take();
        let (value, expr) = if token.tok == Tok::Number {
            let v = self.number(token)?;
            (v, DurationExpr::Number(v))
        } else {
            let v = self.duration_seconds(token)?;
            (v, DurationExpr::Literal((v * 1000.0).round() as i64))
        };
        if value.abs() > SECONDS_MAX {
            return Err(self.error(blame, "duration out of range"));
        }
        Ok(Part {
            expr,
            pos: span(token),
            depth: 1,
            literal: Some(value),
        })
    }

    fn duration_token(&mut self, tok: Tok, context: Context) -> Parsed<Token> {
        self.take_if(tok).ok_or_else(|| self.unexpected(context.0, context.1))
    }
}

/// A part as an operand: operators keep their place for errors at evaluation.
fn inner(part: Part) -> DurationExpr {
    match part.expr {
        e @ DurationExpr::Binary { .. } => DurationExpr::Spanned(part.pos, Box::new(e)),
        e => e,
    }
}
