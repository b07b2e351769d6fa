//! The broker's configuration in Kafka's names, for clients that ask for it.

use std::time::Duration;

use crate::BrokerConfig;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) kind: Kind,
}

/// The type of a setting, by Kafka's numbers (`ConfigDef.Type` in DescribeConfigs).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// What holds for every topic: nothing can be set for one topic alone.
pub(crate) fn of_topics(config: &BrokerConfig) -> Vec<Setting> {
    vec![
        setting("cleanup.policy", "delete", Kind::List),
        setting("compression.type", "producer", Kind::String),
        setting("max.message.bytes", config.max_batch_bytes, Kind::Int),
        setting("message.timestamp.type", "CreateTime", Kind::String),
        setting("min.insync.replicas", 1, Kind::Int),
        setting("retention.bytes", unlimited(config.retention_bytes), Kind::Long),
        setting("retention.ms", unlimited(config.retention_time.map(millis)), Kind::Long),
        setting("segment.bytes", config.segment_bytes, Kind::Int),
    ]
}

/// What holds for the broker.
pub(crate) fn of_broker(config: &BrokerConfig, node_id: i32) -> Vec<Setting> {
    vec![
        setting("node.id", node_id, Kind::Int),
        setting("log.dirs", config.dir.display(), Kind::String),
        setting("auto.create.topics.enable", config.auto_create_topics, Kind::Boolean),
        setting("num.partitions", config.default_partitions, Kind::Int),
        setting("default.replication.factor", 1, Kind::Int),
        setting("message.max.bytes", config.max_batch_bytes, Kind::Int),
        setting("socket.request.max.bytes", config.max_request_bytes, Kind::Int),
        setting("log.segment.bytes", config.segment_bytes, Kind::Int),
        setting("log.retention.bytes", unlimited(config.retention_bytes), Kind::Long),
        setting("log.retention.ms", unlimited(config.retention_time.map(millis)), Kind::Long),
        setting("group.initial.rebalance.delay.ms", millis(config.initial_rebalance_delay), Kind::Int),
        setting("group.min.session.timeout.ms", millis(config.min_session_timeout), Kind::Int),
        setting("group.max.session.timeout.ms", millis(config.max_session_timeout), Kind::Int),
    ]
}

/// Whether a topic may be made with this setting: only with the value that holds anyway, since to take another and not
/// follow it would be a lie.
pub(crate) fn check_topic_setting(
    config: &BrokerConfig,
    name: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let settings = of_topics(config);
    let Some(holds) = settings.iter().find(|setting| setting.name == name) else {
        return Err(format!("unknown or unsupported topic setting '{name}'"));
    };
    match value {
        Some(value) if value != holds.value => Err(format!(
            "'{name}' is '{}' for every topic here; it cannot be set to '{value}' for one topic",
            holds.value
        )),
        _ => Ok(()),
    }
}

fn setting(name: &'static str, value: impl ToString, kind: Kind) -> Setting {
    Setting { name, value: value.to_string(), kind }
}

fn unlimited<T: ToString>(limit: Option<T>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}
