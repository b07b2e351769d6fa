//! Where and of what the figures are.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::tools::{commit, root};

/// A machine, and the versions of what every contender meets on it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    /// In bytes.
    memory: u64,
    system: String,
    kafka: String,
    librdkafka: String,
    java: String,
    rustc: String,
    commit: String,
    date: String,
}

impl Machine {
    /// This one, now. What cannot be found out is "unknown".
    pub(super) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kilobytes = value(&read("/proc/meminfo"), "MemTotal:").trim_end_matches("kB").trim().parse();
        let testkit_pom = fs::read_to_string(root().join("testkit/kafka/pom.xml")).unwrap_or_default();
        let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name").trim_start_matches(':').trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get()),
            memory: kilobytes.unwrap_or(0) * 1024,
            system: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            kafka: between(&testkit_pom, "<kafka.version>", "<").to_owned(),
            librdkafka: librdkafka(&lock).to_owned(),
            java: said("java", &["-version"]),
            rustc: said("rustc", &["--version"]),
            commit: commit(),
            date: said("date", &["--utc", "+%Y-%m-%d"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory, system, kafka, librdkafka, java, rustc, commit, date } = self;
        let gigabytes = *memory as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "{cores} cores of an {processor}, {gigabytes:.0} GB of memory, {system}. Apache Kafka {kafka} on {java}. \
             Puddle at commit {commit}, librdkafka {librdkafka}, {rustc}. {date}."
        )
    }
}

/// What follows a key at the beginning of a line.
fn value<'t>(text: &'t str, key: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown").trim()
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let found = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    found.map_or("unknown", |(found, _)| found)
}

/// The version of librdkafka within that of its Rust crate, `4.10.0+2.12.1`.
fn librdkafka(lock: &str) -> &str {
    let (_, package) = lock.split_once("name = \"rdkafka-sys\"").unwrap_or_default();
    let version = between(package, "version = \"", "\"");
    version.split_once('+').map_or(version, |(_, own)| own)
}

/// The first line that a program says, on either stream.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().map(|o| [o.stdout, o.stderr].concat());
    let said = said.unwrap_or_default();
    let text = String::from_utf8_lossy(&said);
    text.lines().next().unwrap_or("unknown").trim().replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_the_files_that_pin_them() {
        let lock = "[[package]]\nname = \"rdkafka-sys\"\nversion = \"4.10.0+2.12.1\"\nsource = \"x\"\n";
        assert_eq!(librdkafka(lock), "2.12.1");
        assert_eq!(librdkafka(""), "unknown");
        let machine = Machine::this();
        assert!(machine.kafka.starts_with("4.") && machine.cores > 0, "{machine}");
        assert_ne!(machine.librdkafka, "unknown");
    }
}
