//! What a source reads, within which bounds, and the settings of its consumer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use puddle_types::Progress;
use rdkafka::config::ClientConfig;

use crate::config::IngestConfig;
use crate::error::Error;
use crate::schema::SchemaDecl;

/// How many bytes may be read and not yet taken by [`Source::next`](super::Source::next): about 50,000 records of 300
/// bytes. A choice for small memory; a larger one lets the client run further ahead of a slow decoder.
pub const DEFAULT_BUDGET_BYTES: usize = 16 << 20;

/// How long a revoked partition waits for [`Ack::done`](super::Ack::done): long enough to write and commit an epoch, and a fraction
/// of the five minutes after which the group gives us up (`max.poll.interval.ms`).
pub const DEFAULT_REVOKE_WAIT: Duration = Duration::from_secs(20);

/// How long [`Source::start`](super::Source::start) waits for the first answer of a broker.
pub const START_PATIENCE: Duration = Duration::from_secs(10);

/// librdkafka's own bounds: what it fetches ahead, and what one answer may carry, compressed, in all and of one
/// partition. An answer of JSON unpacks to several times its size, so the defaults (64, 50 and 1 MB) allow far more
/// memory than a small machine should give to a reader.
///
/// An answer may be all of one partition: then it costs the same memory and fills batches as well whether a topic has
/// one partition or hundreds, and a topic of one partition needs no more requests. librdkafka begins each request with
/// another partition, so that none is left behind.
const FETCH_BOUNDS: [(&str, &str); 4] = [
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "20000"),
    ("fetch.max.bytes", "2097152"),
    ("fetch.message.max.bytes", "2097152"),
];

/// Other settings of the consumer that a user may change.
const TUNING: [(&str, &str); 3] = [
    // Partitions that are added while we run are read within this time; the default is five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    // After an end of partition, how soon new records are asked for again.
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.wait.max.ms", "100"),
];

/// Settings of the consumer that nobody may change: exactly-once stands on them.
const PINNED: [(&str, &str); 8] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("group.protocol", "classic"),
];

/// What a [`Source`] reads, and how.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Addresses of brokers, `host:port`, separated by commas.
    pub brokers: String,
    /// The consumer group, unless `config` names one.
    pub group: String,
    /// The `[ingest]` table.
    pub config: IngestConfig,
    /// The fields of a record; those of `config`, or what was inferred and pinned.
    pub schema: SchemaDecl,
    /// How many bytes may be read and not taken yet; [`DEFAULT_BUDGET_BYTES`].
    pub budget_bytes: usize,
    /// How long a revoked partition waits for [`Ack::done`](super::Ack::done); [`DEFAULT_REVOKE_WAIT`].
    pub revoke_wait: Duration,
    /// Set where other members of the group write to the same table: a partition that is assigned to us goes on from
    /// what this says then, and the group is left when the source closes, also by a static member. `None` by default.
    pub sharing: Option<FreshProgress>,
}

/// Asks the sink how far the table is by now, whoever wrote it.
#[derive(Clone)]
pub struct FreshProgress(Arc<Ask>);

type Ask = dyn Fn() -> Result<Progress, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

impl FreshProgress {
    /// Asks like this; from the thread that serves the group, so an answer should take less than seconds.
    pub fn new(
        ask: impl Fn() -> Result<Progress, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn ask(&self) -> Result<Progress, Error> {
        (self.0)().map_err(|source| Error::Progress { source })
    }
}

impl fmt::Debug for FreshProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshProgress")
    }
}

impl SourceSettings {
    /// These settings, with the default bounds.
    pub fn new(
        brokers: impl Into<String>,
        group: impl Into<String>,
        config: IngestConfig,
        schema: SchemaDecl,
    ) -> Self {
        Self {
            brokers: brokers.into(),
            group: group.into(),
            config,
            schema,
            budget_bytes: DEFAULT_BUDGET_BYTES,
            revoke_wait: DEFAULT_REVOKE_WAIT,
            sharing: None,
        }
    }

    /// The fixed name of this member, if it has one.
    pub(super) fn member(&self) -> String {
        self.config.client.get("group.instance.id").unwrap_or_default().to_owned()
    }

    pub(super) fn client_config(&self) -> Result<ClientConfig, Error> {
        let mut config = self.config.client.config(&self.brokers)?;
        for (key, value) in FETCH_BOUNDS.iter().chain(&TUNING) {
            if config.get(key).is_none() {
                config.set(*key, *value);
            }
        }
        PINNED.iter().for_each(|(key, value)| _ = config.set(*key, *value));
        config.set("group.id", self.config.group.as_ref().unwrap_or(&self.group));
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;
    use crate::client::{self, ClientSettings, Context};
    use crate::schema::{FieldDecl, Kind, ValueDecl};

    fn settings(client: &[(&str, &str)]) -> SourceSettings {
        let mut config: IngestConfig = toml::from_str("topics = ['flights']").unwrap();
        config.client =
            ClientSettings::new(client.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let value = ValueDecl::nullable(Kind::Int64);
        let schema = SchemaDecl::new(vec![FieldDecl { name: "id".into(), value }]).unwrap();
        SourceSettings::new("127.0.0.1:1", "puddle-flights", config, schema)
    }

    #[test]
    fn what_exactly_once_stands_on_is_set_whatever_the_user_sets() {
        let config = settings(&[("fetch.wait.max.ms", "7")]).client_config().unwrap();
        for (key, value) in PINNED {
            assert_eq!(config.get(key), Some(value));
        }
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("group.id"), Some("puddle-flights"));
    }

    #[test]
    fn what_is_pinned_is_refused_by_name() {
        for (key, _) in PINNED {
            let error = settings(&[(key, "x")]).client_config().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn librdkafka_accepts_the_settings() {
        settings(&[]).client_config().unwrap().create_native_config().unwrap();
    }

    #[test]
    fn a_setting_that_librdkafka_does_not_accept_is_named_without_its_value() {
        let config = settings(&[("session.timeout.ms", "hunter2")]).client_config().unwrap();
        let made: Result<BaseConsumer<Context>, Error> = client::create(&config, Context::default());
        let Err(error) = made else { panic!("accepted") };
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains("session.timeout.ms"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
