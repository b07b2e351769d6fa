//! SIGINT and SIGTERM: the first asks for a clean end, the second ends at once.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGINT or SIGTERM after this call. From then on a second one ends the process.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    // Now and not when it is first waited for: whoever was told how to stop us may do so at once.
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut int), Ok(mut term)) = handlers else {
            // Without handlers the signals end the process, which the commit protocol survives.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = int.recv() => std::process::exit(130),
                _ = term.recv() => std::process::exit(143),
            }
        });
    }
}
