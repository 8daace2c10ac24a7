use std::path::Path;

use host::{Files, OpenMode, sim::SimFiles};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::Machine;

/// Follows the runtime's paused time.
struct RuntimeClock(tokio::time::Instant);

impl host::Clock for RuntimeClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.monotonic().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn write(files: &SimFiles, path: &str, text: &str) {
    let path = Path::new("/").join(path);
    files.create_dir_all(path.parent().unwrap()).unwrap();
    let file = files.open(&path, OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

fn agent() -> (Arc<Agent>, Arc<SimFiles>) {
    let files = Arc::new(SimFiles::new(1));
    write(&files, "proc/loadavg", "1 2 3 1/93 16541\n");
    write(
        &files,
        "proc/42/stat",
        "42 (db) S 1 1 1 0 -1 4 1 0 0 0 600 100 0 0 20 0 4 0 9000 90000000 25000 1\n",
    );
    let machine = Machine {
        sysname: "Linux".into(),
        release: "6".into(),
        version: "1".into(),
        machine: "x86_64".into(),
        nodename: "box".into(),
        domainname: "home".into(),
        page_bytes: 4096,
        ticks_per_second: 100,
    };
    let host = Host {
        clock: Arc::new(RuntimeClock(tokio::time::Instant::now())),
        ..Host::real()
    };
    let proc = ProcRoot::at("/", Arc::clone(&files) as Arc<dyn Files>, machine);
    (Arc::new(Agent::new(Config::default(), proc, host).unwrap()), files)
}

type Asked = (Stored, oneshot::Sender<Result<(), String>>);

/// Starts the runner; what it wants stored is answered by the test.
fn start(agent: &Arc<Agent>) -> (mpsc::Receiver<Asked>, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (asked, answers) = mpsc::channel(8);
    let publish: Arc<Publish> = Arc::new(move |stored: Stored| -> PublishFuture {
        let asked = asked.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            asked.send((stored, answer)).await.map_err(|_| "gone".to_owned())?;
            answered.await.unwrap_or_else(|_| Err("no answer".to_owned()))
        })
    });
    let (stop, stopped) = oneshot::channel();
    let running = Arc::clone(agent).run(publish, async move { drop(stopped.await) });
    (answers, stop, tokio::spawn(running))
}

fn names(stored: &Stored) -> Vec<&str> {
    stored.observations.iter().map(|o| o.labels.metric_name()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_tick_is_shown_and_every_tenth_stored() {
    let (agent, _files) = agent();
    let (_, mut live) = agent.subscribe();
    let (mut asked, stop, running) = start(&agent);
    let (first, answer) = asked.recv().await.unwrap();
    answer.send(Ok(())).unwrap();
    assert!(names(&first).contains(&"node_load1"));
    assert!(
        first
            .metadata
            .iter()
            .any(|row| row.metric == "node_load5" && row.help == "5m load average.")
    );
    let (second, answer) = asked.recv().await.unwrap();
    answer.send(Ok(())).unwrap();
    assert_eq!(second.at_ms - first.at_ms, 10_000);
    assert_eq!(second.metadata, []);
    let snapshot = agent.snapshot();
    assert_eq!(snapshot.at_ms.len(), 11);
    assert!(snapshot.at_ms.windows(2).all(|pair| pair[1] - pair[0] == 1000));
    for sequence in 1..=11 {
        assert_eq!(live.recv().await.unwrap().sequence, sequence);
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(agent.store_lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_series_that_is_gone_ends_with_the_stale_marker() {
    let (agent, files) = agent();
    let (mut asked, stop, running) = start(&agent);
    let (first, answer) = asked.recv().await.unwrap();
    answer.send(Ok(())).unwrap();
    let process = "overseer_agent_process_resident_memory_bytes";
    assert!(names(&first).contains(&process));
    files.remove(Path::new("/proc/42/stat")).unwrap();
    let stale = |stored: &Stored| {
        let mut names: Vec<String> = Vec::new();
        for o in stored.observations.iter().filter(|o| model::is_stale(o.value)) {
            names.push(o.labels.metric_name().to_owned());
        }
        names
    };
    // a batch that was refused does not count: the markers come again
    let both = ["overseer_agent_process_cpu_seconds_total", process];
    for outcome in [Err("full".to_owned()), Ok(())] {
        let (stored, answer) = asked.recv().await.unwrap();
        assert_eq!(stale(&stored), both);
        answer.send(outcome).unwrap();
    }
    let (stored, _answer) = asked.recv().await.unwrap();
    assert!(stale(&stored).is_empty());
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(agent.store_lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn metadata_comes_again_when_it_was_refused() {
    let (agent, _files) = agent();
    let (mut asked, stop, running) = start(&agent);
    let (first, answer) = asked.recv().await.unwrap();
    answer.send(Err("busy".to_owned())).unwrap();
    let (second, _answer) = asked.recv().await.unwrap();
    assert_eq!(first.metadata, second.metadata);
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_publisher_slows_nothing_else() {
    let (agent, _files) = agent();
    let (_, mut live) = agent.subscribe();
    let (mut asked, stop, running) = start(&agent);
    let (_, answer) = asked.recv().await.unwrap();
    // 35 seconds without an answer: three batches are lost, no tick is
    let mut at_ms = 0;
    for _ in 0..35 {
        at_ms = live.recv().await.unwrap().at_ms;
    }
    assert_eq!(at_ms, 1_700_000_034_000);
    assert_eq!(agent.store_lost(), 3);
    answer.send(Ok(())).unwrap();
    let (next, _answer) = asked.recv().await.unwrap();
    assert_eq!(next.at_ms, 1_700_000_040_000);
    stop.send(()).unwrap();
    running.await.unwrap();
}
