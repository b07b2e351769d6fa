#![doc = include_str!("../README.md")]

mod api;
mod config;
mod connections;
mod coordinator;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod log;
mod server;
mod settings;
mod state;
mod topics;
mod wire;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use config::{BrokerConfig, Fsync};
pub use error::Error;

use state::State;

/// A running broker. It stops when [`shutdown`](Broker::shutdown) is called, or soon after it is dropped.
#[derive(Debug)]
pub struct Broker {
    addr: SocketAddr,
    stop: watch::Sender<()>,
    server: JoinHandle<()>,
}

impl Broker {
    /// Takes the folder, recovers what is in it, and begins to listen. Must be called within a tokio runtime with
    /// I/O and time enabled.
    ///
    /// # Errors
    /// The configuration makes no sense, the folder is another broker's or cannot be used, or the address is taken.
    pub async fn start(config: BrokerConfig) -> Result<Broker, Error> {
        config.validate()?;
        let listen = config.listen;
        // The address before the recovery: that one is in use should not take long to find out.
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse { addr: listen },
            _ => Error::Listen { addr: listen, source: error },
        })?;
        let addr = listener.local_addr().map_err(|source| Error::Listen { addr: listen, source })?;
        let dir = config.dir.clone();
        let opened = tokio::task::spawn_blocking(move || open(config)).await;
        let folder = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        if !addr.ip().is_loopback() {
            warn!(%addr, "others can reach this broker, which has neither authentication nor encryption");
        }
        info!(%addr, dir = %dir.display(), topics = folder.state.topics.all().len(), "broker started");
        let (stop, stopped) = watch::channel(());
        let server = tokio::spawn(async move {
            server::run(listener, Arc::clone(&folder.state), stopped).await;
            drop(folder);
            info!(%addr, "broker stopped");
        });
        Ok(Broker { addr, stop, server })
    }

    /// The address it listens on, with the port that was taken if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends all connections, forces everything to disk, and gives up the folder and the address.
    pub async fn shutdown(self) {
        let _ = self.stop.send(());
        // It can only fail by panicking, which has been reported, or because the runtime is going down.
        let _ = self.server.await;
    }
}

/// The broker's folder, with what is in it. Given up when dropped, also if that is because the runtime ends.
struct Folder {
    state: Arc<State>,
    _lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Work that was handed to other threads goes on when its connection ends; it must not write once another broker
        // may have the folder.
        self.state.close();
    }
}

fn open(config: BrokerConfig) -> Result<Folder, Error> {
    let lock = files::lock_dir(&config.dir)?;
    let state = Arc::new(State::open(config)?);
    Ok(Folder { state, _lock: lock })
}
