//! `puddle topics`: what is in the broker.

use puddle_ingest::admin::{Admin, Topic};
use serde_json::json;

use super::blocking;
use crate::broker::Brokers;
use crate::cli::{self, TopicsAction};
use crate::output::{self, aligned, count};

/// Lists, makes or deletes topics.
pub(crate) async fn topics(args: cli::Topics) -> anyhow::Result<()> {
    let broker = match &args.action {
        Some(TopicsAction::Create { broker, .. } | TopicsAction::Delete { broker, .. }) => broker,
        None => &args.broker,
    };
    let brokers = Brokers::find(broker).await?;
    let address = brokers.address.clone();
    let result = blocking(move || act(args, &address)).await;
    brokers.close().await;
    output::print(&result?)
}

fn act(args: cli::Topics, brokers: &str) -> anyhow::Result<String> {
    let admin = Admin::connect(brokers, &Default::default())?;
    match args.action {
        Some(TopicsAction::Create { topic, partitions, .. }) => {
            admin.create_topic(&topic, partitions)?;
            Ok(format!("made {topic} with {partitions} partitions\n"))
        }
        Some(TopicsAction::Delete { topic, .. }) => {
            admin.delete_topic(&topic)?;
            Ok(format!("deleted {topic}\n"))
        }
        None if args.json => Ok(format!("{}\n", as_json(&admin.topics()?))),
        None => Ok(as_text(&admin.topics()?, brokers)),
    }
}

fn as_json(topics: &[Topic]) -> serde_json::Value {
    topics
        .iter()
        .map(|topic| {
            let partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|(partition, held)| json!({"partition": partition, "low": held.low, "high": held.high}))
                .collect();
            json!({"topic": topic.name, "partitions": partitions, "offsets": topic.offsets()})
        })
        .collect()
}

fn as_text(topics: &[Topic], brokers: &str) -> String {
    if topics.is_empty() {
        return format!("no topics in {brokers}; make some with: puddle replay flights\n");
    }
    let mut rows = vec![["topic", "partitions", "records"].map(str::to_owned)];
    rows.extend(topics.iter().map(|t| [t.name.clone(), t.partitions.len().to_string(), count(t.offsets())]));
    aligned(&rows)
}
