use std::fs::OpenOptions;

use kafka_protocol::records::Compression;
use tempfile::TempDir;

use super::super::test_batch::BatchBuilder;
use super::*;

fn settings() -> Settings {
    Settings {
        segment_bytes: 1 << 20,
        max_batch_bytes: 1 << 20,
        fsync: Fsync::Never,
        retention_bytes: None,
        retention_time: None,
    }
}

fn partition(settings: Settings) -> (TempDir, Partition, PathBuf) {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("0");
    let partition = Partition::create(&dir, settings).unwrap();
    (temp, partition, dir)
}

/// Base offsets of the batches from `offset` on, all segments.
fn batches_from(partition: &Partition, mut offset: i64) -> Vec<i64> {
    let mut found = Vec::new();
    while let Some(slice) = partition.find(offset).unwrap().unwrap() {
        let bytes = slice.read(usize::MAX, true).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::checked(&bytes[at..]).unwrap();
            found.push(header.base_offset);
            offset = header.next_offset();
            at += header.len;
        }
    }
    found
}

#[test]
fn appended_batches_are_read_back_from_any_offset() {
    let (_temp, partition, _) = partition(settings());
    for n in 0..50 {
        let appended = partition.append(&BatchBuilder::new(3).build()).unwrap();
        assert_eq!(appended.base_offset, n * 3);
    }
    for offset in 0..150 {
        let batches = batches_from(&partition, offset);
        assert_eq!(batches.first(), Some(&(offset / 3 * 3)), "from {offset}");
        assert_eq!(batches.len() as i64, 50 - offset / 3);
    }
    assert!(partition.find(150).unwrap().unwrap().is_none());
    assert_eq!(partition.find(151).unwrap_err(), ResponseError::OffsetOutOfRange);
}

#[test]
fn a_read_holds_whole_batches_and_at_least_one_if_asked() {
    let (_temp, partition, _) = partition(settings());
    let batch = BatchBuilder::new(2).build();
    for _ in 0..3 {
        partition.append(&batch).unwrap();
    }
    let slice = partition.find(0).unwrap().unwrap().unwrap();
    assert_eq!(slice.read(batch.len() * 2 + 1, false).unwrap().len(), batch.len() * 2);
    assert_eq!(slice.read(1, false).unwrap().len(), 0);
    assert_eq!(slice.read(1, true).unwrap().len(), batch.len());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let (_temp, partition, dir) = partition(settings());
    partition.append(&BatchBuilder::new(2).build()).unwrap();
    partition.append(&BatchBuilder::new(3).build()).unwrap();
    drop(partition);
    let file = dir.join("00000000000000000000.log");
    let whole = std::fs::read(&file).unwrap();
    let first = BatchHeader::parse(&whole).unwrap().len;
    for cut in first..whole.len() {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let partition = Partition::open(&dir, settings()).unwrap();
        assert_eq!(partition.offsets(), (0, 2), "cut at {cut}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), first as u64);
        assert_eq!(partition.append(&BatchBuilder::new(1).build()).unwrap().base_offset, 2);
        assert_eq!(batches_from(&partition, 0), [0, 2]);
    }
}

#[test]
fn a_last_batch_with_holes_is_cut_off() {
    let (_temp, partition, dir) = partition(settings());
    partition.append(&BatchBuilder::new(2).build()).unwrap();
    partition.append(&BatchBuilder::new(3).build()).unwrap();
    drop(partition);
    let file = dir.join("00000000000000000000.log");
    let whole = std::fs::read(&file).unwrap();
    let first = BatchHeader::parse(&whole).unwrap().len;
    // After a power cut a file may have its full length, and zeros where its last pages were not written.
    for hole in first..whole.len() {
        let mut holey = whole.clone();
        holey[hole..].fill(0);
        if holey == whole {
            continue;
        }
        std::fs::write(&file, &holey).unwrap();
        let partition = Partition::open(&dir, settings()).unwrap();
        assert_eq!(partition.offsets(), (0, 2), "hole at {hole}");
    }
}

#[test]
fn garbage_at_the_end_is_cut_off() {
    let (_temp, partition, dir) = partition(settings());
    partition.append(&BatchBuilder::new(2).build()).unwrap();
    drop(partition);
    let file = dir.join("00000000000000000000.log");
    let sound = std::fs::metadata(&file).unwrap().len();
    for garbage in [vec![0; 200], vec![0xff; 200], vec![7; 3]] {
        let open = OpenOptions::new().write(true).open(&file).unwrap();
        open.write_all_at(&garbage, sound).unwrap();
        assert_eq!(Partition::open(&dir, settings()).unwrap().offsets(), (0, 2));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), sound);
    }
}

#[test]
fn segments_roll_and_are_found_again() {
    let small = Settings { segment_bytes: 500, ..settings() };
    let (_temp, partition, dir) = partition(small);
    for _ in 0..40 {
        partition.append(&BatchBuilder::new(2).build()).unwrap();
    }
    let before = batches_from(&partition, 0);
    assert!(segment::list(&dir).unwrap().len() > 5);
    drop(partition);
    let partition = Partition::open(&dir, small).unwrap();
    assert_eq!(batches_from(&partition, 0), before);
    assert_eq!(before.len(), 40);
}

#[test]
fn a_damaged_sealed_segment_loses_only_its_own_records() {
    let small = Settings { segment_bytes: 500, ..settings() };
    let (_temp, partition, dir) = partition(small);
    for _ in 0..20 {
        partition.append(&BatchBuilder::new(2).build()).unwrap();
    }
    drop(partition);
    let bases = segment::list(&dir).unwrap();
    let file = OpenOptions::new().write(true).open(dir.join(format!("{:020}.log", bases[1]))).unwrap();
    file.set_len(10).unwrap();
    let partition = Partition::open(&dir, small).unwrap();
    assert_eq!(partition.offsets(), (0, 40));
    let kept = batches_from(&partition, 0);
    assert!(kept.iter().all(|offset| *offset < bases[1] || *offset >= bases[2]));
    assert_eq!(kept.len() as i64, 20 - (bases[2] - bases[1]) / 2);
}

#[test]
fn a_batch_sent_twice_is_stored_once_also_after_a_restart() {
    let (_temp, partition, dir) = partition(settings());
    let first = BatchBuilder::new(5).producer(1, 0, 0).build();
    let second = BatchBuilder::new(5).producer(1, 0, 5).build();
    partition.append(&first).unwrap();
    partition.append(&second).unwrap();
    assert_eq!(partition.append(&second).unwrap().base_offset, 5);
    drop(partition);
    let partition = Partition::open(&dir, settings()).unwrap();
    assert_eq!(partition.append(&first).unwrap().base_offset, 0);
    assert_eq!(partition.append(&second).unwrap().base_offset, 5);
    assert_eq!(partition.offsets(), (0, 10));
    let gap = BatchBuilder::new(5).producer(1, 0, 11).build();
    assert_eq!(partition.append(&gap).unwrap_err().code(), ResponseError::OutOfOrderSequenceNumber);
}

#[test]
fn timestamps_are_looked_up_within_batches_of_every_compression() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in codecs {
        let (_temp, partition, _) = partition(Settings { segment_bytes: 2_000, ..settings() });
        for n in 0..30 {
            let batch =
                BatchBuilder::new(10).timestamp(1_000 + n * 100).value_len(50).compression(compression);
            partition.append(&batch.build()).unwrap();
        }
        assert_eq!(partition.first_since(0).unwrap(), Some((0, 1_000)));
        assert_eq!(partition.first_since(1_503).unwrap(), Some((53, 1_503)), "{compression:?}");
        assert_eq!(partition.first_since(1_510).unwrap(), Some((60, 1_600)));
        assert_eq!(partition.first_since(3_910).unwrap(), None);
        assert_eq!(partition.latest().unwrap(), Some((299, 3_909)));
    }
}

#[test]
fn retention_by_bytes_and_by_time_removes_old_segments_only() {
    let by_bytes = Settings { segment_bytes: 500, retention_bytes: Some(1_000), ..settings() };
    let (_temp, partition, dir) = partition(by_bytes);
    for n in 0..40 {
        partition.append(&BatchBuilder::new(2).timestamp(n * 1_000).build()).unwrap();
    }
    partition.enforce_retention(0).unwrap();
    let (start, end) = partition.offsets();
    assert!(start > 0 && end == 80);
    let left: u64 =
        std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((1_000..1_600).contains(&left), "{left} bytes left");
    assert_eq!(partition.find(0).unwrap_err(), ResponseError::OffsetOutOfRange);
    drop(partition);

    let by_time =
        Settings { retention_time: Some(Duration::from_secs(5)), retention_bytes: None, ..by_bytes };
    let partition = Partition::open(&dir, by_time).unwrap();
    assert_eq!(partition.offsets(), (start, end));
    partition.enforce_retention(10_000).unwrap();
    assert_eq!(partition.offsets().0, start, "nothing is older than 5 s at 10 s");
    partition.enforce_retention(1_000_000).unwrap();
    assert_eq!(segment::list(&dir).unwrap().len(), 1, "the active segment stays");
    assert_eq!(partition.offsets().1, end);
}

#[test]
fn a_deleted_partition_takes_no_more() {
    let (_temp, partition, _) = partition(settings());
    let reader = Arc::new(Notify::new());
    partition.notify_once(&reader);
    partition.close(Closed::Deleted);
    let code = partition.append(&BatchBuilder::new(1).build()).unwrap_err().code();
    assert_eq!(code, ResponseError::UnknownTopicOrPartition);
}
