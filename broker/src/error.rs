//! Why a broker does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a broker does not start. Once it runs, clients get Kafka's error codes instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value makes no sense.
    #[error("broker configuration: {field} {why}")]
    Config {
        /// Field of [`BrokerConfig`](crate::BrokerConfig).
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process listens there.
    #[error(
        "{addr} is in use: stop what listens there, or let the broker listen on another port (0 takes a free one)"
    )]
    AddressInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: is it an address of this machine, and a port that this user may open?")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker uses the folder.
    #[error("{} is in use by another broker: stop it, or give this one its own folder", dir.display())]
    Locked {
        /// The broker's folder.
        dir: PathBuf,
    },
    /// The folder, or something in it, cannot be read or written.
    #[error("cannot use {}: check that it exists on a writable disk and belongs to this user", path.display())]
    Storage {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the broker is not what the broker wrote.
    #[error("{} is damaged ({why}): restore it, or move it away to go on without what it held", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether something impossible was asked for, as opposed to something that failed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Config { .. })
    }

    pub(crate) fn storage(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Storage { path, source }
    }
}
