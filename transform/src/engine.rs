//! Polars as a part of a longer running process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use polars::error::set_warning_function;

use crate::Error;

/// Sends the remarks that Polars prints, such as what its next version will no longer do, to the log.
/// It makes them anew for each batch, and they are about its own interface, not about the SQL.
pub(crate) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        set_warning_function(|remark, kind| tracing::debug!(target: "polars", ?kind, "{remark}"));
    });
}

/// Runs Polars so that a panic inside it, as on a value it did not expect, is an error of this batch or query.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Error::Engine(words.unwrap_or("it panicked").to_owned())
    })
}
