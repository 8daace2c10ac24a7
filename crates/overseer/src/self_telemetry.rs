use std::time::Duration;

use gateway::Gateway;
use host::Host;
use input::{Intake, Publisher};
use model::TenantId;
use tokio::sync::watch;
use wire::exposition::{self, Format};

/// How often Overseer writes down what it says of itself.
const EVERY: Duration = Duration::from_secs(15);
/// Samples of itself at a time; more are dropped, so that it cannot drown itself.
const SAMPLES_MAX: usize = 5_000;

/// Writes Overseer's own metrics to its reserved tenant, through the same door as everybody's.
pub(crate) async fn run(
    gateway: Gateway,
    host: Host,
    intake: Intake,
    publisher: Publisher,
    hostname: String,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let labels = [
        ("job".to_owned(), "overseer".to_owned()),
        ("instance".to_owned(), hostname),
    ];
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.wait_for(|&stop| stop) => return,
        }
        let text = tokio::task::block_in_place(|| gateway::exposition(&gateway));
        let now_ms = host.clock.now_ms();
        let (batch, read) = {
            let mut admission = intake.admit(TenantId::OVERSEER, now_ms);
            let request = wire::Request {
                now_ms,
                target: &labels,
                ..Default::default()
            };
            let read = exposition::decode(text.as_bytes(), Format::Text, &request, &mut admission);
            (admission.finish().0, read)
        };
        if let Err(e) = read {
            tracing::error!(error = %e, "Overseer's own metrics do not parse (please report this)");
        } else if batch.samples() > SAMPLES_MAX {
            tracing::warn!(
                samples = batch.samples(),
                max = SAMPLES_MAX,
                "too many metrics of its own; dropped"
            );
        } else if let Err(e) = publisher.batch(batch).await {
            tracing::warn!(error = %e, "Overseer's own metrics were not taken");
        }
    }
}
