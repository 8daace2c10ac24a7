use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use host::Clock;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use crate::answer::Refusal;
use crate::config::ServerConfig;

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

/// Reads a whole body into `out`, at most `bytes_max`, no slower than the configured rate.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    clock: &dyn Clock,
    config: &ServerConfig,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
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
    out.reserve(declared.unwrap_or(0).min(1 << 20));
    let patience = Duration::from_secs(u64::from(config.head_seconds));
    let began = clock.monotonic();
    loop {
        let slow = || {
            let rate = config.body_bytes_per_second_min;
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                format!("the body arrives at less than {rate} bytes a second (server.body_bytes_per_second_min)"),
            )
        };
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => return Err(slow()),
            Ok(None) => return Ok(()),
            Ok(Some(Err(e))) => return Err(Refusal::bad_data(format!("the body cannot be read: {e}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if out.len() + data.len() > bytes_max {
                return Err(too_large());
            }
            out.extend_from_slice(data);
        }
        let spent = clock.monotonic().saturating_sub(began);
        if spent > patience && (out.len() as u64) < spent.as_secs() * config.body_bytes_per_second_min {
            return Err(slow());
        }
    }
}
