//! Progress of long work: a bar where a terminal is there, a line every few seconds where not.

use std::future::Future;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{count, is_terminal};

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What progress shows: a title, how much is done, and of how much if that is known.
pub(crate) struct Progress<F, N> {
    /// What is being done.
    pub(crate) title: String,
    /// What is counted, as `records`.
    pub(crate) unit: &'static str,
    /// Done so far, and the whole if known.
    pub(crate) state: F,
    /// What hinders the work at the moment, in a few words.
    pub(crate) note: N,
}

impl<F: Fn() -> (u64, Option<u64>), N: Fn() -> Option<String>> Progress<F, N> {
    /// Shows progress on standard error while `work` goes on.
    pub(crate) async fn show<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let terminal = is_terminal();
        let bar = if terminal { self.bar() } else { ProgressBar::hidden() };
        let start = Instant::now();
        let mut ticks = tokio::time::interval(if terminal { BAR_EVERY } else { LINE_EVERY });
        ticks.tick().await;
        let mut shown = 0;
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = ticks.tick() => {
                    let (done, whole) = (self.state)();
                    let rate = count((done as f64 / start.elapsed().as_secs_f64()) as u64);
                    let note = (self.note)().map(|note| format!(" ({note})")).unwrap_or_default();
                    if terminal {
                        bar.set_length(whole.unwrap_or(done).max(done));
                        bar.set_position(done);
                        bar.set_message(format!("{} {}, {rate}/s{note}", count(done), self.unit));
                    } else if done > shown {
                        // An idle pipeline has nothing to say.
                        shown = done;
                        eprintln!("{}: {} {}, {rate}/s{note}", self.title, count(done), self.unit);
                    }
                }
            }
        };
        bar.finish_and_clear();
        result
    }

    fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}").expect("constant template");
        ProgressBar::new(0).with_style(style).with_prefix(self.title.clone())
    }
}
