//! Everything that is checked before the first record is read: schema, SQL, references, table.

use std::future::Future;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use puddle_ingest::admin::Admin;
use puddle_ingest::raw::RawBatch;
use puddle_ingest::reader::sample;
use puddle_ingest::schema::{SchemaDecl, infer};
use puddle_transform::Transform;
use puddle_types::metadata;
use std::sync::Arc;

use crate::{Error, Pipeline};

/// How many records of each topic a schema is inferred from.
pub(crate) const INFERENCE_SAMPLE: usize = 1_000;
/// How long to wait for a first record to infer from, between two looks.
const INFERENCE_POLL: Duration = Duration::from_millis(500);

/// The schema that records are decoded by, if it is declared or was pinned by an earlier run.
pub(crate) fn known_schema(pipeline: &Pipeline) -> Result<Option<SchemaDecl>, Error> {
    let pin = pipeline.schema_file();
    match &pipeline.ingest.schema {
        Some(declared) => Ok(Some(declared.clone())),
        None => Ok(SchemaDecl::load(&pin)?),
    }
}

/// Checks that a broker answers and has the topics. Returns how many partitions they have.
pub(crate) async fn topics(pipeline: &Pipeline, brokers: &str) -> Result<usize, Error> {
    let (brokers, config) = (brokers.to_owned(), pipeline.ingest.clone());
    blocking(move || {
        let admin = Admin::connect(&brokers, &config.client)?;
        config.topics.iter().map(|topic| Ok(admin.watermarks(topic)?.len())).sum()
    })
    .await
}

/// Infers the schema from the first records. With `wait`, waits for records where there are none.
pub(crate) async fn infer_schema(
    pipeline: &Pipeline,
    brokers: &str,
    wait: bool,
) -> Result<SchemaDecl, Error> {
    loop {
        let mut batches = Vec::new();
        for topic in &pipeline.ingest.topics {
            let (brokers, topic, client) =
                (brokers.to_owned(), topic.clone(), pipeline.ingest.client.clone());
            batches.extend(blocking(move || sample(&brokers, &client, &topic, INFERENCE_SAMPLE)).await?);
        }
        let samples: Vec<&[u8]> =
            batches.iter().flat_map(RawBatch::records).filter_map(|record| record.value).collect();
        if !samples.is_empty() {
            return Ok(infer(&samples)?);
        }
        if !wait {
            let topic = pipeline.ingest.topics.join(", ");
            return Err(Error::NothingToInfer { topic, file: pipeline.file() });
        }
        tokio::time::sleep(INFERENCE_POLL).await;
    }
}

/// The compiled SQL; without SQL, one that keeps every column.
pub(crate) fn transform(pipeline: &Pipeline, schema: &SchemaDecl) -> Result<Transform, Error> {
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
