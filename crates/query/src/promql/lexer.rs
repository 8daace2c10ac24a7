use super::quote::quote_char;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    Eof,
    /// The text cannot be cut into tokens from here on; the message is kept beside the tokens.
    Error,
    Comment,
    Identifier,
    /// An identifier with a colon in it.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    Assign,
    EqlRegex,
    NeqRegex,
    At,
    // operators
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Eqlc,
    Neq,
    Lte,
    Lss,
    Gte,
    Gtr,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
    Atan2,
    // aggregators
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
    Limitk,
    LimitRatio,
    // keywords
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Ignoring,
    Offset,
    Smoothed,
    Anchored,
    On,
    Without,
    // words that are functions, or stand behind `@` and in durations
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

impl Tok {
    pub(crate) fn is_operator(self) -> bool {
        (Tok::Add as u8..=Tok::Atan2 as u8).contains(&(self as u8))
            || matches!(self, Tok::EqlRegex | Tok::NeqRegex | Tok::At)
    }

    pub(crate) fn is_aggregator(self) -> bool {
        (Tok::Avg as u8..=Tok::LimitRatio as u8).contains(&(self as u8))
    }

    pub(crate) fn is_keyword(self) -> bool {
        (Tok::Bool as u8..=Tok::Without as u8).contains(&(self as u8))
    }

    /// A word of the language that is neither operator nor modifier.
    fn is_preprocessor(self) -> bool {
        (Tok::Start as u8..=Tok::MinOf as u8).contains(&(self as u8))
    }
}

/// A word's token when it is no ordinary identifier; any case.
fn keyword(word: &str) -> Option<Tok> {
    const LONGEST: usize = 12;
    if word.len() > LONGEST {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => Tok::And,
        "or" => Tok::Or,
        "unless" => Tok::Unless,
        "atan2" => Tok::Atan2,
        "sum" => Tok::Sum,
        "avg" => Tok::Avg,
        "count" => Tok::Count,
        "min" => Tok::Min,
        "max" => Tok::Max,
        "group" => Tok::Group,
        "stddev" => Tok::Stddev,
        "stdvar" => Tok::Stdvar,
        "topk" => Tok::Topk,
        "bottomk" => Tok::Bottomk,
        "count_values" => Tok::CountValues,
        "quantile" => Tok::Quantile,
        "limitk" => Tok::Limitk,
        "limit_ratio" => Tok::LimitRatio,
        "offset" => Tok::Offset,
        "smoothed" => Tok::Smoothed,
        "anchored" => Tok::Anchored,
        "by" => Tok::By,
        "without" => Tok::Without,
        "on" => Tok::On,
        "ignoring" => Tok::Ignoring,
        "group_left" => Tok::GroupLeft,
        "group_right" => Tok::GroupRight,
        "fill" => Tok::Fill,
        "fill_left" => Tok::FillLeft,
        "fill_right" => Tok::FillRight,
        "bool" => Tok::Bool,
        "start" => Tok::Start,
        "end" => Tok::End,
        "inf" | "nan" => Tok::Number,
        short => return duration_word(short),
    })
}

/// Words that also stand in durations.
fn duration_word(lower: &str) -> Option<Tok> {
    Some(match lower {
        "step" => Tok::Step,
        "range" => Tok::Range,
        "max_of" => Tok::MaxOf,
        "min_of" => Tok::MinOf,
        _ => return None,
    })
}

/// One token; its text is `input[start..end]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A token as Prometheus names it in errors.
pub(crate) fn describe(token: Token, input: &str) -> String {
    let text = &input[token.start as usize..token.end as usize];
    let kind = match token.tok {
        Tok::Eof => return "end of input".into(),
        Tok::Identifier => return format!("identifier {}", super::quote(text)),
        Tok::MetricIdentifier => return format!("metric identifier {}", super::quote(text)),
        t if t.is_keyword() => return format!("<{text}>"),
        t if t.is_operator() => return format!("<op:{text}>"),
        t if t.is_aggregator() => return format!("<aggr:{text}>"),
        Tok::String => "string ",
        Tok::Number => "number ",
        Tok::Duration => "duration ",
        _ => "",
    };
    if text.len() > 10 {
        let start: String = text.chars().take(10).collect();
        format!("{kind}{}...", super::quote(&start))
    } else {
        format!("{kind}{}", super::quote(text))
    }
}

/// The tokens of a query, comments left out. The last one is `Eof`, or `Error` with its message.
pub(crate) fn tokens(input: &str) -> (Vec<Token>, String) {
    let mut lexer = Lexer {
        input,
        pos: 0,
        start: 0,
        parens: 0,
        braces: false,
        brackets: false,
        got_colon: false,
        got_duration: false,
        tokens: Vec::with_capacity(input.len() / 3 + 2),
    };
    let mut state = State::Statements;
    let message = loop {
        match lexer.step(state) {
            Ok(Some(next)) => state = next,
            Ok(None) => break String::new(),
            Err(message) => {
                lexer.pos = lexer.pos.max(lexer.start);
                lexer.emit(Tok::Error);
                break message;
            }
        }
    };
    (lexer.tokens, message)
}

#[derive(Clone, Copy)]
enum State {
    Statements,
    Braces,
    /// Right behind `[`, until a number or a word has been read.
    DurationStart,
}

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    start: usize,
    parens: u32,
    braces: bool,
    brackets: bool,
    got_colon: bool,
    got_duration: bool,
    tokens: Vec<Token>,
}

type Step = Result<Option<State>, String>;

/// What Go prints for "no character".
const NONE: char = '\u{fffd}';

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.input[self.pos..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.is(valid);
        if found {
            self.next();
        }
        found
    }

    fn is(&self, valid: &str) -> bool {
        self.peek().is_some_and(|c| valid.contains(c))
    }

    fn accept_while(&mut self, mut valid: impl FnMut(char) -> bool) {
        while self.peek().is_some_and(&mut valid) {
            self.next();
        }
    }

    fn text(&self) -> &str {
        &self.input[self.start..self.pos]
    }

    fn emit(&mut self, tok: Tok) {
        if tok != Tok::Comment {
            self.tokens.push(Token {
                tok,
                start: self.start as u32,
                end: self.pos as u32,
            });
        }
        self.start = self.pos;
    }

    fn step(&mut self, state: State) -> Step {
        match state {
            State::Statements if self.braces => self.inside_braces(),
            State::Statements => self.statement(),
            State::Braces => self.inside_braces(),
            State::DurationStart => self.duration(),
        }
    }

    /// `then` follows when the next character is `next`, else `other` without it.
    fn either(&mut self, next: char, then: Tok, other: Tok) -> Tok {
        if self.peek() == Some(next) {
            self.next();
            then
        } else {
            other
        }
    }

    fn statement(&mut self) -> Step {
        let Some(c) = self.next() else {
            if self.parens != 0 {
                return Err("unclosed left parenthesis".into());
            }
            if self.brackets {
                return Err("unclosed left bracket".into());
            }
            self.emit(Tok::Eof);
            return Ok(None);
        };
        let tok = match c {
            '#' => {
                self.comment();
                return Ok(Some(State::Statements));
            }
            c if is_space(c) => {
                self.accept_while(is_space);
                self.start = self.pos;
                return Ok(Some(State::Statements));
            }
            ',' => Tok::Comma,
            '*' => Tok::Mul,
            '/' => Tok::Div,
            '%' => Tok::Mod,
            '+' => Tok::Add,
            '-' => Tok::Sub,
            '^' => Tok::Pow,
            '@' => Tok::At,
            '=' if self.peek() == Some('~') => return Err("unexpected character after '=': '~'".into()),
            '=' => self.either('=', Tok::Eqlc, Tok::Assign),
            '!' => match self.next() {
                Some('=') => Tok::Neq,
                c => {
                    return Err(format!(
                        "unexpected character after '!': {}",
                        quote_char(c.unwrap_or(NONE))
                    ));
                }
            },
            '<' if self.peek() == Some('/') => self.either('/', Tok::TrimUpper, Tok::Lss),
            '<' => self.either('=', Tok::Lte, Tok::Lss),
            '>' if self.peek() == Some('/') => self.either('/', Tok::TrimLower, Tok::Gtr),
            '>' => self.either('=', Tok::Gte, Tok::Gtr),
            '0'..='9' => return self.number_or_duration(),
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => return self.number_or_duration(),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            c if is_alpha(c) || c == ':' => return self.word(c),
            '(' => {
                self.parens += 1;
                Tok::LeftParen
            }
            ')' => {
                self.close_paren()?;
                return Ok(Some(State::Statements));
            }
            '{' => {
                self.emit(Tok::LeftBrace);
                self.braces = true;
                return Ok(Some(State::Braces));
            }
            '[' if self.brackets => return Err("unexpected left bracket '['".into()),
            '[' => {
                self.got_colon = false;
                self.emit(Tok::LeftBracket);
                self.accept_while(is_space);
                self.start = self.pos;
                self.brackets = true;
                return Ok(Some(State::DurationStart));
            }
            ']' if !self.brackets => return Err("unexpected right bracket ']'".into()),
            ']' => {
                self.brackets = false;
                Tok::RightBracket
            }
            c => return Err(format!("unexpected character: {}", quote_char(c))),
        };
        self.emit(tok);
        Ok(Some(State::Statements))
    }

    /// A word outside braces; its first character `c` is read.
    fn word(&mut self, c: char) -> Step {
        if !self.brackets {
            self.accept_while(|c| is_alphanumeric(c) || c == ':');
            let tok = match keyword(self.text()) {
                // only before a parenthesis, so that metrics of these names stay usable
                Some(Tok::Fill | Tok::FillLeft | Tok::FillRight)
                    if !self.input[self.pos..].trim_start_matches(is_space).starts_with('(') =>
                {
                    Tok::Identifier
                }
                Some(tok) => tok,
                None if self.text().contains(':') => Tok::MetricIdentifier,
                None => Tok::Identifier,
            };
            self.emit(tok);
            return Ok(Some(State::Statements));
        }
        if c == ':' {
            if self.got_colon {
                return Err("unexpected colon ':'".into());
            }
            self.emit(Tok::Colon);
            self.got_colon = true;
            return Ok(Some(State::Statements));
        }
        if self.word_of_duration(c) {
            return Ok(Some(State::Statements));
        }
        Err(format!("unexpected character: {}, expected ':'", quote_char(c)))
    }

    /// Emits `step`, `range`, `max_of` or `min_of`, whose first character `c` is read.
    fn word_of_duration(&mut self, c: char) -> bool {
        if !matches!(c.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return false;
        }
        self.accept_while(is_alpha);
        match duration_word(&self.text().to_ascii_lowercase()) {
            Some(tok) => {
                self.emit(tok);
                true
            }
            None => false,
        }
    }

    fn inside_braces(&mut self) -> Step {
        let again = Ok(Some(State::Braces));
        let tok = match self.next() {
            None => return Err("unexpected end of input inside braces".into()),
            Some('#') => {
                self.comment();
                return again;
            }
            Some(c) if is_space(c) => {
                self.accept_while(is_space);
                self.start = self.pos;
                return again;
            }
            Some(c) if is_alpha(c) => {
                self.accept_while(is_alphanumeric);
                Tok::Identifier
            }
            Some(',') => Tok::Comma,
            Some(quote @ ('"' | '\'')) => return self.string(quote),
            Some('`') => return self.raw_string(),
            Some('=') => self.either('~', Tok::EqlRegex, Tok::Assign),
            Some('!') => match self.next() {
                Some('~') => Tok::NeqRegex,
                Some('=') => Tok::Neq,
                c => {
                    let c = quote_char(c.unwrap_or(NONE));
                    return Err(format!("unexpected character after '!' inside braces: {c}"));
                }
            },
            Some('{') => return Err("unexpected left brace '{'".into()),
            Some('}') => {
                self.emit(Tok::RightBrace);
                self.braces = false;
                return Ok(Some(State::Statements));
            }
            Some(c) => return Err(format!("unexpected character inside braces: {}", quote_char(c))),
        };
        self.emit(tok);
        again
    }

    fn duration(&mut self) -> Step {
        let again = Ok(Some(State::DurationStart));
        let tok = match self.next() {
            None => return Err("unexpected end of input in duration expression".into()),
            Some(']') => {
                self.emit(Tok::RightBracket);
                self.brackets = false;
                self.got_colon = false;
                return Ok(Some(State::Statements));
            }
            Some(':') => {
                let problem = match (self.got_duration, self.got_colon) {
                    (false, _) => "unexpected colon before duration in duration expression",
                    (true, true) => "unexpected repeated colon in duration expression",
                    (true, false) => {
                        self.got_colon = true;
                        self.emit(Tok::Colon);
                        return again;
                    }
                };
                self.start = self.pos;
                return Err(problem.into());
            }
            Some('(') => {
                self.parens += 1;
                Tok::LeftParen
            }
            Some(')') => {
                self.close_paren()?;
                return again;
            }
            Some(c) if is_space(c) => {
                self.accept_while(is_space);
                self.start = self.pos;
                return again;
            }
            Some('+') => Tok::Add,
            Some('-') => Tok::Sub,
            Some('*') => Tok::Mul,
            Some('/') => Tok::Div,
            Some('%') => Tok::Mod,
            Some('^') => Tok::Pow,
            Some(',') => Tok::Comma,
            Some(c) if matches!(c.to_ascii_lowercase(), 's' | 'r' | 'm') => {
                if self.word_of_duration(c) {
                    return again;
                }
                return Err(format!(
                    "unexpected character in duration expression: {}",
                    quote_char(c)
                ));
            }
            Some(c) if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit())) => {
                self.got_duration = true;
                return self.number_or_duration();
            }
            Some(c) => {
                return Err(format!(
                    "unexpected character in duration expression: {}",
                    quote_char(c)
                ));
            }
        };
        self.emit(tok);
        again
    }

    /// Takes a `)`, which is read.
    fn close_paren(&mut self) -> Result<(), String> {
        match self.parens.checked_sub(1) {
            Some(parens) => self.parens = parens,
            None => {
                self.start = self.pos;
                return Err("unexpected right parenthesis ')'".into());
            }
        }
        self.emit(Tok::RightParen);
        Ok(())
    }

    fn comment(&mut self) {
        self.accept_while(|c| c != '\n' && c != '\r');
        self.emit(Tok::Comment);
    }

    /// A quoted string whose opening quote is read.
    fn string(&mut self, quote: char) -> Step {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(NONE) => return Err("invalid UTF-8 rune".into()),
                None | Some('\n') => return Err("unterminated quoted string".into()),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(Tok::String);
        Ok(Some(State::Statements))
    }

    fn raw_string(&mut self) -> Step {
        loop {
            match self.next() {
                Some(NONE) => return Err("invalid UTF-8 rune".into()),
                None => return Err("unterminated raw string".into()),
                Some('`') => break,
                Some(_) => {}
            }
        }
        self.emit(Tok::String);
        Ok(Some(State::Statements))
    }

    /// Checks an escape sequence whose backslash is read.
    fn escape(&mut self, quote: char) -> Result<(), String> {
        let (digits, base, max) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.pos -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10ffff),
            Some('U') => (8, 16, 0x10ffff),
            None => return Err("escape sequence not terminated".into()),
            Some(c) => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let c = self.next().ok_or("escape sequence not terminated")?;
            let digit = c
                .to_digit(base)
                .ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".into());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Step {
        self.pos = self.start;
        let tok = if self.scan_number() {
            Tok::Number
        } else if self.scan_rest_of_duration() {
            Tok::Duration
        } else {
            return Err(format!("bad number or duration syntax: {}", super::quote(self.text())));
        };
        self.emit(tok);
        Ok(Some(State::Statements))
    }

    /// Reads units and digits behind a number that was no number. The unit's spelling is checked later.
    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.is("0123456789") {
            self.accept_while(|c| c.is_ascii_digit());
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }

    /// Reads what may be a number; whether it is one is found out when its value is taken. On `false` the position is
    /// behind the characters looked at, as the error message shows them.
    fn scan_number(&mut self) -> bool {
        let before = self.pos;
        let mut hex = false;
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            hex = true;
        }
        let is_digit = move |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        self.accept(".");
        if self.peek().is_some_and(is_digit) {
            self.next();
        }
        let (mut dot, mut exponent) = (false, false);
        while let Some(c) = self
            .peek()
            .filter(|&c| is_digit(c) || matches!(c, '.' | '_' | 'e' | 'E'))
        {
            match c {
                '.' => {
                    self.next();
                    if dot {
                        return false;
                    }
                    dot = true;
                    if self.accept("_.") || hex {
                        return false;
                    }
                }
                'e' | 'E' => {
                    self.next();
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.accept("+-");
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.next();
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                _ => self.accept_while(is_digit),
            }
        }
        self.pos != before && !self.peek().is_some_and(is_alphanumeric)
    }
}

/// As Go's `%#U` prints it.
fn code_point(c: char) -> String {
    let shown = quote_char(c);
    match shown.len() == c.len_utf8() + 2 {
        true => format!("U+{:04X} '{c}'", c as u32),
        false if c == '\'' || c == '\\' => format!("U+{:04X} '{c}'", c as u32),
        false => format!("U+{:04X}", c as u32),
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// A word that can be a label's name in `by (…)` and the like, although the lexer knows it.
pub(crate) fn can_be_label(tok: Tok) -> bool {
    use Tok::*;
    match tok {
        Identifier | MetricIdentifier | And | Or | Unless | Atan2 => true,
        Without => false,
        t => t.is_aggregator() || t.is_keyword() || t.is_preprocessor(),
    }
}

/// A word that can be a metric's name.
pub(crate) fn can_be_metric(tok: Tok) -> bool {
    use Tok::*;
    match tok {
        Identifier | MetricIdentifier | And | Or | Unless => true,
        By | Fill | FillLeft | FillRight | Offset | Without | Anchored | Smoothed => true,
        t => t.is_aggregator() || t.is_preprocessor(),
    }
}
