use regex::Regex;

use super::super::literal::{number, unquote};
use super::super::parse_duration;
use super::series::{Item, series};
use super::{Failure, Loaded, LoadedSample, LoadedValue, classic};

pub(super) enum Command {
    Clear,
    Load(Vec<Loaded>),
    Eval(Box<Eval>),
}

/// A query and what it is to answer.
#[derive(Default)]
pub(super) struct Eval {
    pub(super) query: String,
    /// The time of an instant query.
    pub(super) at_ms: i64,
    /// Start, end and step of a range query, or of the range vector that an instant query is to answer.
    pub(super) range: (i64, i64, i64),
    pub(super) is_range: bool,
    pub(super) is_range_vector: bool,
    pub(super) ordered: bool,
    pub(super) fail: Option<Match>,
    pub(super) warn: Vec<Match>,
    pub(super) info: Vec<Match>,
    pub(super) no_warn: bool,
    pub(super) no_info: bool,
    pub(super) string: Option<String>,
    pub(super) scalar: Option<f64>,
    pub(super) series: Vec<(model::Labels, Vec<Item>)>,
}

/// What a message must be.
#[derive(Clone)]
pub(super) enum Match {
    Any,
    Exactly(String),
    Pattern(Regex),
}

impl Match {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Match::Any => true,
            Match::Exactly(wanted) => wanted == text,
            Match::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

impl std::fmt::Display for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Match::Any => f.write_str("anything"),
            Match::Exactly(text) => write!(f, "{text:?}"),
            Match::Pattern(pattern) => write!(f, "/{pattern}/"),
        }
    }
}

/// The commands of a script with their lines, from 1.
pub(super) fn read(text: &str) -> Result<Vec<(usize, Command)>, Failure> {
    let lines: Vec<&str> = text
        .lines()
        .map(|l| Some(l.trim()).filter(|l| !l.starts_with('#')).unwrap_or_default())
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let first = at;
        at += 1;
        if lines[first].is_empty() {
            continue;
        }
        let word = lines[first]
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let fail = |line: usize| {
            move |what: String| Failure {
                line: line + 1,
                query: String::new(),
                what,
            }
        };
        let command = if word == "clear" {
            Command::Clear
        } else {
            let more = lines[at..].iter().take_while(|l| !l.is_empty()).count();
            let body = &lines[at..at + more];
            let (used, command) = if word.starts_with("load") {
                (more, load(lines[first], body).map(Command::Load))
            } else if word.starts_with("eval") {
                match eval(lines[first], body) {
                    Ok((used, eval)) => (used, Ok(Command::Eval(Box::new(eval)))),
                    Err(e) => (more, Err(e)),
                }
            } else {
                (
                    0,
                    Err(format!(
                        "invalid command {:?}: clear, load or eval is right",
                        lines[first]
                    )),
                )
            };
            at += used;
            command.map_err(fail(first))?
        };
        commands.push((first + 1, command));
    }
    Ok(commands)
}

fn load(head: &str, body: &[&str]) -> Result<Vec<Loaded>, String> {
    let (word, step) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
    let with_native = match word {
        "load" => false,
        "load_with_nhcb" => true,
        _ => {
            return Err(format!(
                "invalid load command {head:?}: load[_with_nhcb] <step> is right"
            ));
        }
    };
    let step = parse_duration(step.trim()).map_err(|e| format!("invalid step definition {step:?}: {e}"))?;
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut starts: Option<StartTimes> = None;
    for line in body {
        if let Some((metric, offsets)) = start_times(line)? {
            if starts.is_some() {
                return Err("@st line has no following sample line".into());
            }
            starts = Some((metric, offsets));
            continue;
        }
        let (labels, items) = series(line).map_err(|e| format!("{line:?}: {e}"))?;
        let offsets = match starts.take() {
            Some((metric, _)) if metric != labels => {
                return Err("@st metric does not match the following sample line metric".into());
            }
            Some((_, offsets)) if offsets.len() != items.len() => {
                return Err(format!(
                    "@st line has {} values but sample line has {}",
                    offsets.len(),
                    items.len()
                ));
            }
            Some((_, offsets)) => offsets,
            None => Vec::new(),
        };
        let mut samples = Vec::new();
        for (i, item) in items.into_iter().enumerate() {
            let at_ms = step.saturating_mul(i as i64);
            let start_ms = offsets.get(i).copied().flatten().map_or(0, |o| at_ms.saturating_add(o));
            let value = match item {
                Item::Omitted => continue,
                Item::Float(v) => LoadedValue::Float(v),
                Item::Histogram(h, _) => LoadedValue::Histogram(*h),
            };
            samples.push(LoadedSample { at_ms, start_ms, value });
        }
        loaded.retain(|l| l.labels != labels);
        loaded.push(Loaded { labels, samples });
    }
    if starts.is_some() {
        return Err("@st line has no following sample line".into());
    }
    if with_native {
        let native = classic::native(&loaded)?;
        loaded.extend(native);
    }
    Ok(loaded)
}

/// A metric and its samples' start times in ms, relative to the samples.
type StartTimes = (model::Labels, Vec<Option<i64>>);

/// A line `metric@st -1m -30s+1sx5 _` gives the start times of the next line's samples, relative to these.
fn start_times(line: &str) -> Result<Option<StartTimes>, String> {
    let Some((metric, rest)) = line.split_once(char::is_whitespace) else {
        return Ok(None);
    };
    let Some(metric) = metric.strip_suffix("@st") else {
        return Ok(None);
    };
    let (labels, _) = series(metric)?;
    let mut offsets = Vec::new();
    for item in rest.split_whitespace() {
        let bad = |e: String| format!("invalid ST item {item:?}: {e}");
        let (values, times) = match item.rsplit_once('x') {
            Some((values, n)) => (values, Some(n.parse::<usize>().map_err(|e| bad(e.to_string()))?)),
            None => (item, None),
        };
        if values == "_" {
            offsets.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let sign_at = values.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (first, step) = sign_at.map_or((values, "0s"), |(i, _)| values.split_at(i));
        let (mut offset, step) = (
            signed_duration(first).map_err(bad)?,
            signed_duration(step).map_err(bad)?,
        );
        for _ in 0..=times.unwrap_or(0) {
            offsets.push(Some(offset));
            offset = offset.saturating_add(step);
        }
    }
    Ok(Some((labels, offsets)))
}

fn signed_duration(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(text) => parse_duration(text).map(|ms| -ms),
        None => parse_duration(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Cuts the next word off.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after.trim_start();
    word
}

/// The command, and how many lines of the body are its.
fn eval(head: &str, body: &[&str]) -> Result<(usize, Eval), String> {
    let mut rest = head;
    let mut eval = Eval::default();
    let mode = word(&mut rest).strip_prefix("eval").unwrap_or_default();
    let usage = || {
        format!(
            "invalid evaluation command {head:?}: 'eval instant at <time> <query>' or 'eval range from <from> to <to> \
             step <step> <query>' is right"
        )
    };
    match word(&mut rest) {
        "instant" => {
            if word(&mut rest) != "at" {
                return Err(usage());
            }
            let at = word(&mut rest);
            eval.at_ms = parse_duration(at).map_err(|e| format!("invalid timestamp definition {at:?}: {e}"))?;
        }
        "range" => {
            eval.is_range = true;
            eval.range = range(&mut rest).ok_or_else(usage)??;
        }
        _ => return Err(usage()),
    }
    eval.query = rest.to_owned();
    match mode {
        "" => {}
        "_ordered" => eval.ordered = true,
        "_fail" => eval.fail = Some(Match::Any),
        "_warn" => eval.warn.push(Match::Any),
        "_info" => eval.info.push(Match::Any),
        _ => return Err(usage()),
    }
    for (i, line) in body.iter().enumerate() {
        if let Some(message) = line.strip_prefix("expected_fail_message").filter(|_| mode == "_fail") {
            eval.fail = Some(Match::Exactly(message.trim().to_owned()));
            return Ok((i + 1, eval));
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp").filter(|_| mode == "_fail") {
            eval.fail = Some(Match::Pattern(pattern_of(pattern)?));
            return Ok((i + 1, eval));
        }
        let mut rest = *line;
        if word(&mut rest) == "expect" {
            expectation(&mut eval, rest).map_err(|e| format!("{line:?}: {e}"))?;
            continue;
        }
        let unsigned = line.strip_prefix(['-', '+']).unwrap_or(line);
        if let Ok(value) = number(unsigned) {
            eval.scalar = Some(if line.starts_with('-') { -value } else { value });
            return Ok((i + 1, eval));
        }
        let (labels, items) = series(line).map_err(|e| format!("{line:?}: {e}"))?;
        if items.len() > 1 && !eval.is_range && !eval.is_range_vector {
            return Err(format!(
                "{line:?}: expecting multiple values in instant evaluation not allowed"
            ));
        }
        eval.series.retain(|s| s.0 != labels);
        eval.series.push((labels, items));
    }
    Ok((body.len(), eval))
}

/// `from <from> to <to> step <step>`; `None` when it has another form.
fn range(rest: &mut &str) -> Option<Result<(i64, i64, i64), String>> {
    let mut times = [0; 3];
    for (name, slot) in ["from", "to", "step"].into_iter().zip(&mut times) {
        if word(rest) != name {
            return None;
        }
        let text = word(rest);
        *slot = match parse_duration(text) {
            Ok(ms) => ms,
            Err(e) => return Some(Err(format!("invalid {name} definition {text:?}: {e}"))),
        };
    }
    let [start, end, step] = times;
    if end < start {
        return Some(Err(format!(
            "invalid test definition, the end {end} ms is before the start {start} ms"
        )));
    }
    Some(Ok((start, end, step)))
}

fn pattern_of(text: &str) -> Result<Regex, String> {
    Regex::new(text.trim()).map_err(|e| format!("invalid regular expression {text:?}: {e}"))
}

/// What follows the word `expect`.
fn expectation(eval: &mut Eval, rest: &str) -> Result<(), String> {
    let mut rest = rest;
    let kind = word(&mut rest);
    match kind {
        "range" => {
            if word(&mut rest) != "vector" {
                return Err("expect range vector from <from> to <to> step <step> is right".into());
            }
            eval.range = range(&mut rest).ok_or("from <from> to <to> step <step> is right")??;
            eval.is_range_vector = true;
            eval.at_ms = eval.range.1;
            return Ok(());
        }
        "string" => {
            let quoted = rest.len() > 1 && rest.starts_with(['"', '`', '\'']) && rest.ends_with(['"', '`', '\'']);
            if !quoted {
                return Err("expected string literal not valid - a quoted string literal is required".into());
            }
            eval.string = Some(unquote(rest));
            return Ok(());
        }
        _ => {}
    }
    let wanted = match rest.split_once(':') {
        _ if rest.is_empty() => Match::Any,
        Some(("msg", text)) => Match::Exactly(text.trim().to_owned()),
        Some(("regex", text)) => Match::Pattern(pattern_of(text)?),
        _ => return Err(format!("invalid token {rest:?} after {kind}: msg: or regex: is right")),
    };
    match kind {
        "ordered" => eval.ordered = true,
        "fail" if eval.fail.is_some() => return Err("multiple expect fail lines are not allowed".into()),
        "fail" => eval.fail = Some(wanted),
        "warn" => eval.warn.push(wanted),
        "info" => eval.info.push(wanted),
        "no_warn" => eval.no_warn = true,
        "no_info" => eval.no_info = true,
        _ => return Err(format!("invalid expected error/annotation type {kind}")),
    }
    if (eval.no_warn && !eval.warn.is_empty()) || (eval.no_info && !eval.info.is_empty()) {
        return Err("invalid expect lines: an annotation is both expected and not".into());
    }
    Ok(())
}
