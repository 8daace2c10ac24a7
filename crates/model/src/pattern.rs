use regex::{Regex, RegexBuilder};

/// Bytes a compiled expression may take.
const BYTES_MAX: usize = 10 << 20;
/// Groups within groups.
const DEPTH_MAX: usize = 200;
/// Copies that repetitions may ask for, one within another multiplied; RE2's bound.
const REPEAT_MAX: u32 = 1000;

/// A compiled regular expression in RE2's dialect, which is what Prometheus' users write: `\d`, `\w`, `\s` and `\b` are
/// ASCII, classes know no set operations, `\Q…\E` quotes.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    names: Vec<(String, usize)>,
}

/// Why an expression is refused, in the words of Go's `regexp` package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct PatternError {
    pub what: &'static str,
    /// The part of the expression that is wrong.
    pub part: String,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let (translated, names) = translate(text)?;
        let regex = RegexBuilder::new(&translated)
            .size_limit(BYTES_MAX)
            .dfa_size_limit(BYTES_MAX)
            .nest_limit(DEPTH_MAX as u32 * 3)
            .build()
            .map_err(|e| match e {
                regex::Error::CompiledTooBig(_) => error("expression too large", text),
                _ => error("invalid expression", text),
            })?;
        Ok(Pattern { regex, names })
    }

    /// Matches whole texts only, and `.` matches newlines: how Prometheus takes the expressions of matchers and of
    /// `label_replace`.
    pub fn anchored(text: &str) -> Result<Self, PatternError> {
        Pattern::new(&format!("^(?s:{text})$"))
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The compiled form. Its groups have RE2's numbers and no names.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Numbers of the groups of this name, ascending; RE2 allows several.
    pub fn groups(&self, name: &str) -> impl Iterator<Item = usize> {
        self.names.iter().filter(move |n| n.0 == name).map(|n| n.1)
    }
}

fn error(what: &'static str, part: &str) -> PatternError {
    PatternError {
        what,
        part: part.to_owned(),
    }
}

type Translated<T> = Result<T, PatternError>;

/// An expression in this crate's dialect, and its named groups.
fn translate(text: &str) -> Translated<(String, Vec<(String, usize)>)> {
    let mut translator = Translator {
        whole: text,
        rest: text,
        out: String::with_capacity(text.len() + 16),
        flags: String::new(),
        groups: 0,
        names: Vec::new(),
        open: Vec::new(),
        top: Top::Nothing,
        heaviest: 1,
    };
    translator.run()?;
    Ok((translator.out, translator.names))
}

/// What a repetition would apply to.
#[derive(Clone, Copy)]
enum Top {
    Nothing,
    /// An atom that stands for so many copies of its innermost part.
    Atom(u32),
}

struct Translator<'t> {
    whole: &'t str,
    rest: &'t str,
    out: String,
    /// Flag settings that are not written yet: a repetition may still apply to what stands before them.
    flags: String,
    groups: usize,
    names: Vec<(String, usize)>,
    /// Of each open group: the weight of the heaviest atom before it.
    open: Vec<u32>,
    top: Top,
    /// The weight of the heaviest finished atom in this group.
    heaviest: u32,
}

impl<'t> Translator<'t> {
    fn run(&mut self) -> Translated<()> {
        let mut last_repeat = "";
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeat = "";
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.settle();
                    self.push("|");
                }
                '^' | '$' | '.' => {
                    self.skip(1);
                    self.atom();
                    self.out.push(c);
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(before, last_repeat, &before[..1], 1)?;
                    repeat = before;
                }
                '{' => match counts(before) {
                    None => self.literal_char(c),
                    Some((min, max, after)) => {
                        self.rest = after;
                        let shown = &before[..before.len() - after.len()];
                        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                            return Err(error("invalid repeat count", shown));
                        }
                        let written = match max {
                            Some(max) if max == min => format!("{{{min}}}"),
                            Some(max) => format!("{{{min},{max}}}"),
                            None => format!("{{{min},}}"),
                        };
                        self.repeat(before, last_repeat, &written, max.unwrap_or(min))?;
                        repeat = before;
                    }
                },
                '\\' => self.escape()?,
                c => self.literal_char(c),
            }
            last_repeat = repeat;
        }
        match self.open.is_empty() {
            true => Ok(()),
            false => Err(error("missing closing )", self.whole)),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Writes what is no atom, after the flags that are due.
    fn push(&mut self, text: &str) {
        self.out.push_str(&self.flags);
        self.flags.clear();
        self.out.push_str(text);
    }

    /// No repetition applies to what came before any more.
    fn settle(&mut self) {
        if let Top::Atom(weight) = self.top {
            self.heaviest = self.heaviest.max(weight);
        }
        self.top = Top::Nothing;
    }

    /// A new atom follows.
    fn atom(&mut self) {
        self.settle();
        self.push("");
        self.top = Top::Atom(1);
    }

    fn literal_char(&mut self, c: char) {
        self.skip(c.len_utf8());
        self.literal(c);
    }

    fn literal(&mut self, c: char) {
        self.atom();
        push_char(&mut self.out, c);
    }

    fn open(&mut self) -> Translated<()> {
        let text = self.rest;
        let Some(special) = text.strip_prefix("(?") else {
            self.skip(1);
            self.groups += 1;
            return self.enter("(");
        };
        let name = match special.strip_prefix("P<") {
            Some(rest) if !rest.is_empty() => Some(rest),
            _ => special.strip_prefix('<').filter(|rest| !rest.is_empty()),
        };
        if let Some(rest) = name {
            let Some((name, after)) = rest.split_once('>') else {
                return Err(error("invalid named capture", text));
            };
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                let shown = &text[..text.len() - after.len()];
                return Err(error("invalid named capture", shown));
            }
            self.groups += 1;
            self.names.push((name.to_owned(), self.groups));
            self.rest = after;
            return self.enter("(");
        }
        let (mut negative, mut seen) = (false, false);
        for (at, c) in special.char_indices() {
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !negative => (negative, seen) = (true, false),
                ':' | ')' if !negative || seen => {
                    let flags = &special[..at];
                    self.rest = &special[at + 1..];
                    let set = written_flags(flags);
                    if c == ':' {
                        return self.enter(&format!("(?{set}:"));
                    }
                    if !set.is_empty() {
                        self.flags.push_str(&format!("(?{set})"));
                    }
                    return Ok(());
                }
                c => {
                    let shown = &text[..2 + at + c.len_utf8()];
                    return Err(error("invalid or unsupported Perl syntax", shown));
                }
            }
        }
        Err(error("invalid or unsupported Perl syntax", text))
    }

    fn enter(&mut self, written: &str) -> Translated<()> {
        if self.open.len() >= DEPTH_MAX {
            return Err(error("expression nests too deeply", self.whole));
        }
        self.settle();
        self.push(written);
        self.open.push(self.heaviest);
        self.heaviest = 1;
        Ok(())
    }

    fn close(&mut self) -> Translated<()> {
        self.skip(1);
        self.settle();
        let Some(before) = self.open.pop() else {
            return Err(error("unexpected )", self.whole));
        };
        // flags that nothing follows are void
        self.flags.clear();
        self.out.push(')');
        self.top = Top::Atom(self.heaviest);
        self.heaviest = before;
        Ok(())
    }

    /// `before` begins with the operator, `rest` stands behind it.
    fn repeat(&mut self, before: &str, last: &str, written: &str, times: u32) -> Translated<()> {
        let lazy = self.rest.starts_with('?');
        self.skip(usize::from(lazy));
        if !last.is_empty() {
            let shown = &last[..last.len() - self.rest.len()];
            return Err(error("invalid nested repetition operator", shown));
        }
        let shown = &before[..before.len() - self.rest.len()];
        let Top::Atom(weight) = self.top else {
            return Err(error("missing argument to repetition operator", shown));
        };
        let weight = weight.saturating_mul(times);
        if weight > REPEAT_MAX {
            return Err(error("invalid repeat count", shown));
        }
        self.top = Top::Atom(weight.max(1));
        self.out.push_str(written);
        if lazy {
            self.out.push('?');
        }
        Ok(())
    }

    fn escape(&mut self) -> Translated<()> {
        let text = self.rest;
        let assertion = match text.as_bytes().get(1) {
            Some(b'A') => r"\A",
            Some(b'z') => r"\z",
            Some(b'b') => r"(?-u:\b)",
            Some(b'B') => r"(?-u:\B)",
            Some(b'C') => return Err(error("invalid escape sequence", r"\C")),
            Some(b'Q') => {
                let (quoted, after) = text[2..].split_once(r"\E").unwrap_or((&text[2..], ""));
                for c in quoted.chars() {
                    self.literal(c);
                }
                self.rest = after;
                return Ok(());
            }
            _ => "",
        };
        if !assertion.is_empty() {
            self.skip(2);
            self.atom();
            self.out.push_str(assertion);
            return Ok(());
        }
        if let Some((class, after)) = named_class(text)? {
            self.rest = after;
            self.atom();
            self.out.push_str(&class);
            return Ok(());
        }
        let (code, after) = escaped(text)?;
        self.rest = after;
        match char::from_u32(code) {
            Some(c) => self.literal(c),
            // half of a surrogate pair is in no text
            None => {
                self.atom();
                self.out.push_str(NOTHING);
            }
        }
        Ok(())
    }

    fn class(&mut self) -> Translated<()> {
        let text = self.rest;
        self.atom();
        let mut rest = &text[1..];
        self.out.push('[');
        if let Some(after) = rest.strip_prefix('^') {
            self.out.push('^');
            rest = after;
        }
        let mut first = true;
        let start = self.out.len();
        while first || !rest.starts_with(']') {
            first = false;
            if rest.starts_with("[:")
                && let Some((name, after)) = rest[2..].split_once(":]")
            {
                let shown = &rest[..rest.len() - after.len()];
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(error("invalid character class range", shown));
                }
                self.out.push_str(shown);
                rest = after;
                continue;
            }
            if let Some((class, after)) = named_class(rest)? {
                self.out.push_str(&class);
                rest = after;
                continue;
            }
            let range = rest;
            let (low, after) = class_char(rest, text)?;
            rest = after;
            let mut high = low;
            if let Some(after) = rest.strip_prefix('-').filter(|r| !r.is_empty() && !r.starts_with(']')) {
                (high, rest) = class_char(after, text)?;
                if high < low {
                    let shown = &range[..range.len() - rest.len()];
                    return Err(error("invalid character class range", shown));
                }
            }
            // surrogates are in no text
            let low = char::from_u32(low).unwrap_or('\u{e000}');
            let high = char::from_u32(high).unwrap_or('\u{d7ff}');
            if low <= high {
                push_char(&mut self.out, low);
                self.out.push('-');
                push_char(&mut self.out, high);
            }
        }
        if self.out.len() == start {
            self.out.push_str(NOTHING);
        }
        self.out.push(']');
        self.rest = &rest[1..];
        Ok(())
    }
}

/// A class that nothing is in.
const NOTHING: &str = r"[^\x{0}-\x{10ffff}]";

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

fn push_char(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        out.push_str(&format!("\\x{:02x}", c as u32));
    }
}

/// Flags without repetitions; the last setting of each stands.
fn written_flags(flags: &str) -> String {
    let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
    let once = |flags: &str| -> String {
        ['i', 'm', 's', 'U']
            .into_iter()
            .filter(|c| flags.contains(*c))
            .collect()
    };
    let off = once(off);
    let on: String = once(on).chars().filter(|c| !off.contains(*c)).collect();
    match off.is_empty() {
        true => on,
        false => format!("{on}-{off}"),
    }
}

/// `{n}`, `{n,}`, `{n,m}`: bounds and what follows; anything else is no repetition.
fn counts(text: &str) -> Option<(u32, Option<u32>, &str)> {
    let (min, rest) = integer(text.strip_prefix('{')?)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((min, Some(min), after));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((min, None, after));
    }
    let (max, rest) = integer(rest)?;
    Some((min, Some(max), rest.strip_prefix('}')?))
}

fn integer(text: &str) -> Option<(u32, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}

/// `\d` and its like, `\pL`, `\p{Greek}`: the class in this crate's dialect and what follows.
fn named_class(text: &str) -> Translated<Option<(String, &str)>> {
    let class = match text.as_bytes() {
        [b'\\', b'd', ..] => "[0-9]",
        [b'\\', b'D', ..] => "[^0-9]",
        [b'\\', b's', ..] => r"[\t\n\f\r ]",
        [b'\\', b'S', ..] => r"[^\t\n\f\r ]",
        [b'\\', b'w', ..] => "[0-9A-Za-z_]",
        [b'\\', b'W', ..] => "[^0-9A-Za-z_]",
        [b'\\', b'p' | b'P', ..] => "",
        _ => return Ok(None),
    };
    if !class.is_empty() {
        return Ok(Some((class.to_owned(), &text[2..])));
    }
    let mut negative = text.as_bytes()[1] == b'P';
    let Some(first) = text[2..].chars().next() else {
        return escaped(text).map(|_| None);
    };
    let (shown, mut name, after) = if first == '{' {
        let Some(end) = text.find('}') else {
            return Err(error("invalid character class range", text));
        };
        (&text[..=end], &text[3..end], &text[end + 1..])
    } else {
        let end = 2 + first.len_utf8();
        (&text[..end], &text[2..end], &text[end..])
    };
    if let Some(rest) = name.strip_prefix('^') {
        negative = !negative;
        name = rest;
    }
    let letter = if negative { 'P' } else { 'p' };
    let class = format!("\\{letter}{{{name}}}");
    let known =
        !name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) && Regex::new(&class).is_ok();
    match known {
        true => Ok(Some((class, after))),
        false => Err(error("invalid character class range", shown)),
    }
}

fn class_char<'t>(text: &'t str, class: &str) -> Translated<(u32, &'t str)> {
    match text.chars().next() {
        None => Err(error("missing closing ]", class)),
        Some('\\') => escaped(text),
        Some(c) => Ok((u32::from(c), &text[c.len_utf8()..])),
    }
}

/// The code of an escaped character and what follows.
fn escaped(text: &str) -> Translated<(u32, &str)> {
    let mut rest = text[1..].chars();
    let Some(c) = rest.next() else {
        return Err(error("trailing backslash at end of expression", ""));
    };
    let code = match c {
        '0'..='7' => octal(c, &mut rest),
        'x' => hexadecimal(&mut rest),
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
        _ => None,
    };
    match code {
        Some(code) => Ok((code, rest.as_str())),
        None => {
            let shown = &text[..text.len() - rest.as_str().len()];
            Err(error("invalid escape sequence", shown))
        }
    }
}

/// Up to three digits; one that is not zero would be a reference to a group.
fn octal(first: char, rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let next = |rest: &std::str::Chars<'_>| rest.clone().next().and_then(|c| c.to_digit(8));
    if first != '0' && next(rest).is_none() {
        return None;
    }
    let mut code = first.to_digit(8)?;
    for _ in 0..2 {
        let Some(digit) = next(rest) else {
            break;
        };
        code = code * 8 + digit;
        rest.next();
    }
    Some(code)
}

/// `41` or `{1f600}`.
fn hexadecimal(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let first = rest.next()?;
    if first != '{' {
        return Some(first.to_digit(16)? * 16 + rest.next()?.to_digit(16)?);
    }
    let mut code: Option<u32> = None;
    loop {
        match rest.next()? {
            '}' => return code,
            c => {
                let next = code.unwrap_or(0) * 16 + c.to_digit(16)?;
                if next > u32::from(char::MAX) {
                    return None;
                }
                code = Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests;
