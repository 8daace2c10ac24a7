//! Threads and long tasks, each under a name: one that ends when nobody asked it to is noticed by whoever watches.

use std::{
    any::Any,
    cell::RefCell,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

/// Deaths that are remembered; the first ones tell what went wrong.
const DEATHS_KEPT: usize = 16;
/// How often it is looked whether a thread has ended that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Characters of a panic's message that are told.
const MESSAGE_CHARS_MAX: usize = 500;

/// Everything that runs beside the requests is started here. A worker must go on until its owner announces the end of it
/// ([`Worker::ending`]) or of all ([`Workers::stopping`]); one that returns before, or panics whenever, has died.
#[derive(Clone, Default)]
pub struct Workers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stopping: AtomicBool,
    started: AtomicU64,
    ended: AtomicU64,
    panics: AtomicU64,
    deaths: Mutex<Deaths>,
}

/// Who is told of each death.
type Told = Box<dyn Fn(&Death) + Send>;

#[derive(Default)]
struct Deaths {
    list: Vec<Death>,
    total: u64,
    told: Option<Told>,
}

/// A worker that ended unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub worker: String,
    /// Message and place of the panic; `None`: it returned.
    pub panic: Option<String>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(panic) => write!(f, "the worker {} panicked: {panic}", self.worker),
            None => write!(f, "the worker {} returned although nobody stopped it", self.worker),
        }
    }
}

/// Counts of workers since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStats {
    pub running: u64,
    pub died: u64,
    /// Panics of the whole process, those of single requests included.
    pub panics: u64,
}

/// One running thread.
pub struct Worker {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// From now on its return is in order.
    pub fn ending(&self) {
        self.ending.store(true, Relaxed);
    }

    /// Waits for its end; how it ended was noted by those who watch.
    pub fn join(self) {
        self.ending();
        let _ = self.thread.join();
    }

    /// The same for at most `within`; false when it goes on.
    pub fn join_within(self, within: Duration) -> bool {
        self.ending();
        let mut waited = Duration::ZERO;
        while !self.thread.is_finished() {
            if waited >= within {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
        let _ = self.thread.join();
        true
    }
}

impl Workers {
    /// Starts a thread that goes on until it is told to end.
    pub fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let name = name.to_owned();
        let ending = Arc::new(AtomicBool::new(false));
        let watch = self.watch(name.clone(), Some(Arc::clone(&ending)));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            watch.ended(outcome.err());
        })?;
        Ok(Worker { ending, thread })
    }

    /// Does a piece of work that may end at any time but must not panic: its panic is noted, and goes on to the caller.
    pub fn piece<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let watch = self.watch(name.to_owned(), Some(Arc::new(AtomicBool::new(true))));
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => {
                watch.ended(None);
                value
            }
            Err(panic) => {
                watch.note(&*panic);
                std::panic::resume_unwind(panic)
            }
        }
    }

    /// A task that goes on until all are told to stop, to be given to a runtime.
    pub fn task<F: Future<Output = ()>>(&self, name: &str, task: F) -> impl Future<Output = ()> + use<F> {
        Watched {
            task: Some(Box::pin(task)),
            watch: Some(self.watch(name.to_owned(), None)),
        }
    }

    fn watch(&self, name: String, ending: Option<Arc<AtomicBool>>) -> Watch {
        self.0.started.fetch_add(1, Relaxed);
        Watch {
            name,
            workers: self.clone(),
            ending,
        }
    }

    /// The process stops in order: whoever returns from now on may.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Relaxed);
    }

    /// Those that died, the first first.
    pub fn deaths(&self) -> Vec<Death> {
        self.locked().list.clone()
    }

    /// Calls `told` for each death, also for those that were. It must neither block nor panic.
    pub fn when_one_dies(&self, told: impl Fn(&Death) + Send + 'static) {
        let mut deaths = self.locked();
        deaths.list.iter().for_each(&told);
        deaths.told = Some(Box::new(told));
    }

    pub fn stats(&self) -> WorkerStats {
        let inner = &self.0;
        let ended = inner.ended.load(Relaxed);
        WorkerStats {
            running: inner.started.load(Relaxed).saturating_sub(ended),
            died: self.locked().total,
            panics: inner.panics.load(Relaxed),
        }
    }

    /// Counts a panic, wherever it was.
    pub fn panicked(&self) {
        self.0.panics.fetch_add(1, Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, Deaths> {
        self.0.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({:?})", self.stats())
    }
}

/// Notes how one worker ends, also when it is dropped unfinished, which only a stop does.
struct Watch {
    name: String,
    workers: Workers,
    /// `None`: it ends with all of them only.
    ending: Option<Arc<AtomicBool>>,
}

impl Watch {
    fn ended(self, panic: Option<Box<dyn Any + Send>>) {
        match panic {
            Some(panic) => self.note(&*panic),
            None => {
                let asked = self.ending.as_ref().is_some_and(|e| e.load(Relaxed));
                if !asked && !self.workers.0.stopping.load(Relaxed) {
                    self.died(None);
                }
            }
        }
    }

    fn note(&self, panic: &(dyn Any + Send)) {
        let last = LAST.with(|last| last.borrow_mut().take());
        let told = last.map_or_else(|| shortened(message(panic)), |panic| panic.to_string());
        self.died(Some(told));
    }

    fn died(&self, panic: Option<String>) {
        let death = Death {
            worker: self.name.clone(),
            panic,
        };
        let mut deaths = self.workers.locked();
        deaths.total += 1;
        if deaths.list.len() < DEATHS_KEPT {
            deaths.list.push(death.clone());
        }
        if let Some(told) = &deaths.told {
            told(&death);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.workers.0.ended.fetch_add(1, Relaxed);
    }
}

/// A task whose end is noted.
struct Watched<F> {
    task: Option<Pin<Box<F>>>,
    watch: Option<Watch>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        let panic = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => None,
            Err(panic) => Some(panic),
        };
        self.task = None;
        if let Some(watch) = self.watch.take() {
            watch.ended(panic);
        }
        Poll::Ready(())
    }
}

/// A panic as the hook sees it.
#[derive(Clone, Debug)]
pub struct Panic {
    pub thread: String,
    pub message: String,
    /// File, line and column.
    pub place: String,
    /// Where the environment asks for one (`RUST_BACKTRACE`).
    pub backtrace: Option<String>,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.place)
    }
}

thread_local! {
    /// The last panic of this thread: what unwinds has its message, and not its place.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// From now on every panic of the process goes to `report` and nowhere else. It must not panic itself: that would end
/// the process on the spot.
pub fn report_panics(report: impl Fn(&Panic) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        let trace = std::backtrace::Backtrace::capture();
        let panic = Panic {
            thread: std::thread::current().name().unwrap_or("unnamed").to_owned(),
            message: shortened(message(info.payload())),
            place: info
                .location()
                .map_or_else(|| "unknown place".to_owned(), ToString::to_string),
            backtrace: (trace.status() == std::backtrace::BacktraceStatus::Captured).then(|| trace.to_string()),
        };
        report(&panic);
        LAST.with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                *last = Some(panic);
            }
        });
    }));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// On one line, so that a message cannot be taken for more than one.
fn shortened(message: &str) -> String {
    let on_one_line = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    on_one_line.take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
