use kafka_protocol::records::Compression;

use super::super::test_batch::BatchBuilder;
use super::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn batch(compression: Compression, count: i32, value_len: usize) -> Vec<u8> {
    let batch = BatchBuilder::new(count).base_offset(70).timestamp(1_000);
    batch.compression(compression).value_len(value_len).build().to_vec()
}

/// The batch with other records, packed as its attributes say, and the lengths set right.
fn with_records(mut batch: Vec<u8>, codec: u8, packed: &[u8]) -> Vec<u8> {
    batch.truncate(HEADER_LEN);
    batch[22] = codec;
    batch.extend_from_slice(packed);
    let len = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    batch
}

#[test]
fn times_are_found_whatever_the_codec() {
    for compression in CODECS {
        let batch = batch(compression, 300, 1_000);
        assert_eq!(first_since(&batch, 0).unwrap(), Some((70, 1_000)), "{compression:?}");
        assert_eq!(first_since(&batch, 1_234).unwrap(), Some((304, 1_234)), "{compression:?}");
        assert_eq!(first_since(&batch, 1_300).unwrap(), None, "{compression:?}");
        assert_eq!(latest(&batch).unwrap(), Some((369, 1_299)), "{compression:?}");
    }
}

#[test]
fn snappy_as_librdkafka_writes_it() {
    let plain = batch(Compression::None, 40, 100);
    let packed = snap::raw::Encoder::new().compress_vec(&plain[HEADER_LEN..]).unwrap();
    let batch = with_records(plain, 2, &packed);
    assert_eq!(first_since(&batch, 1_005).unwrap(), Some((75, 1_005)));
}

#[test]
fn damage_is_an_error() {
    for compression in CODECS {
        let whole = batch(compression, 50, 100);
        let cut = with_records(whole.clone(), whole[22], &whole[HEADER_LEN..whole.len() - 20]);
        assert_eq!(latest(&cut).unwrap_err().kind(), io::ErrorKind::InvalidData, "{compression:?}");
        let nothing = with_records(whole.clone(), whole[22], &[]);
        assert_eq!(latest(&nothing).unwrap_err().kind(), io::ErrorKind::InvalidData, "{compression:?}");
    }
    let negative = with_records(batch(Compression::None, 1, 1), 0, &[1, 0, 0, 0]);
    assert!(latest(&negative).is_err());
}

#[test]
fn a_snappy_block_that_claims_too_much_reserves_nothing() {
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let error = latest(&with_records(batch(Compression::None, 1, 1), 2, &claim)).unwrap_err();
    assert!(error.to_string().contains("claims"), "{error}");
}

/// Fault matrix 40.
#[test]
fn a_bomb_is_read_to_a_bound_only() {
    // One record of many gigabytes of zeros, in as many copies of one packed piece as fit into a megabyte.
    let (length, piece) = (i64::from(i32::MAX), vec![0; 1 << 20]);
    let mut head = zigzag(length);
    head.extend_from_slice(&[0, 0, 0]);
    let packed =
        [zstd::encode_all(&head[..], 3).unwrap(), zstd::encode_all(&piece[..], 3).unwrap().repeat(900)];
    let bomb = with_records(batch(Compression::None, 1, 1), 4, &packed.concat());
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let error = latest(&bomb).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

fn zigzag(value: i64) -> Vec<u8> {
    let (mut value, mut bytes) = ((value << 1) as u64, Vec::new());
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
