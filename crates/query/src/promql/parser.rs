use std::fmt;

use model::Matcher;

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Extension, Matching, Pos,
    Subquery, UnaryOp, VectorSelector,
};
use super::lexer::{Tok, Token, can_be_label, can_be_metric, describe, tokens};
use super::literal::{number, unquote};
use super::{check, functions, is_utf8, parse_duration, quote};

mod duration;
mod selector;

/// Bytes of a query's text at most.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// How deep parentheses, calls, aggregations, subqueries and right-hand operands may nest.
pub const DEPTH_MAX: u32 = 256;
/// How long a chain of operators without parentheses may be, measured as the height of the tree.
pub const CHAIN_MAX: u32 = 1024;

/// Why a text is no query, worded and placed as Prometheus does it (`1:5: parse error: …`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The whole text, place included.
    pub message: String,
    pub pos: Pos,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    pub(super) fn new(input: &str, pos: Pos, what: impl fmt::Display) -> Self {
        let message = format!("{}: parse error: {what}", place(input, pos));
        ParseError { message, pos }
    }
}

/// The start of a position as Prometheus prints it: line and column, both from 1, columns in bytes.
pub fn place(input: &str, pos: Pos) -> String {
    if input.is_empty() {
        return "unknown position".into();
    }
    match input.as_bytes().get(..pos.start as usize) {
        None => "invalid position".into(),
        Some(before) => {
            let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
            let column = before.len() - before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1) + 1;
            format!("{line}:{column}")
        }
    }
}

/// A query's tree, its types checked.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    if parser.peek().tok == Tok::Eof {
        return Err(parser.error(Pos::default(), "no expression found in input"));
    }
    let mut node = parser.expr(0)?;
    if parser.peek().tok != Tok::Eof {
        return Err(parser.unexpected("", ""));
    }
    check::check(&mut node.expr, text)?;
    Ok(node.expr)
}

/// The matchers of a selector as `match[]` and the like have it: no offset, no range.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = parser.vector_selector()?;
    if parser.peek().tok != Tok::Eof {
        return Err(parser.unexpected("", ""));
    }
    match selector.kind {
        ExprKind::Selector(s) => Ok(s.matchers),
        _ => Ok(Vec::new()),
    }
}

/// An expression under construction.
struct Node {
    expr: Expr,
    /// Nesting, left operands not counted.
    depth: u32,
    /// Height of the tree.
    height: u32,
}

type Parsed<T> = Result<T, ParseError>;

struct Parser<'a> {
    input: &'a str,
    tokens: Vec<Token>,
    /// What the last token says when it is an error.
    lexer_message: String,
    next: usize,
    depth: u32,
    /// Where an aggregation is open: errors without a place of their own are told "in aggregation" there.
    aggregations: u32,
}

impl<'a> Parser<'a> {
    fn new(input: &'a str) -> Parsed<Self> {
        if input.len() > TEXT_BYTES_MAX {
            let what = format!(
                "the query has {} bytes, at most {TEXT_BYTES_MAX} are taken",
                input.len()
            );
            return Err(ParseError::new(input, Pos::default(), what));
        }
        let (tokens, lexer_message) = tokens(input);
        Ok(Parser {
            input,
            tokens,
            lexer_message,
            next: 0,
            depth: 0,
            aggregations: 0,
        })
    }

    fn peek(&self) -> Token {
        self.tokens[self.next]
    }

    fn peek_tok(&self) -> Tok {
        self.tokens[self.next].tok
    }

    /// The token behind the next one.
    fn peek_second(&self) -> Tok {
        self.tokens[(self.next + 1).min(self.tokens.len() - 1)].tok
    }

    /// Takes the next token; the last one is never passed.
    fn take(&mut self) -> Token {
        let token = self.tokens[self.next];
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn take_if(&mut self, tok: Tok) -> Option<Token> {
        (self.peek_tok() == tok).then(|| self.take())
    }

    fn text(&self, token: Token) -> &'a str {
        &self.input[token.start as usize..token.end as usize]
    }

    /// The end of the token read last.
    fn last_end(&self) -> u32 {
        self.next.checked_sub(1).map_or(0, |i| self.tokens[i].end)
    }

    fn error(&self, pos: Pos, what: impl fmt::Display) -> ParseError {
        ParseError::new(self.input, pos, what)
    }

    /// The next token does not fit; what the lexer found wrong goes first.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.peek();
        if token.tok == Tok::Error {
            return self.error(span(token), &self.lexer_message);
        }
        let mut what = format!("unexpected {}", describe(token, self.input));
        for (word, text) in [(" in ", context), (", expected ", expected)] {
            if !text.is_empty() {
                what.push_str(word);
                what.push_str(text);
            }
        }
        self.error(span(token), what)
    }

    /// The next token does not fit, and nothing says what would.
    fn unexpected_here(&self) -> ParseError {
        self.unexpected(if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    /// What the lexer found wrong right here goes before what is found wrong with the expression before it.
    fn no_lexer_error(&self) -> Parsed<()> {
        if self.peek_tok() == Tok::Error {
            Err(self.unexpected_here())
        } else {
            Ok(())
        }
    }

    fn expect(&mut self, tok: Tok) -> Parsed<Token> {
        self.take_if(tok).ok_or_else(|| self.unexpected_here())
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.too_deep(span(self.peek())));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn too_deep(&self, pos: Pos) -> ParseError {
        self.error(pos, format_args!("the expression nests deeper than {DEPTH_MAX} levels"))
    }

    /// A node whose heights are checked.
    fn node(&self, expr: Expr, depth: u32, height: u32) -> Parsed<Node> {
        if depth > DEPTH_MAX {
            return Err(self.too_deep(expr.pos));
        }
        if height > CHAIN_MAX {
            let what = format!("more than {CHAIN_MAX} operators follow each other");
            return Err(self.error(expr.pos, what));
        }
        Ok(Node { expr, depth, height })
    }

    /// An expression whose operators bind tighter than `above`.
    fn expr(&mut self, above: u8) -> Parsed<Node> {
        let mut left = self.operand()?;
        while let Some((op, binding)) = binary_op(self.peek_tok())
            && binding > above
        {
            self.take();
            let (return_bool, matching) = self.modifiers()?;
            // `^` binds to the right; a chain of it is nesting
            let right = if op == BinaryOp::Pow {
                self.enter()?;
                let right = self.expr(binding - 1)?;
                self.leave();
                right
            } else {
                self.expr(binding)?
            };
            let pos = Pos {
                start: left.expr.pos.start,
                end: right.expr.pos.end,
            };
            let (depth, height) = (left.depth.max(right.depth + 1), left.height.max(right.height) + 1);
            let binary = Binary {
                op,
                left: left.expr,
                right: right.expr,
                return_bool,
                matching: Some(matching),
            };
            left = self.node(Expr::new(pos, ExprKind::Binary(Box::new(binary))), depth, height)?;
        }
        Ok(left)
    }

    /// What stands on one side of an operator: signs, a primary expression and what is attached to it.
    fn operand(&mut self) -> Parsed<Node> {
        let sign = self.peek();
        let op = match sign.tok {
            Tok::Add => UnaryOp::Plus,
            Tok::Sub => UnaryOp::Minus,
            _ => {
                let primary = self.primary()?;
                return self.attachments(primary);
            }
        };
        self.take();
        self.enter()?;
        let node = self.expr(MUL_BINDING)?;
        self.leave();
        let Node {
            mut expr,
            depth,
            height,
        } = node;
        expr.pos.start = match &mut expr.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => {
                if op == UnaryOp::Minus {
                    *v = -*v;
                }
                sign.start
            }
            _ => {
                let pos = Pos {
                    start: sign.start,
                    end: expr.pos.end,
                };
                let unary = Expr::new(
                    pos,
                    ExprKind::Unary {
                        op,
                        expr: Box::new(expr),
                    },
                );
                return self.node(unary, depth + 1, height + 1);
            }
        };
        self.node(expr, depth, height)
    }

    fn primary(&mut self) -> Parsed<Node> {
        let token = self.peek();
        let kind = match token.tok {
            Tok::Number | Tok::Duration => {
                self.take();
                match token.tok {
                    Tok::Number => ExprKind::Number(self.number(token)?),
                    _ => ExprKind::Duration(self.duration_seconds(token)?),
                }
            }
            Tok::String => {
                self.take();
                ExprKind::String(unquote(self.text(token)))
            }
            Tok::LeftParen => {
                self.take();
                self.enter()?;
                let inner = self.expr(0)?;
                let close = self.expect(Tok::RightParen)?;
                self.leave();
                let paren = Expr::new(merge(span(token), span(close)), ExprKind::Paren(Box::new(inner.expr)));
                return self.node(paren, inner.depth + 1, inner.height + 1);
            }
            t if t.is_aggregator() && matches!(self.peek_second(), Tok::LeftParen | Tok::By | Tok::Without) => {
                return self.aggregate();
            }
            Tok::Identifier | Tok::Start | Tok::End | Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf
                if self.peek_second() == Tok::LeftParen =>
            {
                return self.call();
            }
            _ => {
                let selector = self.vector_selector()?;
                return self.node(selector, 1, 1);
            }
        };
        self.node(Expr::new(span(token), kind), 1, 1)
    }

    fn number(&self, token: Token) -> Parsed<f64> {
        number(self.text(token)).map_err(|e| self.error(span(token), format_args!("error parsing number: {e}")))
    }

    /// Seconds of a duration token.
    fn duration_seconds(&self, token: Token) -> Parsed<f64> {
        match parse_duration(self.text(token)) {
            Ok(ms) => Ok(ms as f64 / 1000.0),
            Err(e) => Err(self.error(span(token), e)),
        }
    }

    fn call(&mut self) -> Parsed<Node> {
        let name = self.take();
        self.take();
        let (args, depth, height) = self.args()?;
        let close = self.expect(Tok::RightParen)?;
        let Some(func) = functions::find(self.text(name)) else {
            let what = format!("unknown function with name {}", quote(self.text(name)));
            return Err(self.error(span(name), what));
        };
        let call = Expr::new(merge(span(name), span(close)), ExprKind::Call { func, args });
        self.node(call, depth + 1, height + 1)
    }

    /// Arguments up to the closing parenthesis, and the largest depth and height of one.
    fn args(&mut self) -> Parsed<(Vec<Expr>, u32, u32)> {
        let (mut args, mut depth, mut height) = (Vec::new(), 0, 0);
        if self.peek_tok() == Tok::RightParen {
            return Ok((args, depth, height));
        }
        self.enter()?;
        loop {
            let arg = self.expr(0)?;
            (depth, height) = (depth.max(arg.depth), height.max(arg.height));
            args.push(arg.expr);
            let Some(comma) = self.take_if(Tok::Comma) else {
                break;
            };
            if self.peek_tok() != Tok::Error && !starts_expr(self.peek_tok()) {
                return Err(self.error(span(comma), "trailing commas not allowed in function call args"));
            }
        }
        self.leave();
        Ok((args, depth, height))
    }

    fn aggregate(&mut self) -> Parsed<Node> {
        let name = self.take();
        self.aggregations += 1;
        let mut grouping = self.grouping_clause()?;
        self.expect(Tok::LeftParen)?;
        let (mut args, depth, height) = self.args()?;
        let close = self.expect(Tok::RightParen)?;
        self.aggregations -= 1;
        let mut pos = merge(span(name), span(close));
        if grouping.is_none() {
            self.no_lexer_error()?;
            grouping = self.grouping_clause()?;
            pos.end = self.last_end();
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let op = aggregate_op(name.tok);
        let wanted = 1 + usize::from(op.has_param());
        if args.is_empty() {
            return Err(self.error(pos, "no arguments for aggregate expression provided"));
        }
        if args.len() != wanted {
            let what = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(self.error(pos, what));
        }
        let expr = args.swap_remove(wanted - 1);
        let param = args.pop();
        let aggregate = Aggregate {
            op,
            param,
            expr,
            without,
            grouping,
        };
        self.node(
            Expr::new(pos, ExprKind::Aggregate(Box::new(aggregate))),
            depth + 1,
            height + 1,
        )
    }

    /// `by (…)` or `without (…)`; true for the latter.
    fn grouping_clause(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.peek_tok() {
            Tok::By => false,
            Tok::Without => true,
            _ => return Ok(None),
        };
        self.take();
        Ok(Some((without, self.grouping_labels()?)))
    }

    fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        let mut labels = Vec::new();
        if self.take_if(Tok::LeftParen).is_none() {
            return Err(self.unexpected("grouping opts", "\"(\""));
        }
        if self.take_if(Tok::RightParen).is_some() {
            return Ok(labels);
        }
        loop {
            let token = self.peek();
            let name = match token.tok {
                Tok::String => unquote(self.text(token)),
                tok if can_be_label(tok) => self.text(token).to_owned(),
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            self.take();
            if name.is_empty() || !is_utf8(&name) {
                let what = format!("invalid label name for grouping: {}", quote(&name));
                return Err(self.error(span(token), what));
            }
            labels.push(name);
            let comma = self.take_if(Tok::Comma).is_some();
            if self.take_if(Tok::RightParen).is_some() {
                return Ok(labels);
            }
            if !comma {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
    }

    /// What stands between an operator and its right operand.
    fn modifiers(&mut self) -> Parsed<(bool, Matching)> {
        let return_bool = self.take_if(Tok::Bool).is_some();
        let mut matching = Matching {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if matches!(self.peek_tok(), Tok::On | Tok::Ignoring) {
            matching.on = self.take().tok == Tok::On;
            matching.labels = self.grouping_labels()?;
            matching.cardinality = match self.peek_tok() {
                Tok::GroupLeft => Cardinality::ManyToOne,
                Tok::GroupRight => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            if matching.cardinality != Cardinality::OneToOne {
                self.take();
                if self.peek_tok() == Tok::LeftParen || !starts_expr(self.peek_tok()) {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        match self.peek_tok() {
            Tok::Fill => {
                matching.fill_left = Some(self.fill_value()?);
                matching.fill_right = matching.fill_left;
            }
            Tok::FillLeft => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek_tok() == Tok::FillRight {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Tok::FillRight => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek_tok() == Tok::FillLeft {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((return_bool, matching))
    }

    /// `fill(1)`, from the word on.
    fn fill_value(&mut self) -> Parsed<f64> {
        self.take();
        self.expect(Tok::LeftParen)?;
        let negative = self.peek_tok() == Tok::Sub;
        if negative || self.peek_tok() == Tok::Add {
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
            _ => return Err(self.unexpected_here()),
        };
        self.expect(Tok::RightParen)?;
        Ok(if negative { -value } else { value })
    }

    /// Ranges, subqueries, offsets, `@` and the words behind an expression.
    fn attachments(&mut self, mut node: Node) -> Parsed<Node> {
        loop {
            match self.peek_tok() {
                Tok::LeftBracket => node = self.range_or_subquery(node)?,
                Tok::Offset => {
                    self.take();
                    let offset = self.offset_duration()?;
                    self.set_offset(&mut node.expr, offset)?;
                }
                Tok::At => self.at(&mut node.expr)?,
                Tok::Anchored => {
                    self.take();
                    self.extend(&mut node.expr, Extension::Anchored)?;
                }
                Tok::Smoothed => {
                    self.take();
                    self.extend(&mut node.expr, Extension::Smoothed)?;
                }
                _ => return Ok(node),
            }
        }
    }
}

fn span(token: Token) -> Pos {
    Pos {
        start: token.start,
        end: token.end,
    }
}

fn merge(first: Pos, last: Pos) -> Pos {
    Pos {
        start: first.start,
        end: last.end,
    }
}

fn starts_expr(tok: Tok) -> bool {
    use Tok::*;
    matches!(tok, Number | Duration | String | LeftParen | LeftBrace | Add | Sub) || can_be_metric(tok)
}

const MUL_BINDING: u8 = 5;

/// The operator of a token and how tight it binds.
fn binary_op(tok: Tok) -> Option<(BinaryOp, u8)> {
    Some(match tok {
        Tok::Or => (BinaryOp::Or, 1),
        Tok::And => (BinaryOp::And, 2),
        Tok::Unless => (BinaryOp::Unless, 2),
        Tok::Eqlc => (BinaryOp::Eq, 3),
        Tok::Neq => (BinaryOp::Ne, 3),
        Tok::Lss => (BinaryOp::Lt, 3),
        Tok::Lte => (BinaryOp::Le, 3),
        Tok::Gtr => (BinaryOp::Gt, 3),
        Tok::Gte => (BinaryOp::Ge, 3),
        Tok::TrimUpper => (BinaryOp::TrimUpper, 3),
        Tok::TrimLower => (BinaryOp::TrimLower, 3),
        Tok::Add => (BinaryOp::Add, 4),
        Tok::Sub => (BinaryOp::Sub, 4),
        Tok::Mul => (BinaryOp::Mul, MUL_BINDING),
        Tok::Div => (BinaryOp::Div, MUL_BINDING),
        Tok::Mod => (BinaryOp::Mod, MUL_BINDING),
        Tok::Atan2 => (BinaryOp::Atan2, MUL_BINDING),
        Tok::Pow => (BinaryOp::Pow, 6),
        _ => return None,
    })
}

fn aggregate_op(tok: Tok) -> AggregateOp {
    match tok {
        Tok::Avg => AggregateOp::Avg,
        Tok::Bottomk => AggregateOp::BottomK,
        Tok::Count => AggregateOp::Count,
        Tok::CountValues => AggregateOp::CountValues,
        Tok::Group => AggregateOp::Group,
        Tok::Max => AggregateOp::Max,
        Tok::Min => AggregateOp::Min,
        Tok::Quantile => AggregateOp::Quantile,
        Tok::Stddev => AggregateOp::Stddev,
        Tok::Stdvar => AggregateOp::Stdvar,
        Tok::Topk => AggregateOp::TopK,
        Tok::Limitk => AggregateOp::LimitK,
        Tok::LimitRatio => AggregateOp::LimitRatio,
        _ => AggregateOp::Sum,
    }
}

#[cfg(test)]
mod tests;
