use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;

use host::{Clock, Entry, File, Files, Lock, OpenMode};

use super::*;

/// A machine on which a thread that was named panics as soon as it looks at the clock or writes.
#[derive(Clone, Default)]
struct Planted(Arc<Mutex<Option<&'static str>>>);

impl Planted {
    fn on(&self, host: Host) -> Host {
        Host {
            clock: Arc::new(Faulty(self.clone(), Arc::clone(&host.clock))),
            files: Arc::new(Faulty(self.clone(), Arc::clone(&host.files))),
            ..host
        }
    }

    fn kill(&self, worker: &'static str) {
        *self.0.lock().unwrap() = Some(worker);
    }

    fn here(&self) {
        let planted = *self.0.lock().unwrap();
        assert!(
            planted.is_none() || std::thread::current().name() != planted,
            "a planted fault"
        );
    }
}

struct Faulty<T: ?Sized>(Planted, Arc<T>);

impl Clock for Faulty<dyn Clock> {
    fn now_ms(&self) -> i64 {
        self.0.here();
        self.1.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.here();
        self.1.monotonic()
    }
}

impl Files for Faulty<dyn Files> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Faulty(self.0.clone(), self.1.open(path, mode)?)))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.1.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.1.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.1.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.1.remove(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.1.hard_link(from, to)
    }
    fn exists(&self, path: &Path) -> bool {
        self.1.exists(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.1.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.1.lock(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.1.free_bytes(path)
    }
}

impl File for Faulty<dyn File> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.here();
        self.1.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.1.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.1.allocate(offset, len)
    }
}

/// Status and body of an answer; `None` when there is none.
fn ask(address: &str, method: &str, target: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let patience = std::time::Duration::from_secs(60);
    let clock = Host::real().clock;
    let end = clock.monotonic() + patience;
    while !done() {
        assert!(clock.monotonic() < end, "{what}: not within {patience:?}");
        std::thread::yield_now();
    }
}

/// A server of its own on `dir`; `work` is done beside it with its address, and what makes it stop.
fn served(
    dir: &Path,
    host: &Host,
    logging: &Logging,
    work: impl FnOnce(&str, &mpsc::Sender<Asked>) + Send,
) -> Result<(), Failure> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = Config {
        listen: free.to_string(),
        data_dir: Some(dir.to_owned()),
        roles: ["ingress", "processor", "store", "gateway"].map(str::to_owned).into(),
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (ask_it, asked) = mpsc::channel(1);
    std::thread::scope(|scope| {
        let working = scope.spawn(move || work(&free.to_string(), &ask_it));
        let load = || Err(Failure::failed("nothing to reload"));
        let outcome = runtime.block_on(serve(config, host, logging, Signals::given(asked), &load));
        runtime.shutdown_timeout(END_WITHIN);
        working.join().unwrap();
        outcome
    })
}

#[test]
fn a_worker_that_dies_is_noticed_and_the_process_stops_with_its_name_and_all_that_was_acknowledged() {
    let logging = Logging::start(&config::LogConfig::default(), &Host::real()).unwrap();
    for worker in ["store-maintain", "store-merge", "bus-samples"] {
        let dir = std::env::temp_dir().join(format!("overseer-worker-{worker}-{}", std::process::id()));
        let planted = Planted::default();
        let host = planted.on(Host::real());
        let ended = served(&dir, &host, &logging, |address, _| {
            until("ready", || {
                ask(address, "GET", "/readyz", "").is_some_and(|a| a.0 == 200)
            });
            assert_eq!(ask(address, "POST", "/write", "kept v=1").unwrap().0, 204);
            planted.kill(worker);
            until("death", || {
                // the writer of the log does something only when it has to
                let taken =
                    worker == "bus-samples" && ask(address, "POST", "/write", "lost v=1").is_some_and(|a| a.0 == 204);
                assert!(!taken, "acknowledged by a log whose writer is dead");
                !host.workers.deaths().is_empty()
            });
            for path in ["/readyz", "/livez"] {
                let answer = ask(address, "GET", path, "");
                assert!(
                    answer
                        .as_ref()
                        .is_none_or(|(status, text)| *status == 503 && text.contains(worker)),
                    "{worker}: {path} answers {answer:?}"
                );
            }
        });
        let message = ended.expect_err("it ended in order").message;
        assert!(
            message.starts_with(&format!("the worker {worker} panicked: a planted fault ("))
                && message.contains("tests.rs:"),
            "{message}"
        );
        let again = served(&dir, &Host::real(), &logging, |address, stop| {
            until("ready again", || {
                ask(address, "GET", "/readyz", "").is_some_and(|a| a.0 == 200)
            });
            let (_, text) = ask(address, "GET", "/api/v1/query?query=kept_v", "").unwrap();
            assert!(text.contains("\"__name__\":\"kept_v\""), "{worker}: {text}");
            stop.try_send(Asked::Stop("SIGTERM")).unwrap();
        });
        again.unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
    logging.end();
}
