use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body::Frame;
use model::{Budget, Hints, Labels, SampleSource, SelectRequest, SeriesBlock, SeriesSet, SourceError, TenantId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::remote_read::{ReadForm, ReadQuery, SAMPLES_TYPE, STREAM_TYPE, SampledAnswer, decode, stream_series};
use wire::{Encoding, decompress};

use crate::answer::{Refusal, empty, plain, with_header};
use crate::draft::Draft;
use crate::parts::App;
use crate::pool::{Weight, timed_out};
use crate::read::Ask;

/// Bytes of a request, before and after decompression.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Bytes of frames that are handed over at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for a slow reader; when there are as many, reading waits.
const PIECES_WAITING: usize = 4;
/// How often a sampled answer is there while it is compressed.
const COPIES: u64 = 3;
/// What a series takes while its place in the order is found.
const SERIES_BYTES: usize = 64;

/// Prometheus remote read. Errors are plain text, as Prometheus gives them here.
pub(crate) async fn read(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match answer(app, request).await {
        Ok(response) => response,
        Err(refused) => plain(&refused),
    }
}

async fn answer(app: Arc<App>, request: Request<Body>) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let mut packed = Vec::new();
    let mut held = crate::body::read(&app.body_reader(), &head.headers, body, REQUEST_BYTES_MAX, &mut packed).await?;
    let plain = wire::plain_bytes(Encoding::Snappy, &packed, REQUEST_BYTES_MAX);
    held.grow((packed.capacity() + plain.about) as u64).await?;
    // expressions are compiled with it
    let decoded = app.decoding.run(move || {
        let _held = held;
        let mut buffer = Vec::new();
        decompress(Encoding::Snappy, &packed, REQUEST_BYTES_MAX, &mut buffer).and_then(decode)
    });
    let asked = decoded.await?.map_err(|e| Refusal::bad_data(e.to_string()))?;
    let tenant = head.extensions.get::<TenantId>().copied().unwrap_or(TenantId::DEFAULT);
    let ask = Ask::without_parameters(app, tenant);
    match asked.form {
        ReadForm::Samples => {
            let work =
                move |source: &dyn SampleSource, budget: &Budget| sampled(source, tenant, &asked.queries, budget);
            let body = ask.run(Weight::Bulk, work).await.map_err(as_prometheus)?;
            let response = Draft::whole(body, false).respond(&ask.app, SAMPLES_TYPE).await?;
            Ok(with_header(
                response,
                header::CONTENT_ENCODING,
                Encoding::Snappy.as_str(),
            ))
        }
        ReadForm::StreamedChunks => streamed(ask, asked.queries).await,
    }
}

/// Prometheus answers a request beyond its limits with 400.
fn as_prometheus(refused: Refusal) -> Refusal {
    if refused.status == StatusCode::UNPROCESSABLE_ENTITY {
        return Refusal::bad_data(refused.message);
    }
    refused
}

/// One query's series, in the order that readers rely on: by names and values of their labels.
struct Ordered {
    set: Box<dyn SeriesSet>,
    order: Vec<(Labels, usize)>,
    bytes: u64,
}

impl Ordered {
    fn of(
        source: &dyn SampleSource,
        tenant: TenantId,
        query: &ReadQuery,
        budget: &Budget,
    ) -> Result<Self, SourceError> {
        let request = SelectRequest {
            tenant,
            matchers: &query.matchers,
            range: query.range,
            hints: Hints::default(),
        };
        let set = source.select(&request, budget)?;
        let mut bytes = 0;
        let mut order = Vec::with_capacity(set.len());
        for i in 0..set.len() {
            let labels = set.labels(i);
            let n = (labels.as_bytes().len() + SERIES_BYTES) as u64;
            budget.bytes(n)?;
            bytes += n;
            order.push((labels, i));
        }
        order.sort_by(|a, b| a.0.iter().cmp(b.0.iter()));
        Ok(Ordered { set, order, bytes })
    }

    /// Calls `take` with each series that has samples.
    fn each(
        self,
        block: &mut SeriesBlock,
        budget: &Budget,
        mut take: impl FnMut(&Labels, &SeriesBlock) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (labels, i) in &self.order {
            self.set.read(*i, block, budget)?;
            if !block.is_empty() {
                take(labels, block)?;
            }
        }
        for warning in self.set.warnings() {
            tracing::warn!(%warning, "a remote read's answer lacks samples");
        }
        budget.release(self.bytes);
        Ok(())
    }
}

fn is_empty(query: &ReadQuery) -> bool {
    query.range.start_ms > query.range.end_ms
}

/// All samples as one body, within the query's budget of bytes.
fn sampled(
    source: &dyn SampleSource,
    tenant: TenantId,
    queries: &[ReadQuery],
    budget: &Budget,
) -> Result<Vec<u8>, Refusal> {
    let mut out = SampledAnswer::default();
    let mut block = SeriesBlock::default();
    let mut charged = 0;
    for query in queries {
        out.begin();
        if is_empty(query) {
            continue;
        }
        let series = Ordered::of(source, tenant, query, budget)?;
        series.each(&mut block, budget, |labels, block| {
            out.series(labels, block);
            let grown = out.bytes() - charged;
            charged += grown;
            budget.bytes(COPIES * grown as u64).map_err(SourceError::from)?;
            Ok(())
        })?;
    }
    out.finish().map_err(|e| Refusal::bad_data(e.to_string()))
}

/// Frames go out while the rest is read: what is held is a series and a few pieces.
async fn streamed(ask: Ask, queries: Vec<ReadQuery>) -> Result<Response, Refusal> {
    let (sender, mut pieces) = mpsc::channel(PIECES_WAITING);
    let tenant = ask.tenant;
    let timeout = ask.timeout;
    let out = Out {
        runtime: tokio::runtime::Handle::current(),
        deadline: tokio::time::Instant::now() + timeout,
        timeout,
        sender,
    };
    let task = tokio::spawn(async move {
        ask.run(Weight::Bulk, move |source, budget| {
            stream(source, tenant, &queries, budget, &out)
        })
        .await
    });
    // the status goes out before the frames: what fails before the first of them can still say so
    let mut frames = Frames {
        first: None,
        pieces: mpsc::channel(1).1,
        task: Some(task),
    };
    frames.first = pieces.recv().await;
    frames.pieces = pieces;
    if frames.first.is_none()
        && let Some(task) = frames.task.take()
    {
        task.await
            .map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string()))?
            .map_err(as_prometheus)?;
        return Ok(with_header(empty(StatusCode::OK), header::CONTENT_TYPE, STREAM_TYPE));
    }
    Ok(with_header(
        Response::new(Body::new(frames)),
        header::CONTENT_TYPE,
        STREAM_TYPE,
    ))
}

/// Where the reading thread hands over its pieces.
struct Out {
    runtime: tokio::runtime::Handle,
    deadline: tokio::time::Instant,
    timeout: Duration,
    sender: mpsc::Sender<Bytes>,
}

impl Out {
    /// Waits for a slow reader until the query's time is over.
    fn send(&self, piece: Vec<u8>) -> Result<(), Refusal> {
        let sent = async { tokio::time::timeout_at(self.deadline, self.sender.send(piece.into())).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SourceError::from(model::BudgetError::Cancelled).into()),
            Err(_) => Err(timed_out(self.timeout)),
        }
    }
}

fn stream(
    source: &dyn SampleSource,
    tenant: TenantId,
    queries: &[ReadQuery],
    budget: &Budget,
    out: &Out,
) -> Result<(), Refusal> {
    let mut piece = Vec::new();
    let mut block = SeriesBlock::default();
    for (i, query) in queries.iter().enumerate() {
        if is_empty(query) {
            continue;
        }
        let series = Ordered::of(source, tenant, query, budget)?;
        series.each(&mut block, budget, |labels, block| {
            stream_series(i, labels, block, &mut piece, |piece| {
                if piece.len() < PIECE_BYTES {
                    return Ok(());
                }
                out.send(std::mem::take(piece))
            })
        })?;
    }
    if piece.is_empty() { Ok(()) } else { out.send(piece) }
}

/// A body that ends early, and not as if it were whole, when reading fails; dropped, it stops the reading.
struct Frames {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Bytes>,
    task: Option<JoinHandle<Result<(), Refusal>>>,
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.pieces.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Poll::Ready(None) => {}
        }
        let Some(task) = self.task.as_mut() else {
            return Poll::Ready(None);
        };
        let ended = match Pin::new(task).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(ended) => ended,
        };
        self.task = None;
        match ended {
            Ok(Ok(())) => Poll::Ready(None),
            Ok(Err(refused)) => {
                tracing::warn!(error = %refused.message, "a remote read's answer was cut short");
                Poll::Ready(Some(Err(refused.message)))
            }
            Err(e) => Poll::Ready(Some(Err(e.to_string()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body_of(ended: Result<(), Refusal>) -> Result<Bytes, String> {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let frames = Frames {
            first: Some(Bytes::from_static(b"a")),
            pieces,
            task: Some(tokio::spawn(async move {
                let _ = sender.send(Bytes::from_static(b"b")).await;
                ended
            })),
        };
        frames.collect().await.map(|whole| whole.to_bytes())
    }

    #[tokio::test]
    async fn a_stream_that_cannot_be_finished_does_not_end_as_if_it_were_whole() {
        assert_eq!(body_of(Ok(())).await.as_deref(), Ok(&b"ab"[..]));
        let cut = body_of(Err(Refusal::bad_data("the budget is spent"))).await;
        assert_eq!(cut, Err("the budget is spent".to_owned()));
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_reading() {
        let (sender, pieces) = mpsc::channel(1);
        let frames = Frames {
            first: None,
            pieces,
            task: Some(tokio::spawn(std::future::pending())),
        };
        drop(frames);
        assert!(sender.is_closed());
    }
}
