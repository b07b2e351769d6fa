//! A table's columns between Arrow and Delta, and the version that creates a table.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use delta_kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
use delta_kernel::schema::{StructField, StructType};
use serde_json::{Value, json};

use super::engine::ENGINE_INFO;
use crate::Error;
use crate::parquet::log::Form;
use crate::schema::schema as schema_of;

/// The property of a table that names the pipeline that it belongs to.
pub(super) const OWNER: &str = "puddle.owner";
/// What no name of a column may hold: Parquet readers of Delta tables take names apart there.
const ODD: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '\t', '\n'];

/// Refuses columns that Delta Lake cannot hold, by name.
pub(super) fn check(schema: &Schema) -> Result<(), Error> {
    for (position, field) in schema.fields().iter().enumerate() {
        let error = |reason: String| Error::Column { column: field.name().clone(), reason };
        check_field(field).map_err(error)?;
        let lower = field.name().to_lowercase();
        if let Some(twin) =
            schema.fields()[..position].iter().find(|other| other.name().to_lowercase() == lower)
        {
            let twin = twin.name();
            return Err(error(format!("Delta Lake does not tell it from {twin:?}; rename one with AS")));
        }
    }
    Ok(())
}

fn check_field(field: &Field) -> Result<(), String> {
    if let Some(odd) = field.name().chars().find(|c| ODD.contains(c) || *c == '=') {
        return Err(format!("Delta Lake allows no {odd:?} in a name; rename {:?} with AS", field.name()));
    }
    match field.data_type() {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            Err(format!("Delta Lake has no {}; use CAST(... AS BIGINT)", field.data_type()))
        }
        DataType::UInt64 => Err("Delta Lake has no UInt64; use CAST(... AS DECIMAL(20, 0))".to_owned()),
        DataType::Time64(_) => Err("Delta Lake has no time of day; use CAST(... AS VARCHAR)".to_owned()),
        DataType::List(element) => check_field(element),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_field(field)),
        _ => Ok(()),
    }
}

/// A stored schema as the kernel's.
pub(super) fn to_kernel(schema: &Schema) -> Result<StructType, Error> {
    schema.try_into_kernel().map_err(|error| Error::Column {
        column: schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
        reason: error.to_string(),
    })
}

/// A field that is added to a table.
pub(super) fn field_to_kernel(field: &Field) -> Result<StructField, Error> {
    let one = to_kernel(&Schema::new(vec![field.clone()]))?;
    one.fields().next().cloned().ok_or_else(|| Error::Column {
        column: field.name().clone(),
        reason: "Delta Lake cannot hold it".to_owned(),
    })
}

/// The kernel's schema of a table as Arrow's, with the types that its files have.
pub(super) fn to_arrow(schema: &StructType) -> Result<SchemaRef, String> {
    let schema: Schema = schema.try_into_arrow().map_err(|error| error.to_string())?;
    let fields: Vec<Field> = schema.fields().iter().map(|field| plain(field)).collect();
    Ok(SchemaRef::new(Schema::new(fields)))
}

/// Without what the kernel notes at a field.
fn plain(field: &Field) -> Field {
    let kind = match field.data_type() {
        DataType::List(element) => DataType::List(plain(element).into()),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| plain(field)).collect()),
        other => other.clone(),
    };
    Field::new(field.name(), kind, field.is_nullable())
}

/// The content of version 0: a table without rows, of this form.
///
/// The protocol is the lowest that has what is used: every reader reads version 1 of it, and only timestamps without
/// a zone need more. Domain metadata, which concerns writers alone, needs version 7 of theirs.
pub(super) fn creation(id: &str, owner: &str, form: &Form, now: i64) -> Result<String, Error> {
    let schema = schema_of(&form.columns).map_err(|reason| Error::Config { key: "table", reason })?;
    let mut features = vec!["domainMetadata"];
    let mut protocol = json!({ "minReaderVersion": 1, "minWriterVersion": 7 });
    if schema.fields().iter().any(|field| has_local_time(field.data_type())) {
        features.push("timestampNtz");
        protocol["minReaderVersion"] = json!(3);
        protocol["readerFeatures"] = json!(["timestampNtz"]);
    }
    protocol["writerFeatures"] = json!(features);
    let fields = serde_json::to_string(&to_kernel(&schema)?)
        .map_err(|error| Error::Config { key: "table", reason: error.to_string() })?;
    let metadata = json!({
        "id": id,
        "format": { "provider": "parquet", "options": {} },
        "schemaString": fields,
        "partitionColumns": form.partition_by,
        // The history is read from the versions, so that no clean-up of another writer may take them away.
        "configuration": { OWNER: owner, "delta.enableExpiredLogCleanup": "false" },
        "createdTime": now,
    });
    let info = json!({
        "timestamp": now,
        "operation": "CREATE TABLE",
        "operationParameters": {},
        "engineInfo": ENGINE_INFO,
    });
    let line = |name: &str, action: Value| json!({ name: action }).to_string() + "\n";
    Ok(line("commitInfo", info) + &line("protocol", protocol) + &line("metaData", metadata))
}

fn has_local_time(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(_, None) => true,
        DataType::List(element) => has_local_time(element.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_local_time(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::schema::{columns, stored};

    #[test]
    fn what_delta_cannot_hold_is_refused_by_name() {
        let one = |name: &str, kind| Schema::new(vec![Field::new(name, kind, true)]);
        let nested = DataType::Struct(vec![Field::new("b c", DataType::Utf8, true)].into());
        for schema in [
            one("a", DataType::UInt8),
            one("a", DataType::UInt64),
            one("a", DataType::Time64(TimeUnit::Microsecond)),
            one("a b", DataType::Utf8),
            one("a=b", DataType::Utf8),
            one("a", nested),
            Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("A", DataType::Utf8, true)]),
        ] {
            let error = check(&schema).unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
    }

    #[test]
    fn every_type_reads_back_from_the_kernel() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let kinds = [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            DataType::Decimal128(12, 2),
            utc.clone(),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::List(Field::new("item", DataType::Utf8, false).into()),
            DataType::Struct(vec![Field::new("x", utc, true)].into()),
        ];
        let fields: Vec<Field> =
            (0..).zip(kinds).map(|(n, kind)| Field::new(format!("c{n}"), kind, n % 2 == 0)).collect();
        let schema = stored(&Schema::new(fields)).unwrap();
        check(&schema).unwrap();
        let back = to_arrow(&to_kernel(&schema).unwrap()).unwrap();
        assert_eq!(columns(&back), columns(&schema));
    }

    #[test]
    fn only_local_times_need_a_newer_reader() {
        for (kind, version) in [(DataType::Int64, 1), (DataType::Timestamp(TimeUnit::Microsecond, None), 3)] {
            let list = DataType::List(Field::new("element", kind, true).into());
            let schema = Schema::new(vec![Field::new("c", list, true)]);
            let form = Form { columns: columns(&schema), partition_by: Vec::new() };
            let content = creation("id", "me", &form, 5).unwrap();
            let lines: Vec<Value> = content.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines[1]["protocol"]["minReaderVersion"], version, "{content}");
        }
    }
}
