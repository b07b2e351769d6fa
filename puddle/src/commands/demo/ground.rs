//! Clearing the ground: the demo replaces what an earlier demo made, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use puddle_ingest::admin::Admin;
use puddle_pipeline::Pipeline;
use puddle_sink::lake;
use serde::{Deserialize, Serialize};

use crate::commands::blocking;
use crate::places;

/// The partitions of a demo's topics.
const PARTITIONS: i32 = 4;

/// What demos in this folder have made, written before they make it.
#[derive(Default, Serialize, Deserialize)]
struct Made {
    topics: BTreeSet<String>,
    /// Table folders, absolute.
    tables: BTreeSet<PathBuf>,
}

/// Removes the topics and tables of an earlier demo and makes the topics anew. A topic or table of the same name
/// that no demo made is an error.
pub(super) async fn clear(
    pipelines: impl Iterator<Item = &Pipeline>,
    brokers: &str,
    lake: &Path,
) -> anyhow::Result<()> {
    let wanted: Vec<(Vec<String>, String)> =
        pipelines.map(|pipeline| (pipeline.ingest.topics.clone(), pipeline.sink.table.clone())).collect();
    let (brokers, lake) = (brokers.to_owned(), lake.to_owned());
    blocking(move || {
        let marker = Path::new(places::STATE_DIR).join("demo.json");
        let mut made: Made = match std::fs::read(&marker) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("cannot read {}", marker.display()))?,
            Err(_) => Made::default(),
        };
        let admin = Admin::connect(&brokers, &Default::default())?;
        let topics: BTreeSet<String> = admin.topics()?.into_iter().map(|topic| topic.name).collect();
        let tables: BTreeSet<String> = if lake.is_dir() { lake::tables(&lake)?.into_iter().map(|table| table.name).collect() } else { BTreeSet::new() };
        let lake_path = std::path::absolute(&lake)?;

        for (names, table) in &wanted {
            if let Some(topic) =
                names.iter().find(|topic| topics.contains(*topic) && !made.topics.contains(*topic))
            {
                bail!(
                    "{} has a topic {topic:?} that the demo did not make; run the demo in another folder, or delete the \
                     topic: puddle topics delete {topic}",
                    places::broker_dir().display()
                );
            }
            if tables.contains(table) && !made.tables.contains(&lake_path.join(table)) {
                bail!(
                    "{} is a table that the demo did not make; give the demo another lake: puddle demo --lake demo-lake",
                    lake.join(table).display()
                );
            }
        }
        for (names, table) in &wanted {
            made.topics.extend(names.iter().cloned());
            made.tables.insert(lake_path.join(table));
        }
        std::fs::create_dir_all(places::STATE_DIR)
            .and_then(|()| std::fs::write(&marker, serde_json::to_vec(&made)?))
            .with_context(|| format!("cannot write {}", marker.display()))?;

        for (names, table) in &wanted {
            if tables.contains(table) {
                puddle_sink::parquet::remove(&lake, table)?;
            }
            for topic in names {
                if topics.contains(topic) {
                    admin.delete_topic(topic)?;
                }
                admin.create_topic(topic, PARTITIONS)?;
            }
        }
        Ok(())
    })
    .await
}
