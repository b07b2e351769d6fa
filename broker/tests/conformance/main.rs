//! What a client may expect of a broker, checked through librdkafka; against the embedded broker, and with the very same
//! checks against Apache Kafka, since a broker and tests with the same misunderstanding would agree with each other.

mod groups;
mod member;
mod records;
mod topics;

use std::time::{Duration, Instant};

/// Makes each check a test against either broker.
macro_rules! conformance {
    ($($family:ident :: $check:ident,)*) => {
        mod embedded {
            $(#[test]
            fn $check() {
                let broker = puddle_testkit::Embedded::start();
                crate::$family::$check(&broker.brokers());
            })*
        }

        mod apache {
            $(#[test]
            fn $check() {
                let Some(broker) = puddle_testkit::Apache::shared() else { return };
                crate::$family::$check(broker.brokers());
            })*
        }
    };
}

conformance! {
    topics::topics_are_created_listed_and_deleted,
    topics::impossible_topics_are_refused,
    topics::partitions_can_be_added,
    topics::settings_can_be_read,
    records::every_compression_is_kept,
    records::records_keep_key_timestamp_and_headers,
    records::an_idempotent_producer_stores_each_record_once,
    records::a_waiting_reader_is_woken_by_a_record,
    records::offsets_are_found_by_time,
    records::reading_beyond_the_end_is_an_error,
    records::a_batch_that_is_too_large_is_refused,
    groups::offsets_are_committed_and_fetched,
    groups::range_members_share_the_partitions,
    groups::cooperative_members_share_the_partitions,
    groups::a_static_member_comes_back_to_its_partitions,
    groups::a_dead_members_partitions_are_taken_over,
    groups::groups_are_listed_and_deleted,
}

/// Waits for something to become true.
#[track_caller]
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(45);
    while !is() {
        assert!(Instant::now() < deadline, "not within 45 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
