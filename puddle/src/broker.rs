//! Which broker a command talks to.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use puddle_broker::{Broker, BrokerConfig};

use crate::cli::BrokerArgs;
use crate::places;

/// Where a broker is expected when none is named.
const DEFAULT_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9092);
/// Loopback answers at once, or nobody is there.
const PROBE: Duration = Duration::from_millis(300);

/// A broker to talk to, and the embedded one if this process had to start it.
pub(crate) struct Brokers {
    /// The bootstrap servers.
    pub(crate) address: String,
    embedded: Option<Broker>,
}

impl Brokers {
    /// The broker that was named; else whoever listens on the default port; else the embedded one, on that port.
    pub(crate) async fn find(args: &BrokerArgs) -> anyhow::Result<Self> {
        if let Some(address) = &args.brokers {
            return Ok(Self { address: address.clone(), embedded: None });
        }
        let default = SocketAddr::from(DEFAULT_ADDRESS);
        if TcpStream::connect_timeout(&default, PROBE).is_ok() {
            return Ok(Self { address: default.to_string(), embedded: None });
        }
        let brokers = Self::embedded(default, &places::broker_dir()).await?;
        tracing::info!(address = brokers.address, "no broker on the default port: started the embedded one");
        Ok(brokers)
    }

    /// The embedded broker on this address and folder.
    pub(crate) async fn embedded(listen: SocketAddr, dir: &Path) -> anyhow::Result<Self> {
        let broker = Broker::start(BrokerConfig { listen, ..BrokerConfig::new(dir) }).await?;
        Ok(Self { address: broker.addr().to_string(), embedded: Some(broker) })
    }

    /// Stops the embedded broker, if it is ours.
    pub(crate) async fn close(self) {
        if let Some(broker) = self.embedded {
            broker.shutdown().await;
        }
    }
}
