//! SIGINT and SIGTERM: the first asks for a clean end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGINT or SIGTERM. From then on a second one ends the process.
pub(crate) async fn interrupted() {
    let (mut int, mut term) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(int), Ok(term)) => (int, term),
        // Without handlers the signals end the process, which the commit protocol survives.
        _ => return std::future::pending().await,
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
