//! Partitions come and go: what the poll loop does when the group hands them out anew.
//!
//! ```text
//! assign   committed offsets ─► assignment ─► librdkafka ─► Assigned
//! revoke   flush ─► Revoking ─► wait for the ack ─┬─ in time ─► librdkafka
//!          assignment lost ───────────────────────┴─ too late ─► Lost ─► librdkafka
//! ```

use std::sync::mpsc::RecvTimeoutError;

use puddle_types::TopicPartition;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tracing::{debug, warn};

use super::decode::Envelope;
use super::held::Held;
use super::poll::{Poller, Stop, discard};
use super::{Ack, Event, check, fetch_watermarks};
use crate::client::lock;
use crate::error::Error;

impl Poller {
    /// Puts the committed offsets into the assignment before librdkafka gets it, so that nothing is ever read from
    /// the wrong place.
    pub(super) fn assign(&mut self, list: &TopicPartitionList) -> Result<(), Stop> {
        let mut assignment = TopicPartitionList::with_capacity(list.count());
        let mut assigned = Vec::with_capacity(list.count());
        for element in list.elements() {
            let partition = self.partition(element.topic(), element.partition());
            let watermarks = fetch_watermarks(&self.consumer, &partition)?;
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
            self.partitions.insert(partition.clone(), Held::new(partition.clone(), generation, next));
            assigned.push(partition);
        }
        self.consumer
            .incremental_assign(&assignment)
            .map_err(|error| Error::kafka("take over the partitions assigned by the group", &error))?;
        self.send(Envelope::Event(Event::Assigned(assigned), None))
    }

    pub(super) fn revoke(&mut self, list: &TopicPartitionList) -> Result<(), Stop> {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|e| self.partition(e.topic(), e.partition())).collect();
        let held: Vec<TopicPartition> =
            partitions.into_iter().filter(|p| self.partitions.contains_key(p)).collect();
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
}
