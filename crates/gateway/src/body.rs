use std::sync::{Arc, Mutex};

use axum::body::Body;
use host::Clock;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use crate::answer::Refusal;
use crate::config::ServerConfig;
use crate::pace::Slow;
use crate::parts::App;
use crate::room::{Held, Part, Share};

/// Buffers kept for reuse, and the largest kept: fresh memory costs more than decoding into it.
const BUFFERS_KEPT: usize = 16;
const BUFFER_BYTES_KEPT: usize = 8 << 20;

/// Reused byte buffers for bodies.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0
            .lock()
            .map(|mut kept| kept.pop())
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() <= BUFFER_BYTES_KEPT
            && let Ok(mut kept) = self.0.lock()
            && kept.len() < BUFFERS_KEPT
        {
            kept.push(buffer);
        }
    }
}

/// What reading a body goes by.
pub(crate) struct BodyReader<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) config: &'a ServerConfig,
    /// Where its room comes from.
    pub(crate) bodies: &'a Arc<Share>,
}

impl App {
    pub(crate) fn body_reader(&self) -> BodyReader<'_> {
        BodyReader {
            clock: &*self.parts.host.clock,
            config: &self.parts.server,
            bodies: self.room.of(Part::Bodies),
        }
    }
}

/// Room is asked for in steps of so many bytes.
const STEP_BYTES: usize = 64 << 10;

/// Reads a whole body into `out`, at most `bytes_max`, no slower than the configured rate. The room it takes is held until
/// what is given back goes.
pub(crate) async fn read(
    reader: &BodyReader<'_>,
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<Held, Refusal> {
    let &BodyReader { clock, config, bodies } = reader;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        Refusal::too_large(format!(
            "the body has more than {bytes_max} bytes (limits.body_bytes_max); send less at once"
        ))
    };
    if declared.is_some_and(|n| n > bytes_max) {
        return Err(too_large());
    }
    out.clear();
    let mut held = bodies.nothing();
    let mut pace = config.pace(clock.monotonic(), config.body_bytes_per_second_min, config.rate_seconds);
    loop {
        let frame = match tokio::time::timeout(pace.until_due(clock.monotonic()), body.frame()).await {
            Err(_) => None,
            Ok(None) => return Ok(held),
            Ok(Some(Err(e))) => return Err(Refusal::bad_data(format!("the body cannot be read: {e}"))),
            Ok(Some(Ok(frame))) => frame.into_data().ok(),
        };
        if let Some(data) = frame {
            let need = out.len() + data.len();
            if need > bytes_max {
                return Err(too_large());
            }
            if need > out.capacity() {
                // what is declared is never exceeded, what is not doubles
                let most = declared.unwrap_or(bytes_max).max(STEP_BYTES);
                let capacity = need.max(out.capacity().saturating_mul(2).clamp(STEP_BYTES, most));
                held.grow(capacity as u64).await?;
                out.reserve_exact(capacity - out.len());
            } else {
                held.grow(need.next_multiple_of(STEP_BYTES) as u64).await?;
            }
            out.extend_from_slice(&data);
        }
        if let Err(slow) = pace.check(clock.monotonic(), out.len() as u64) {
            bodies.note_slow();
            return Err(too_slow(slow, config));
        }
    }
}

fn too_slow(slow: Slow, config: &ServerConfig) -> Refusal {
    let message = match slow {
        Slow::Rate => format!(
            "the body arrives at less than {} bytes a second over {} s (server.body_bytes_per_second_min, \
             server.rate_seconds)",
            config.body_bytes_per_second_min, config.rate_seconds
        ),
        Slow::Whole => format!(
            "the body took longer than {} s (server.transfer_seconds_max)",
            config.transfer_seconds_max
        ),
    };
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}
