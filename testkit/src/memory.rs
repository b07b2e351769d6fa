//! How much memory something takes at its peak, by what Linux counts: pages in use.

use std::fs;

/// Bytes by which the memory of this process grew at the peak of `work`, beyond what it used when that began.
///
/// Everything that runs meanwhile counts, so nothing else should: tests that measure do so one at a time.
///
/// # Panics
/// Without `/proc`.
pub fn growth<T>(work: impl FnOnce() -> T) -> (u64, T) {
    // Sets the peak back to what is in use, see proc(5).
    fs::write("/proc/self/clear_refs", "5").expect("a process may look at itself");
    let before = status("self", "VmRSS").expect("a process may look at itself");
    let result = work();
    let peak = status("self", "VmHWM").expect("a process may look at itself");
    (peak.saturating_sub(before), result)
}

/// The largest memory in bytes that a process had so far; `None` when it has ended.
pub fn peak_of(process: u32) -> Option<u64> {
    status(&process.to_string(), "VmHWM")
}

fn status(process: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_and_given_back_counts() {
        let (grown, _) = growth(|| vec![1_u8; 64 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>());
        assert!(grown >= 60 << 20, "{grown}");
        assert!(peak_of(std::process::id()).unwrap() >= grown);
    }
}
