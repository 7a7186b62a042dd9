//! Connections of the admin API: so many, each for one request, and none for longer than it needs.
//!
//! Whoever connects and says nothing, sends a request drop by drop or does not take its answer holds nobody up: each step has
//! its time, and where there are too many connections the one that has kept the daemon waiting longest gives way. Only a
//! command that was admitted is let finish. So a probe is answered whatever anybody else does here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// For the TLS handshake, and again for a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For an answer to be taken by whoever asked.
const ANSWER: Duration = Duration::from_secs(30);
/// For what is being answered when the daemon ends.
const LEAVE: Duration = Duration::from_secs(1);
/// Bytes of a request's head, at most.
const HEAD_BYTES: usize = 16 << 10;
/// What is read ahead of a body, bytes.
const BUFFER: usize = 64 << 10;
/// Until a listener that has no more file descriptors is tried again.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Where the API is to be reached.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds the address; port 0 is a free one.
    ///
    /// # Errors
    /// When the address is taken or is not this machine's.
    pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| {
            format!("the admin API cannot listen on {address}; choose another address with --admin")
        })?;
        Ok(Self { tcp, tls })
    }

    /// # Errors
    /// When the system does not know it.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }
}

/// Where a request comes from: an extension of each.
#[derive(Clone)]
pub struct Peer {
    pub address: SocketAddr,
    is_kept: Arc<AtomicBool>,
}

impl Peer {
    /// Its connection is let finish, however many others come, as long as the answer of this lives.
    pub fn keep(&self) -> Kept {
        self.is_kept.store(true, Ordering::Relaxed);
        Kept(self.is_kept.clone())
    }
}

pub struct Kept(Arc<AtomicBool>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Serves until the future that stops it is done.
pub async fn serve(listener: Listener, router: Router, stopped: impl Future<Output = ()>) {
    let mut connections = Connections::default();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.tcp.accept() => accepted,
            Some(_) = connections.tasks.join_next() => continue,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, address)) => connections.add(stream, address, listener.tls.clone(), router.clone()),
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot take a connection");
                sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(LEAVE, connections.finish()).await;
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first; some may have ended.
    open: VecDeque<Open>,
}

struct Open {
    task: AbortHandle,
    is_kept: Arc<AtomicBool>,
}

impl Connections {
    fn add(&mut self, stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, router: Router) {
        self.open.retain(|connection| !connection.task.is_finished());
        if self.open.len() >= CONNECTIONS {
            // Commands are fewer than connections, so there is always one of another kind.
            let idlest = self.open.iter().position(|connection| !connection.is_kept.load(Ordering::Relaxed));
            if let Some(connection) = idlest.and_then(|at| self.open.remove(at)) {
                connection.task.abort();
            }
        }
        let peer = Peer { address, is_kept: Arc::default() };
        let is_kept = peer.is_kept.clone();
        let task = self.tasks.spawn(connection(stream, tls, peer, router));
        self.open.push_back(Open { task, is_kept });
    }

    async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, peer: Peer, router: Router) {
    match tls {
        None => http(stream, peer, router).await,
        Some(tls) => match timeout(HEAD, tls.accept(stream)).await {
            Ok(Ok(stream)) => http(stream, peer, router).await,
            Ok(Err(error)) => tracing::debug!(peer = %peer.address, %error, "no TLS connection to the admin API"),
            Err(_) => tracing::debug!(peer = %peer.address, "no TLS connection to the admin API in time"),
        },
    }
}

/// One request, and its answer.
async fn http(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, router: Router) {
    let answered = Notify::new();
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async {
            let answer = answer.await;
            answered.notify_one();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let not_taken = async {
        answered.notified().await;
        sleep(ANSWER).await;
    };
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(peer = %peer.address, %error, "a request to the admin API came to nothing");
        },
        () = not_taken => tracing::debug!(peer = %peer.address, "an answer of the admin API was not taken"),
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    const LARGE: usize = 64 << 20;
    const HOUR: Duration = Duration::from_secs(3_600);
    const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

    struct Stand {
        address: SocketAddr,
        /// Told when a command has begun.
        begun: Arc<Notify>,
        stop: oneshot::Sender<()>,
        serving: JoinHandle<()>,
    }

    async fn stand() -> Stand {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let address = listener.address().unwrap();
        let begun = Arc::new(Notify::new());
        let tell = begun.clone();
        let command = async move |Extension(peer): Extension<Peer>| {
            let _kept = peer.keep();
            tell.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/large", get(|| async { vec![0; LARGE] }))
            .route("/command", get(command));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, router, async {
            let _ = stopped.await;
        }));
        Stand { address, begun, stop, serving }
    }

    impl Stand {
        /// A connection that has sent that.
        async fn sent(&self, bytes: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        }

        async fn ask(&self) -> String {
            let mut answer = String::new();
            self.sent(REQUEST).await.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    /// What comes until the other side ends the connection, in whatever way.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ended = timeout(HOUR, stream.read_to_end(&mut bytes)).await;
        assert!(ended.is_ok(), "the connection stays open");
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_a_requests_head_is_let_go() {
        let stand = stand().await;
        for head in [&b""[..], b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"] {
            let stuck = stand.sent(head).await;
            assert!(!rest(stuck).await.starts_with(b"HTTP/1.1 200"));
        }
        assert!(stand.ask().await.ends_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_an_answer_is_let_go() {
        let stand = stand().await;
        let stuck = stand.sent(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        sleep(2 * ANSWER).await;
        assert!(rest(stuck).await.len() < LARGE);
    }

    #[tokio::test]
    async fn of_too_many_connections_the_one_that_waits_longest_gives_way_but_no_command() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (mut connections, mut clients) = (Connections::default(), Vec::new());
        for at in 0..3 * CONNECTIONS {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (stream, peer) = listener.accept().await.unwrap();
            connections.add(stream, peer, None, Router::new());
            if at == 0 {
                connections.open[0].is_kept.store(true, Ordering::Relaxed);
            }
            assert!(connections.open.len() <= CONNECTIONS);
            // Those that gave way end.
            tokio::task::yield_now().await;
        }
        assert!(connections.open[0].is_kept.load(Ordering::Relaxed) && !connections.open[0].task.is_finished());
        let gone = clients.drain(1..CONNECTIONS).map(rest);
        for gone in gone {
            assert_eq!(gone.await, b"");
        }
    }

    #[tokio::test]
    async fn whoever_is_stuck_a_probe_is_answered() {
        let stand = stand().await;
        let mut stuck = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            stuck.push(stand.sent(b"GET /livez HTTP/1.1\r\n").await);
        }
        assert!(stand.ask().await.ends_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_keeps_the_daemon_from_ending() {
        let stand = stand().await;
        let stuck = [stand.sent(b"GET /livez HTTP/1.1\r\n").await, stand.sent(b"").await];
        let command = stand.sent(b"GET /command HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        stand.begun.notified().await;
        stand.stop.send(()).unwrap();
        // Time is only made up, so this is exact: nobody is waited for beyond it.
        timeout(2 * LEAVE, stand.serving).await.expect("the server goes on").unwrap();
        for stream in stuck.into_iter().chain([command]) {
            assert_eq!(rest(stream).await, b"");
        }
    }
}
