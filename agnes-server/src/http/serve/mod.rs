//! Connections: who is let in, how long she may take, and how they end.
//!
//! What is behind a connection (routes, guards) knows nothing of it but the address of its other
//! end. HTTP itself is hyper's, TLS is rustls'.

mod body;
mod connections;
mod direct;
mod lanes;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tower::Service as _;

use body::Timely;
use connections::{Answering, Connection, Lane};

pub(crate) use body::TooSlow;
pub(crate) use connections::Connections;
pub(crate) use direct::{Direct, is_at_hand};
pub(crate) use lanes::Large;
pub use tls::TlsFiles;
pub(crate) use tls::{Tls, check};

/// What connections may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Connections at the same time. When there are as many, the one that has asked nothing for the
    /// longest time ends for the next one, or else the one that has waited for its other end.
    pub most: usize,
    /// How long the head of a request may take, or a connection until its first one.
    pub head: Duration,
    /// How long a request's body may take before a second has to bring 16 KiB.
    pub body: Duration,
    /// How long a connection may ask nothing.
    pub idle: Duration,
    /// How long the other end may leave the next 256 KiB of what it asked for, before a second has to
    /// take 16 KiB of them.
    pub stall: Duration,
    /// How long what runs may take once the server was told to end.
    pub shutdown: Duration,
}

impl Default for ConnectionSettings {
    /// 4,096 connections; 10 s for a head, 30 s for a body, 75 s idle, 30 s stalled, 30 s to end.
    fn default() -> Self {
        ConnectionSettings {
            most: 4096,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            shutdown: Duration::from_secs(30),
        }
    }
}

impl ConnectionSettings {
    /// How long the other end may take over so many bytes.
    fn to_take(&self, bytes: usize) -> Duration {
        self.stall + Duration::from_secs(bytes as u64 / SLOW_LINE)
    }
}

/// What a slow line brings or takes in a second, bytes: who is slower is given up.
pub(crate) const SLOW_LINE: u64 = 16 << 10;
/// The most bytes of a request's head.
const HEAD_MAX: usize = 64 << 10;
/// How much of an answer waits in the kernel for the line, bytes.
const UNSENT: u32 = 512 << 10;
/// The most requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 100;

/// Serves connections until `end`, then what is at work, for as long as that may take. Says how
/// many connections had requests at work that were left.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    connections: Connections,
    large: Handle,
    end: impl Future<Output = ()>,
) -> usize {
    let (told, ending) = watch::channel(false);
    let sweeping = tokio::spawn(sweep(connections.clone()));
    let mut end = std::pin::pin!(end);
    let mut complained = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                out_of_reach(&connections, &error, &mut complained).await;
                continue;
            }
        };
        // Who was told to make room goes first: others wait where the kernel has them.
        while connections.is_crowded() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Small answers aren't held back for more to come.
        let _ = stream.set_nodelay(true);
        // Otherwise the kernel takes megabytes at a time, and whoever reads slowly but steadily would
        // seem to take nothing in between.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let Some(place) = connections.enter() else { continue };
        let (tls, router, ending) = (tls.clone(), router.clone(), ending.clone());
        let lane = place.lane();
        let work = connection(place, stream, peer, tls, router, ending, large.clone());
        tokio::spawn(lanes::work(Box::pin(work), lane, large.clone()));
    }
    drop((listener, ending));
    let _ = told.send(true);
    let left = match tokio::time::timeout(connections.settings().shutdown, told.closed()).await {
        Ok(()) => 0,
        Err(_) => connections.counts().at_work,
    };
    sweeping.abort();
    left
}

/// What can't be accepted is no fault of the server's, unless it has no file descriptors left.
async fn out_of_reach(
    connections: &Connections,
    error: &std::io::Error,
    complained: &mut Option<std::time::Instant>,
) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
    {
        return;
    }
    if complained.is_none_or(|at| at.elapsed() > Duration::from_secs(10)) {
        tracing::error!(%error, "no connection can be accepted; those that are idle are ended");
        *complained = Some(std::time::Instant::now());
    }
    connections.make_some_room();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn sweep(connections: Connections) {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        connections.sweep();
    }
}

async fn connection(
    place: Connection,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    ending: watch::Receiver<bool>,
    large: Handle,
) {
    let io = place.watch(stream);
    let place = &place;
    let served = async {
        match tls {
            None => exchange(place, io, true, peer, router, ending, large).await,
            // Whoever speaks no TLS, or none that is still safe, is nobody to talk to.
            Some(tls) => match tls.accept(io).await {
                Ok(io) => exchange(place, io, false, peer, router, ending, large).await,
                Err(error) => tracing::debug!(%peer, %error, "no TLS"),
            },
        }
    };
    tokio::select! {
        () = served => {}
        () = place.told_to_go() => {}
    }
}

/// Answers the requests of one connection.
async fn exchange(
    place: &Connection,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_plain: bool,
    peer: SocketAddr,
    router: Router,
    mut ending: watch::Receiver<bool>,
    large: Handle,
) {
    let body_time = place.body_time();
    let answer = |request: Request<Incoming>| {
        let version = request.version();
        let at_work = place.begin(version);
        let mut request = request.map(|body| match hyper::body::Body::is_end_stream(&body) {
            true => Body::empty(),
            false => Body::new(Timely::new(body, body_time, at_work.clone())),
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        if is_plain && version != Version::HTTP_2 {
            request.extensions_mut().insert(at_work.direct());
        }
        let answer = router.clone().call(request);
        async move {
            let Ok(response) = answer.await;
            Ok::<Response<_>, Infallible>(response.map(|body| Answering::new(body, at_work)))
        }
    };
    let builder = builder(OnLane { lane: place.lane(), small: Handle::current(), large });
    let exchange = builder.serve_connection(TokioIo::new(io), service_fn(answer));
    let mut exchange = std::pin::pin!(exchange);
    // Asked once: from then on it only waits for what is at work.
    let mut is_asked = *ending.borrow();
    if is_asked {
        exchange.as_mut().graceful_shutdown();
    }
    loop {
        let done = tokio::select! {
            done = &mut exchange => Some(done),
            _ = ending.changed(), if !is_asked => None,
            () = place.told_to_end(), if !is_asked => None,
        };
        match done {
            Some(Ok(())) => return,
            Some(Err(error)) => return tracing::debug!(%peer, %error, "a connection broke off"),
            None => {
                is_asked = true;
                exchange.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers of HTTP/2 are made side by side, each on the threads where its connection belongs.
#[derive(Clone)]
struct OnLane {
    lane: Lane,
    small: Handle,
    large: Handle,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for OnLane {
    fn execute(&self, work: F) {
        self.small.spawn(lanes::work(Box::pin(work), self.lane.clone(), self.large.clone()));
    }
}

fn builder(on: OnLane) -> Builder<OnLane> {
    let mut builder = Builder::new(on);
    // Heads that are too slow are the sweep's.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_MAX);
    let most = u32::try_from(HEAD_MAX).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(most)
        // Enough in flight for a download over a fast and distant line.
        .max_send_buf_size(1 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
