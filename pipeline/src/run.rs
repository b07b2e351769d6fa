//! The run loop: fills epochs, commits them, stops cleanly.
//!
//! ```text
//! Stage, the SQL's thread --rows--> Sink::write ----------.
//!                       '--failed--> Sink::write_rejected --+--> commit --> hint to the group
//!                                                           |
//!                 thrown away, read again from progress <---'  full disk, another writer, lost partitions
//! ```
//!
//! The loop is the only writer of its sink and the only judge of what belongs to an epoch, so there is nothing to
//! lock. Polling, decoding and the SQL go on in threads of their own while it writes and commits. Where other
//! runs write the same table, the sink compares each epoch with what is committed, and refuses one that is stale.

mod epochs;
mod stage;
mod turns;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use puddle_ingest::identity::TopicIds;
use puddle_ingest::{FreshProgress, Source, SourceSettings};
use puddle_types::{Offset, Progress, TopicPartition};
use tokio::sync::watch;
use tokio::task::block_in_place;

use self::stage::Stage;
use crate::epoch::OpenEpoch;
use crate::gaps;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::prepare::{self, Ready, blocking};
use crate::setback::Setback;
use crate::share::Share;
use crate::stall::Watch;
use crate::table::{LakeTable, Store, Table};
use crate::{Error, Pipeline, Summary};

/// Where each partition must have come to for a run to be over: exclusive next offsets.
pub type Targets = BTreeMap<TopicPartition, Offset>;

/// How a pipeline is to be run.
pub struct RunOptions {
    /// Kafka's bootstrap servers, as `host:port,host:port`.
    pub brokers: String,
    /// The folder of the tables.
    pub lake: PathBuf,
    /// Where to report to.
    pub metrics: Arc<Metrics>,
    /// When the run is over: never while this holds `None`; once it holds targets, as soon as they are committed.
    pub until: watch::Receiver<Option<Targets>>,
    /// What to do where retention has overtaken the table.
    pub gaps: Gaps,
}

/// What to do where the topic no longer holds the offset that the table goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// Stop, with an error that names the range and the ways on.
    #[default]
    Refuse,
    /// Give up what is gone and go on at the oldest offset there is. The log and the audit show the gap.
    Accept,
}

/// Runs `pipeline` until its targets are reached or `stop` completes; then commits what is in hand and leaves.
///
/// Everything that can be wrong with the pipeline is found before a record is read and before the lake is touched.
/// Runs of one pipeline whose table may have several writers share its partitions. A full disk is waited for.
pub async fn run(
    pipeline: &Pipeline,
    options: RunOptions,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    let (lake, config, owner) = (options.lake.clone(), pipeline.sink.clone(), pipeline.name.clone());
    let table = Arc::new(LakeTable { lake, config, owner });
    run_into(pipeline, options, table, Patience::of(&pipeline.commit), stop).await
}

/// As [`run`], into a table of the caller's, and with the caller's patience.
pub async fn run_into(
    pipeline: &Pipeline,
    options: RunOptions,
    table: Arc<dyn Table>,
    patience: Patience,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    let RunOptions { brokers, lake, metrics, until, gaps } = options;
    tokio::pin!(stop);
    let wait = until.borrow().is_none();
    let place = prepare::Place { brokers: &brokers, lake: &lake, table: &table };
    let Ready { transform, schema, mut store, partitions, topic_ids } = tokio::select! {
        ready = prepare::ready(pipeline, place, wait, &patience, &metrics) => ready?,
        () = &mut stop => return Ok(metrics.summary(&pipeline.sink.table)),
    };
    if gaps == Gaps::Accept {
        gaps::accept(pipeline, &brokers, &mut store).await?;
    }
    // Declared before the source, so that its place is held until the source has left the group.
    let member = match table.has_several_writers() {
        true => Some(Member::take(&lake, &pipeline.sink.table)?),
        false => None,
    };
    let settings = || SourceSettings {
        revoke_wait: patience.revoke,
        ..settings(pipeline, &brokers, schema.clone(), &table, member.as_ref())
    };
    let progress = store.resume();
    let positions = positions(&progress);
    let watch = Watch::new(metrics.clone(), &brokers, &pipeline.group(), patience.stall);
    let looking = watch.start();
    let mut source = start(settings(), progress).await?;
    let stage = Stage::start(transform, source.take_events(), watch.clone())?;
    let mut rejoin = Rejoin::of(pipeline, member.as_ref());
    let mut running = Running {
        pipeline,
        brokers: brokers.clone(),
        lake,
        table: Arc::clone(&table),
        patience: patience.clone(),
        positions,
        stage,
        source,
        store,
        metrics,
        watch,
        until,
        epoch: OpenEpoch::default(),
        ended: BTreeMap::new(),
        share: Share::new(partitions, member.is_some()),
        others: Progress::new(),
        topic_ids,
        setback: None,
    };
    let result = loop {
        match running.until_over(&mut stop).await {
            Err(error) if rejoin.is_worth_it(&error, running.metrics.records_committed()) => {
                tracing::info!(pipeline = pipeline.name, "joining the group anew: {error}");
                let Running { stage, source, mut store, watch, .. } = running;
                let transform = blocking(move || stage.close(source)).await;
                store.abort();
                block_in_place(|| store.reload())?;
                let progress = store.resume();
                let positions = self::positions(&progress);
                let mut source = start(settings(), progress).await?;
                running = Running {
                    positions,
                    stage: Stage::start(transform, source.take_events(), watch.clone())?,
                    source,
                    store,
                    watch,
                    epoch: OpenEpoch::default(),
                    ended: BTreeMap::new(),
                    share: Share::new(partitions, true),
                    ..running
                };
            }
            result => break result,
        }
    };
    drop(looking);
    let Running { stage, source, metrics, mut store, .. } = running;
    if result.is_err() {
        // The error is what the caller must see; what was staged is swept at the next start in any case.
        store.abort();
    }
    blocking(move || stage.close(source)).await;
    drop(member);
    result.map(|()| metrics.summary(&pipeline.sink.table))
}

async fn start(settings: SourceSettings, progress: Progress) -> Result<Source, Error> {
    Ok(blocking(move || Source::start(settings, progress)).await?)
}

/// Whether a run that was told that another has its name joins the group anew.
///
/// While its [`Member`] is held nobody else has the name: librdkafka, whose session ended while the process was
/// stopped, was taken for another by what it sent before it had joined again.
struct Rejoin {
    is_ours: bool,
    times: u32,
    committed: u64,
}

impl Rejoin {
    /// How often in a row, with nothing committed between.
    const MOST: u32 = 5;

    fn of(pipeline: &Pipeline, member: Option<&Member>) -> Self {
        let named_by_user = pipeline.ingest.client.has("group.instance.id");
        Self { is_ours: member.is_some() && !named_by_user, times: 0, committed: 0 }
    }

    fn is_worth_it(&mut self, error: &Error, committed: u64) -> bool {
        if committed > self.committed {
            (self.times, self.committed) = (0, committed);
        }
        self.times += 1;
        let is_fenced = matches!(error, Error::Ingest(puddle_ingest::Error::Fenced { .. }));
        self.is_ours && is_fenced && self.times <= Self::MOST
    }
}

/// What the source is to read, as which member of the group.
fn settings(
    pipeline: &Pipeline,
    brokers: &str,
    schema: puddle_ingest::schema::SchemaDecl,
    table: &Arc<dyn Table>,
    member: Option<&Member>,
) -> SourceSettings {
    let (mut config, group) = (pipeline.ingest.clone(), pipeline.group());
    // A fixed name: a run that begins after a kill takes the dead one's place at once, instead of waiting for the group
    // to forget it. Where there is one writer, there is one name; of two runs that share a group by mistake, the
    // earlier one is told.
    let name = member.map_or_else(|| group.clone(), |member| member.name(&group));
    config.client = config.client.or("group.instance.id", name);
    let mut settings = SourceSettings::new(brokers, group, config, schema);
    if member.is_some() {
        let table = Arc::clone(table);
        settings.sharing = Some(FreshProgress::new(move || Ok(table.progress()?)));
    }
    settings
}

fn positions(progress: &Progress) -> Targets {
    progress.iter().map(|(partition, position)| (partition.clone(), position.next)).collect()
}

struct Running<'a> {
    pipeline: &'a Pipeline,
    brokers: String,
    lake: PathBuf,
    table: Arc<dyn Table>,
    patience: Patience,
    // Before the source, which waits when it is dropped for what is in here.
    stage: Stage,
    source: Source,
    store: Store,
    metrics: Arc<Metrics>,
    watch: Watch,
    until: watch::Receiver<Option<Targets>>,
    epoch: OpenEpoch,
    /// Where the next batch of each partition must begin.
    positions: Targets,
    /// Where each partition's end was when it was reached, which may lie before the high watermark.
    ended: Targets,
    share: Share,
    /// What other runs have committed, as of the last look.
    others: Progress,
    topic_ids: TopicIds,
    /// What went wrong since the last commit.
    setback: Option<Setback>,
}
