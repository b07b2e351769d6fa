//! Going on behind records that the topic no longer holds, on the user's word.

use crate::prepare::blocking;
use crate::table::Store;
use crate::{Error, Pipeline};
use puddle_ingest::admin::Admin;

/// Where the oldest offset of a partition lies beyond the table's progress, lets the next commit begin there.
///
/// The log shows the gap: the next commit of the partition does not begin where the one before it ended.
pub(crate) async fn accept(pipeline: &Pipeline, brokers: &str, store: &mut Store) -> Result<(), Error> {
    let (brokers, config) = (brokers.to_owned(), pipeline.ingest.clone());
    let held = blocking(move || {
        let admin = Admin::connect(&brokers, &config.client)?;
        config
            .topics
            .iter()
            .map(|topic| Ok((topic.clone(), admin.watermarks(topic)?)))
            .collect::<Result<Vec<_>, Error>>()
    })
    .await?;
    for (partition, position) in store.progress().clone() {
        let low = held
            .iter()
            .find(|(topic, _)| **topic == *partition.topic)
            .and_then(|(_, partitions)| Some(partitions.get(&partition.partition)?.low));
        if let Some(low) = low.filter(|low| *low > position.next) {
            tracing::warn!(%partition, from = position.next, next = low, "a gap was accepted: these offsets are given up");
            store.accept_gap(&partition, low)?;
        }
    }
    Ok(())
}
