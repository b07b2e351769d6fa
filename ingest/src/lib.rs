//! Kafka to Arrow, and data sets into Kafka.
