//! What decoding JSON costs, by the shape of the records: `cargo bench --profile dev -p puddle-ingest`.
//!
//! `flights` are 19 fields in about 300 bytes, and the measure; what follows are the same records written in other
//! ways, which should not cost much more, and records of other sizes and widths.

mod shapes;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use puddle_ingest::UnknownFields;
use puddle_ingest::json::Decoder;
use puddle_ingest::raw::RawBatch;
use puddle_types::TopicPartition;
use shapes::Shape;

fn main() {
    divan::main();
}

/// A batch of about a megabyte.
const BATCH: usize = 1 << 20;

#[divan::bench(args = shapes::ALL, sample_count = 50, sample_size = 1)]
fn decode(bencher: Bencher, shape: Shape) {
    let (schema, values) = (shape.schema(), shape.values());
    let mut raw = RawBatch::new(TopicPartition::new("flights", 0), 1, 0);
    for (offset, value) in (0..).zip(values.iter().cycle()) {
        if raw.bytes() + value.len() > BATCH {
            break;
        }
        raw.push(offset, Some(1_357_000_000_000 + offset), Some(b"EWR"), Some(value.as_bytes()));
    }
    let mut decoder = Decoder::new(&schema, UnknownFields::Ignore);
    let batch = decoder.decode(&raw);
    assert_eq!(batch.rejected.num_rows() > 0, shape.rejected());
    bencher
        .counter(ItemsCount::new(raw.len()))
        .counter(BytesCount::new(raw.bytes()))
        .bench_local(|| decoder.decode(black_box(&raw)));
}
