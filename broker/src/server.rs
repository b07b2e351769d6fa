//! The running broker: accepts connections, serves each in its own task, and does what has to be done now and then.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use crate::api::{self, Malformed, Peer};
use crate::config::Fsync;
use crate::connections::{Connection, Connections, Seldom};
use crate::state::State;
use crate::wire::frame::{FrameError, Frames};

/// How long to wait before accepting again when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` changes, then ends all connections and forces the logs to disk.
pub(crate) async fn run(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    spawn_chores(&mut tasks, &state);
    let connections = Connections::new(state.config.max_connections, state.config.max_held_bytes);
    let (refusals, complaints) = (Seldom::default(), Arc::new(Seldom::default()));
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => accepted,
            // Ended connections are let go of as they end.
            Some(_) = tasks.join_next() => continue,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(unlogged) = refusals.now() {
                    warn!(%error, unlogged, "cannot accept a connection");
                }
                connections.close_silent();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(connection) = connections.admit() else {
            if let Some(unlogged) = refusals.now() {
                warn!(%remote, unlogged, "refused a connection: there are as many as allowed, all at work");
            }
            continue;
        };
        let (state, complaints) = (Arc::clone(&state), Arc::clone(&complaints));
        tasks.spawn(async move { serve(stream, remote, connection, &state, &complaints).await });
    }
    drop(listener);
    tasks.shutdown().await;
    let closed = tokio::task::spawn_blocking(move || {
        state.close();
        state.sync()
    });
    match closed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(%error, "logs could not be forced to disk"),
        Err(error) => error!(%error, "logs could not be forced to disk"),
    }
}

fn spawn_chores(tasks: &mut JoinSet<()>, state: &Arc<State>) {
    let timer = Arc::clone(state);
    tasks.spawn(async move { timer.coordinator.keep_time().await });
    if let Fsync::EveryMillis(millis) = state.config.fsync {
        every(tasks, state, Duration::from_millis(millis), |state| {
            if let Err(error) = state.sync() {
                error!(%error, "logs could not be forced to disk");
            }
        });
    }
    if state.config.retention_bytes.is_some() || state.config.retention_time.is_some() {
        every(tasks, state, state.config.retention_check, |state| {
            state.topics.enforce_retention(millis_since_1970());
        });
    }
}

fn every(tasks: &mut JoinSet<()>, state: &Arc<State>, period: Duration, chore: fn(&State)) {
    let state = Arc::clone(state);
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let state = Arc::clone(&state);
            let _ = tokio::task::spawn_blocking(move || chore(&state)).await;
        }
    });
}

fn millis_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("malformed request: {0}")]
    Malformed(#[from] Malformed),
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("others need what the connection holds")]
    GivenUp,
    #[error("no request came, or nobody read the answer, for {} s", .0.as_secs())]
    Idle(Duration),
}

async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    connection: Connection,
    state: &Arc<State>,
    complaints: &Seldom,
) {
    debug!(%remote, "connected");
    let served = tokio::select! {
        biased;
        () = connection.closed() => Err(ConnectionError::GivenUp),
        served = converse(stream, remote, &connection, state) => served,
    };
    match served {
        Ok(()) => debug!(%remote, "disconnected"),
        Err(ConnectionError::Io(error) | ConnectionError::Frame(FrameError::Io(error))) => {
            debug!(%remote, %error, "disconnected");
        }
        Err(error @ ConnectionError::Idle(_)) => debug!(%remote, %error, "closed the connection"),
        Err(error) => {
            if let Some(unlogged) = complaints.now() {
                warn!(%remote, %error, unlogged, "closed the connection");
            }
        }
    }
}

/// Serves one request after the other, in the order in which they came, as the protocol wants it.
async fn converse(
    stream: TcpStream,
    remote: SocketAddr,
    connection: &Connection,
    state: &Arc<State>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let advertised = state.config.advertised.map_or_else(|| stream.local_addr(), Ok)?;
    let peer = Peer { advertised, remote };
    let max_idle = state.config.max_idle;
    let (read, mut write) = stream.into_split();
    let mut frames = Frames::new(read, state.config.max_request_bytes, connection);
    loop {
        let frame = timeout(max_idle, frames.next()).await.map_err(|_| ConnectionError::Idle(max_idle))?;
        let Some(frame) = frame? else { return Ok(()) };
        connection.serves(true);
        let served = unless_closed(&mut frames, api::serve(state, peer, frame)).await?;
        connection.serves(false);
        let Some(served) = served else { return Ok(()) };
        if let Some(response) = served? {
            connection.hold(response.len());
            let written = timeout(max_idle, write.write_all(&response)).await;
            written.map_err(|_| ConnectionError::Idle(max_idle))??;
        }
        connection.hold(0);
    }
}

/// Waits for an answer, but no longer than the client does: a long poll or a join may take minutes.
async fn unless_closed<T>(
    frames: &mut Frames<'_, tokio::net::tcp::OwnedReadHalf>,
    answer: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        answer = answer => Ok(Some(answer)),
        closed = frames.closed() => closed.map(|()| None),
    }
}
