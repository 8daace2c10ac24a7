//! What goes on at the same time: senders, readers, pages, operators. Each is a loop that ends when it is told to.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    figures::{Figures, WINDOWS},
    http,
    ledger::{self, LATE_DAYS, Ledger, SERIES},
    server::Server,
};

/// Samples of the bulk: hosts times fields, each so often; so many hosts are replaced each minute.
pub(super) const HOSTS: usize = 100;
const FIELDS: usize = 100;
const BULK_EVERY: Duration = Duration::from_secs(2);
const REPLACED_A_MINUTE: u64 = 5;
/// A slow reader and a slow sender move so much a second, for so long at most.
const SLOW_BYTES: usize = 2048;
const SLOW_FOR: Duration = Duration::from_secs(90);

pub(super) struct Soak {
    pub(super) server: Server,
    pub(super) began: Instant,
    pub(super) lasts: Duration,
    pub(super) stop: AtomicBool,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) figures: Mutex<Figures>,
    pub(super) dice: AtomicU64,
}

impl Soak {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn window(&self) -> usize {
        let at = self.began.elapsed().as_secs_f64() / self.lasts.as_secs_f64() * WINDOWS as f64;
        (at as usize).min(WINDOWS - 1)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Waits, and ends early when the run does.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.goes_on() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20).min(time));
        }
    }

    /// The next number of a sequence that one seed decides (splitmix64).
    pub(super) fn roll(&self) -> u64 {
        let mut z = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Sends until it is acknowledged, over kills and refusals; `false` when the run ended first. An answer that no
    /// resending mends is a fault.
    fn send_until_taken(&self, what: &str, target: &str, kind: &str, body: &[u8]) -> bool {
        while self.goes_on() {
            let (life, began) = (self.server.life(), Instant::now());
            match http::request(self.server.port, "POST", target, kind, body) {
                Some((status, _)) if status / 100 == 2 => {
                    if life.is_some_and(|life| self.server.is_in(life)) {
                        let window = self.window();
                        self.figures().write(window, began.elapsed());
                    }
                    self.figures().count(format!("{what}: taken"));
                    return true;
                }
                Some((status, body)) if status / 100 == 4 && status != 429 => {
                    let said = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
                    self.figures().fault(format!("{what}: {status}: {said}"));
                    return false;
                }
                Some((status, _)) => self.figures().count(format!("{what}: {status}, sent again")),
                None => self.figures().count(format!("{what}: no answer, sent again")),
            }
            self.pause(Duration::from_millis(200));
        }
        false
    }
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}

/// Samples that are remembered one by one: new ones, and late ones of any day of the last weeks.
pub(super) fn remembered(soak: &Soak) {
    while soak.goes_on() {
        let now = now_ms();
        let mut keys: Vec<(u32, i64)> = (0..SERIES).map(|series| (series, now / 1000 * 1000)).collect();
        for _ in 0..SERIES {
            let back = soak.roll() % (LATE_DAYS * 24 * 3600);
            keys.push((soak.roll() as u32 % SERIES, (now / 1000 - 60 - back as i64) * 1000));
        }
        let mut body = String::new();
        for &(series, at) in &keys {
            let value = ledger::value_of(series, at);
            let _ = writeln!(body, "soak,id={series} remembered={value} {at}");
        }
        soak.ledger().send(&keys);
        if soak.send_until_taken(
            "remembered samples",
            "/write?precision=ms",
            "text/plain",
            body.as_bytes(),
        ) {
            soak.ledger().acknowledge(&keys);
        }
        soak.pause(Duration::from_secs(5));
    }
}

/// Many series whose hosts come and go.
pub(super) fn bulk(soak: &Soak) {
    while soak.goes_on() {
        let began = Instant::now();
        let minute = soak.began.elapsed().as_secs() / 60;
        let now = now_ms();
        for hosts in (0..HOSTS).collect::<Vec<_>>().chunks(HOSTS / 4) {
            let mut body = String::new();
            for &host in hosts {
                // a host's number goes up each time it is replaced
                let age = (minute * REPLACED_A_MINUTE + (HOSTS - 1 - host) as u64) / HOSTS as u64;
                let _ = write!(body, "bulk,host=h{host}-{age},zone=z{} ", host % 3);
                for field in 0..FIELDS {
                    let comma = if field == 0 { "" } else { "," };
                    let _ = write!(body, "{comma}f{field}={}", soak.roll() % 100_000);
                }
                let _ = writeln!(body, " {now}");
            }
            soak.send_until_taken("bulk", "/write?precision=ms", "text/plain", body.as_bytes());
        }
        soak.pause(BULK_EVERY.saturating_sub(began.elapsed()));
    }
}

/// Deltas of a counter, each sent until it is taken: whatever was killed in between, each counts once.
pub(super) fn deltas(soak: &Soak, sender: u32) {
    let mut from = now_ms();
    while soak.goes_on() {
        soak.pause(Duration::from_secs(2));
        let (to, value) = (now_ms(), soak.roll() % 1000);
        let body = format!(
            "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"soak_steps\",\"sum\":{{\
             \"aggregationTemporality\":1,\"isMonotonic\":true,\"dataPoints\":[{{\"asInt\":\"{value}\",\
             \"startTimeUnixNano\":\"{from}000000\",\"timeUnixNano\":\"{to}000000\",\"attributes\":[{{\"key\":\
             \"sender\",\"value\":{{\"stringValue\":\"{sender}\"}}}}]}}]}}}}]}}]}}]}}"
        );
        let taken = soak.send_until_taken("deltas", "/v1/metrics", "application/json", body.as_bytes());
        if !taken {
            break;
        }
        *soak.ledger().totals.entry(sender).or_default() += value;
        from = to;
    }
}

/// Writes two series, deletes one, looks whether it is gone.
pub(super) fn deletes(soak: &Soak) {
    for number in 0.. {
        soak.pause(Duration::from_secs(30));
        if !soak.goes_on() {
            break;
        }
        let now = now_ms();
        let mut body = String::new();
        for step in 0..100 {
            let at = now - step * 60_000;
            let _ = writeln!(body, "gone,n={number} v=1 {at}\nkept,n={number} v=1 {at}");
        }
        if !soak.send_until_taken("to be deleted", "/write?precision=ms", "text/plain", body.as_bytes()) {
            break;
        }
        let selector = http::encoded(&format!("{{__name__=\"gone_v\",n=\"{number}\"}}"));
        let target = format!("/api/v1/admin/tsdb/delete_series?match[]={selector}");
        if soak.send_until_taken("delete", &target, "text/plain", b"") {
            soak.ledger().deleted.insert(number);
        }
    }
}

/// What a dashboard asks all the time; its time is measured, and it must be answered.
pub(super) fn simple(soak: &Soak) {
    while soak.goes_on() {
        let id = soak.roll() as u32 % SERIES;
        let queries = [
            format!("soak_remembered{{id=\"{id}\"}}"),
            format!("bulk_f{}{{zone=\"z1\"}}", id % 100),
            format!("rate(bulk_f7{{host=~\"h{}-.*\"}}[5m])", id % 100),
        ];
        let query = &queries[soak.roll() as usize % queries.len()];
        let target = format!("/api/v1/query?query={}", http::encoded(query));
        let (life, began) = (soak.server.life(), Instant::now());
        let answer = http::get(soak.server.port, &target);
        let took = began.elapsed();
        if life.is_some_and(|life| soak.server.is_in(life)) {
            match answer {
                Some((200, _)) => {
                    let window = soak.window();
                    soak.figures().simple(window, took);
                    soak.figures().count("simple queries: answered");
                }
                Some((status, body)) => {
                    let said = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
                    soak.figures().fault(format!("simple query {query}: {status}: {said}"));
                }
                None if soak.server.life() == life && !soak.server.ended() => {
                    soak.figures().fault(format!("simple query {query}: no answer"));
                }
                None => {}
            }
        }
        soak.pause(Duration::from_millis(250));
    }
}

/// What takes long: it may be refused, but not harm others.
pub(super) fn heavy(soak: &Soak) {
    let queries = [
        "sum by (host) (rate({__name__=~\"bulk_f.*\"}[5m]))",
        "topk(10, max_over_time({__name__=~\"bulk_f1.*\"}[30m]))",
        "sum by (zone) (quantile_over_time(0.9, {__name__=~\"bulk_f2.?\"}[10m]))",
    ];
    while soak.goes_on() {
        let query = http::encoded(queries[soak.roll() as usize % queries.len()]);
        let end = now_ms() / 1000;
        let target = format!(
            "/api/v1/query_range?nocache=1&query={query}&start={}&end={end}&step=30",
            end - 3600
        );
        let what = match http::get(soak.server.port, &target) {
            Some((status, _)) => format!("heavy queries: {status}"),
            None => "heavy queries: no answer".to_owned(),
        };
        soak.figures().count(what);
        soak.pause(Duration::from_millis(500));
    }
}

/// A page with eight panels; one that does not read is `asleep`.
pub(super) fn page(soak: &Soak, asleep: bool) {
    while soak.goes_on() {
        let Some(mut stream) = http::open_live(soak.server.port) else {
            soak.pause(Duration::from_millis(500));
            continue;
        };
        soak.figures().count("live pages: opened");
        for panel in 0..8 {
            let ask = format!(
                "{{\"op\":\"sub\",\"id\":\"{panel}\",\"topic\":\"query\",\"expr\":\"bulk_f{panel}\",\"range_ms\":1800000,\
                 \"step_ms\":5000}}"
            );
            if http::send_text(&mut stream, &ask).is_none() {
                break;
            }
        }
        if asleep {
            soak.pause(SLOW_FOR);
            continue;
        }
        while soak.goes_on() {
            let Some(bytes) = http::skip_frame(&mut stream) else {
                break;
            };
            let mut figures = soak.figures();
            figures.count("live pages: frames");
            *figures.counts.entry("live pages: bytes".to_owned()).or_default() += bytes;
        }
    }
}

/// Asks for a large answer and takes it a few bytes at a time.
pub(super) fn slow_reader(soak: &Soak) {
    let query = http::encoded("{__name__=~\"bulk_f.*\"}");
    while soak.goes_on() {
        let end = now_ms() / 1000;
        let target = format!(
            "/api/v1/query_range?query={query}&start={}&end={end}&step=10",
            end - 900
        );
        if let Some(mut stream) = http::connect(soak.server.port) {
            let port = soak.server.port;
            let head = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
            let until = Instant::now() + SLOW_FOR;
            let mut some = [0; SLOW_BYTES];
            let mut alive = stream.write_all(head.as_bytes()).is_ok();
            while alive && soak.goes_on() && Instant::now() < until {
                alive = stream.read(&mut some).is_ok_and(|n| n > 0);
                soak.pause(Duration::from_secs(1));
            }
            let end = if alive { "left" } else { "were ended" };
            soak.figures().count(format!("slow readers: {end}"));
        }
        soak.pause(Duration::from_secs(1));
    }
}

/// Promises a large body and sends it a few bytes at a time.
pub(super) fn slow_sender(soak: &Soak) {
    while soak.goes_on() {
        if let Some(mut stream) = http::connect(soak.server.port) {
            let port = soak.server.port;
            let head = format!("POST /write HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 20000000\r\n\r\n");
            let until = Instant::now() + SLOW_FOR;
            let mut alive = stream.write_all(head.as_bytes()).is_ok();
            while alive && soak.goes_on() && Instant::now() < until {
                alive = stream.write_all(b"slow v=1 1\n").is_ok();
                soak.pause(Duration::from_secs(1));
            }
            let end = if alive { "left" } else { "were ended" };
            soak.figures().count(format!("slow senders: {end}"));
        }
        soak.pause(Duration::from_secs(1));
    }
}

/// Backs up again and again; only a kill may be the reason that one fails.
pub(super) fn backups(soak: &Soak, to: &std::path::Path, every: Duration) {
    while soak.goes_on() {
        soak.pause(every);
        let Some(life) = soak.server.life() else { continue };
        let mut command = soak.server.command();
        command.args(["backup", "--keep", "3", "--to"]).arg(to);
        command.arg("--data-dir").arg(&soak.server.data);
        command.args(["--listen", &format!("127.0.0.1:{}", soak.server.port)]);
        match command.output() {
            Ok(done) if done.status.success() => soak.figures().count("backups: made"),
            _ if !soak.server.is_in(life) => soak.figures().count("backups: broken off by a kill"),
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr)
                    .chars()
                    .take(300)
                    .collect::<String>();
                soak.figures().fault(format!("backup: {}: {said}", done.status));
            }
            Err(e) => soak.figures().fault(format!("backup: {e}")),
        }
    }
}

/// Kills, or stops, and starts again.
pub(super) fn kills(soak: &Soak, every: Duration) {
    while soak.goes_on() {
        let half = every.as_millis() as u64 / 2;
        soak.pause(every / 2 + Duration::from_millis(soak.roll() % (half * 2).max(1)));
        if !soak.goes_on() {
            break;
        }
        if soak.roll().is_multiple_of(3) {
            match soak.server.stop() {
                Ok(_) => soak.figures().count("stops: orderly"),
                Err(why) => soak.figures().fault(format!("stop: {why}")),
            }
        } else {
            soak.server.kill();
            soak.figures().count("stops: kill -9");
        }
        if let Err(why) = soak.server.start() {
            soak.figures().fault(format!("start: {why}"));
            soak.stop.store(true, Relaxed);
        }
    }
}

/// Measures the process and its directory, and sees to it that its end is noticed.
pub(super) fn watch(soak: &Soak) {
    while soak.goes_on() {
        if soak.server.life().is_some() {
            if soak.server.ended() {
                soak.figures().fault("the server ended by itself");
                soak.stop.store(true, Relaxed);
                break;
            }
            if let Some(size) = soak.server.size() {
                let window = soak.window();
                soak.figures().size(window, size);
            }
        }
        soak.pause(Duration::from_secs(5));
    }
}
