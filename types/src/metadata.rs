//! The columns that tell where a record came from. Their names begin with `_`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Topic, as a string.
pub const TOPIC: &str = "_topic";
/// Partition, as a 32-bit integer.
pub const PARTITION: &str = "_partition";
/// Offset, as a 64-bit integer.
pub const OFFSET: &str = "_offset";
/// The record's timestamp, in milliseconds, UTC; null when it has none.
pub const TIMESTAMP: &str = "_timestamp";
/// The record's key, as bytes; null when it has none.
pub const KEY: &str = "_key";
/// Of a rejected record: why it was rejected.
pub const REASON: &str = "_reason";
/// Of a rejected record: its value, as bytes; null for a tombstone, and where it was no longer in the topic when it was to
/// be kept, which the reason says.
pub const VALUE: &str = "_value";

/// The type of [`TIMESTAMP`].
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The metadata columns that follow the columns of every decoded record, in this order.
pub fn fields() -> Vec<Field> {
    vec![
        Field::new(TOPIC, DataType::Utf8, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp_type(), true),
        Field::new(KEY, DataType::Binary, true),
    ]
}

/// The schema of rejected records: the metadata columns, the reason, and the raw value.
pub fn rejected_schema() -> SchemaRef {
    let mut fields = fields();
    fields.push(Field::new(REASON, DataType::Utf8, false));
    fields.push(Field::new(VALUE, DataType::Binary, true));
    Arc::new(Schema::new(fields))
}
