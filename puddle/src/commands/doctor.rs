//! `puddle doctor`: what this machine has, what is missing, and how to get it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::{cli, output, places};

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    /// Whether it is as it should be.
    ok: bool,
    found: String,
    /// What it is for and how to get it, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

/// Looks at the machine. Nothing that is missing is a failure: the demo needs none of it.
pub(crate) fn doctor(args: cli::Doctor) -> anyhow::Result<()> {
    let mut findings = vec![cores(), memory(), lake(&args.lake.lake), broker(), datasets()];
    findings.extend(PROGRAMS.iter().map(program));
    if args.json {
        return output::print_json(&findings);
    }
    let mut text = String::new();
    for finding in &findings {
        let mark = if finding.ok { "ok     " } else { "missing" };
        text.push_str(&format!("  {mark}  {:<14} {}\n", finding.what, finding.found));
        if let Some(advice) = finding.advice.filter(|_| !finding.ok) {
            text.push_str(&format!("           {:<14} {advice}\n", ""));
        }
    }
    output::print(&text)
}

/// Programs that something in the project can use: name, how it tells its version, what it is for.
const PROGRAMS: [(&str, &[&str], &str); 5] = [
    ("java", &["-version"], "for tests against Apache Kafka: sudo apt-get install -y default-jdk-headless"),
    ("mvn", &["--batch-mode", "--version"], "for tests against Apache Kafka: sudo apt-get install -y maven"),
    (
        "docker",
        &["info", "--format", "engine {{.ServerVersion}}"],
        "for docker/ with Apache Kafka: https://docs.docker.com/engine/install/",
    ),
    ("python3", &["--version"], "for the notebooks: sudo apt-get install -y python3 python3-venv"),
    ("cargo", &["--version"], "for building Puddle: https://rustup.rs"),
];

fn program((name, arguments, advice): &(&'static str, &[&str], &'static str)) -> Finding {
    let version =
        Command::new(name).args(*arguments).output().ok().filter(|output| output.status.success()).and_then(
            |output| {
                let text = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&text)
                    .lines()
                    .map(str::trim)
                    .find(|line| !line.is_empty())
                    .map(str::to_owned)
            },
        );
    let ok = version.is_some();
    Finding { what: name, ok, found: version.unwrap_or_else(|| "-".into()), advice: Some(advice) }
}

fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Finding {
        what: "cores",
        ok: cores >= 2,
        found: cores.to_string(),
        advice: Some("Puddle polls, decodes and writes at the same time; with one core it is slow"),
    }
}

fn memory() -> Finding {
    let kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        text.lines().find_map(|line| {
            line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        })
    });
    Finding {
        what: "memory",
        ok: kib.is_none_or(|kib| kib > 500_000),
        found: kib.map_or("unknown".into(), |kib| format!("{} available", output::bytes(kib * 1024))),
        advice: Some("the demo needs up to 400 MB"),
    }
}

fn lake(lake: &Path) -> Finding {
    // The nearest folder that exists is where the lake would be made.
    let folder = lake.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let probe = folder.join(format!(".puddle-doctor-{}", std::process::id()));
    let result = match lake.exists() && !lake.is_dir() {
        true => Err(std::io::ErrorKind::NotADirectory.into()),
        false => std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)),
    };
    Finding {
        what: "lake",
        ok: result.is_ok(),
        found: match result {
            Ok(()) => format!("{} can be written", lake.display()),
            Err(error) => format!("{}: {error}", lake.display()),
        },
        advice: Some("choose another folder with --lake"),
    }
}

fn broker() -> Finding {
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let there = TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok();
    let found = if there {
        format!("one listens on {address}")
    } else {
        format!("none on {address}: the embedded one is used")
    };
    Finding { what: "broker", ok: true, found, advice: None }
}

fn datasets() -> Finding {
    let roots = places::roots();
    let found = roots.iter().find(|root| root.join("data/nycflights13/flights.parquet").is_file());
    Finding {
        what: "data sets",
        ok: found.is_some(),
        found: found.map_or("-".into(), |root| root.join("data").display().to_string()),
        advice: Some("run in the project's folder, or set PUDDLE_HOME to it"),
    }
}
