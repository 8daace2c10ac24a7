use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header;
use model::{Budget, Hints, Labels, Matcher, SampleSource, SelectRequest, SeriesBlock, TenantId, TimeRange, Want};
use wire::federation::{Federated, FederatedValue, Format, write};

use crate::answer::{Refusal, plain};
use crate::draft::Draft;
use crate::parts::App;
use crate::pool::Weight;
use crate::read::Ask;

/// What a federated sample takes besides its labels, which are there twice: in memory and in the answer.
const SAMPLE_BYTES: usize = size_of::<Federated>() + 64;

/// The last sample of each series that one of `match[]` selects, for another Prometheus to scrape.
pub(crate) async fn federate(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match answer(app, request).await {
        Ok(response) => response,
        Err(refused) => plain(&refused),
    }
}

async fn answer(app: Arc<App>, request: Request<Body>) -> Result<Response, Refusal> {
    let accept: Vec<&str> = request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    let format = Format::negotiate(&accept.join(","));
    let ask = Ask::of(app, request).await?;
    ask.params.whole()?;
    let any_of = ask.selectors(false)?;
    let now_ms = ask.now_ms();
    let lookback_ms = i64::from(ask.app.parts.query.lookback_seconds) * 1000;
    let range = TimeRange::new(now_ms.saturating_sub(lookback_ms), now_ms);
    let tenant = ask.tenant;
    let gzip = ask.gzip;
    let draft = ask
        .run(Weight::Bulk, move |source, budget| {
            let mut samples = last_samples(source, tenant, &any_of, range, budget)?;
            samples.sort_by(|a, b| {
                let by_name = a.labels.metric_name().cmp(b.labels.metric_name());
                by_name.then_with(|| a.labels.iter().cmp(b.labels.iter()))
            });
            Ok(Draft::whole(write(&samples, format), gzip))
        })
        .await?;
    draft.respond(&ask.app, &format.content_type()).await
}

fn last_samples(
    source: &dyn SampleSource,
    tenant: TenantId,
    any_of: &[Vec<Matcher>],
    range: TimeRange,
    budget: &Budget,
) -> Result<Vec<Federated>, Refusal> {
    let mut samples = Vec::new();
    let mut seen: HashSet<Labels> = HashSet::new();
    let mut block = SeriesBlock::default();
    for matchers in any_of {
        let request = SelectRequest {
            tenant,
            matchers,
            range,
            hints: Hints {
                want: Want::Last,
                window_ms: range.end_ms - range.start_ms,
                ..Hints::default()
            },
        };
        let set = source.select(&request, budget)?;
        for i in 0..set.len() {
            let labels = set.labels(i);
            if any_of.len() > 1 && !seen.insert(labels.clone()) {
                continue;
            }
            set.read(i, &mut block, budget)?;
            if let Some((at_ms, value)) = last_of(&block) {
                budget
                    .bytes((2 * labels.as_bytes().len() + SAMPLE_BYTES) as u64)
                    .map_err(model::SourceError::from)?;
                samples.push(Federated { labels, at_ms, value });
            }
        }
        for warning in set.warnings() {
            tracing::warn!(%warning, "a federated answer lacks samples");
        }
    }
    Ok(samples)
}

/// The last sample, unless it ends the series.
fn last_of(block: &SeriesBlock) -> Option<(i64, FederatedValue)> {
    let float = block.at_ms.last().zip(block.values.last());
    let histogram = block.histogram_at_ms.last().zip(block.histograms.last());
    match (float, histogram) {
        (float, Some((at, h))) if float.is_none_or(|(f, _)| f < at) => {
            (!h.is_stale()).then(|| (*at, FederatedValue::Histogram(Arc::clone(h))))
        }
        (Some((at, v)), _) => (!model::is_stale(*v)).then_some((*at, FederatedValue::Float(*v))),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sample_of_both_kinds_counts_and_stale_ones_do_not() {
        let mut block = SeriesBlock {
            at_ms: vec![1, 5],
            values: vec![1.0, 2.0],
            histogram_at_ms: vec![3],
            histograms: vec![Arc::default()],
            ..SeriesBlock::default()
        };
        assert!(matches!(last_of(&block), Some((5, FederatedValue::Float(v))) if v == 2.0));
        block.histogram_at_ms[0] = 7;
        assert!(matches!(last_of(&block), Some((7, FederatedValue::Histogram(_)))));
        block.histogram_at_ms[0] = 3;
        block.values[1] = model::stale_nan();
        assert!(last_of(&block).is_none());
        assert!(last_of(&SeriesBlock::default()).is_none());
    }
}
