//! The accept loop: a bounded number of connections with time limits, and an end in order.
//!
//! On the first signal `/readyz` turns 503, new work is refused, and what runs goes on; the port stays open meanwhile, so that
//! probes are answered. When nothing runs any more, or the deadline has passed, connections are closed and [`Server::run`] returns.
//! Probes and scrapes may have a port of their own, whose places clients cannot take; it lives as long as the other.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::attention::Attention;
use super::timed::Timed;
use super::turned_away::{self, TurnedAway};
use crate::config::ServeConfig;
use crate::engine::EngineError;
use crate::http::access::peer::Peer;
use crate::http::metrics;
use crate::http::state::AppState;
use crate::http::{app, ops_app};

/// Time for last bytes to go out once nothing runs any more, and for a client that asked nothing to close its connection in order.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections over the limit that are told so at the same time; more are counted, and closed without a word.
const REFUSALS: usize = 64;
/// The same two at the port for probes and scrapes: enough for a node's probes and a few scrapers.
const OPS_CONNECTIONS: usize = 32;
const OPS_REFUSALS: usize = 16;
/// Connections that wait in the system's queue; the usual 128 are lost in a burst.
const BACKLOG: u32 = 1024;
/// Time for descriptors to become free where there are none left.
const NO_MORE_FILES: Duration = Duration::from_millis(100);

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything that ran was finished.
    Drained,
    /// The drain deadline passed; so many requests were ended with an error.
    CutOff(usize),
    /// The engine ended by itself; the process should exit non-zero.
    EngineStopped(String),
}

/// An address that the server cannot listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; give another {flag}")]
pub struct BindError {
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

/// A bound port, or two. What comes in waits in the system's queue until [`Server::run`] puts an [`AppState`] behind it.
pub struct Server {
    listener: TcpListener,
    /// For probes and scrapes alone.
    ops: Option<TcpListener>,
    limits: Limits,
}

#[derive(Clone, Debug)]
struct Limits {
    connections: usize,
    refusals: usize,
    /// What the log says where as many connections are open.
    full: &'static str,
    /// Whether the meters tell how many are open.
    metered: bool,
    header: Duration,
    write: Duration,
    drain: Duration,
}

impl Limits {
    /// Those of the port for probes and scrapes.
    fn of_ops(&self) -> Self {
        Self {
            connections: OPS_CONNECTIONS,
            refusals: OPS_REFUSALS,
            metered: false,
            full: "connections to --ops-listen were turned away: as many as it takes are open",
            ..self.clone()
        }
    }
}

impl Server {
    /// Binds the ports. Needs no state, so that nothing is loaded in vain where a port is taken.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(config: &ServeConfig) -> Result<Self, BindError> {
        let limits = Limits {
            connections: config.max_connections,
            refusals: REFUSALS,
            metered: true,
            full: "connections were turned away: as many as --max-connections are open",
            header: config.header_timeout,
            write: config.write_timeout,
            drain: config.drain_timeout,
        };
        let bound = |address, flag| listen(address).map_err(|source| BindError { address, flag, source });
        Ok(Self {
            listener: bound(config.listen, "--listen")?,
            ops: config
                .ops_listen
                .map(|address| bound(address, "--ops-listen"))
                .transpose()?,
            limits,
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address for probes and scrapes alone, if there is one.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ops_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves `state` until `shutdown` resolves and what runs then has been finished, or until the engine ends.
    pub async fn run(self, state: AppState, shutdown: impl Future<Output = ()>) -> Ending {
        let Self { listener, ops, limits } = self;
        metrics::connections_capacity(limits.connections);
        let door = Door::new(app(state.clone()), &limits);
        let ops = ops.map(|listener| (Door::new(ops_app(state.clone()), &limits.of_ops()), listener));
        let serving = accept_on_both(&door, &listener, ops.as_ref());
        let ending = conduct(serving, &state, limits.drain, shutdown).await;
        drop(listener);
        let close_ops = async {
            if let Some((door, listener)) = ops {
                drop(listener);
                door.close().await;
            }
        };
        tokio::join!(door.close(), close_ops);
        ending
    }
}

/// Each port by itself: a flood at one keeps nobody from the other.
async fn accept_on_both(door: &Door, listener: &TcpListener, ops: Option<&(Door, TcpListener)>) -> Infallible {
    let on_ops = async {
        match ops {
            Some((door, listener)) => door.accept_all(listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = door.accept_all(listener) => never,
        never = on_ops => never,
    }
}

/// Lets connections in until the end, and waits for what still runs then.
async fn conduct(
    serving: impl Future<Output = Infallible>,
    state: &AppState,
    drain: Duration,
    shutdown: impl Future<Output = ()>,
) -> Ending {
    let engine = state.assistant.engine();
    let mut serving = std::pin::pin!(serving);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut stopped = std::pin::pin!(engine.stopped());
    let fault = tokio::select! {
        never = &mut serving => match never {},
        () = &mut shutdown => None,
        why = &mut stopped => Some(why),
    };
    state.life.drain();
    engine.drain();
    let ending = if let Some(why) = fault {
        Ending::EngineStopped(why)
    } else {
        let (under_way, deadline_s) = (state.life.under_way(), drain.as_secs_f64());
        tracing::info!(under_way, deadline_s, "shutting down; no new work is taken");
        tokio::select! {
            never = &mut serving => match never {},
            () = state.life.idle() => return Ending::Drained,
            why = &mut stopped => Ending::EngineStopped(why),
            () = tokio::time::sleep(drain) => Ending::CutOff(state.life.under_way()),
        }
    };
    // Whoever still waits gets an error instead of a closed connection, and a moment for it to go out.
    engine.cut_off(match ending {
        Ending::EngineStopped(_) => EngineError::Stopped,
        _ => EngineError::ShuttingDown,
    });
    tokio::select! {
        never = &mut serving => match never {},
        () = state.life.idle() => {}
        () = tokio::time::sleep(FAREWELL) => {}
    }
    ending
}

/// Where connections come in.
struct Door {
    builder: Builder<TokioExecutor>,
    router: Router,
    limits: Limits,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    turned_away: Mutex<TurnedAway>,
    unaccepted: Mutex<TurnedAway>,
    closing: watch::Sender<bool>,
    connections: TaskTracker,
}

impl Door {
    fn new(router: Router, limits: &Limits) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(64 << 10);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            .max_header_list_size(32 << 10)
            .keep_alive_interval(limits.write)
            .keep_alive_timeout(limits.write);
        Self {
            builder,
            router,
            limits: limits.clone(),
            places: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(limits.refusals)),
            turned_away: Mutex::default(),
            unaccepted: Mutex::default(),
            closing: watch::Sender::new(false),
            connections: TaskTracker::new(),
        }
    }

    async fn accept_all(&self, listener: &TcpListener) -> Infallible {
        loop {
            self.accept(listener).await;
        }
    }

    /// Lets the next connection in, or tells it that there is no place.
    async fn accept(&self, listener: &TcpListener) {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, address)) => (stream, Peer::from(address)),
            Err(error) => {
                if let Some(connections) = to_tell(&self.unaccepted) {
                    tracing::warn!(%error, connections, "connections could not be accepted");
                }
                // One that ended while it waited says nothing of the next. Else it is descriptors or memory: wait for some instead of spinning.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(NO_MORE_FILES).await;
                }
                return;
            }
        };
        // Tokens are small; waiting to gather more of them would only delay them.
        let _ = stream.set_nodelay(true);
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let connection = self.serve(stream, peer);
            let counted = self.limits.metered.then(metrics::OpenConnection::new);
            self.connections.spawn(async move {
                let _place = place;
                let _counted = counted;
                connection.await;
            });
            return;
        }
        if let Some(turned_away) = to_tell(&self.turned_away) {
            let limit = self.limits.connections;
            tracing::warn!(
                turned_away,
                limit,
                last = %peer.0,
                "{}", self.limits.full
            );
        }
        if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.connections.spawn(async move {
                let _place = place;
                let _ = tokio::time::timeout(FAREWELL, turned_away::answer(stream)).await;
            });
        } else {
            turned_away::count();
        }
    }

    /// One connection from its first byte to its last.
    fn serve(&self, stream: TcpStream, peer: Peer) -> impl Future<Output = ()> + Send + 'static {
        let io = TokioIo::new(Timed::new(stream, self.limits.header, self.limits.write));
        let attention = Attention::new();
        let service = attention.over(self.router.clone(), self.limits.header, peer);
        let connection = self.builder.serve_connection(io, service).into_owned();
        let mut closing = self.closing.subscribe();
        let (idle, untaken) = (self.limits.header, self.limits.write);
        async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = attention.untaken(untaken) => return,
                () = attention.idle(idle) => connection.as_mut().graceful_shutdown(),
                _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
            }
            // What is under way is finished, as long as the client takes it. In HTTP/2 an end in order waits for the client to answer a ping, which one
            // that asked nothing is not waited for; of other clients the last pieces may still be on their way.
            tokio::select! {
                _ = connection => {}
                () = attention.untaken(untaken) => {}
                () = attention.unasked(idle + FAREWELL) => {}
                () = attention.lingering(untaken.max(idle + FAREWELL)) => {}
            }
        }
    }

    /// Closes all connections once their last bytes are out, or after a moment.
    async fn close(self) {
        self.closing.send_replace(true);
        self.connections.close();
        let _ = tokio::time::timeout(FAREWELL, self.connections.wait()).await;
    }
}

/// A port with room for a burst of connections. The address may be one that another process has just left.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Counts one more connection; how many there are to tell of, if it is time to.
fn to_tell(connections: &Mutex<TurnedAway>) -> Option<u64> {
    let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
    connections.one_more(Instant::now())
}
