//! The running broker: accepts connections, serves each in its own task, and does what has to be done now and then.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use crate::api::{self, Malformed, Peer};
use crate::config::Fsync;
use crate::state::State;
use crate::wire::frame::{FrameError, Frames};

/// How long to wait before accepting again when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` changes, then ends all connections and forces the logs to disk.
pub(crate) async fn run(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    spawn_chores(&mut tasks, &state);
    let slots = Arc::new(Semaphore::new(state.config.max_connections));
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
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(%remote, "refused a connection: there are as many as allowed");
            continue;
        };
        let state = Arc::clone(&state);
        tasks.spawn(async move {
            serve(stream, remote, state).await;
            drop(slot);
        });
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
}

async fn serve(stream: TcpStream, remote: SocketAddr, state: Arc<State>) {
    debug!(%remote, "connected");
    match converse(stream, remote, &state).await {
        Ok(()) => debug!(%remote, "disconnected"),
        Err(ConnectionError::Io(error) | ConnectionError::Frame(FrameError::Io(error))) => {
            debug!(%remote, %error, "disconnected");
        }
        Err(error) => warn!(%remote, %error, "closed the connection"),
    }
}

/// Serves one request after the other, in the order in which they came, as the protocol wants it.
async fn converse(stream: TcpStream, remote: SocketAddr, state: &Arc<State>) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let advertised = state.config.advertised.map_or_else(|| stream.local_addr(), Ok)?;
    let peer = Peer { advertised, remote };
    let (read, mut write) = stream.into_split();
    let mut frames = Frames::new(read, state.config.max_request_bytes);
    while let Some(frame) = frames.next().await? {
        let served = unless_closed(&mut frames, api::serve(state, peer, frame)).await?;
        let Some(served) = served else { break };
        if let Some(response) = served? {
            write.write_all(&response).await?;
        }
    }
    Ok(())
}

/// Waits for an answer, but no longer than the client does: a long poll or a join may take minutes.
async fn unless_closed<T>(
    frames: &mut Frames<tokio::net::tcp::OwnedReadHalf>,
    answer: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        answer = answer => Ok(Some(answer)),
        closed = frames.closed() => closed.map(|()| None),
    }
}
