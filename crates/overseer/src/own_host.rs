use std::sync::Arc;

use agent::{Agent, COLLECTORS, Config, ProcRoot, Publish, PublishFuture, Stored};
use host::Host;
use input::{Intake, Publisher, Ways};
use model::{LabelsBuilder, SampleSink, TenantId};

use crate::Failure;

/// First byte of the agent's spellings, so that they cannot be taken for those of a protocol (`wire` has 1 to 6, `0x0a`).
const SPELLING: u8 = 0x0b;
/// The collector of this process' own figures.
const OWN_PROCESS: &str = "process";

/// The agent inside, for the host Overseer runs on.
pub(crate) fn agent(config: Config, host: &Host) -> Result<Arc<Agent>, Failure> {
    let root = ProcRoot::real(Arc::clone(&host.files));
    let agent = Agent::new(config, root, host.clone()).map_err(|e| Failure::misuse(e.to_string()))?;
    Ok(Arc::new(agent))
}

/// An agent that looks at this process alone.
pub(crate) fn own_process(host: &Host) -> Result<Agent, Failure> {
    let others = COLLECTORS
        .iter()
        .map(|row| row.name)
        .filter(|name| *name != OWN_PROCESS)
        .map(str::to_owned);
    let config = Config {
        collectors_off: others.collect(),
        ..Config::default()
    };
    let root = ProcRoot::real(Arc::clone(&host.files));
    Agent::new(config, root, host.clone()).map_err(|e| Failure::failed(e.to_string()))
}

/// Where the agent's samples go: through admission to the bus, as everybody's.
pub(crate) fn publish(intake: Intake, publisher: Publisher, ways: Arc<Ways>) -> Arc<Publish> {
    Arc::new(move |stored: Stored| -> PublishFuture {
        let (intake, publisher, ways) = (intake.clone(), publisher.clone(), Arc::clone(&ways));
        Box::pin(async move {
            let (batch, outcome) = {
                let mut admission = intake.admit(TenantId::DEFAULT, stored.at_ms);
                let mut labels = LabelsBuilder::default();
                let mut raw = Vec::new();
                for seen in &stored.observations {
                    raw.clear();
                    raw.push(SPELLING);
                    raw.extend_from_slice(seen.labels.as_bytes());
                    let id = admission.known(&raw).or_else(|| {
                        labels.clear();
                        for (name, value) in seen.labels.iter() {
                            labels.push(name.as_bytes(), value.as_bytes());
                        }
                        admission.define(&raw, &mut labels)
                    });
                    if let Some(id) = id {
                        admission.float(id, stored.at_ms, seen.value, 0);
                    }
                }
                for row in &stored.metadata {
                    admission.metadata(
                        row.metric.as_bytes(),
                        row.kind,
                        row.help.as_bytes(),
                        row.unit.as_bytes(),
                    );
                }
                admission.finish()
            };
            publisher.batch(batch).await.map_err(|e| e.to_string())?;
            ways.note("agent", stored.at_ms, 0, &outcome);
            Ok(())
        })
    })
}
