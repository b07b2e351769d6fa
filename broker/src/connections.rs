//! Who is connected and what that takes: so many connections and so many bytes, whatever clients do.
//!
//! ```text
//! new connection --admit--> full? the one that has been silent longest makes room
//! bytes held     --hold---> too many? the one that holds most of them without getting on gives up
//! ```
//!
//! Both limits are met by closing a connection that waits for its client: for a request, for the rest of one, or for
//! somebody to read an answer. One whose request is being served is left alone. So whoever opens thousands of connections,
//! or sends the first half of many large requests, mostly closes its own; and a client that had merely nothing to say
//! connects again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// All connections of a broker.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    max_bytes: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    members: HashMap<u64, Member>,
    bytes: usize,
}

#[derive(Debug)]
struct Member {
    /// Since when it waits for its client; `None` while a request is served.
    waits_since: Option<Instant>,
    bytes: usize,
    closed: Arc<Notify>,
}

/// One connection's entry; taken out when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Arc<Connections>,
    id: u64,
    closed: Arc<Notify>,
}

impl Connections {
    pub(crate) fn new(max: usize, max_bytes: usize) -> Arc<Connections> {
        Arc::new(Connections { max, max_bytes, open: Mutex::default() })
    }

    /// An entry for a new connection; `None` if there are as many as allowed, all of them at work.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Connection> {
        let mut open = self.lock();
        if open.members.len() >= self.max && !open.close_silent() {
            return None;
        }
        let id = open.next_id;
        open.next_id += 1;
        let closed = Arc::new(Notify::new());
        let member = Member { waits_since: Some(Instant::now()), bytes: 0, closed: Arc::clone(&closed) };
        open.members.insert(id, member);
        Some(Connection { all: Arc::clone(self), id, closed })
    }

    /// Closes the connection that has been silent longest, where something else but this limit ran out.
    pub(crate) fn close_silent(&self) -> bool {
        self.lock().close_silent()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn close_silent(&mut self) -> bool {
        let waiting = self.members.iter().filter_map(|(id, member)| Some((member.waits_since?, *id)));
        waiting.min().is_some_and(|(_, id)| self.close(id))
    }

    fn close_largest(&mut self) -> bool {
        let waiting = self.members.iter().filter(|(_, member)| member.waits_since.is_some());
        let largest = waiting.max_by_key(|(_, member)| member.bytes).map(|(id, _)| *id);
        largest.is_some_and(|id| self.close(id))
    }

    fn close(&mut self, id: u64) -> bool {
        let Some(member) = self.members.remove(&id) else { return false };
        self.bytes -= member.bytes;
        member.closed.notify_one();
        true
    }
}

impl Connection {
    /// A request is being served from now on, or the client is waited for.
    pub(crate) fn serves(&self, serves: bool) {
        if let Some(member) = self.all.lock().members.get_mut(&self.id) {
            member.waits_since = (!serves).then(Instant::now);
        }
    }

    /// So many bytes are held from now on: of requests that have arrived or of an answer that was not sent yet.
    pub(crate) fn hold(&self, bytes: usize) {
        let mut open = self.all.lock();
        let Some(member) = open.members.get_mut(&self.id) else { return };
        let before = std::mem::replace(&mut member.bytes, bytes);
        open.bytes = open.bytes - before + bytes;
        while open.bytes > self.all.max_bytes && open.close_largest() {}
    }

    /// Returns when the connection has to end, because others need what it holds.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().close(self.id);
    }
}

/// How often something that strangers can bring about at will is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Log lines that strangers can bring about at will: one now and then.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<(Instant, u64)>>);

impl Seldom {
    /// Whether to log this time, and if so, how many times were not logged since the last one.
    pub(crate) fn now(&self) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, unlogged)) if at.elapsed() < LOG_EVERY => {
                *unlogged += 1;
                None
            }
            other => Some(other.replace((Instant::now(), 0)).map_or(0, |(_, unlogged)| unlogged)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_closed(connection: &Connection) -> bool {
        pin!(connection.closed()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn the_longest_silent_makes_room() {
        let all = Connections::new(3, 100);
        let [serving, silent, talking] = [(); 3].map(|()| all.admit().unwrap());
        serving.serves(true);
        talking.serves(true);
        talking.serves(false);
        let new = all.admit().unwrap();
        assert_eq!([&serving, &silent, &talking, &new].map(is_closed), [false, true, false, false]);
    }

    #[test]
    fn who_is_served_is_left_alone() {
        let all = Connections::new(2, 100);
        let serving = [(); 2].map(|()| all.admit().unwrap());
        serving.iter().for_each(|connection| connection.serves(true));
        assert!(all.admit().is_none());
        drop(serving);
        assert!(all.admit().is_some());
    }

    #[test]
    fn who_holds_most_without_getting_on_gives_up() {
        let all = Connections::new(10, 100);
        let [serving, large, small] = [(); 3].map(|()| all.admit().unwrap());
        serving.serves(true);
        serving.hold(50);
        large.hold(30);
        small.hold(20);
        assert!(!is_closed(&large) && !is_closed(&small));
        small.hold(21);
        assert_eq!([&serving, &large, &small].map(is_closed), [false, true, false]);
        // What it held counts no more, whatever it says.
        large.hold(100);
        small.hold(50);
        assert!(!is_closed(&small));
        small.hold(51);
        assert!(is_closed(&small));
    }

    #[test]
    fn what_strangers_bring_about_is_logged_once_in_a_while() {
        let seldom = Seldom::default();
        assert_eq!([(); 3].map(|()| seldom.now()), [Some(0), None, None]);
    }
}
