use std::collections::HashMap;

use crate::{
    CollectError, Collector, Context,
    collector::{counter, gauge},
};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "processes",
    doc: "CPU and memory of the costliest processes.",
    metrics: &[
        counter(
            "overseer_agent_process_cpu_seconds_total",
            "Seconds of CPU that one of the costliest processes used.",
        ),
        gauge(
            "overseer_agent_process_resident_memory_bytes",
            "Bytes of memory that one of the costliest processes holds.",
        ),
    ],
    collect,
};

/// Processes looked at in one tick besides those followed; a host with more is gone through over several ticks.
const SCAN_MAX: usize = 128;
/// How long a process is followed at least, in ms.
const HOLD_MS: i64 = 60_000;
/// A newcomer is followed only once it is this old, in ms: short-lived processes would each leave two series behind.
const AGE_MS_MIN: i64 = 10_000;
/// Least time between two newcomers once the first are chosen, in ms.
const ADMIT_EVERY_MS: i64 = 5_000;
/// A newcomer must cost this much more than the one it drives out, and this much at all.
const COST_RATIO: f64 = 1.5;
const COST_MIN: f64 = 0.01;
/// Weight of a fresh CPU rate against the one remembered.
const RATE_WEIGHT: f64 = 0.2;

/// What `/proc/<pid>/stat` tells. Ticks of CPU are user and system together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProcessStat {
    pub(super) comm: String,
    pub(super) cpu_ticks: f64,
    pub(super) threads: f64,
    pub(super) start_ticks: f64,
    pub(super) virtual_bytes: f64,
    pub(super) rss_pages: f64,
}

/// The name stands in parentheses and may hold any byte, parentheses and blanks too.
pub(super) fn parse_stat(text: &str) -> Option<ProcessStat> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let comm = text.get(open + 1..close)?.to_owned();
    let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
    let field = |n: usize| fields.get(n).and_then(|word| super::number(word));
    Some(ProcessStat {
        comm,
        cpu_ticks: field(11)? + field(12)?,
        threads: field(17)?,
        start_ticks: field(19)?,
        virtual_bytes: field(20)?,
        rss_pages: field(21)?,
    })
}

/// The processes followed, and what is known of the others.
#[derive(Default)]
pub(crate) struct Top {
    /// Processes still to be looked at in this round.
    pending: Vec<u32>,
    seen: HashMap<u32, Seen>,
    followed: Vec<Followed>,
    last_admit_ms: Option<i64>,
    round: u64,
}

struct Seen {
    stat: ProcessStat,
    at_ms: i64,
    /// CPUs used of late.
    rate: f64,
    round: u64,
}

#[derive(Clone, Copy)]
struct Followed {
    pid: u32,
    since_ms: i64,
}

impl Top {
    fn note(&mut self, pid: u32, stat: ProcessStat, now_ms: i64, ticks_per_second: f64) {
        let round = self.round;
        let Some(seen) = self
            .seen
            .get_mut(&pid)
            .filter(|seen| seen.stat.start_ticks == stat.start_ticks)
        else {
            // a number used again belongs to another process
            self.followed.retain(|f| f.pid != pid);
            self.seen.insert(
                pid,
                Seen {
                    stat,
                    at_ms: now_ms,
                    rate: 0.0,
                    round,
                },
            );
            return;
        };
        seen.round = round;
        let seconds = now_ms.saturating_sub(seen.at_ms) as f64 / 1000.0;
        if seconds > 0.0 {
            let fresh = ((stat.cpu_ticks - seen.stat.cpu_ticks) / ticks_per_second / seconds).max(0.0);
            seen.rate += RATE_WEIGHT * (fresh - seen.rate);
            seen.at_ms = now_ms;
        }
        seen.stat = stat;
    }

    fn forget(&mut self, pid: u32) {
        self.seen.remove(&pid);
        self.followed.retain(|f| f.pid != pid);
    }

    /// CPUs used plus the share of memory held: a process that takes all memory weighs as much as one that takes a CPU.
    fn cost(&self, pid: u32, memory_pages: f64) -> f64 {
        self.seen
            .get(&pid)
            .map_or(0.0, |seen| seen.rate + seen.stat.rss_pages / memory_pages.max(1.0))
    }

    /// Fills free places and lets the costliest newcomer drive out the cheapest process followed.
    fn choose(&mut self, top: usize, now_ms: i64, age_ms: impl Fn(&ProcessStat) -> i64, memory_pages: f64) {
        self.followed.truncate(top);
        let is_first = self.last_admit_ms.is_none();
        if self
            .last_admit_ms
            .is_some_and(|last| now_ms.saturating_sub(last) < ADMIT_EVERY_MS)
        {
            return;
        }
        let mut newcomers: Vec<(f64, u32)> = self
            .seen
            .iter()
            .filter(|(pid, seen)| {
                (is_first || age_ms(&seen.stat) >= AGE_MS_MIN) && !self.followed.iter().any(|f| f.pid == **pid)
            })
            .map(|(pid, _)| (self.cost(*pid, memory_pages), *pid))
            .collect();
        newcomers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if is_first {
            // chosen by memory alone: they give way at once to those that turn out to use the CPU
            let since_ms = now_ms.saturating_sub(HOLD_MS);
            self.followed
                .extend(newcomers.iter().take(top).map(|&(_, pid)| Followed { pid, since_ms }));
            self.last_admit_ms = Some(now_ms);
            return;
        }
        let Some(&(cost, pid)) = newcomers.first() else { return };
        if self.followed.len() < top {
            self.followed.push(Followed { pid, since_ms: now_ms });
            self.last_admit_ms = Some(now_ms);
            return;
        }
        let held = self
            .followed
            .iter()
            .enumerate()
            .filter(|(_, f)| now_ms.saturating_sub(f.since_ms) >= HOLD_MS);
        let cheapest = held
            .map(|(at, f)| (at, self.cost(f.pid, memory_pages)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((at, least)) = cheapest
            && cost >= COST_MIN
            && cost > least * COST_RATIO
        {
            self.followed[at] = Followed { pid, since_ms: now_ms };
            self.last_admit_ms = Some(now_ms);
        }
    }
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    if context.process_top == 0 {
        return Ok(());
    }
    let (proc, now_ms) = (context.proc, context.now_ms);
    let per_second = proc.machine.ticks_per_second as f64;
    let top = &mut context.state.processes;
    if top.pending.is_empty() {
        let round = top.round;
        top.seen.retain(|_, seen| seen.round == round);
        top.round += 1;
        top.pending = proc
            .names("proc")?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
    }
    let keep = top.pending.len().saturating_sub(SCAN_MAX);
    let mut looked = top.pending.split_off(keep);
    looked.extend(top.followed.iter().map(|f| f.pid));
    looked.sort_unstable();
    looked.dedup();
    for pid in looked {
        // it may end at any moment
        match proc
            .text(&format!("proc/{pid}/stat"))
            .ok()
            .and_then(|text| parse_stat(&text))
        {
            Some(stat) => top.note(pid, stat, now_ms, per_second),
            None => top.forget(pid),
        }
    }
    let uptime_ms = proc.text("proc/uptime").ok().and_then(|text| {
        let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        Some((seconds * 1000.0) as i64)
    });
    let age_ms = |stat: &ProcessStat| {
        uptime_ms.map_or(i64::MAX, |uptime| {
            uptime.saturating_sub((stat.start_ticks / per_second * 1000.0) as i64)
        })
    };
    let page_bytes = proc.machine.page_bytes as f64;
    top.choose(
        context.process_top,
        now_ms,
        age_ms,
        context.state.memory_bytes / page_bytes,
    );
    for followed in &top.followed {
        let Some(seen) = top.seen.get(&followed.pid) else {
            continue;
        };
        let pid = followed.pid.to_string();
        let labels = [("pid", &*pid), ("comm", &*seen.stat.comm)];
        let cpu_seconds = seen.stat.cpu_ticks / per_second;
        context
            .out
            .put("overseer_agent_process_cpu_seconds_total", &labels, cpu_seconds);
        context.out.put(
            "overseer_agent_process_resident_memory_bytes",
            &labels,
            seen.stat.rss_pages * page_bytes,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(comm: &str, cpu_ticks: f64, rss_pages: f64) -> ProcessStat {
        ProcessStat {
            comm: comm.into(),
            cpu_ticks,
            threads: 1.0,
            start_ticks: 5.0,
            virtual_bytes: 0.0,
            rss_pages,
        }
    }

    fn pids(top: &Top) -> Vec<u32> {
        let mut pids: Vec<u32> = top.followed.iter().map(|f| f.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn a_name_may_hold_anything() {
        let text =
            "16542 (a ) (b) R 1 2 3 4 -1 6 7 8 9 10 100 23 13 14 20 0 3 0 189871 3133440 425 18446744073709551615";
        let got = parse_stat(text).unwrap();
        assert_eq!((got.comm.as_str(), got.cpu_ticks, got.threads), ("a ) (b", 123.0, 3.0));
        assert_eq!(
            (got.start_ticks, got.virtual_bytes, got.rss_pages),
            (189871.0, 3133440.0, 425.0)
        );
        assert_eq!(parse_stat("1 )("), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_set_changes_slowly() {
        let mut top = Top::default();
        let old = |_: &ProcessStat| i64::MAX;
        for pid in 1..=5 {
            top.note(pid, stat("p", 0.0, f64::from(pid) * 10.0), 0, 100.0);
        }
        top.choose(2, 0, old, 10_000.0);
        assert_eq!(pids(&top), [4, 5]);
        // process 1 begins to use a whole CPU, and drives out the cheaper one, not before a place may change
        let mut changes = Vec::new();
        for second in 1..=200 {
            let now_ms = second * 1000;
            for pid in 1..=5 {
                let cpu = if pid == 1 { second as f64 * 100.0 } else { 0.0 };
                top.note(pid, stat("p", cpu, f64::from(pid) * 10.0), now_ms, 100.0);
            }
            let before = pids(&top);
            top.choose(2, now_ms, old, 10_000.0);
            if pids(&top) != before {
                changes.push((second, pids(&top)));
            }
        }
        assert_eq!(changes, [(5, vec![1, 5])]);
    }

    #[test]
    fn short_lived_processes_leave_no_series() {
        let mut top = Top::default();
        top.choose(2, 0, |_| 0, 1000.0);
        for second in 1..=100u32 {
            let now_ms = i64::from(second) * 1000;
            top.note(second, stat("rustc", 90.0, 100.0), now_ms, 100.0);
            top.choose(2, now_ms, |_| 900, 1000.0);
            top.forget(second);
        }
        assert!(top.followed.is_empty());
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let mut top = Top::default();
        top.note(7, stat("old", 1.0, 1.0), 0, 100.0);
        top.choose(1, 0, |_| i64::MAX, 1000.0);
        assert_eq!(pids(&top), [7]);
        top.note(
            7,
            ProcessStat {
                start_ticks: 99.0,
                ..stat("new", 0.0, 1.0)
            },
            1000,
            100.0,
        );
        assert!(top.followed.is_empty());
    }
}
