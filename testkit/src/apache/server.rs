//! One JVM with broker and controller (KRaft), which never outlives the process that started it.
//!
//! A process that is killed runs no destructors. So a second child, the *reaper*, waits for the end of a pipe
//! whose other end only this process holds: the kernel closes it however this process ends, and the reaper
//! then kills the JVM and removes its folder.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::{Error, Jvm, PASSWORD, USER, find_program, io};

/// A start takes 4 s on two idle cores; a busy machine may need many times that.
const START_DEADLINE: Duration = Duration::from_secs(90);
/// Another program may take a port between the choice and Kafka's bind.
const ATTEMPTS: usize = 3;

#[derive(Debug)]
pub(super) struct Server {
    jvm: Child,
    reaper: Child,
    ports: Ports,
    /// Tells this Kafka from a stranger that took its port.
    cluster: String,
    folder: TempDir,
}

/// Where Kafka listens, on loopback.
#[derive(Debug)]
struct Ports {
    /// For clients that need no name.
    open: u16,
    /// For clients that say who they are.
    sasl: u16,
    /// For a proxy, whose clients are told to come by it again.
    proxied: u16,
    controller: u16,
}

impl Server {
    /// Starts Kafka. What comes to [`Server::behind_proxy`] is told to use the address `advertised`, if there is one.
    pub(super) fn start(classpath: &str, jvm: Jvm, advertised: Option<SocketAddr>) -> Result<Server, Error> {
        let java = java()?;
        let mut attempt = 1;
        loop {
            let started = Server::launch(&java, classpath, jvm, advertised).and_then(|mut server| {
                server.wait_until_ready()?;
                Ok(server)
            });
            match started {
                Err(Error::Start { log, .. })
                    if attempt < ATTEMPTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    pub(super) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.open)
    }

    pub(super) fn behind_proxy(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.proxied).into()
    }

    pub(super) fn pid(&self) -> u32 {
        self.jvm.id()
    }

    fn launch(
        java: &Path,
        classpath: &str,
        jvm: Jvm,
        advertised: Option<SocketAddr>,
    ) -> Result<Server, Error> {
        let folder =
            tempfile::Builder::new().prefix("puddle-kafka-").tempdir().map_err(io("create a folder"))?;
        let ports = free_ports()?;
        let settings = folder.path().join("server.properties");
        let text = settings_text(&ports, advertised, &folder.path().join("data"));
        fs::write(&settings, text).map_err(io(format!("write {}", settings.display())))?;
        let cluster = cluster_id(ports.open);
        format_storage(java, classpath, &settings, &cluster)?;

        let mut jvm = run_class(java, classpath, jvm, "kafka.Kafka", folder.path())?
            .arg(&settings)
            .spawn()
            .map_err(io("start java"))?;
        match spawn_reaper(jvm.id(), folder.path()) {
            Ok(reaper) => Ok(Server { jvm, reaper, ports, cluster, folder }),
            Err(error) => {
                end(&mut jvm);
                Err(error)
            }
        }
    }

    /// Ready when our cluster answers, with its broker registered, on our port.
    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("reconnect.backoff.max.ms", "100")
            // Refused connections are expected until Kafka listens.
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()
            .expect("the client's settings are valid");
        loop {
            let poll = Duration::from_millis(200);
            let is_ours = client.client().fetch_cluster_id(poll).is_some_and(|id| id == self.cluster);
            if is_ours && client.fetch_metadata(None, poll).is_ok_and(|answer| !answer.brokers().is_empty()) {
                return Ok(());
            }
            if let Some(status) = self.jvm.try_wait().map_err(io("wait for java"))? {
                return Err(start_error(format!("it ended with {status}"), self.folder.path()));
            }
            if started.elapsed() > START_DEADLINE {
                let reason = format!("no answer at {} after {START_DEADLINE:?}", self.brokers());
                return Err(start_error(reason, self.folder.path()));
            }
        }
    }
}

impl Drop for Server {
    /// Kills instead of asking: the data goes with the folder, and an orderly stop takes seconds.
    fn drop(&mut self) {
        // The reaper first, or it could hit a process that got the JVM's number after it.
        end(&mut self.reaper);
        end(&mut self.jvm);
    }
}

/// The Java that runs Kafka.
pub(super) fn java() -> Result<PathBuf, Error> {
    if let Some(home) = std::env::var_os("JAVA_HOME") {
        let java = Path::new(&home).join("bin/java");
        if java.is_file() {
            return Ok(java);
        }
    }
    find_program("java", "apt-get install default-jre-headless")
}

/// Ports that are free now; held until all are known, so that they differ.
fn free_ports() -> Result<Ports, Error> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("find a free port"));
    let held = [listen()?, listen()?, listen()?, listen()?];
    let port = |i: usize| held[i].local_addr().map(|a| a.port()).map_err(io("find a free port"));
    Ok(Ports { open: port(0)?, sasl: port(1)?, proxied: port(2)?, controller: port(3)? })
}

/// Kafka's defaults want three nodes, and wait for more members before a group's first rebalance.
fn settings_text(ports: &Ports, advertised: Option<SocketAddr>, data: &Path) -> String {
    let Ports { open, sasl, proxied, controller } = ports;
    let proxy = advertised.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, *proxied).into());
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=BROKER://127.0.0.1:{open},SASL://127.0.0.1:{sasl},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=BROKER://127.0.0.1:{open},SASL://127.0.0.1:{sasl},PROXIED://{proxy}\n\
         listener.security.protocol.map=BROKER:PLAINTEXT,SASL:SASL_PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         listener.name.sasl.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl.plain.sasl.jaas.config={plain} required user_{USER}=\"{PASSWORD}\";\n\
         inter.broker.listener.name=BROKER\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n",
        data = data.display(),
    )
}

/// A UUID in Kafka's notation (16 bytes as unpadded base64), different for each start on this machine.
fn cluster_id(port: u16) -> String {
    format!("{:016x}{port:05x}A", std::process::id())
}

fn format_storage(java: &Path, classpath: &str, settings: &Path, cluster: &str) -> Result<(), Error> {
    let folder = settings.parent().expect("the settings are in a folder");
    let status = run_class(java, classpath, Jvm::Small, "kafka.tools.StorageTool", folder)?
        .args(["format", "--cluster-id", cluster, "--config"])
        .arg(settings)
        .status()
        .map_err(io("start java"))?;
    if status.success() {
        Ok(())
    } else {
        Err(start_error(format!("formatting its storage ended with {status}"), folder))
    }
}

fn run_class(java: &Path, classpath: &str, jvm: Jvm, class: &str, folder: &Path) -> Result<Command, Error> {
    let log = folder.join("kafka.log");
    let open = || File::options().create(true).append(true).open(&log);
    let out = open().map_err(io(format!("write {}", log.display())))?;
    let err = open().map_err(io(format!("write {}", log.display())))?;
    let mut command = Command::new(java);
    command
        .args(jvm.options())
        .arg("-Xshare:auto")
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(["-cp", classpath, class])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // Ctrl-C on the tests must reach the tests only; the JVM follows through the reaper.
        .process_group(0);
    Ok(command)
}

fn spawn_reaper(jvm: u32, folder: &Path) -> Result<Child, Error> {
    Command::new("sh")
        .args(["-c", r#"cat >/dev/null; kill -9 "$1"; rm -rf -- "$2""#, "reaper"])
        .arg(jvm.to_string())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io("start sh"))
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn start_error(reason: String, folder: &Path) -> Error {
    let log = fs::read_to_string(folder.join("kafka.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    Error::Start { reason, log: lines[lines.len().saturating_sub(40)..].join("\n") }
}
