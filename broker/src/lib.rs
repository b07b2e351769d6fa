//! The embedded broker: a durable single-node Kafka-compatible log.
