//! The broker of a run: the embedded one, which can be killed too, or an Apache Kafka.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::process::{Process, until};
use crate::apache::Apache;

/// A broker that runs.
pub(super) enum Broker<'a> {
    Embedded(Embedded),
    Apache(&'a Apache),
}

/// `puddle broker`, as a process of its own.
pub(super) struct Embedded {
    puddle: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    process: Mutex<Process>,
}

impl Broker<'_> {
    /// `host:port`.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Embedded(embedded) => embedded.address.to_string(),
            Self::Apache(apache) => apache.address().to_owned(),
        }
    }

    pub(super) fn embedded(&self) -> Option<&Embedded> {
        match self {
            Self::Embedded(embedded) => Some(embedded),
            Self::Apache(_) => None,
        }
    }
}

impl Embedded {
    /// Starts it on a free port, with its topics in `folder/broker`.
    pub(super) fn start(puddle: &Path, folder: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = Mutex::new(serve(puddle, folder, address)?);
        Ok(Self { puddle: puddle.to_owned(), folder: folder.to_owned(), address, process })
    }

    pub(super) fn kill(&self) -> anyhow::Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).kill()
    }

    /// Starts a new one in the place of the one that was killed.
    pub(super) fn restart(&self) -> anyhow::Result<()> {
        let process = serve(&self.puddle, &self.folder, self.address)?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
        Ok(())
    }
}

fn serve(puddle: &Path, folder: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    let mut command = Command::new(puddle);
    command.args(["broker", "--listen", &address.to_string(), "--dir"]).arg(folder.join("broker"));
    let mut process = Process::start("puddle broker", &mut command, &folder.join("broker.log"), None)?;
    until("the broker to listen", || {
        process.must_run()?;
        Ok(TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok())
    })?;
    Ok(process)
}
