//! The run loop against a broker: one suite, for the embedded broker and for Apache Kafka.

mod brokers;
mod formats;
mod hostile;
mod network;
mod suite;

use puddle_testkit::{Apache, Embedded};

/// One test for each case and broker.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $case() {
                let broker = super::Embedded::start();
                crate::suite::$case(&broker.brokers());
            })*
        }
        mod apache {
            $(#[test]
            fn $case() {
                if let Some(kafka) = super::Apache::shared() {
                    crate::suite::$case(kafka.brokers());
                }
            })*
        }
    };
}

cases![
    catches_up_and_resumes,
    follows_what_arrives_while_it_runs,
    goes_on_after_being_cut_off_at_any_point,
    goes_by_the_table_whatever_the_group_says,
    stops_when_the_topic_was_made_again,
    stops_when_the_topic_is_made_again_while_it_runs,
    reads_several_topics_into_one_table,
];

/// The embedded broker has no transactions and deletes no single records.
mod apache_only {
    use super::Apache;

    #[test]
    fn apache_passes_over_aborted_transactions() {
        if let Some(kafka) = Apache::shared() {
            crate::suite::passes_over_aborted_transactions(kafka.brokers());
        }
    }

    #[test]
    fn apache_stops_at_a_gap_and_goes_on_only_when_told() {
        if let Some(kafka) = Apache::shared() {
            crate::suite::stops_at_a_gap_and_goes_on_only_when_told(kafka.brokers());
        }
    }
}
