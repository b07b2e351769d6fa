//! Child processes: logged, ended only by their own id, and never waited for without a bound.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long anything may take that should take a second: a busy machine may need many times that.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// A child process; killed when dropped.
pub(super) struct Process {
    child: Child,
    what: &'static str,
    log: PathBuf,
    /// How long the log was before it began.
    log_begin: usize,
}

/// The signals that are sent besides SIGKILL, by their names for `kill`.
#[derive(Clone, Copy)]
pub(super) enum Signal {
    Term,
    Stop,
    Cont,
}

impl Process {
    /// Starts it. What it says on standard error is appended to `log`; what it prints goes to `out`, if given.
    pub(super) fn start(
        what: &'static str,
        command: &mut Command,
        log: &Path,
        out: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let err = open().with_context(|| format!("cannot write {}", log.display()))?;
        let out = match out {
            Some(out) => File::create(out).with_context(|| format!("cannot write {}", out.display()))?,
            None => err.try_clone()?,
        };
        let log_begin = err.metadata()?.len() as usize;
        let child = command.stdout(out).stderr(err).spawn();
        let child = child.with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self { child, what, log: log.to_owned(), log_begin })
    }

    /// kill -9, by the id of this child, which is ours until it is waited for.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let name = match signal {
            Signal::Term => "TERM",
            Signal::Stop => "STOP",
            Signal::Cont => "CONT",
        };
        // The shell's own `kill`: a program of that name is not everywhere.
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &self.child.id().to_string()])
            .status()?;
        ensure!(status.success(), "cannot send SIG{name} to {}", self.what);
        Ok(())
    }

    /// An error if it ended, which it must not have done by itself.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}): {}", self.what, self.last_words()),
        }
    }

    /// Waits for its end, which must be that of a program which refuses what it was asked for; returns its last words.
    pub(super) fn be_refused(&mut self) -> anyhow::Result<String> {
        let status = self.wait()?;
        let words = self.last_words();
        ensure!(
            matches!(status.code(), Some(1 | 2)),
            "{} was not refused but ended with {status}: {words}",
            self.what
        );
        Ok(words)
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let status = self.wait()?;
        ensure!(status.success(), "{} ended with {status}: {}", self.what, self.last_words());
        Ok(())
    }

    /// Waits until it has said something on standard error.
    pub(super) fn wait_until_said(&mut self, text: &str) -> anyhow::Result<()> {
        until(&format!("{} to say {text:?}", self.what), || {
            self.must_run()?;
            let log = std::fs::read(&self.log).unwrap_or_default();
            Ok(String::from_utf8_lossy(log.get(self.log_begin..).unwrap_or_default()).contains(text))
        })
    }

    pub(super) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        let what = self.what;
        until(&format!("{what} to end"), || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("it ended")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, which must be a good one, and returns what it printed. `out` holds that too, also after
/// a bad end.
pub(super) fn output(
    what: &'static str,
    command: &mut Command,
    out: &Path,
    log: &Path,
) -> anyhow::Result<String> {
    // By way of a file: a pipe that nobody empties would block the child, and reading one has no time limit.
    Process::start(what, command.stdin(Stdio::null()), log, Some(out))?.finish()?;
    std::fs::read_to_string(out).with_context(|| format!("what {what} printed is not text"))
}

/// Polls until something is so, or patience ends.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_end_is_an_error_with_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let (out, log) = (folder.path().join("out"), folder.path().join("log"));
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo printed; echo said >&2; exit 3"]);
        let error = output("sh", &mut shell, &out, &log).unwrap_err().to_string();
        assert!(error.contains("said") && error.contains('3'), "{error}");
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo printed"]);
        assert_eq!(output("sh", &mut shell, &out, &log).unwrap(), "printed\n");
    }

    #[test]
    fn a_stopped_child_can_still_be_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let mut sleep =
            Process::start("sleep", command.arg("600"), &folder.path().join("log"), None).unwrap();
        sleep.signal(Signal::Stop).unwrap();
        sleep.must_run().unwrap();
        sleep.kill().unwrap();
        sleep.must_run().unwrap_err();
    }
}
