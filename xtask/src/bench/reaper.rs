//! Leaves no process of a contender behind, however it or the bench ends.
//!
//! Contenders start JVMs and workers of their own, in groups of their own, and a bench that is killed runs no
//! destructors. So each contender's environment has a mark, which its descendants inherit, and a child of the bench
//! waits for the end of a pipe whose other end only the bench holds: the kernel closes it however the bench ends.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// The variable that marks a contender's processes.
const MARK: &str = "PUDDLE_BENCH_MARK";

/// Kills every process with the mark `$1` in its environment. Several times over: one may start another meanwhile.
const KILL: &str = r#"
for turn in 1 2 3 4 5; do
  found=
  for file in $(grep -lsaF "$1" /proc/[0-9]*/environ); do
    pid=${file#/proc/}; pid=${pid%/environ}
    kill -9 "$pid" 2>/dev/null && found=yes
  done
  [ -n "$found" ] || break
done
"#;

/// Waits for the bench's end, then kills what carries its mark and removes its folder.
pub(super) struct Reaper {
    mark: String,
    child: Child,
}

impl Reaper {
    /// One for a bench that works in this folder.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mark = format!("{MARK}={}:", folder.display());
        let child = Command::new("sh")
            .args(["-c", &format!("cat >/dev/null\n{KILL}\nrm -rf -- \"$2\""), "reaper", &mark])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C must reach the bench only.
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        Ok(Self { mark, child })
    }

    /// Marks what this will start.
    pub(super) fn mark<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let (name, value) = self.mark.split_once('=').expect("a mark is NAME=VALUE");
        command.env(name, value)
    }

    /// Kills what is marked and still lives.
    pub(super) fn reap(&self) -> anyhow::Result<()> {
        let mut shell = Command::new("sh");
        shell.args([OsStr::new("-c"), OsStr::new(KILL), OsStr::new("reap"), OsStr::new(&self.mark)]);
        shell.status().context("cannot run sh")?;
        Ok(())
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Nothing is left to do when it cannot be waited for.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_marked_processes_orphan_is_killed_and_its_neighbour_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let reaper = Reaper::start(folder.path()).unwrap();
        let orphan = |command: &mut Command| {
            // In a group of its own, whose parent ends at once.
            let mut shell = command.args(["-c", "(sleep 60 & echo $!)"]).process_group(0);
            shell = shell.stdout(Stdio::piped());
            let mut shell = shell.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
            shell.wait().unwrap();
            line.trim().parse::<u32>().unwrap()
        };
        let marked = orphan(reaper.mark(&mut Command::new("sh")));
        let neighbour = orphan(&mut Command::new("sh"));
        let lives = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        assert!(lives(marked) && lives(neighbour));
        drop(reaper);
        let deadline = Instant::now() + Duration::from_secs(30);
        while lives(marked) {
            assert!(Instant::now() < deadline, "it outlives the bench");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(lives(neighbour) && !folder.path().exists());
        Command::new("sh").args(["-c", &format!("kill {neighbour}")]).status().unwrap();
    }
}
