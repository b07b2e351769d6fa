//! What a process and its descendants cost, as `/proc` tells.
//!
//! How exact it is: CPU time counts in ticks of 10 ms. What our own waited-for children used, with all descendants
//! that somebody waited for, the kernel adds up without a gap; a process that nobody waits for (a JVM whose Python
//! parent ends first) is in no such sum. So all processes of the tree are also looked at every 50 ms, which loses what
//! each did after the last look. The larger of the two sums is taken.
//!
//! Memory is what is resident, added up over the tree at each look; pages that processes share are counted for each.
//! A peak between two looks is missed, except in a single process, whose own high-water mark the kernel keeps.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// How often the known processes are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// How often new ones are looked for. That reads about each process of the machine, so it must be rare.
const SEARCH: Duration = Duration::from_millis(200);

/// The kernel's ticks a second in `/proc`, which are 100 on every architecture.
const TICKS: f64 = 100.0;

/// A process and its descendants.
pub(super) struct Tree {
    root: u32,
    /// The ticks of each process that was ever seen. A number is used again, but not with the same start.
    seen: BTreeMap<(u32, u64), u64>,
    searched: Option<Instant>,
    peak_kb: u64,
    /// Ticks of our waited-for children before it began.
    waited_for_before: u64,
}

impl Tree {
    /// That of a child that has just been started. No other child may be waited for until [`Tree::ended`].
    pub(super) fn of(root: u32) -> Self {
        let waited_for_before = waited_for();
        Self { root, seen: BTreeMap::new(), searched: None, peak_kb: 0, waited_for_before }
    }

    /// Looks at all processes of the tree that live.
    pub(super) fn look(&mut self) {
        if self.searched.is_none_or(|searched| searched.elapsed() >= SEARCH) {
            self.search();
            self.searched = Some(Instant::now());
        }
        let mut resident = 0;
        for ((pid, start), ticks) in &mut self.seen {
            let Some(stat) = stat(*pid).filter(|stat| stat.start == *start) else { continue };
            *ticks = stat.ticks;
            let Some((now, peak)) = memory(*pid) else { continue };
            resident += now;
            self.peak_kb = self.peak_kb.max(peak);
        }
        self.peak_kb = self.peak_kb.max(resident);
    }

    /// Seconds of CPU time that the looks saw.
    pub(super) fn cpu_seen(&self) -> f64 {
        self.seen.values().sum::<u64>() as f64 / TICKS
    }

    /// Seconds of CPU time in all, and the peak of its memory in bytes, after the child was waited for.
    pub(super) fn ended(self) -> (f64, u64) {
        let waited_for = (waited_for() - self.waited_for_before) as f64 / TICKS;
        (waited_for.max(self.cpu_seen()), self.peak_kb * 1024)
    }

    /// A process that is known stays so when its parent ends.
    fn search(&mut self) {
        let mut others: Vec<(u32, Stat)> = processes().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        loop {
            let before = self.seen.len();
            others.retain(|(pid, stat)| {
                let is_ours = *pid == self.root
                    || stat.group == self.root
                    || self.seen.keys().any(|(known, _)| *known == stat.parent);
                if is_ours {
                    self.seen.entry((*pid, stat.start)).or_insert(stat.ticks);
                }
                !is_ours
            });
            if self.seen.len() == before {
                return;
            }
        }
    }
}

/// Seconds of CPU time that a process that lives has used.
pub(super) fn cpu(pid: u32) -> Option<f64> {
    stat(pid).map(|stat| stat.ticks as f64 / TICKS)
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    group: u32,
    /// When it started, in ticks since the machine did.
    start: u64,
    /// CPU time, of the user and of the system.
    ticks: u64,
    /// CPU time of children that were waited for.
    children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // A name stands in parentheses, and may hold spaces and parentheses itself.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    // The manual counts from 1, and the name is the second.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: field(4)? as u32,
        group: field(5)? as u32,
        ticks: field(14)? + field(15)?,
        children: field(16)? + field(17)?,
        start: field(22)?,
    })
}

fn waited_for() -> u64 {
    stat(std::process::id()).map_or(0, |stat| stat.children)
}

/// What is resident now, and was at the most, in kilobytes.
fn memory(pid: u32) -> Option<(u64, u64)> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(status: &str) -> Option<(u64, u64)> {
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    Some((kilobytes("VmRSS:")?, kilobytes("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 8 8 0 -1 4194560 1 0 0 0 11 5 3 2 20 0 1 0 9999 1000 50";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.start), (7, 8, 9999));
        assert_eq!((stat.ticks, stat.children), (16, 5));
        assert!(parse_stat("").is_none() && parse_stat("42 (a) S 7").is_none());
    }

    #[test]
    fn memory_is_read_in_kilobytes() {
        assert_eq!(parse_memory("Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t  100 kB\n"), Some((100, 200)));
        assert_eq!(parse_memory("Name:\tkthreadd\n"), None, "a kernel thread has none");
    }

    #[test]
    fn grandchildren_belong_to_the_tree() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let mut tree = Tree::of(child.id());
        let deadline = Instant::now() + Duration::from_secs(30);
        let grandchild = loop {
            tree.searched = None;
            tree.look();
            if let Some((pid, _)) = tree.seen.keys().find(|(pid, _)| *pid != child.id()) {
                break *pid;
            }
            assert!(Instant::now() < deadline, "the grandchild is never seen");
        };
        assert!(tree.peak_kb > 0);
        Command::new("sh").args(["-c", &format!("kill {grandchild}")]).status().unwrap();
        child.wait().unwrap();
    }
}
