//! Random series in Prometheus' test language.

use std::fmt::Write as _;

use host::sim::Dice;

/// What both sides load.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) step: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// A series: its samples as the language writes them, `_` where one is missing.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) metric: String,
    pub(crate) items: Vec<String>,
    /// Start times relative to the samples.
    pub(crate) starts: Option<Vec<String>>,
}

impl World {
    pub(crate) fn text(&self) -> String {
        let mut text = format!("load {}\n", self.step);
        for l in &self.lines {
            if let Some(starts) = &l.starts {
                let _ = writeln!(text, "  {}@st {}", l.metric, starts.join(" "));
            }
            let _ = writeln!(text, "  {} {}", l.metric, l.items.join(" "));
        }
        text
    }

    /// The same with other texts for its gauge histograms: by time in ms, for each series.
    pub(crate) fn with_gauge_histograms(&self, mut of: impl FnMut(&str) -> Vec<(i64, String)>) -> World {
        let mut world = self.clone();
        let seconds: i64 = self.step.trim_end_matches('s').parse().expect("steps are in seconds");
        for line in &mut world.lines {
            let gauge = |i: &String| i.starts_with('{') && i.contains(":gauge");
            if !line.items.iter().any(gauge) {
                continue;
            }
            for (at_ms, text) in of(&line.metric) {
                let item = line.items.get_mut((at_ms / (seconds * 1000)) as usize);
                if let Some(item) = item.filter(|i| gauge(i)) {
                    *item = text;
                }
            }
        }
        world
    }
}

pub(crate) fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

pub(crate) fn percent(dice: &mut Dice, p: u64) -> bool {
    dice.below(100) < p
}

pub(crate) fn number(dice: &mut Dice) -> String {
    match dice.below(10) {
        0 => "0".into(),
        1 => "NaN".into(),
        2 => "Inf".into(),
        3 => "-Inf".into(),
        4 => dice.below(1000).to_string(),
        5 => format!("-{}", dice.below(50)),
        6 => format!("{}e{}", 1 + dice.below(9), dice.below(30)),
        _ => format!("{}.{}", dice.below(100), dice.below(1000)),
    }
}

fn gauge(dice: &mut Dice, n: usize) -> Vec<String> {
    let weird = percent(dice, 15);
    let mut item = || match dice.below(100) {
        0..8 => "_".into(),
        8..11 => "stale".into(),
        11..31 if weird => number(dice),
        _ => format!("{}.{}", dice.below(200) as i64 - 50, dice.below(100)),
    };
    (0..n).map(|_| item()).collect()
}

fn counter(dice: &mut Dice, n: usize, first: u64) -> Vec<String> {
    let (mut value, whole) = (first as f64, percent(dice, 50));
    let mut item = || match dice.below(100) {
        0..6 => "_".into(),
        6..8 => "stale".into(),
        other => {
            if other < 14 {
                value = 0.0;
            }
            value += dice.below(20) as f64;
            if !whole {
                value += dice.below(100) as f64 / 100.0;
            }
            value.to_string()
        }
    };
    (0..n).map(|_| item()).collect()
}

fn native(dice: &mut Dice, n: usize, custom: bool) -> Vec<String> {
    let gauge = percent(dice, 30);
    let negative = percent(dice, 40);
    let schema = dice.below(4) as i64 - 1;
    let mut bounds = pick(dice, &["1 2 5 10", "1 5 10", "0.5 1 2 5"]);
    let hint = if gauge { " counter_reset_hint:gauge" } else { "" };
    let (mut b, mut zero) = ([1.0f64, 2.0, 3.0, 0.0, 1.0], 1.0);
    let mut items = Vec::new();
    for _ in 0..n {
        match dice.below(100) {
            0..6 => {
                items.push("_".into());
                continue;
            }
            6..8 => {
                items.push("stale".into());
                continue;
            }
            8..13 => (b, zero) = ([0.0; 5], 0.0),
            13..15 => bounds = pick(dice, &["1 2 5 10", "1 5 10", "0.5 1 2 5"]),
            _ => {}
        }
        for x in &mut b {
            *x = if gauge { 0.0 } else { *x } + dice.below(if gauge { 10 } else { 4 }) as f64;
        }
        zero += dice.below(3) as f64;
        let list = |k: usize| b[..k].iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        let item = if custom {
            let k = bounds.split(' ').count() + 1;
            let count: f64 = b[..k.min(5)].iter().sum();
            format!(
                "{{{{schema:-53 sum:{} count:{count} custom_values:[{bounds}]{hint} buckets:[{}]}}}}",
                b[0] * 1.5 + b[3],
                list(k.min(5))
            )
        } else {
            let schema = if percent(dice, 5) { schema + 1 } else { schema };
            let width = if percent(dice, 3) { 0.02 } else { 0.01 };
            let mut count = b.iter().sum::<f64>() + zero;
            let mut below = String::new();
            if negative {
                count += b[0] + b[1];
                below = format!(" n_offset:1 n_buckets:[{} {}]", b[0], b[1]);
            }
            format!(
                "{{{{schema:{schema} sum:{} count:{count} z_bucket:{zero} z_bucket_w:{width}{hint} offset:{} \
                 buckets:[{}]{below}}}}}",
                b[0] * 3.5 + b[4],
                dice.below(2),
                list(5)
            )
        };
        items.push(item);
    }
    items
}

fn starts(dice: &mut Dice, n: usize) -> Vec<String> {
    let mut age = 1 + dice.below(90);
    let mut item = || match dice.below(100) {
        0..8 => "_".to_owned(),
        other => {
            age = if other < 20 { 1 + dice.below(40) } else { age + 15 };
            format!("-{age}s")
        }
    };
    (0..n).map(|_| item()).collect()
}

pub(crate) fn world(dice: &mut Dice) -> World {
    let step = pick(dice, &["15s", "17s", "30s", "60s"]);
    let n = 30 + dice.below(40) as usize;
    let mut lines = Vec::new();
    let mut add = |metric: String, items: Vec<String>, starts: Option<Vec<String>>| {
        lines.push(Line { metric, items, starts });
    };
    let instances = ["a", "b", "c", "d"];
    for i in &instances[..2 + dice.below(3) as usize] {
        for job in ["x", "y"] {
            if percent(dice, 85) {
                add(format!("g{{instance=\"{i}\",job=\"{job}\"}}"), gauge(dice, n), None);
            }
            if percent(dice, 85) {
                let (first, with) = (dice.below(100), percent(dice, 40));
                let items = counter(dice, n, first);
                let starts = with.then(|| starts(dice, n));
                add(format!("c_total{{instance=\"{i}\",job=\"{job}\"}}"), items, starts);
            }
        }
    }
    for i in &instances[..2] {
        add(format!("one{{instance=\"{i}\"}}"), gauge(dice, n), None);
        let data = dice.below(3);
        add(
            format!("target_info{{instance=\"{i}\", job=\"x\", data=\"d{data}\"}}"),
            vec!["1".into(); n],
            None,
        );
        add(
            format!("{{\"my.gauge\", \"a.b\"=\"{i}\", job=\"x\"}}"),
            gauge(dice, n),
            None,
        );
        for le in ["0.1", "1", "10", "+Inf"] {
            if percent(dice, 95) {
                let first = dice.below(3);
                let items = counter(dice, n, first);
                add(format!("h_bucket{{instance=\"{i}\", le=\"{le}\"}}"), items, None);
            }
        }
    }
    for i in &instances[..3] {
        let (custom, with) = (percent(dice, 50), percent(dice, 25));
        let items = native(dice, n, custom);
        let starts = with.then(|| starts(dice, n));
        add(format!("nh{{instance=\"{i}\"}}"), items, starts);
    }
    for i in &instances[..2] {
        add(format!("nc{{instance=\"{i}\"}}"), native(dice, n, true), None);
    }
    let mut items = native(dice, n / 2, false);
    items.extend(gauge(dice, n / 2));
    add("mixed{instance=\"a\"}".into(), items, None);
    add("mixed{instance=\"b\"}".into(), gauge(dice, n), None);
    World { step, lines }
}
