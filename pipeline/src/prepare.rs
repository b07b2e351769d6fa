//! Everything that is checked before the first record is read: schema, SQL, references, table.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use puddle_ingest::Format;
use puddle_ingest::admin::Admin;
use puddle_ingest::identity::TopicIds;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::reader::sample;
use puddle_ingest::schema::{SchemaDecl, infer};
use puddle_transform::Transform;
use puddle_types::metadata;

use crate::metrics::Metrics;
use crate::patience::{Patience, Reminder};
use crate::setback::Setback;
use crate::table::{Store, Table};
use crate::{Error, Pipeline};

/// How many records of each topic a schema is inferred from.
pub(crate) const INFERENCE_SAMPLE: usize = 1_000;
/// How long to wait for a first record to infer from, between two looks.
const INFERENCE_POLL: Duration = Duration::from_millis(500);

/// What a run needs before it reads a record.
pub(crate) struct Ready {
    pub(crate) transform: Transform,
    pub(crate) schema: SchemaDecl,
    pub(crate) store: Store,
    /// How many partitions the topics have.
    pub(crate) partitions: usize,
    pub(crate) topic_ids: TopicIds,
}

/// Where a run reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) lake: &'a Path,
    pub(crate) table: &'a Arc<dyn Table>,
}

/// Checks and opens everything, in an order in which a mistake leaves nothing behind: what needs no broker, what needs
/// no lake, the lake. With `wait`, waits for a first record to infer the schema from. A full disk is waited for.
pub(crate) async fn ready(
    pipeline: &Pipeline,
    place: Place<'_>,
    wait: bool,
    patience: &Patience,
    metrics: &Metrics,
) -> Result<Ready, Error> {
    let brokers = place.brokers;
    let known = match known_schema(pipeline)? {
        Some(schema) => Some((transform(pipeline, &schema)?, schema)),
        None => None,
    };
    let (partitions, topic_ids) = topics(pipeline, brokers).await?;
    let is_new = known.is_none();
    let (transform, schema) = match known {
        Some(known) => known,
        None => {
            let schema = infer_schema(pipeline, brokers, wait, patience).await?;
            (transform(pipeline, &schema)?, schema)
        }
    };
    let store = open(place, transform.output_schema(), patience, metrics).await?;
    if is_new {
        schema.store(&pipeline.schema_file())?;
        tracing::info!(file = %pipeline.schema_file().display(), "inferred the schema and pinned it");
    }
    Ok(Ready { transform, schema, store, partitions, topic_ids })
}

/// Opens the table, when there is room for that.
async fn open(
    Place { lake, table, .. }: Place<'_>,
    columns: SchemaRef,
    patience: &Patience,
    metrics: &Metrics,
) -> Result<Store, Error> {
    let mut setback = None;
    loop {
        let (table, columns) = (Arc::clone(table), columns.clone());
        match blocking(move || Store::open(table, columns)).await {
            Ok(store) => {
                setback.into_iter().for_each(|setback: Setback| setback.passed(metrics));
                return Ok(store);
            }
            Err(error) if error.is_full() => {
                let next = Setback::after(setback.take(), error.into(), lake, patience, metrics)?;
                tokio::time::sleep_until(next.again().unwrap_or_else(Instant::now).into()).await;
                setback = Some(next);
            }
            Err(error) if error.is_usage() || matches!(error, puddle_sink::Error::Locked { .. }) => {
                return Err(Error::Sink(error));
            }
            Err(source) => return Err(Error::Lake { lake: lake.to_owned(), source }),
        }
    }
}

/// The compiled SQL and the schema, for what needs no broker: a schema must be known already.
pub(crate) fn without_broker(pipeline: &Pipeline) -> Result<(Transform, SchemaDecl), Error> {
    let none = || Error::NoSchema { pinned: pipeline.schema_file(), file: pipeline.file() };
    let schema = known_schema(pipeline)?.ok_or_else(none)?;
    Ok((transform(pipeline, &schema)?, schema))
}

/// The schema that records are decoded by, if it is declared, the format has one, or an earlier run pinned it.
fn known_schema(pipeline: &Pipeline) -> Result<Option<SchemaDecl>, Error> {
    let pin = pipeline.schema_file();
    match pipeline.ingest.known_schema() {
        Some(schema) => Ok(Some(schema)),
        None => Ok(SchemaDecl::load(&pin)?),
    }
}

/// Checks that a broker answers and has the topics. Returns how many partitions they have, and their ids.
async fn topics(pipeline: &Pipeline, brokers: &str) -> Result<(usize, TopicIds), Error> {
    let (brokers, config) = (brokers.to_owned(), pipeline.ingest.clone());
    blocking(move || {
        let admin = Admin::connect(&brokers, &config.client)?;
        let partitions = config.topics.iter().map(|topic| Ok(admin.watermarks(topic)?.len()));
        let partitions = partitions.sum::<Result<usize, Error>>()?;
        Ok((partitions, TopicIds::note(&brokers, &config.client, &config.topics)?))
    })
    .await
}

/// Takes the schema from the producers, or infers it from the first records. With `wait`, waits where there is neither.
async fn infer_schema(
    pipeline: &Pipeline,
    brokers: &str,
    wait: bool,
    patience: &Patience,
) -> Result<SchemaDecl, Error> {
    let mut reminder = Reminder::new(Instant::now() + patience.stall, patience.stall);
    loop {
        if let Some(schema) = look_for_schema(pipeline, brokers).await? {
            return Ok(schema);
        }
        if !wait {
            let topic = pipeline.ingest.topics.join(", ");
            let lacks = match pipeline.ingest.format {
                Format::Avro => "schema of its values in the registry",
                _ => "records to infer a schema from",
            };
            return Err(Error::NothingToInfer { topic, lacks, file: pipeline.file() });
        }
        if reminder.is_due(Instant::now()) {
            let topic = pipeline.ingest.topics.join(", ");
            tracing::warn!(
                pipeline = pipeline.name,
                topic,
                "waiting for a first record, or for its schema in the registry, to know the columns"
            );
        }
        tokio::time::sleep(INFERENCE_POLL).await;
    }
}

/// The schema that producers have told of, or that the first records have.
async fn look_for_schema(pipeline: &Pipeline, brokers: &str) -> Result<Option<SchemaDecl>, Error> {
    if pipeline.ingest.format != Format::Json {
        let config = pipeline.ingest.clone();
        return Ok(blocking(move || config.producers_schema()).await?);
    }
    let mut batches = Vec::new();
    for topic in &pipeline.ingest.topics {
        let (brokers, topic, client) = (brokers.to_owned(), topic.clone(), pipeline.ingest.client.clone());
        batches.extend(blocking(move || sample(&brokers, &client, &topic, INFERENCE_SAMPLE)).await?);
    }
    let samples: Vec<&[u8]> =
        batches.iter().flat_map(RawBatch::records).filter_map(|record| record.value).collect();
    if samples.is_empty() { Ok(None) } else { Ok(Some(infer(&samples)?)) }
}

/// The compiled SQL; without SQL, one that keeps every column.
fn transform(pipeline: &Pipeline, schema: &SchemaDecl) -> Result<Transform, Error> {
    let stream = pipeline.stream_name();
    let (file, sql) = match &pipeline.sql {
        Some(sql) => (sql.file.display().to_string(), sql.text.clone()),
        None => (
            pipeline.file().display().to_string(),
            format!("SELECT * FROM \"{}\"", stream.replace('"', "\"\"")),
        ),
    };
    Ok(Transform::from_source(&file, stream, input_schema(schema), &sql, &pipeline.references)?)
}

/// The columns that the SQL sees: those of the records, then the metadata.
fn input_schema(schema: &SchemaDecl) -> SchemaRef {
    let mut fields = schema.to_arrow().fields().to_vec();
    fields.extend(metadata::fields().into_iter().map(Arc::new));
    Arc::new(Schema::new(fields))
}

/// Runs blocking work off the async threads.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let task = tokio::task::spawn_blocking(work);
    async { task.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) }
}
