use host::Host;
use http::Method;
use serde_json::Value;

use crate::cli::{QueryArgs, Settings};
use crate::server_client::{ServerClient, encode};
use crate::{Failure, config, terminal};

/// Points of a range when no step is given.
const POINTS: i64 = 60;
/// Width of a sparkline.
const SPARKS: usize = 60;

pub(crate) fn run(settings: &Settings, ask: &QueryArgs) -> Result<(), Failure> {
    let (config, _) = config::load(settings)?;
    let server = ServerClient::of_answers(&Host::real(), settings, &config, ask.url.as_deref())?;
    let (path, form) = request_of(ask)?;
    let body = server.send(Method::POST, path, form)?;
    let url = server.url();
    if ask.json {
        terminal::say(&String::from_utf8_lossy(&body))?;
    }
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|_| Failure::failed(format!("{url} did not answer with JSON; is it Overseer or Prometheus?")))?;
    if answer["status"] != "success" {
        return Err(Failure::failed(format!(
            "{}: {}",
            answer["errorType"].as_str().unwrap_or("error"),
            answer["error"].as_str().unwrap_or("the server gave no reason")
        )));
    }
    if !ask.json {
        for line in render(&answer["data"]) {
            terminal::say(&line)?;
        }
        for kind in ["warnings", "infos"] {
            for note in answer[kind].as_array().into_iter().flatten() {
                terminal::complain(note.as_str().unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn request_of(ask: &QueryArgs) -> Result<(&'static str, String), Failure> {
    let mut form = vec![("query", ask.expr.clone())];
    let Some(range) = &ask.range else {
        if let Some(time) = &ask.time {
            form.push(("time", time.clone()));
        }
        return Ok(("/api/v1/query", encode(&form)));
    };
    let range_ms = duration("--range", range)?;
    let end_ms = match &ask.time {
        None => jiff::Timestamp::now().as_millisecond(),
        Some(text) => model::parse_time_ms(text)
            .ok_or_else(|| Failure::misuse(format!("--time {text:?}: Unix seconds or RFC 3339 is right")))?,
    };
    let step_ms = match &ask.step {
        Some(step) => duration("--step", step)?,
        None => (range_ms / POINTS).max(1000),
    };
    let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
    form.push(("start", seconds(end_ms.saturating_sub(range_ms))));
    form.push(("end", seconds(end_ms)));
    form.push(("step", seconds(step_ms)));
    Ok(("/api/v1/query_range", encode(&form)))
}

fn duration(flag: &str, text: &str) -> Result<i64, Failure> {
    match query::promql::parse_duration(text) {
        Ok(ms) if ms > 0 => Ok(ms),
        _ => Err(Failure::misuse(format!(
            "{flag} {text:?}: a duration such as 15m, 6h or 7d is right"
        ))),
    }
}

/// Lines for a person: a table for instant answers, a sparkline a series for ranges.
fn render(data: &Value) -> Vec<String> {
    let result = &data["result"];
    match data["resultType"].as_str().unwrap_or("") {
        "scalar" | "string" => vec![result[1].as_str().unwrap_or_default().to_owned()],
        "matrix" => rows(result, |series| {
            let values: Vec<f64> = series["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|point| point[1].as_str()?.parse().ok())
                .collect();
            let finite = || values.iter().copied().filter(|v| v.is_finite());
            let (low, high) = (
                finite().fold(f64::INFINITY, f64::min),
                finite().fold(f64::NEG_INFINITY, f64::max),
            );
            let last = values.last().map_or(String::new(), |v| format!("{v}"));
            format!("{}  {low} … {high}, last {last}", sparkline(&values, low, high))
        }),
        _ => rows(result, |series| {
            if let Some(value) = series["value"][1].as_str() {
                return value.to_owned();
            }
            let h = &series["histogram"][1];
            format!(
                "histogram: count {}, sum {}",
                h["count"].as_str().unwrap_or("?"),
                h["sum"].as_str().unwrap_or("?")
            )
        }),
    }
}

fn rows(result: &Value, cell: impl Fn(&Value) -> String) -> Vec<String> {
    let rows: Vec<(String, String)> = result
        .as_array()
        .into_iter()
        .flatten()
        .map(|series| (name_of(&series["metric"]), cell(series)))
        .collect();
    if rows.is_empty() {
        return vec!["(no series)".to_owned()];
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.into_iter()
        .map(|(name, cell)| format!("{name:width$}  {cell}"))
        .collect()
}

fn name_of(metric: &Value) -> String {
    let labels: model::Labels = metric
        .as_object()
        .map(|m| model::Labels::from_pairs(m.iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap_or_default()))))
        .unwrap_or_default();
    let text = labels.to_string();
    // a terminal must not be steered by what somebody sent as a label
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn sparkline(values: &[f64], low: f64, high: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let step = values.len().div_ceil(SPARKS).max(1);
    values
        .chunks(step)
        .map(|part| {
            let (sum, n) = part
                .iter()
                .filter(|v| v.is_finite())
                .fold((0.0, 0), |(s, n), v| (s + v, n + 1));
            if n == 0 {
                return ' ';
            }
            let share = if high > low {
                (sum / f64::from(n) - low) / (high - low)
            } else {
                0.0
            };
            BARS[((share * 7.0).round() as usize).min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instant_answer_is_a_table() {
        let data = json!({ "resultType": "vector", "result": [
            { "metric": { "__name__": "up", "job": "a" }, "value": [1, "1"] },
            { "metric": { "__name__": "up", "job": "long\u{1b}[2J" }, "value": [1, "0"] },
        ]});
        let lines = render(&data);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with(r#"up{job="a"}"#) && lines[0].ends_with("  1"),
            "{lines:?}"
        );
        assert!(!lines[1].contains('\u{1b}'));
        assert_eq!(
            render(&json!({ "resultType": "vector", "result": [] })),
            ["(no series)"]
        );
    }

    #[test]
    fn a_range_is_a_sparkline() {
        let values: Vec<Value> = (0..8).map(|i| json!([i, i.to_string()])).collect();
        let data = json!({ "resultType": "matrix", "result": [{ "metric": {}, "values": values }] });
        assert!(
            render(&data)[0].contains("▁▂▃▄▅▆▇█  0 … 7, last 7"),
            "{:?}",
            render(&data)
        );
    }
}
