//! One commit as a transaction of the Delta kernel.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder,
    StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use delta_kernel::EngineData;
use delta_kernel::engine::arrow_conversion::TryIntoKernel as _;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::SchemaRef as KernelSchemaRef;
use delta_kernel::transaction::UpdateTableOperation;

use super::engine::{self, ENGINE_INFO, LOG, LogWriter, Outcome};
use super::schema::field_to_kernel;
use super::state::State;
use super::version::{Mark, REJECTED_DOMAIN, Rejected, STAMP, Stamp};
use crate::parquet::log::{DataFile, Form};
use crate::schema::schema as schema_of;
use crate::{Epoch, Error};

/// Commits on top of a state. After an error, only reading the log can tell whether it took place.
pub(super) fn commit(
    root: &Path,
    log: &LogWriter,
    state: &State,
    form: &Form,
    stamp: &Stamp,
    epoch: &Epoch,
) -> Result<Outcome, Error> {
    let folder = root.join(LOG);
    let kernel = |error| Error::delta("commit to", &folder)(error);
    let operation = UpdateTableOperation::StreamingUpdate;
    let mut builder = state.snapshot.clone().update_table(operation, ENGINE_INFO, true);
    for mark in marks(state, epoch) {
        if epoch.partitions.contains_key(&mark.partition) {
            let app = format!("puddle:{}:{}:{}", state.owner, mark.partition.topic, mark.partition.partition);
            builder = builder.with_transaction_id(app, mark.next);
        }
        builder = builder.with_domain_metadata(mark.domain(), json(&mark));
    }
    if stamp.touches_rejected() {
        let newest = Rejected { version: stamp.commit.epoch };
        builder = builder.with_domain_metadata(REJECTED_DOMAIN.to_owned(), json(&newest));
    }
    let schema = schema_of(&form.columns).map_err(|reason| Error::corrupt(&folder, reason))?;
    for field in schema.fields() {
        if !state.form.columns.iter().any(|column| &column.name == field.name()) {
            builder = builder.add_column(field_to_kernel(field)?);
        }
    }
    let (info, info_schema) = info(STAMP, stamp.seal()).map_err(kernel)?;
    builder = builder.with_commit_info(info, info_schema);
    let mut transaction = builder.build(engine::engine(), Box::new(log.clone())).map_err(kernel)?;
    let files: Vec<&DataFile> = stamp.commit.files.iter().filter(|file| !file.rejected).collect();
    if !files.is_empty() {
        let added = added(&files, &form.partition_by, stamp.commit.time).map_err(kernel)?;
        transaction.add_files(added);
    }
    engine::commit(root, transaction)
}

/// The partitions that an epoch says something of, as they will be.
fn marks(state: &State, epoch: &Epoch) -> Vec<Mark> {
    let mut touched: Vec<_> = epoch.partitions.keys().chain(epoch.retried.keys()).cloned().collect();
    touched.sort_unstable();
    touched.dedup();
    let mark = |partition: puddle_types::TopicPartition| {
        let mut mark = state.marks.get(&partition).cloned().unwrap_or_else(|| Mark::new(partition.clone()));
        if let Some(span) = epoch.partitions.get(&partition) {
            mark.advance(span);
        }
        if let Some(again) = epoch.retried.get(&partition) {
            mark.retry(again);
        }
        mark
    };
    touched.into_iter().map(mark).collect()
}

/// What goes into `commitInfo`, besides what the kernel writes there: one field.
pub(super) fn info(
    field: &'static str,
    sealed: String,
) -> Result<(Box<dyn EngineData>, KernelSchemaRef), delta_kernel::KernelError> {
    let sealed: ArrayRef = Arc::new(StringArray::from(vec![sealed]));
    let row = RecordBatch::try_from_iter([(field, sealed)])?;
    let schema = row.schema().try_into_kernel()?;
    Ok((Box::new(ArrowEngineData::new(row)), Arc::new(schema)))
}

/// The `add` actions of files that are in place.
pub(super) fn added(
    files: &[&DataFile],
    partition_by: &[String],
    now: i64,
) -> Result<Box<dyn EngineData>, delta_kernel::KernelError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut values = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for file in files {
        for (column, value) in partition_by.iter().zip(&file.partition) {
            values.keys().append_value(column);
            // To Delta Lake, the empty string is null, as it is to Hive.
            values.values().append_option(value.as_deref().filter(|value| !value.is_empty()));
        }
        values.append(true)?;
    }
    let values = values.finish();
    let paths = files.iter().map(|file| {
        let inside = file.destination.split_once('/').map_or(file.destination.as_str(), |(_, inside)| inside);
        engine::encode_path(inside)
    });
    let stats = StructArray::try_new(
        Fields::from(vec![
            Field::new("numRecords", DataType::Int64, true),
            Field::new("tightBounds", DataType::Boolean, true),
        ]),
        vec![
            Arc::new(Int64Array::from_iter_values(files.iter().map(|file| number(file.rows)))),
            Arc::new(BooleanArray::from(vec![true; files.len()])),
        ],
        None,
    )?;
    let schema = Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("partitionValues", arrow::array::Array::data_type(&values).clone(), false),
        Field::new("size", DataType::Int64, false),
        Field::new("modificationTime", DataType::Int64, false),
        Field::new("stats", arrow::array::Array::data_type(&stats).clone(), true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(paths)),
        Arc::new(values),
        Arc::new(Int64Array::from_iter_values(files.iter().map(|file| number(file.bytes)))),
        Arc::new(Int64Array::from(vec![now; files.len()])),
        Arc::new(stats),
    ];
    Ok(Box::new(ArrowEngineData::new(RecordBatch::try_new(Arc::new(schema), columns)?)))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the log's types have string keys only")
}
