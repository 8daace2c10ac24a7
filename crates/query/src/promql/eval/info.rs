//! `info`: adds the labels of info series (`target_info` unless told otherwise) to series with the same instance and
//! job.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::labels::display;
use super::matrix::{Charge, Matrix, Row, Steps, label_bytes};
use super::{EvalContext, EvalError, Result};

const TARGET_INFO: &str = "target_info";
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// What `info`'s second argument says.
pub(super) struct InfoQuery<'a> {
    names: Vec<Matcher>,
    /// By label: what its value in the info series must match. Empty: all labels are taken.
    data: BTreeMap<&'a str, Vec<&'a Matcher>>,
}

impl<'a> InfoQuery<'a> {
    /// `selector` is the second argument's matchers, if there is one.
    pub(super) fn new(selector: Option<&'a [Matcher]>) -> Result<Self> {
        let mut names: Vec<Matcher> = Vec::new();
        let mut data: BTreeMap<&str, Vec<&Matcher>> = BTreeMap::new();
        for m in selector.unwrap_or_default() {
            match m.name.as_str() {
                METRIC_NAME => names.push(m.clone()),
                name => data.entry(name).or_default().push(m),
            }
        }
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
            let any_info = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info");
            names.insert(0, any_info.map_err(|e| EvalError::execution(e.to_string()))?);
        }
        Ok(InfoQuery { names, data })
    }

    /// Info series themselves are left as they are.
    fn ignores(&self, labels: &Labels) -> bool {
        self.names.iter().all(|m| m.matches(labels.metric_name()))
    }

    /// Matchers that select the info series of these rows; `None` when no row can have one.
    pub(super) fn matchers(&self, base: &Matrix<'_>) -> Option<Vec<Matcher>> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in base.rows.iter().filter(|r| !self.ignores(&r.labels)) {
            for name in IDENTIFYING {
                if let Some(value) = row.labels.get(name) {
                    values.entry(name).or_default().insert(value);
                }
            }
        }
        if values.is_empty() {
            return None;
        }
        let mut matchers = Vec::new();
        for (name, values) in values {
            matchers.push(Matcher::one_of(name, values));
        }
        matchers.extend(self.data.values().flatten().map(|m| (*m).clone()));
        matchers.extend(self.names.iter().cloned());
        Some(matchers)
    }

    /// Joins rows with info series, whose values are the times of their samples in ms.
    pub(super) fn combine<'b>(
        &self,
        context: &EvalContext<'b>,
        base: Matrix<'b>,
        info: &Matrix<'b>,
        steps: &Steps,
    ) -> Result<Matrix<'b>> {
        let identity = |l: &Labels| l.filter(|n| IDENTIFYING.contains(&n));
        // info series by their metric name and identity
        let mut out = Matrix::new(context.budget);
        let mut charge = Charge::new(context.budget);
        let mut by_identity: HashMap<Labels, BTreeMap<String, Vec<usize>>> = HashMap::new();
        for (i, row) in info.rows.iter().enumerate() {
            charge.add(2 * label_bytes(&row.labels) + 128)?;
            let names = by_identity.entry(identity(&row.labels)).or_default();
            names.entry(row.labels.metric_name().to_owned()).or_default().push(i);
        }
        let optional = self.data.values().flatten().all(|m| m.matches(""));
        let present: Vec<bool> = (0..steps.count)
            .map(|step| base.rows.iter().any(|r| r.has(step)))
            .collect();
        let mut rows: Vec<Row> = Vec::new();
        let mut at: HashMap<Labels, usize> = HashMap::new();
        for row in base.rows {
            charge.check()?;
            if self.ignores(&row.labels) {
                out.charge.add(row.held_bytes())?;
                take_all(&mut rows, &mut at, row)?;
                continue;
            }
            let found = by_identity.get(&identity(&row.labels));
            let mut made: HashMap<Vec<usize>, Option<Labels>> = HashMap::new();
            for step in 0..steps.count {
                let Some(cell) = row.get(step) else {
                    continue;
                };
                let mut chosen: Vec<usize> = Vec::new();
                for series in found.into_iter().flat_map(|f| f.values()) {
                    if let Some(i) = newest(&info.rows, series, step)? {
                        chosen.push(i);
                    }
                }
                let labels = match made.get(&chosen) {
                    Some(labels) => labels.clone(),
                    None => {
                        let labels = self.enriched(&row.labels, &info.rows, &chosen, optional)?;
                        made.insert(chosen, labels.clone());
                        labels
                    }
                };
                let Some(labels) = labels else {
                    continue;
                };
                let index = match at.get(&labels) {
                    Some(&index) => index,
                    None => {
                        let in_index = 2 * size_of::<(Labels, usize)>();
                        out.charge
                            .add(Row::bytes(steps.count) + label_bytes(&labels) + in_index)?;
                        rows.push(Row::new(labels.clone(), row.drop_name, steps.count));
                        at.insert(labels, rows.len() - 1);
                        rows.len() - 1
                    }
                };
                let target = &mut rows[index];
                if target.has(step) {
                    return Err(EvalError::execution(super::matrix::SAME_LABELSET));
                }
                match cell {
                    super::matrix::Cell::Float(v) => target.set(step, v),
                    super::matrix::Cell::Histogram(h) => {
                        let place = target.histograms.partition_point(|x| x.0 < step as u32);
                        target.histograms.insert(place, (step as u32, std::sync::Arc::clone(h)));
                    }
                }
            }
        }
        // two info series that agree on everything are an error even where no row wants them
        for series in by_identity.values().flat_map(|f| f.values()).filter(|s| s.len() > 1) {
            for (step, _) in present.iter().enumerate().filter(|p| *p.1) {
                newest(&info.rows, series, step)?;
            }
        }
        out.rows = rows;
        Ok(out)
    }

    /// The row's labels with those of the chosen info series; `None` when the row goes.
    fn enriched(&self, base: &Labels, info: &[Row], chosen: &[usize], optional: bool) -> Result<Option<Labels>> {
        if chosen.is_empty() {
            return Ok(optional.then(|| base.clone()));
        }
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for &i in chosen {
            for (name, value) in info[i].labels.iter() {
                if name == METRIC_NAME || (!self.data.is_empty() && !self.data.contains_key(name)) {
                    continue;
                }
                if added.get(name).is_some_and(|v| *v != value) {
                    return Err(EvalError::execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        let labels = base.iter().chain(added);
        Ok(Some(Labels::from_pairs(labels)))
    }
}

fn take_all(rows: &mut Vec<Row>, at: &mut HashMap<Labels, usize>, row: Row) -> Result<()> {
    if at.insert(row.labels.clone(), rows.len()).is_some() {
        return Err(EvalError::execution(super::matrix::SAME_LABELSET));
    }
    rows.push(row);
    Ok(())
}

/// The info series with the newest sample at a step, of those with one identity and name.
fn newest(info: &[Row], series: &[usize], step: usize) -> Result<Option<usize>> {
    let mut best: Option<(f64, usize)> = None;
    for &i in series {
        let at = info[i].values[step];
        if super::matrix::is_absent(at) {
            continue;
        }
        match best {
            Some((newest, _)) if newest > at => {}
            Some((newest, j)) if newest == at => {
                let (a, b) = (display(&info[j].labels), display(&info[i].labels));
                return Err(EvalError::execution(format!(
                    "found duplicate series for info metric: existing {a} @ {newest}, new {b} @ {at}"
                )));
            }
            _ => best = Some((at, i)),
        }
    }
    Ok(best.map(|b| b.1))
}
