//! The SQL of the two ready pipelines, on a handful of their records.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, new_null_array};
use arrow::compute::{concat_batches, sum};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use puddle_transform::Transform;

use crate::common::{from_json, to_json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The pipeline's transform as its pipeline.toml describes it, and the schema of its records.
fn pipeline(name: &str) -> (Transform, SchemaRef) {
    let folder = root().join("pipelines").join(name);
    let config: toml::Table = std::fs::read_to_string(folder.join("pipeline.toml")).unwrap().parse().unwrap();
    assert_eq!(config["name"].as_str(), Some(name));
    let mut fields: Vec<Field> = config["ingest"]["schema"].as_table().unwrap().iter().map(field).collect();
    fields.extend(puddle_types::metadata::fields());
    let schema = Arc::new(Schema::new(fields));

    let references: Vec<(String, PathBuf)> = config["reference"]
        .as_table()
        .unwrap()
        .iter()
        .map(|(name, reference)| (name.clone(), root().join(reference["path"].as_str().unwrap())))
        .collect();
    let file = config["transform"]["sql"].as_str().unwrap();
    let sql = std::fs::read_to_string(folder.join(file)).unwrap();
    let transform = Transform::from_source(file, name, schema.clone(), &sql, &references)
        .unwrap_or_else(|error| panic!("{error}"));
    let partition = config["sink"]["partition_by"][0].as_str().unwrap();
    assert!(transform.output_schema().column_with_name(partition).is_some());
    (transform, schema)
}

fn field((name, declared): (&String, &toml::Value)) -> Field {
    let dtype = match declared.as_str().unwrap().trim_end_matches(" not null") {
        "int32" => DataType::Int32,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => panic!("{other}"),
    };
    Field::new(name, dtype, true)
}

fn records(schema: SchemaRef, lines: &[&str]) -> RecordBatch {
    let lines: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(offset, line)| {
            format!("{{\"_topic\":\"x\",\"_partition\":1,\"_offset\":{offset},{}", &line[1..])
        })
        .collect();
    from_json(schema, &lines.join("\n"))
}

#[test]
fn flights() {
    let (mut transform, schema) = pipeline("flights");
    let rows = transform
        .apply(&records(schema, &[
            // United 1545, the first flight of the year; 05:15 in New York is 10:15 UTC.
            r#"{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,"arr_time":830,"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"time_hour":"2013-01-01T10:00:00Z"}"#,
            // Late by the rule's last minute, and to an airport that the reference does not know.
            r#"{"year":2013,"month":10,"day":1,"dep_time":2359,"sched_dep_time":2355,"dep_delay":4,"arr_time":345,"sched_arr_time":330,"arr_delay":15,"carrier":"B6","flight":725,"tailnum":"N804JB","origin":"JFK","dest":"BQN","air_time":183,"distance":1576,"hour":23,"minute":55,"time_hour":"2013-10-02T03:00:00Z"}"#,
            // Cancelled.
            r#"{"year":2013,"month":1,"day":1,"sched_dep_time":1630,"sched_arr_time":1815,"carrier":"EV","flight":4308,"tailnum":"N18120","origin":"EWR","dest":"RDU","distance":416,"hour":16,"minute":30,"time_hour":"2013-01-01T21:00:00Z"}"#,
        ]))
        .unwrap();
    assert_eq!(
        to_json(&rows),
        [
            r#"{"carrier":"UA","airline":"United Air Lines Inc.","flight":1545,"tailnum":"N14228","origin":"EWR","origin_airport":"Newark Liberty Intl","dest":"IAH","dest_airport":"George Bush Intercontinental","scheduled_departure":"2013-01-01T10:15:00Z","actual_departure":"2013-01-01T10:17:00Z","dep_delay":2,"sched_arr_time":819,"arr_time":830,"arr_delay":11,"late":false,"cancelled":false,"diverted":false,"air_time":227,"distance":1400,"speed_mph":370.0,"month":"2013-01","_partition":1,"_offset":0}"#,
            r#"{"carrier":"B6","airline":"JetBlue Airways","flight":725,"tailnum":"N804JB","origin":"JFK","origin_airport":"John F Kennedy Intl","dest":"BQN","scheduled_departure":"2013-10-02T03:55:00Z","actual_departure":"2013-10-02T03:59:00Z","dep_delay":4,"sched_arr_time":330,"arr_time":345,"arr_delay":15,"late":true,"cancelled":false,"diverted":false,"air_time":183,"distance":1576,"speed_mph":516.7,"month":"2013-10","_partition":1,"_offset":1}"#,
            r#"{"carrier":"EV","airline":"ExpressJet Airlines Inc.","flight":4308,"tailnum":"N18120","origin":"EWR","origin_airport":"Newark Liberty Intl","dest":"RDU","dest_airport":"Raleigh Durham Intl","scheduled_departure":"2013-01-01T21:30:00Z","sched_arr_time":1815,"cancelled":true,"diverted":false,"distance":416,"month":"2013-01","_partition":1,"_offset":2}"#,
        ]
    );
}

/// The columns of a data set's table that the pipeline declares, with the metadata columns, batch by batch.
fn data(table: &str, schema: &SchemaRef) -> Vec<RecordBatch> {
    let file = File::open(root().join(format!("data/nycflights13/{table}.parquet"))).unwrap();
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(20_000).build().unwrap();
    reader
        .map(|batch| {
            let batch = batch.unwrap();
            let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
                Some(column) => column.clone(),
                None => new_null_array(field.data_type(), batch.num_rows()),
            });
            let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let nullable = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
            RecordBatch::try_new(nullable, columns.collect()).unwrap()
        })
        .collect()
}

#[test]
fn every_flight_comes_out() {
    let (mut transform, schema) = pipeline("flights");
    let (mut rows, mut miles, mut cancelled) = (0, 0, 0);
    for batch in data("flights", &schema) {
        let flights = transform.apply(&batch).unwrap();
        rows += flights.num_rows();
        miles += sum(flights.column_by_name("distance").unwrap().as_primitive::<Int32Type>()).unwrap() as i64;
        cancelled += flights.column_by_name("cancelled").unwrap().as_boolean().true_count();
    }
    assert_eq!((rows, miles, cancelled), (336_776, 350_217_607, 8_255));
}

#[test]
fn every_hour_of_weather_comes_out() {
    let (mut transform, schema) = pipeline("weather");
    let rows: Vec<RecordBatch> =
        data("weather", &schema).iter().map(|batch| transform.apply(batch).unwrap()).collect();
    let rows = concat_batches(&transform.output_schema(), &rows).unwrap();
    assert_eq!(rows.num_rows(), 26_115);
    for column in ["lighting", "weather", "airport", "month"] {
        assert_eq!(rows.column_by_name(column).unwrap().null_count(), 0, "{column}");
    }
}

/// A weather record at this instant with these fields besides.
fn hour(instant: &str, fields: &str) -> String {
    format!(
        r#"{{"origin":"JFK","year":2013,"month":6,"day":21,"hour":0,"time_hour":"{instant}","precip":0,"visib":10{fields}}}"#
    )
}

fn weather(lines: &[String]) -> Vec<String> {
    let (mut transform, schema) = pipeline("weather");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    to_json(&transform.apply(&records(schema, &lines)).unwrap())
}

#[test]
fn weather_is_metric() {
    let record = r#"{"origin":"EWR","year":2013,"month":1,"day":1,"hour":12,"temp":39.02,"dewp":26.06,"humid":59.37,"wind_dir":270,"wind_speed":10.35702,"wind_gust":1048,"precip":0.01,"pressure":1012,"visib":10,"time_hour":"2013-01-01T17:00:00Z"}"#;
    assert_eq!(
        weather(&[record.to_owned()]),
        [
            r#"{"origin":"EWR","airport":"Newark Liberty Intl","time_hour":"2013-01-01T17:00:00Z","temp_c":3.9,"dewpoint_c":-3.3,"humidity_pct":59.37,"wind_dir":270,"wind_m_s":4.6,"precip_mm":0.25,"pressure_hpa":1012.0,"visibility_km":16.09,"sun_elevation_deg":26.36,"lighting":"day","weather":"rain","month":"2013-01","_partition":1,"_offset":0}"#
        ]
    );
}

#[test]
fn light_follows_the_sun() {
    // New York on 21 June 2013: sunrise 09:25 UTC, sunset 00:31 UTC, civil twilight from 08:51 and until 01:04
    // (US Naval Observatory, to the minute; JFK is a little east of it).
    let expected = [
        ("2013-06-21T08:45:00Z", "night"),
        ("2013-06-21T08:55:00Z", "twilight"),
        ("2013-06-21T09:20:00Z", "twilight"),
        ("2013-06-21T09:30:00Z", "day"),
        ("2013-06-21T17:00:00Z", "day"),
        ("2013-06-22T00:25:00Z", "day"),
        ("2013-06-22T00:35:00Z", "twilight"),
        ("2013-06-22T01:10:00Z", "night"),
    ];
    let rows = weather(&expected.map(|(instant, _)| hour(instant, "")));
    for (row, (instant, light)) in rows.iter().zip(expected) {
        assert!(row.contains(&format!(r#""lighting":"{light}""#)), "{instant}: {row}");
    }
}

#[test]
fn weather_classes() {
    let expected = [
        (r#","temp":28,"precip":0.1"#, "snow"),
        (r#","temp":60,"precip":0.4"#, "heavy rain"),
        (r#","temp":60,"precip":0.1"#, "rain"),
        (r#","precip":0.1"#, "rain"),
        (r#","visib":0.25"#, "fog"),
        (r#","visib":2"#, "mist"),
        (r#","wind_speed":30"#, "windy"),
        (r#","wind_speed":1048"#, "clear"),
        ("", "clear"),
    ];
    let rows = weather(&expected.map(|(fields, _)| {
        let record = hour("2013-06-21T17:00:00Z", fields);
        // A later field of the same name would be a second one.
        let record =
            if fields.contains("precip") { record.replacen(r#""precip":0,"#, "", 1) } else { record };
        if fields.contains("visib") { record.replacen(r#""visib":10,"#, "", 1) } else { record }
    }));
    for (row, (fields, class)) in rows.iter().zip(expected) {
        assert!(row.contains(&format!(r#""weather":"{class}""#)), "{fields}: {row}");
    }
}
