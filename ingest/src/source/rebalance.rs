//! Partitions come and go: what the poll loop does when the group hands them out anew.
//!
//! ```text
//! assign   progress, by now ─► assignment ─► librdkafka ─► Assigned
//!          no broker to ask ─► once more, half a second later
//! revoke   flush ─► Revoking ─► wait for the ack ─┬─ in time ─► librdkafka
//!          assignment lost ───────────────────────┴─ too late ─► Lost ─► librdkafka
//! ```

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use puddle_types::TopicPartition;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tracing::{debug, warn};

use super::decode::Envelope;
use super::held::Held;
use super::poll::{Poller, Stop, discard};
use super::{Ack, Event, Watermarks, check};
use crate::client::{self, Rebalance, lock};
use crate::error::Error;
use crate::watermarks;

/// How long an assignment may wait for a broker that tells what the partitions hold: as long as the group itself waits
/// for a member (`max.poll.interval.ms`).
const ASSIGN_PATIENCE: Duration = Duration::from_secs(300);

/// The pause between two attempts, during which the group is served.
const ASSIGN_AGAIN: Duration = Duration::from_millis(500);

/// How long an orderly leave may take; the group finds out by itself after the session's time.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// An assignment that waits for a broker.
pub(super) struct Putoff {
    list: TopicPartitionList,
    since: Instant,
    again: Instant,
}

/// What came of an attempt to take partitions over.
enum Taken {
    Yes,
    /// Nothing changed; no broker could tell what they hold.
    NotYet(Error),
}

impl Poller {
    /// Carries out what the group decided, in its order.
    pub(super) fn rebalance(&mut self) -> Result<(), Stop> {
        loop {
            let (list, since) = match self.put_off.take() {
                Some(waiting) if waiting.again > Instant::now() => {
                    self.put_off = Some(waiting);
                    return Ok(());
                }
                Some(Putoff { list, since, .. }) => (list, since),
                None => match self.consumer.context().next_rebalance() {
                    Some(Rebalance::Assign(list)) => (list, Instant::now()),
                    Some(Rebalance::Revoke(list)) => {
                        self.revoke(&list)?;
                        continue;
                    }
                    None => return Ok(()),
                },
            };
            match self.assign(&list)? {
                Taken::Yes => {}
                Taken::NotYet(error) if since.elapsed() >= ASSIGN_PATIENCE => return Err(error.into()),
                Taken::NotYet(error) => {
                    debug!("assigned partitions wait: {error}");
                    self.put_off = Some(Putoff { list, since, again: Instant::now() + ASSIGN_AGAIN });
                }
            }
        }
    }

    /// Puts the committed offsets into the assignment before librdkafka gets it, so that nothing is ever read from
    /// the wrong place.
    fn assign(&mut self, list: &TopicPartitionList) -> Result<Taken, Stop> {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|e| self.partition(e.topic(), e.partition())).collect();
        let marks: Vec<_> = match self.look_at(&partitions)? {
            Ok(watermarks) => partitions.into_iter().zip(watermarks).collect(),
            Err(error) => return Ok(Taken::NotYet(error)),
        };
        if let Some(fresh) = self.settings.sharing.as_ref().filter(|_| !marks.is_empty()) {
            let fresh = fresh.ask()?;
            let mut shared = lock(&self.shared);
            for (partition, _) in &marks {
                if let Some(position) = fresh.get(partition) {
                    shared.learn(partition, *position);
                }
            }
        }
        let mut assignment = TopicPartitionList::with_capacity(marks.len());
        let mut assigned = Vec::with_capacity(marks.len());
        for (partition, watermarks) in marks {
            let (next, generation) = {
                let mut shared = lock(&self.shared);
                let next = shared.position(&partition);
                let next =
                    next.unwrap_or_else(|| shared.begin(&partition, self.settings.config.start, watermarks));
                shared.watermarks.insert(partition.clone(), watermarks);
                (next, shared.new_generation())
            };
            check::check_range(&partition, next, watermarks)?;
            debug!("{partition} is ours from offset {next} (generation {generation})");
            self.queue.lead_here(&partition);
            assignment
                .add_partition_offset(&partition.topic, partition.partition, KafkaOffset::Offset(next))
                .map_err(|error| Error::kafka(format!("read {partition} from offset {next}"), &error))?;
            self.partitions.insert(Held::new(partition.clone(), generation, next));
            assigned.push(partition);
        }
        self.consumer
            .incremental_assign(&assignment)
            .map_err(|error| Error::kafka("take over the partitions assigned by the group", &error))?;
        self.send(Envelope::Event(Event::Assigned(assigned), None))?;
        Ok(Taken::Yes)
    }

    /// What partitions hold; the inner error is one that passes when a broker is back or a leader elected.
    fn look_at(&self, partitions: &[TopicPartition]) -> Result<Result<Vec<Watermarks>, Error>, Stop> {
        let (partition, error) = match watermarks::ask(&self.consumer, partitions) {
            Ok(watermarks) => return Ok(Ok(watermarks)),
            Err(unanswered) => unanswered,
        };
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition,
            ) => {}
            Some(
                RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition,
            ) => self.confirm_topics()?,
            _ => return Err(watermarks::untold(&partition, &error).into()),
        }
        Ok(Err(watermarks::untold(&partition, &error)))
    }

    pub(super) fn revoke(&mut self, list: &TopicPartitionList) -> Result<(), Stop> {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|e| self.partition(e.topic(), e.partition())).collect();
        let held: Vec<TopicPartition> =
            partitions.into_iter().filter(|p| self.partitions.contains(p)).collect();
        let lost = self.consumer.assignment_lost();
        debug!("{} partitions {}", held.len(), if lost { "were lost" } else { "are being revoked" });
        if !held.is_empty() && (lost || !self.release(&held)?) {
            self.lose(&held)?;
        }
        for partition in &held {
            self.partitions.remove(partition);
            lock(&self.shared).watermarks.remove(partition);
        }
        self.consumer
            .incremental_unassign(list)
            .map_err(|error| Error::kafka("give back the partitions revoked by the group", &error))?;
        Ok(())
    }

    /// Lets the pipeline finish with partitions. Returns whether it did in time.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<bool, Stop> {
        self.hand_on(|held| partitions.contains(&held.partition))?;
        // Of capacity 0: an answer counts only if it meets us waiting, and `Ack::done` can say which it was.
        let (sender, answer) = std::sync::mpsc::sync_channel(0);
        let event = Event::Revoking { partitions: partitions.to_vec(), ack: Ack { sender: Some(sender) } };
        self.send(Envelope::Event(event, None))?;
        let in_time = match answer.recv_timeout(self.settings.revoke_wait) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        };
        if !in_time {
            let waited = self.settings.revoke_wait.as_secs_f32();
            warn!("{} revoked partitions were not released within {waited} s: given up", partitions.len());
        }
        // The hint of what was committed just now must reach the group while the partitions are still ours.
        self.obey()?;
        Ok(in_time)
    }

    fn lose(&mut self, partitions: &[TopicPartition]) -> Result<(), Stop> {
        for partition in partitions {
            if let Some(mut held) = self.partitions.remove(partition) {
                discard(&self.budget, held.take());
                lock(&self.shared).end(partition, held.generation);
            }
        }
        self.send(Envelope::Event(Event::Lost(partitions.to_vec()), None))
    }

    /// Leaves the group, as far as that is not what closing does anyway.
    pub(super) fn leave(&mut self) {
        for rebalance in self.consumer.context().leave_rebalances() {
            match rebalance {
                Rebalance::Assign(_) => client::refuse(&self.consumer, None),
                Rebalance::Revoke(list) => client::refuse(&self.consumer, Some(&list)),
            }
        }
        if self.put_off.take().is_some() {
            client::refuse(&self.consumer, None);
        }
        if self.settings.sharing.is_none() {
            return;
        }
        // A closing consumer with a fixed name does not tell the group (KIP-345), and what it held would lie idle until
        // its session ends. One that gives up its topics first does tell.
        self.consumer.unsubscribe();
        let end = Instant::now() + LEAVE_PATIENCE;
        while self.queue.is_member() && Instant::now() < end {
            let _ = self.consumer.poll(Duration::from_millis(10));
        }
    }
}
