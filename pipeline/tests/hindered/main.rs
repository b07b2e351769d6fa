//! Runs that something hinders: other runs of the same pipeline, a full disk, a broker or a producer that is silent.
//!
//! Groups are tested on a table in memory that may have several writers: it compares each epoch with what is
//! committed, as every table of several writers must, and is the reference for them.

mod bench;
mod disk;
mod full;
mod groups;
mod stalls;

use puddle_testkit::{Apache, Embedded};

/// One test for each case and broker.
macro_rules! against_both {
    ($module:ident: $($case:ident),* $(,)?) => {
        mod $module {
            mod embedded {
                $(#[test]
                fn $case() {
                    let broker = crate::Embedded::start();
                    crate::groups::$case(&broker.brokers());
                })*
            }
            mod apache {
                $(#[test]
                fn $case() {
                    if let Some(kafka) = crate::Apache::shared() {
                        crate::groups::$case(kafka.brokers());
                    }
                })*
            }
        }
    };
}

against_both![
    group:
    runs_share_the_partitions_and_end_when_all_is_committed_by_whomever,
    a_partition_with_nothing_to_read_is_not_waited_for,
    members_that_come_and_go_lose_and_double_nothing,
    a_commit_that_outlasts_its_revocation_is_refused_and_read_again,
    a_commit_that_ends_in_time_is_where_the_next_owner_goes_on,
    of_two_runs_with_one_fixed_name_the_earlier_ends_with_an_error,
    a_run_whose_own_name_is_taken_joins_anew,
    a_table_with_one_writer_refuses_a_second_run_by_name,
];
