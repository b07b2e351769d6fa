//! Polars as a part of a longer running process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use polars::error::set_warning_function;
use polars_async::executor::ALLOW_RAYON_THREADS;

use crate::Error;

/// Sends the remarks that Polars prints, such as what its next version will no longer do, to the log.
/// It makes them anew for each batch, and they are about its own interface, not about the SQL.
pub(crate) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        set_warning_function(|remark, kind| tracing::debug!(target: "polars", ?kind, "{remark}"));
    });
}

/// Runs Polars without its pool of threads: on a batch, waking them and waiting for them takes longer than the work, and
/// the cores are busy with the batches before and after it.
pub(crate) fn on_this_thread<T>(run: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALLOW_RAYON_THREADS.set(self.0);
        }
    }
    let _restore = Restore(ALLOW_RAYON_THREADS.replace(false));
    run()
}

/// Runs Polars so that a panic inside it, as on a value it did not expect, is an error of this batch or query.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Error::Engine(words.unwrap_or("it panicked").to_owned())
    })
}
