use std::net::SocketAddr;

use axum::routing::{get, post};
use host::sim::Machine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;

/// A server on a simulated machine: time passes on connections only when a test says so.
struct Served {
    machine: Machine,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
    /// Lets `/waits` answer.
    go: Arc<Notify>,
    /// A request has come to `/waits`.
    came: Arc<Notify>,
}

fn config() -> ServerConfig {
    ServerConfig {
        head_seconds: 10,
        idle_seconds: 120,
        stall_seconds: 60,
        ..ServerConfig::default()
    }
}

async fn serve_it() -> Served {
    let machine = Machine::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, shutdown) = watch::channel(false);
    let (go, came) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (for_handler, for_came) = (Arc::clone(&go), Arc::clone(&came));
    let clock = machine.host().clock;
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/panics", get(panics))
        // more than the buffers of both sockets hold
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
        .route(
            "/waits",
            get(move || async move {
                for_came.notify_one();
                for_handler.notified().await;
                "waited"
            }),
        )
        .route(
            "/body",
            post(move |request: axum::extract::Request| async move {
                let (head, body) = request.into_parts();
                let mut bytes = Vec::new();
                let room = crate::room::Room::new(96 << 20);
                let reader = crate::body::BodyReader {
                    clock: &*clock,
                    config: &config(),
                    bodies: room.of(crate::room::Part::Bodies),
                };
                match crate::body::read(&reader, &head.headers, body, 1 << 20, &mut bytes).await {
                    Ok(_held) => StatusCode::OK.into_response(),
                    Err(refused) => refused.into_response(),
                }
            }),
        );
    let server = tokio::spawn(serve(listener, router, machine.host(), config(), shutdown));
    Served {
        machine,
        address,
        stop,
        server,
        go,
        came,
    }
}

async fn panics() -> &'static str {
    panic!("a planted fault")
}

impl Served {
    async fn connect(&self, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream
    }

    fn pass(&self, seconds: u64) {
        self.machine.clock.advance(Duration::from_secs(seconds));
    }

    /// Whether the server still answers others.
    async fn answers(&self) -> bool {
        let mut stream = self
            .connect("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        to_end(&mut stream).await.ends_with("here")
    }
}

/// All that comes until the server closes.
async fn to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server does not close the connection"); // a reset is an end too
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The head and `until` of an answer on a connection that stays open.
async fn read_until(stream: &mut TcpStream, until: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(until) {
        let mut some = [0; 1024];
        let n = stream.read(&mut some).await.unwrap();
        assert_ne!(n, 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&some[..n]));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_costs_a_connection_for_a_bounded_time() {
    let served = serve_it().await;
    for sent in ["", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut slow = served.connect(sent).await;
        // accepted after the one before, so that the server has seen it when that is answered
        assert!(served.answers().await);
        served.pass(11);
        assert_eq!(to_end(&mut slow).await, "", "after {sent:?}");
        assert!(served.answers().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let served = serve_it().await;
    let mut idle = served.connect("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    read_until(&mut idle, "here").await;
    assert!(served.answers().await);
    served.pass(100);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "here").await;
    assert!(served.answers().await);
    served.pass(121);
    assert_eq!(to_end(&mut idle).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_is_given_up() {
    let served = serve_it().await;
    let mut stalled = served.connect("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut first = [0; 1];
    stalled.read_exact(&mut first).await.unwrap();
    // closed by the server while it waits: what comes then is not all
    let server = &served;
    let passing = async {
        loop {
            server.pass(61);
            tokio::task::yield_now().await;
            if !server.answers().await {
                break;
            }
        }
    };
    let closed = async {
        // readable data stays in the buffers; the end shows only in the other direction
        loop {
            if stalled.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = passing => unreachable!("it answers others"),
        closed = tokio::time::timeout(Duration::from_secs(60), closed) => closed.expect("it is given up"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_refused() {
    let served = serve_it().await;
    let mut slow = served
        .connect("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\nx")
        .await;
    assert!(served.answers().await);
    let mut answer = Vec::new();
    let (mut reader, mut writer) = slow.split();
    let trickle = async {
        loop {
            served.pass(11);
            if writer.write_all(b"x").await.is_err() {
                return;
            }
            let _ = served.answers().await;
        }
    };
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    let both = async {
        tokio::select! {
            () = trickle => {}
            () = read => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("it is refused");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_handler_is_that_requests_500() {
    let served = serve_it().await;
    let mut one = served.connect("GET /panics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = read_until(&mut one, "}").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    one.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut one, "here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_open_requests_end_and_waits_for_no_others() {
    let served = serve_it().await;
    let mut open = served.connect("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n").await;
    served.came.notified().await;
    let mut idle = served.connect("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    read_until(&mut idle, "here").await;
    served.stop.send_replace(true);
    assert_eq!(to_end(&mut idle).await, "");
    assert!(!served.server.is_finished());
    served.go.notify_one();
    assert!(to_end(&mut open).await.ends_with("waited"));
    served.server.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_though_a_request_does_not() {
    let served = serve_it().await;
    let _open = served.connect("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n").await;
    served.came.notified().await;
    served.stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), served.server).await;
    ended.expect("the stop ends").unwrap();
}
