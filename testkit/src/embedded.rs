//! The embedded broker, running beside a test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use puddle_broker::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::Proxy;

/// An embedded broker on a free loopback port, with a temporary folder and a runtime of its own; empty at first,
/// topics are not created automatically. It stops when dropped.
#[derive(Debug)]
pub struct Embedded {
    config: BrokerConfig,
    running: Option<Running>,
    folder: TempDir,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Embedded {
    /// Starts a broker with the default configuration.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Embedded {
        Embedded::start_with(|_| {})
    }

    /// Starts a broker with a configuration that differs from the default where the test says so.
    ///
    /// # Panics
    /// As [`Embedded::start`].
    pub fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> Embedded {
        let folder = tempfile::Builder::new().prefix("puddle-broker-").tempdir().expect("a temporary folder");
        let mut config = BrokerConfig::new(folder.path());
        config.listen.set_port(0);
        change(&mut config);
        let (running, address) = launch(&config);
        // A restart takes the same port again: clients that are connected expect to find it there.
        config.listen = address;
        Embedded { config, running: Some(running), folder }
    }

    /// Starts a broker that sends its clients through a proxy.
    ///
    /// # Panics
    /// As [`Embedded::start`].
    pub fn behind(proxy: &Proxy) -> Embedded {
        let broker = Embedded::start_with(|config| config.advertised = Some(proxy.address()));
        proxy.lead_to(broker.config.listen);
        broker
    }

    /// The address for `bootstrap.servers`, the same after a restart.
    pub fn brokers(&self) -> String {
        self.config.listen.to_string()
    }

    /// The broker's folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Stops the broker in order, as far as it runs; its folder stays.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the broker stops without a panic");
        }
    }

    /// Stops the broker in order and starts it again, on the same port and folder.
    ///
    /// # Panics
    /// As [`Embedded::start`].
    pub fn restart(&mut self) {
        self.stop();
        self.running = Some(launch(&self.config).0);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // A second panic while the first one unwinds would hide the test's message.
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// On a thread of its own, because a runtime can neither be entered nor dropped within an asynchronous test.
fn launch(config: &BrokerConfig) -> (Running, SocketAddr) {
    let (stop, stopped) = oneshot::channel();
    let (started, address) = mpsc::channel();
    let config = config.clone();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            match Broker::start(config).await {
                Ok(broker) => {
                    let _ = started.send(Ok(broker.addr()));
                    let _ = stopped.await;
                    broker.shutdown().await;
                }
                Err(error) => _ = started.send(Err(error)),
            }
        });
    };
    let thread = std::thread::Builder::new().name("embedded-broker".into()).spawn(run).expect("a thread");
    match address.recv().expect("the broker starts or says why not") {
        Ok(address) => (Running { stop, thread }, address),
        Err(error) => panic!("the embedded broker does not start: {error}"),
    }
}
