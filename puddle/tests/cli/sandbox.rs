//! A working folder with an embedded broker, in which `puddle` is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use puddle_testkit::Embedded;

pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    _broker: Embedded,
    brokers: String,
}

/// How a run of `puddle` ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        // A space in the path is what users have and scripts forget.
        let folder = tempfile::Builder::new().prefix("puddle sandbox ").tempdir().unwrap();
        let broker = Embedded::start();
        Self { folder, brokers: broker.brokers(), _broker: broker }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs `puddle`, talking to this sandbox's broker unless the arguments name another.
    pub(crate) fn puddle(&self, args: &[&str]) -> Ended {
        run(command(self.folder.path()).env("PUDDLE_BROKERS", self.brokers()).args(args))
    }

    /// A pipeline in `pipelines/NAME` that reads the topic of that name into the table of that name.
    pub(crate) fn pipeline(&self, name: &str, rest: &str, sql: Option<&str>) {
        let transform = if sql.is_some() { "[transform]\nsql = \"transform.sql\"\n" } else { "" };
        self.write(
            &format!("pipelines/{name}/pipeline.toml"),
            &format!("name = \"{name}\"\n[ingest]\ntopics = [\"{name}\"]\n{rest}\n{transform}[sink]\ntable = \"{name}\"\n"),
        );
        if let Some(sql) = sql {
            self.write(&format!("pipelines/{name}/transform.sql"), sql);
        }
    }
}

/// `puddle` in a folder, without anything of the environment that could change it.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_puddle"));
    command.current_dir(folder).env_remove("RUST_LOG").env_remove("PUDDLE_LAKE").env_remove("PUDDLE_HOME");
    command
}

pub(crate) fn run(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The metrics page at an address.
pub(crate) fn get(address: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

impl Ended {
    /// Asserts success and returns standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// Asserts a failure with this exit code, whose one error says all of `parts`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in:\n{}", self.err);
        }
        assert_eq!(self.err.matches("error:").count(), 1, "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}
